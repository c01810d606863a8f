"""Motion, flicker and appearance have known values."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from benchmarks.quality.measures import against_real
from benchmarks.quality.motion import (
    flicker,
    flow_magnitude,
    high_frequency,
    luminance,
    saturation,
)


def texture(side: int = 256) -> np.ndarray:
    small = np.random.default_rng(0).integers(0, 256, (side // 6, side // 6, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC))


def moving(x: int, y: int, frames: int = 6) -> np.ndarray:
    big = texture()
    return np.stack([big[40 + y * t : 168 + y * t, 40 + x * t : 168 + x * t] for t in range(frames)])


@pytest.mark.parametrize(("x", "y", "length"), [(1, 0, 1.0), (3, 4, 5.0), (0, -2, 2.0)])
def test_flow_of_a_translated_texture_is_its_way(x: int, y: int, length: float) -> None:
    assert flow_magnitude(moving(x, y)) == pytest.approx(length, rel=0.08)


def test_a_frozen_clip_neither_moves_nor_flickers() -> None:
    clip = np.repeat(texture(64)[None], 5, axis=0)
    assert flow_magnitude(clip) < 0.01
    assert flicker(clip) == 0


def test_a_steady_fade_does_not_flicker_and_a_blinking_clip_does() -> None:
    levels = np.arange(0, 50, 5)
    fade = np.broadcast_to(levels[:, None, None, None], (10, 8, 8, 3)).astype(np.uint8)
    assert flicker(fade) == 0
    blink = np.broadcast_to((np.arange(10) % 2 * 10)[:, None, None, None], (10, 8, 8, 3)).astype(np.uint8)
    assert flicker(blink) == 20


def test_too_few_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="two frames"):
        flow_magnitude(np.zeros((1, 32, 32, 3), np.uint8))
    with pytest.raises(ValueError, match="three frames"):
        flicker(np.zeros((2, 32, 32, 3), np.uint8))


def test_colours() -> None:
    white, red = np.full((2, 8, 8, 3), 255, np.uint8), np.zeros((2, 8, 8, 3), np.uint8)
    red[..., 0] = 255
    assert luminance(white) == pytest.approx(1)
    assert luminance(red) == pytest.approx(0.2126, abs=1e-4)
    assert saturation(white) == 0
    assert saturation(red) == 1


def test_blur_takes_high_frequencies_away() -> None:
    sharp = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), np.uint8)
    blurred = np.stack([np.asarray(Image.fromarray(f).resize((8, 8)).resize((32, 32))) for f in sharp])
    assert high_frequency(np.full((2, 8, 8, 3), 90, np.uint8)) < 1e-3
    assert high_frequency(blurred) < 0.2 * high_frequency(sharp)


def test_the_ratio_leaves_still_clips_out() -> None:
    found = against_real([1, 4, 9], [2, 2, 0], ["a", "b", "c"], 0.05)
    assert found["ratio"]["value"] == found["median_ratio_of_all"] == pytest.approx(1.25)
    assert found["left_out"] == 1
    assert found["ratio_of_means"] == pytest.approx(14 / 4)
    still = against_real([1], [0], ["a"], 0.05)
    assert (still["left_out"], still["median_ratio_of_all"], still["ratio_of_means"]) == (1, None, None)
    assert "ratio" not in still
    assert "ratio" not in against_real([1], [2], None, 0.05)
