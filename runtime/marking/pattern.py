"""The pattern of a mark: which frequencies of a tile carry what.

A tile repeats over the frame. Its spectrum has values in a ring of low and middle frequencies only: what codecs keep.
A third of them are pilots, the same in every mark, by which a detector finds the mark and its place; the others carry
the coded bits, each bit several times, at low and at high frequencies.

Legend: u, v are frequencies in periods per tile, horizontal and vertical.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.random import Philox

from runtime.marking.code import CODED_BITS, encode

# Pixels of a tile in frames of up to 900 lines. No multiple of 8: what codecs do to every block of 8 pixels would add
# up in the same frequencies.
TILE = 126
LOWEST, HIGHEST = 6.0, 28.0  # periods per tile: 21 to 4.5 pixels
_AXES = 2  # frequencies closer to an axis than this are left out: edges of pictures and of blocks lie there
_KEY = 0x65766572  # of the pseudo-random choices


class Pattern(NamedTuple):
    """The frequencies of a tile, sorted by distance from 0; N of them.

    Args:
        places: int64 (N, 2) of u and v; the half plane, the other half is the complex conjugate.
        is_pilot: bool (N,).
        pilots: complex128 (P,) of modulus 1, in the order of `places[is_pilot]`.
        bits: int64 (D, 2), D = N - P: the coded bit in the real and in the imaginary part.
        signs: int64 (D, 2): 1, or -1 where a bit is inverted.
    """

    places: npt.NDArray[np.int64]
    is_pilot: npt.NDArray[np.bool_]
    pilots: npt.NDArray[np.complex128]
    bits: npt.NDArray[np.int64]
    signs: npt.NDArray[np.int64]


@cache
def pattern() -> Pattern:
    """Return the pattern; the same for every payload, on every machine."""
    side = np.arange(-int(HIGHEST), int(HIGHEST) + 1)
    u, v = (axis.reshape(-1) for axis in np.meshgrid(side, side))
    squares = u * u + v * v
    is_used = (squares >= LOWEST**2) & (squares <= HIGHEST**2) & (np.abs(u) >= _AXES) & (v >= _AXES)
    order = np.lexsort((u[is_used], squares[is_used]))
    places = np.stack([u[is_used][order], v[is_used][order]], axis=1)
    draw = Philox(key=_KEY)  # its raw values are the same in all versions of NumPy
    third = draw.random_raw(-(-len(places) // 3)) % np.uint64(3)
    is_pilot = np.zeros(3 * len(third), np.bool_)
    is_pilot[3 * np.arange(len(third)) + third.astype(np.int64)] = True
    is_pilot = is_pilot[: len(places)]
    quarters = draw.random_raw(int(is_pilot.sum())) % np.uint64(4)
    pilots = np.exp(1j * np.pi * (0.25 + 0.5 * quarters.astype(np.float64)))
    count = 2 * int((~is_pilot).sum())
    rounds = [np.argsort(draw.random_raw(CODED_BITS), kind="stable") for _ in range(-(-count // CODED_BITS))]
    bits = np.concatenate(rounds)[:count].reshape(-1, 2)
    signs = 1 - 2 * (draw.random_raw(count) % np.uint64(2)).astype(np.int64).reshape(-1, 2)
    return Pattern(places, is_pilot, pilots, bits, signs)


def spectrum(payload: int) -> npt.NDArray[np.complex128]:
    """Return the values at the frequencies of `pattern`, complex128 (N,) of modulus 1.

    Raises:
        ValueError: the payload is not a whole number in [0, 2**48).
    """
    made = pattern()
    levels = (1 - 2 * encode(payload).astype(np.int64))[made.bits] * made.signs
    values = np.empty(len(made.places), np.complex128)
    values[made.is_pilot] = made.pilots
    values[~made.is_pilot] = (levels[:, 0] + 1j * levels[:, 1]) / np.sqrt(2)
    return values


def tile(payload: int, size: int = TILE) -> npt.NDArray[np.float32]:
    """Return a tile, float32 (size, size) with a root mean square of 1.

    Args:
        payload: [0, 2**48).
        size: in pixels, at least `TILE`.

    Raises:
        ValueError: the payload is not a whole number in [0, 2**48).
    """
    u, v = pattern().places.T
    values = np.zeros((size, size), np.complex128)
    values[v, u] = spectrum(payload)
    values[-v, -u] = values[v, u].conj()
    made = np.fft.ifft2(values).real
    scaled: npt.NDArray[np.float32] = (made / np.sqrt(np.mean(made * made))).astype(np.float32)
    return scaled
