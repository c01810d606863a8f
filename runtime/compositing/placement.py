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


def moved(picture: FrameArray, to: Placement, width: int, height: int) -> FrameArray:
    """Return a frame with a picture at its place, and 0 beside it.

    Args:
        picture: of the place's size, as a frame: uint8 (h, w, 3) RGB, or (h * 3 / 2, w) I420.
        to: its place.
        width, height: of the frame in pixels, even.
    """
    is_rgb = picture.ndim == 3
    frame = np.zeros((height, width, 3) if is_rgb else (height * 3 // 2, width), np.uint8)
    pairs = [(frame, picture)] if is_rgb else zip(_planes(frame), _planes(picture), strict=True)
    for into, part in pairs:
        step = width // into.shape[1]  # 2 for chroma
        left, top = to.left // step, to.top // step
        first_row, first_column = max(top, 0), max(left, 0)
        last_row, last_column = min(top + part.shape[0], into.shape[0]), min(left + part.shape[1], into.shape[1])
        if first_row < last_row and first_column < last_column:
            seen = part[first_row - top : last_row - top, first_column - left : last_column - left]
            into[first_row:last_row, first_column:last_column] = seen
    return frame


def _planes(frame: FrameArray) -> list[FrameArray]:
    """Return views of the planes of an I420 frame."""
    height, width = frame.shape[0] * 2 // 3, frame.shape[1]
    return [frame[:height], *frame[height:].reshape(2, height // 2, width // 2)]


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
