"""Reads the payload from the spectrum of a frame at the frequencies of a lattice."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from runtime.marking.code import CODED_BITS, decode, encode
from runtime.marking.pattern import pattern
from verify.lattice import REACH, SYMMETRIES

# A lattice is decoded only if its pilots are seen with this many standard deviations. In noise, the best of all
# shifts of a tile has about 4; the threshold saves time, and keeps the number of decoded candidates small.
LEAST_PILOTS = 4.6
_GRID = 128  # shifts that are tried along each side of a tile
_SMOOTH_NOISE, _SMOOTH_SIGNAL = 3.0, 7.0  # frequencies over which noise and signal are averaged

Complex = npt.NDArray[np.complex128]


@dataclass(frozen=True)
class Sync:
    """Where the pilots were found.

    Args:
        symmetry: number of one of `SYMMETRIES`.
        shift: of the tiles, in tiles, (a, b).
        strength: of the pilots, in standard deviations of noise.
    """

    symmetry: int
    shift: tuple[float, float]
    strength: float


@dataclass(frozen=True)
class Reading:
    """A payload whose check was right.

    Args:
        payload: [0, 2**48).
        sync: where its pilots are.
        agreement: share of its coded bits that were received right before the correction, 0.5 (noise) to 1.
    """

    payload: int
    sync: Sync
    agreement: float


def synchronise(spectrum: Complex) -> list[Sync]:
    """Return where the pilots may be, the strongest first: the best shift for each symmetry.

    Args:
        spectrum: from `spectrum_at`.
    """
    made = pattern()
    found = []
    normalised = _normalised(spectrum)
    for number in range(len(SYMMETRIES)):
        values = _values(normalised, number)
        products = values[made.is_pilot] * made.pilots.conj()
        grid = np.zeros((_GRID, _GRID), np.complex128)
        u, v = made.places[made.is_pilot].T
        grid[v % _GRID, u % _GRID] = products
        sums = np.fft.fft2(grid).real  # a shift by (a, b) turns u, v by exp(2 pi i (u a + v b))
        row, column = np.unravel_index(int(sums.argmax()), sums.shape)
        shift, total = _nearby(products, np.stack([u, v]), (column / _GRID, row / _GRID))
        found.append(Sync(number, shift, total / np.sqrt(len(products) / 2)))
    return sorted(found, key=lambda sync: -sync.strength)


def read(spectrum: Complex, sync: Sync) -> Reading | None:
    """Return the payload, if its check is right."""
    made = pattern()
    values = _values(spectrum, sync.symmetry)
    values = values * np.exp(-2j * np.pi * (made.places @ np.array(sync.shift)))
    near, wide = _kernels()
    noise = near @ (np.abs(values) ** 2)
    products = (values[made.is_pilot] * made.pilots.conj()).real
    # The share of signal: smooth over frequencies, as codecs and scaling take the high ones.
    signal = wide @ np.maximum(-3, np.minimum(3, products / np.sqrt(noise[made.is_pilot])))
    is_data = ~made.is_pilot
    scaled = values[is_data] / np.sqrt(noise[is_data])
    strength = np.maximum(np.abs(scaled), 1e-12)
    scaled *= np.minimum(1, 2.5 / strength)
    signal = np.clip(signal[is_data], 0.02, 0.95)
    weights = signal / (1 - signal**2)
    parts = np.stack([scaled.real, scaled.imag], axis=1) * made.signs * weights[:, np.newaxis]
    received = np.asarray(np.bincount(made.bits.reshape(-1), parts.reshape(-1), CODED_BITS), np.float64)
    payload = decode(received)
    if payload is None:
        return None
    agreement = float(np.mean((received < 0) == (encode(payload) == 1)))
    return Reading(payload, sync, agreement)


def _values(spectrum: Complex, symmetry: int) -> Complex:
    """Return the spectrum at the places of the pattern, turned and mirrored."""
    u, v = (SYMMETRIES[symmetry] @ pattern().places.T) + REACH
    values: Complex = spectrum[v, u]
    return values


def _normalised(spectrum: Complex) -> Complex:
    """Return a spectrum whose squares are 1 on average everywhere; single large values are made smaller."""
    is_used, weights = _smoothing()
    power = np.abs(spectrum) ** 2 * is_used
    noise = (weights @ power @ weights) / (weights @ is_used @ weights)
    scaled: Complex = spectrum / np.sqrt(noise + 1e-30)
    return scaled * np.minimum(1, 2 / np.maximum(np.abs(scaled), 1e-12))


@cache
def _smoothing() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return where the pattern has frequencies, in both half planes, and the weights of means along one axis."""
    is_used = np.zeros((2 * REACH + 1, 2 * REACH + 1))
    u, v = pattern().places.T
    is_used[v + REACH, u + REACH] = is_used[REACH - v, REACH - u] = 1
    side = np.arange(-REACH, REACH + 1)
    return is_used, np.exp(-((side[:, np.newaxis] - side) ** 2) / (2 * _SMOOTH_NOISE**2))


def _nearby(
    products: Complex, places: npt.NDArray[np.int64], start: tuple[float, float]
) -> tuple[tuple[float, float], float]:
    """Return the best shift next to one of the grid, and its sum."""
    steps = np.arange(-5, 6) / (8 * _GRID)
    across = np.exp(-2j * np.pi * np.outer(start[0] + steps, places[0]))
    down = np.exp(-2j * np.pi * np.outer(start[1] + steps, places[1]))
    sums = (down @ (products[:, np.newaxis] * across.T)).real
    row, column = np.unravel_index(int(sums.argmax()), sums.shape)
    shift = float(start[0] + steps[column]) % 1.0, float(start[1] + steps[row]) % 1.0
    return shift, float(sums[row, column])


@cache
def _kernels() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the weights of means over the neighbours of each place: of all places (N, N), of the pilots (N, P)."""
    made = pattern()
    u, v = made.places.T.astype(np.float64)
    squares = (u[:, np.newaxis] - u) ** 2 + (v[:, np.newaxis] - v) ** 2
    near = np.exp(-squares / (2 * _SMOOTH_NOISE**2))
    wide = np.exp(-squares[:, made.is_pilot] / (2 * _SMOOTH_SIGNAL**2))
    return near / near.sum(axis=1, keepdims=True), wide / wide.sum(axis=1, keepdims=True)
