"""A tiny bundle for the tests that run the whole command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import tiny
from tests.runtime import prompted


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bundle, 64 x 48 at 30 frames per second; built once and never changed."""
    return tiny.build(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="session")
def prompted_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle that takes an image, a clip, a text and a seed."""
    return prompted.build(tmp_path_factory.mktemp("bundles") / "prompted")


@pytest.fixture(scope="session")
def live_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bundle that shows its live input where the input's mask is white."""
    return tiny.build(tmp_path_factory.mktemp("bundles") / "live", memories=False, live=True)
