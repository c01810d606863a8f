"""Bundles that the runtime's tests share; they are built once and never changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import tiny
from tests.runtime import prompted

RENEWAL = {"every_frames": 12, "dissolve_frames": 4, "correlation": 0.6}


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bundle without renewal."""
    return tiny.build(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="session")
def renewing_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bundle whose scenes renew themselves every 12 frames, over 4."""
    return tiny.build(tmp_path_factory.mktemp("bundles") / "renewing", renewal=RENEWAL)


@pytest.fixture(scope="session")
def live_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bundle without memories, with a live input."""
    return tiny.build(tmp_path_factory.mktemp("bundles") / "live", memories=False, live=True)


@pytest.fixture(scope="session")
def prompted_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle that takes an image, a clip, a text and a seed, and renews itself every 12 frames, over 4."""
    return prompted.build(tmp_path_factory.mktemp("bundles") / "prompted")
