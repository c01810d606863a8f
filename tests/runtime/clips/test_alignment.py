"""Flow between frames: found where it is sure, nothing where it is not."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.clips import alignment
from runtime.clips.alignment import Alignment, align, between, dissolve

HEIGHT, WIDTH = 128, 224


def texture(seed: int, shift: int = 0) -> np.ndarray:
    """Return a smooth picture whose content is moved to the right by some pixels."""
    coarse = np.random.default_rng(seed).normal(size=(HEIGHT // 8 + 2, WIDTH // 8 + 12))
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / 8
    x = x + 4 - shift / 8
    low_y, low_x = y.astype(int), x.astype(int)
    part_y, part_x = y - low_y, x - low_x
    top = coarse[low_y, low_x] * (1 - part_x) + coarse[low_y, low_x + 1] * part_x
    bottom = coarse[low_y + 1, low_x] * (1 - part_x) + coarse[low_y + 1, low_x + 1] * part_x
    value = 128 + 45 * (top * (1 - part_y) + bottom * part_y)
    return np.ascontiguousarray(value.clip(0, 255).astype(np.uint8))


def test_a_shift_is_found_both_ways() -> None:
    found = align(texture(1), texture(1, 6))
    assert found.forward.shape == (2, HEIGHT // 4, WIDTH // 4)
    inside = (slice(4, -4), slice(6, -6))
    assert found.forward[0][inside].mean() == pytest.approx(6, abs=0.5)
    assert found.backward[0][inside].mean() == pytest.approx(-6, abs=0.5)
    assert np.abs(found.forward[1][inside]).mean() < 0.3


def test_frames_that_have_nothing_in_common_are_not_aligned() -> None:
    found = align(texture(1), texture(2))
    flow = alignment._flow().calc(texture(1), texture(2), None)
    assert np.linalg.norm(found.forward, axis=0).mean() < 0.5 * np.linalg.norm(flow, axis=2).mean()


def test_the_two_frames_meet_at_the_share() -> None:
    one = Alignment(np.full((2, 2, 3), 4, np.float32), np.full((2, 2, 3), -4, np.float32))
    found = between(one, 0.25)
    assert found.shape == (1, 5, 2, 3)
    assert np.allclose(found[0, 0:2], 0.25 * 4)
    assert np.allclose(found[0, 2:4], -0.75 * 4)
    assert np.allclose(found[0, 4], 0.75), "of the first"


def test_a_dissolve_has_displacements_of_its_own() -> None:
    found = dissolve(0.5, np.full((2, 2, 3), 1, np.float32), np.full((2, 2, 3), 2, np.float32))
    assert np.allclose(found[0, :, 0, 0], [1, 1, 2, 2, 0.5])


def test_without_opencv_nothing_is_aligned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "is_available", lambda: False)
    found = align(texture(1), texture(1, 6))
    assert not found.forward.any()
    assert not found.backward.any()
