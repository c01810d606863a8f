"""The planes of a picture, as the pixel stage reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from runtime.pixels.stage import BLOCK, PlaneSet

Planes = Mapping[str, npt.NDArray[np.uint8]]  # input of the pixel stage -> (planes, rows + 1, columns + 1)

SHARP = ".sharp"  # end of the names of sharpened planes

# Recommendation ITU-R BT.709-6, items 3.2 to 3.4, limited range: rows give Y, U, V from R, G, B, all 0 to 255.
_LUMA = np.array([0.2126, 0.7152, 0.0722])
_BLUE = (np.array([0.0, 0.0, 1.0]) - _LUMA) / (2 * (1 - _LUMA[2]))
_RED = (np.array([1.0, 0.0, 0.0]) - _LUMA) / (2 * (1 - _LUMA[0]))
_TO_YUV = (np.stack([219 * _LUMA, 224 * _BLUE, 224 * _RED]) / 255).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Blend:
    """Two pictures that are blended: `one + share * (two - one)`.

    Args:
        one, two: uint8 (planes, rows + 1, columns + 1), from `to_planes`.
        share: of the second, 0 to 1.
    """

    one: npt.NDArray[np.uint8]
    two: npt.NDArray[np.uint8]
    share: float

    def planes(self, out: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Blend into `out`, of the planes' shape, and return it."""
        if self.share in (0.0, 1.0):
            np.copyto(out, self.two if self.share else self.one)
        else:
            np.subtract(self.two, self.one, out=out, dtype=np.float32)
            out *= np.float32(self.share)
            out += self.one
        return out


def padded_shape(item: PlaneSet) -> tuple[int, int, int]:
    """Return the shape of some planes with their margins, and one more row and column."""
    return item.planes, item.rows + BLOCK - 1, item.columns + BLOCK - 1


def to_planes(picture: npt.NDArray[np.uint8], sets: tuple[PlaneSet, ...]) -> Planes:
    """Split a picture into planes.

    Args:
        picture: uint8 (H, W, 3) RGB of the frame's size.
        sets: of the frame, from `plane_sets`.

    Returns:
        Read-only uint8 (planes, rows + 1, columns + 1) for each set: the values of the frame, mirrored in the margins.
    """
    if len(sets) == 1:
        return {sets[0].name: _padded(np.moveaxis(picture, 2, 0), sets[0].margin)}
    luma, chroma = sets
    rgb = np.moveaxis(picture, 2, 0).astype(np.float32)
    # Chroma is linear in R, G and B, so they can be averaged first.
    halves = rgb.reshape(3, chroma.height, 2, chroma.width, 2).mean(axis=(2, 4), dtype=np.float32)
    y = _weighted(rgb, _TO_YUV[0], 16.0)[np.newaxis]
    uv = np.stack([_weighted(halves, weights, 128.0) for weights in _TO_YUV[1:]])
    return {luma.name: _padded(y, luma.margin), chroma.name: _padded(uv, chroma.margin)}


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


def _weighted(rgb: npt.NDArray[np.float32], weights: npt.NDArray[np.float32], offset: float) -> npt.NDArray[np.uint8]:
    """Return the weighted sum of three planes plus an offset, rounded."""
    total = rgb[0] * weights[0]
    total += rgb[1] * weights[1]
    total += rgb[2] * weights[2]
    total += np.float32(offset + 0.5)
    rounded: npt.NDArray[np.uint8] = total.astype(np.uint8)
    return rounded


def _padded(planes: npt.NDArray[np.uint8], margin: int) -> npt.NDArray[np.uint8]:
    sides = (margin, margin + BLOCK - 1)
    padded = np.pad(planes, ((0, 0), sides, sides), mode="symmetric")
    padded.flags.writeable = False
    return padded
