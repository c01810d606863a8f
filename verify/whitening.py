"""Prepares a picture for the search: what of it can be mark is kept, what is certainly picture is made small.

Legend: H height, W width of a frame.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

_SMOOTH = 5  # pixels; what is smooth over so many is picture
_AROUND = 9  # pixels over which the contrast is measured
_LEAST = 4.0  # squared levels: below it, contrast is noise, rounding and the mark itself


def to_luma(frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8] | Floats:
    """Return the brightness of a frame: uint8 (H, W) as it is, (H, W, 3) RGB weighted by ITU-R BT.709-6, item 3.2."""
    if frame.ndim == 2:
        return frame
    return frame.astype(np.float32) @ np.array([0.2126, 0.7152, 0.0722], np.float32)


def whitened(luma: npt.NDArray[np.floating]) -> Floats:
    """Return a plane in which every area counts as much as is known there about the mark.

    The optimal weight of a sample in a sum is its share of signal over its noise power. The noise is the picture.

    Args:
        luma: float (H, W), a frame or a mean of frames, in levels.

    Returns:
        (H, W), around 0.
    """
    values = np.asarray(luma, np.float32)
    fine = values - box_mean(values, _SMOOTH)
    power = box_mean(fine * fine, _AROUND)
    limit = 3 * np.sqrt(power)
    np.clip(fine, -limit, limit, out=fine)
    return fine / (power + _LEAST)


def box_mean(values: Floats, side: int) -> Floats:
    """Return the mean of the side x side values around each one; fewer at the borders; `side` is odd."""
    for axis in (0, 1):
        values = _sliding_mean(values, side, axis)
    return values


def _sliding_mean(values: Floats, side: int, axis: int) -> Floats:
    count, half = values.shape[axis], side // 2
    sums = np.zeros([size + (place == axis) for place, size in enumerate(values.shape)], np.float64)
    after = [slice(None), slice(None)]
    after[axis] = slice(1, None)
    np.cumsum(values, axis=axis, out=sums[tuple(after)])
    places = np.arange(count)
    first, last = np.maximum(places - half, 0), np.minimum(places + half + 1, count)
    sizes = (last - first).reshape([-1 if place == axis else 1 for place in range(2)])
    means: Floats = ((sums.take(last, axis) - sums.take(first, axis)) / sizes).astype(np.float32)
    return means
