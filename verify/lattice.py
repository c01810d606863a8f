"""Lattices: how the tiles of a mark lie in a frame, and the frame's spectrum at their frequencies.

A lattice is a matrix (2, 2) from pixels to tiles: (a, b) = lattice @ (x, y). After scaling and rotation it is another
one. Crops shift the tiles in it, which changes phases only.

Legend: u, v are frequencies in periods per tile; H height, W width of a frame.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from runtime.marking.pattern import HIGHEST

Floats = npt.NDArray[np.float32]
Lattice = npt.NDArray[np.float64]
REACH = int(HIGHEST)  # the highest u and v
_BINS = 256  # along each side of a tile, where a lattice is turned

# How a picture may be turned and mirrored without another lattice; the first is the picture as it is.
SYMMETRIES = tuple(
    np.array(matrix)
    for matrix in (
        ((1, 0), (0, 1)),
        ((-1, 0), (0, 1)),  # mirrored, as people see themselves
        ((-1, 0), (0, -1)),
        ((1, 0), (0, -1)),
        ((0, -1), (1, 0)),
        ((0, 1), (-1, 0)),
        ((0, 1), (1, 0)),
        ((0, -1), (-1, 0)),
    )
)


def square(period: float, degrees: float = 0.0) -> Lattice:
    """Return a lattice of square tiles whose side is `period` pixels, turned by an angle (clockwise on a screen)."""
    angle = np.deg2rad(degrees)
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / period


def period_of(lattice: Lattice) -> float:
    """Return the side of a tile in pixels; the geometric mean if the sides differ."""
    return float(abs(np.linalg.det(lattice)) ** -0.5)


def degrees_of(lattice: Lattice) -> float:
    """Return by how much the tiles are turned, in degrees from -45 to 45."""
    return float((np.rad2deg(np.arctan2(lattice[0, 1], lattice[0, 0])) + 45) % 90 - 45)


def spectrum_at(plane: Floats, lattice: Lattice) -> npt.NDArray[np.complex128]:
    """Return the spectrum of a plane (H, W) at the frequencies of a lattice.

    Returns:
        complex128 (2 * REACH + 1, 2 * REACH + 1): [v + REACH, u + REACH].
    """
    height, width = plane.shape
    side = np.arange(-REACH, REACH + 1)
    if lattice[0, 1] == 0 and lattice[1, 0] == 0:
        across = np.exp(-2j * np.pi * lattice[0, 0] * np.outer(np.arange(width), side[REACH:])).astype(np.complex64)
        down = np.exp(-2j * np.pi * lattice[1, 1] * np.outer(side, np.arange(height))).astype(np.complex64)
        rows = plane @ np.ascontiguousarray(across.real) + 1j * (plane @ np.ascontiguousarray(across.imag))
        right = np.asarray(down @ rows, np.complex128)
        return np.concatenate([right[::-1, :0:-1].conj(), right], axis=1)  # a real plane's spectrum is symmetric
    places = tile_places(lattice, width, height, _BINS)
    sums = np.bincount(places.reshape(-1), plane.reshape(-1), _BINS * _BINS).reshape(_BINS, _BINS)
    whole = np.fft.fft2(sums)
    middle = np.exp(-1j * np.pi * side / _BINS)  # bins stand for their middles
    return whole[np.ix_(side % _BINS, side % _BINS)] * np.outer(middle, middle)


def tile_places(lattice: Lattice, width: int, height: int, bins: int) -> npt.NDArray[np.int64]:
    """Return the cell of the tile in which each pixel lies, int64 (H, W): row * bins + column."""
    x, y = np.arange(width), np.arange(height)[:, np.newaxis]
    column, row = (np.floor((line[0] * x + line[1] * y) % 1.0 * bins).astype(np.int64) % bins for line in lattice)
    cells: npt.NDArray[np.int64] = row * bins + column
    return cells
