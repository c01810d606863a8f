"""Where the live picture lies in the frame: moved and resized, around the middle of its lower edge."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FrameArray = npt.NDArray[np.uint8]
Matrix = npt.NDArray[np.float32]


class Placement(NamedTuple):
    """A rectangle in pixels of the frame, all even; it may reach beyond the frame."""

    left: int
    top: int
    width: int
    height: int


def place(width: int, height: int, x: float, y: float, size: float) -> Placement:
    """Return where a live picture of the frame's shape lies.

    Args:
        width, height: of the frame in pixels, even.
        x, y: shift to the right and downwards, in widths and heights of the frame.
        size: factor on the picture's size; the middle of its lower edge stays.
    """
    wide, high = max(2, _even(size * width)), max(2, _even(size * height))
    return Placement(_even(width * (0.5 + x) - wide / 2), _even(height * (1 + y) - high), wide, high)


def moved(picture: FrameArray, to: Placement) -> FrameArray:
    """Return a picture, uint8 (H, W, 3), at its place in a frame of the same size; black beside it."""
    from PIL import Image

    height, width = picture.shape[:2]
    left, right = max(to.left, 0), min(to.left + to.width, width)
    top, bottom = max(to.top, 0), min(to.top + to.height, height)
    frame = np.zeros_like(picture)
    if left >= right or top >= bottom:
        return frame
    across, down = width / to.width, height / to.height
    box = (
        (left - to.left) * across,
        (top - to.top) * down,
        min((right - to.left) * across, width),
        min((bottom - to.top) * down, height),
    )
    part = Image.fromarray(picture).resize((right - left, bottom - top), Image.Resampling.BILINEAR, box=box)
    frame[top:bottom, left:right] = np.asarray(part)
    return frame


def matrices(to: Placement, frame: tuple[int, int], matte: tuple[int, int], wanted: tuple[int, int]) -> list[Matrix]:
    """Return two matrices that resample a matte of the live picture to the whole frame: rows @ matte @ columns.

    Args:
        to: place of the live picture.
        frame: (width, height) of the frame in pixels.
        matte: (width, height) of the matte.
        wanted: (width, height) of the result.

    Returns:
        float32 rows (wanted height, matte height) and columns (matte width, wanted width). They resample bilinearly
        between half-pixel centres; what is beside the live picture is 0.
    """
    rows = _resampling(matte[1], wanted[1], to.top / frame[1], to.height / frame[1])
    columns = _resampling(matte[0], wanted[0], to.left / frame[0], to.width / frame[0])
    return [rows, np.ascontiguousarray(columns.T)]


def _resampling(count: int, wanted: int, start: float, length: float) -> Matrix:
    """Return the matrix (wanted, count) that resamples values in [start, start + length) to values in [0, 1)."""
    inside = ((np.arange(wanted) + 0.5) / wanted - start) / length
    centres = np.clip(inside * count - 0.5, 0, count - 1)
    left = np.minimum(centres.astype(np.int64), max(count - 2, 0))
    share = centres - left
    matrix = np.zeros((wanted, count), np.float32)
    matrix[np.arange(wanted), left] = 1 - share
    matrix[np.arange(wanted), np.minimum(left + 1, count - 1)] += share.astype(np.float32)
    matrix[(inside < 0) | (inside >= 1)] = 0
    return matrix


def _even(pixels: float) -> int:
    return 2 * round(pixels / 2)
