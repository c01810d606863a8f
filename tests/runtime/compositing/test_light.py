"""Light over a person's edge, and the tone of what is behind."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.compositing.light import Light, light_size
from tests.streaming.doubles import to_i420

SIZE, MATTE = (128, 96), (64, 48)


def frame(rgb: tuple[int, int, int], pixels: str, contrast: int = 0) -> np.ndarray:
    """Return a plain frame, or one with stripes of this much more and less than the colour."""
    picture = np.zeros((96, 128, 3), np.uint8)
    picture[:] = rgb
    picture[np.arange(96) % 32 < 16] += np.uint8(contrast)
    picture[np.arange(96) % 32 >= 16] -= np.uint8(contrast)
    return picture if pixels == "rgb" else to_i420(picture)


def left_half() -> np.ndarray:
    wide, high = light_size(MATTE)
    share = np.zeros((high, wide), np.float32)
    share[:, : wide // 2] = 1
    return share


@pytest.mark.parametrize("pixels", ["rgb", "i420"])
def test_without_wrap_and_tone_nothing_is_added(pixels: str) -> None:
    behind, person = frame((200, 220, 250), pixels), frame((90, 80, 70), pixels)
    added, gain = Light(*SIZE, pixels, MATTE).update(behind, person, left_half(), 0.0, 0.0)
    assert added.dtype == gain.dtype == np.float32
    assert added.shape == (1, 3, 24, 32)
    assert not added.any()
    assert gain == 1


@pytest.mark.parametrize("pixels", ["rgb", "i420"])
def test_light_bleeds_over_the_edge_and_not_further(pixels: str) -> None:
    behind, person = frame((200, 220, 250), pixels), frame((90, 80, 70), pixels)
    added, gain = Light(*SIZE, pixels, MATTE).update(behind, person, left_half(), 1.0, 0.0)
    if pixels == "rgb":
        change = behind[0, 0].astype(float) - person[0, 0]
        assert np.abs(added[0, :, 12, 16] - change).max() < 1, "all of it outside the edge"
        assert np.all((0.1 * change < added[0, :, 12, 15]) & (added[0, :, 12, 15] < 0.5 * change)), "less inside"
    assert added[0, 0, 12, 15] > 16
    assert np.abs(added[0, :, :, :10]).max() < 1
    assert gain == 1
    half, _ = Light(*SIZE, pixels, MATTE).update(behind, person, left_half(), 0.5, 0.0)
    assert np.allclose(half * 2, added, atol=1e-3)


@pytest.mark.parametrize("pixels", ["rgb", "i420"])
def test_tone_moves_mean_and_contrast(pixels: str) -> None:
    behind, person = frame((200, 150, 100), pixels, contrast=24), frame((80, 100, 90), pixels, contrast=20)
    light = Light(*SIZE, pixels, MATTE)
    added, gain = light.update(behind, person, left_half(), 0.0, 1.0)
    assert gain[0, 0] == pytest.approx(1.2, abs=0.04), "levels of luma are rounded"
    planes = (
        [np.moveaxis(one, 2, 0) for one in (behind, person)]
        if pixels == "rgb"
        else [
            np.stack([one[:96], *(part.repeat(2, 0).repeat(2, 1) for part in one[96:].reshape(2, 48, 64))])
            for one in (behind, person)
        ]
    )
    toned = planes[1] * gain[0, 0] + added[0, :, :1, :1]
    assert np.abs(toned.mean((1, 2)) - planes[0].mean((1, 2))).max() < 1
    half, _ = Light(*SIZE, pixels, MATTE).update(behind, person, left_half(), 0.0, 0.5)
    moved = planes[1].mean((1, 2)) * (1 + gain[0, 0]) / 2 + half[0, :, 0, 0]
    assert np.abs(moved - (planes[0].mean((1, 2)) + planes[1].mean((1, 2))) / 2).max() < 1


def test_tone_does_not_pump_and_outlasts_an_empty_frame() -> None:
    light, share = Light(*SIZE, "rgb", MATTE), left_half()
    dark, bright, person = (frame((level, level, level), "rgb") for level in (40, 240, 120))
    first, _ = light.update(dark, person, share, 0.0, 1.0)
    flash, _ = light.update(bright, person, share, 0.0, 1.0)
    assert abs(float(flash.mean() - first.mean())) < 0.1 * 200
    nobody, _ = light.update(bright, person, np.zeros_like(share), 0.0, 1.0)
    assert np.array_equal(nobody, flash)
    for _ in range(200):
        later, gain = light.update(bright, person, share, 0.0, 1.0)
    assert float(later.mean() + 120 * gain[0, 0]) == pytest.approx(240, abs=1)


def test_nobody_has_no_tone_yet() -> None:
    added, gain = Light(*SIZE, "rgb", MATTE).update(
        frame((40, 40, 40), "rgb"), frame((120, 120, 120), "rgb"), np.zeros((24, 32), np.float32), 0.0, 1.0
    )
    assert not added.any()
    assert gain == 1
