"""Frames that are fitted to another size or format."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.golden import psnr_db
from runtime.pixels.fitting import FrameFitter, centre_crop
from runtime.prompts.images import load_image
from tests.moving import picture_of
from tests.streaming.doubles import to_i420


def test_a_frame_that_fits_is_not_copied() -> None:
    frame = picture_of(64, 48)
    assert FrameFitter((64, 48), (64, 48)).fit(frame) is frame


@pytest.mark.parametrize("target", [(64, 36), (48, 48), (36, 64), (130, 50), (256, 144), (254, 146)])
def test_the_middle_is_shown_as_pictures_are_fitted(target: tuple[int, int]) -> None:
    frame = picture_of(128, 72, seed=2)
    fitter = FrameFitter((128, 72), target)
    fitted = fitter.fit(frame)
    assert fitted.shape == (target[1], target[0], 3)
    assert fitted.dtype == np.uint8
    assert psnr_db(fitted, load_image(frame, *target)) > 27


def test_frames_do_not_share_memory_and_are_the_same_again() -> None:
    fitter = FrameFitter((128, 72), (48, 48))
    first = fitter.fit(picture_of(128, 72))
    kept = first.copy()
    second = fitter.fit(picture_of(128, 72, seed=1))
    assert np.array_equal(first, kept)
    assert not np.array_equal(second, kept)
    assert np.array_equal(fitter.fit(picture_of(128, 72)), kept)


@pytest.mark.parametrize("target", [(128, 72), (64, 36)])
def test_i420_is_bt709_in_limited_range(target: tuple[int, int]) -> None:
    frame = np.zeros((72, 128, 3), np.uint8)
    frame[:, :64] = (200, 30, 60)
    frame[:, 64:] = (20, 160, 240)
    fitted = FrameFitter((128, 72), target, "i420").fit(frame)
    small = np.ascontiguousarray(frame[: target[1], 64 - target[0] // 2 : 64 + target[0] // 2])
    expected = to_i420(small)
    assert fitted.shape == expected.shape
    difference = np.abs(fitted.astype(int) - expected)
    assert np.median(difference) <= 1
    assert np.percentile(difference, 90) <= 2


@pytest.mark.parametrize(
    ("size", "aspect", "crop"),
    [
        ((1280, 720), 16 / 9, (0, 0, 1280, 720)),
        ((1280, 720), 1.0, (280, 0, 720, 720)),
        ((1280, 720), 0.5, (460, 0, 360, 720)),
        ((720, 1280), 1.0, (0, 280, 720, 720)),
        ((64, 48), 2.0, (0, 8, 64, 32)),
        ((2, 2), 100.0, (0, 0, 2, 1)),
    ],
)
def test_the_crop_is_the_largest_part_around_the_centre(
    size: tuple[int, int], aspect: float, crop: tuple[int, int, int, int]
) -> None:
    assert centre_crop(size, aspect) == crop
