"""The planes of a picture, as the pixel stage reads them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from runtime.pixels.stage import BLOCK, PlaneSet

Planes = Mapping[str, npt.NDArray[np.float32]]  # input of the pixel stage -> (planes, rows + 1, columns + 1)

# Recommendation ITU-R BT.709-6, items 3.2 to 3.4, limited range: rows give Y, U, V from R, G, B, all 0 to 255.
_LUMA = np.array([0.2126, 0.7152, 0.0722])
_BLUE = (np.array([0.0, 0.0, 1.0]) - _LUMA) / (2 * (1 - _LUMA[2]))
_RED = (np.array([1.0, 0.0, 0.0]) - _LUMA) / (2 * (1 - _LUMA[0]))
_TO_YUV = (np.stack([219 * _LUMA, 224 * _BLUE, 224 * _RED]) / 255).astype(np.float32)
_OFFSETS = np.array([16, 128, 128], np.float32)


def padded_shape(item: PlaneSet) -> tuple[int, int, int]:
    """Return the shape of some planes with their margins, and one more row and column."""
    return item.planes, item.rows + BLOCK - 1, item.columns + BLOCK - 1


def to_planes(picture: npt.NDArray[np.uint8], sets: tuple[PlaneSet, ...]) -> Planes:
    """Split a picture into planes.

    Args:
        picture: uint8 (H, W, 3) RGB of the frame's size.
        sets: of the frame, from `plane_sets`.

    Returns:
        Read-only float32 (planes, rows + 1, columns + 1) for each set: the values of the frame, 0 to 255, not rounded,
        mirrored in the margins.
    """
    if len(sets) == 1:
        return {sets[0].name: _padded(np.moveaxis(picture, 2, 0).astype(np.float32), sets[0].margin)}
    yuv = picture.reshape(-1, 3).astype(np.float32) @ _TO_YUV.T + _OFFSETS
    yuv = np.moveaxis(yuv.reshape(picture.shape), 2, 0)
    luma, chroma = sets
    halves = yuv[1:].reshape(chroma.planes, chroma.height, 2, chroma.width, 2).mean(axis=(2, 4), dtype=np.float32)
    return {luma.name: _padded(yuv[:1], luma.margin), chroma.name: _padded(halves, chroma.margin)}


def shifted_copies(planes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return a view of the copies of each plane that are shifted by the pixels of a block.

    Args:
        planes: float32 (planes, rows + 1, columns + 1), from `to_planes`.

    Returns:
        (planes, BLOCK, BLOCK, rows, columns): copy [p, y, x] is plane p moved y pixels up and x to the left.
    """
    count, height, width = planes.shape
    shape = (count, BLOCK, BLOCK, height - 1, width - 1)
    by_plane, by_row, by_pixel = planes.strides
    strides = (by_plane, by_row, by_pixel, by_row, by_pixel)
    return np.lib.stride_tricks.as_strided(planes, shape, strides, writeable=False)


def _padded(planes: npt.NDArray[np.float32], margin: int) -> npt.NDArray[np.float32]:
    sides = (margin, margin + BLOCK - 1)
    padded = np.pad(planes, ((0, 0), sides, sides), mode="symmetric")
    padded.flags.writeable = False
    return padded
