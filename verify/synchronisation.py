"""Finds the lattice of a mark from its own repetition: the autocorrelation of a plane has a peak at every tile.

Legend: H height, W width of a frame.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from verify.lattice import Lattice
from verify.whitening import Floats, box_mean

LEAST_PERIOD, LARGEST_PERIOD = 40.0, 420.0  # pixels of a tile
_NUM_PEAKS = 24
_NUM_LATTICES = 4
_CLIP = 6.0  # a frequency counts at most this many times as much as those around it
_AROUND = 31  # frequencies
_MULTIPLES = ((1, 0), (0, 1), (1, 1), (1, -1), (2, 0), (0, 2))


def find_lattices(plane: Floats) -> list[Lattice]:
    """Return lattices of square or rectangular tiles that a whitened plane (H, W) may have, the likeliest first."""
    repeats = _autocorrelation(plane)
    peaks = list(_peaks(repeats, plane.shape))
    found: list[tuple[float, npt.NDArray[np.float64]]] = []
    for peak in peaks:
        turned = np.array([-peak[1], peak[0]])
        # A peak may also be the diagonal of a tile.
        for basis in (np.stack([peak, turned]), np.stack([peak - turned, peak + turned]) / 2):
            if LEAST_PERIOD <= np.hypot(*basis[0]) <= LARGEST_PERIOD:
                found.append((_score(repeats, basis), basis))
    wide = next((peak for peak in peaks if abs(peak[1]) <= 1), None)
    high = next((peak for peak in peaks if abs(peak[0]) <= 1), None)
    if wide is not None and high is not None:
        basis = np.array([[abs(wide[0]), 0.0], [0.0, abs(high[1])]])
        found.append((_score(repeats, basis), basis))
    found.sort(key=lambda one: -one[0])
    lattices: list[Lattice] = []
    for _, basis in found:
        lattice = _upright(np.asarray(np.linalg.inv(_refined(repeats, basis).T), np.float64))
        if all(np.abs(np.linalg.solve(other, lattice) - np.eye(2)).max() > 0.01 for other in lattices):
            lattices.append(lattice)
        if len(lattices) == _NUM_LATTICES:
            break
    return lattices


def _autocorrelation(plane: Floats) -> Floats:
    """Return how much a plane is like itself after a shift, float32 [dy, dx], in standard deviations."""
    sizes = [_fast_size(side) for side in plane.shape]
    power = np.abs(np.fft.rfft2(plane, sizes)).astype(np.float32) ** 2
    down, across = np.fft.fftfreq(sizes[0])[:, np.newaxis], np.fft.rfftfreq(sizes[1])
    radius = np.hypot(down, across)
    flat = np.minimum(power / (box_mean(power, _AROUND) + 1e-12), _CLIP) - 1
    flat[(radius < 1 / 40) | (radius > 1 / 3)] = 0
    flat[0] = flat[:, 0] = 0
    repeats = np.fft.irfft2(flat, sizes).astype(np.float32)
    repeats -= box_mean(repeats, 9)
    return np.asarray(repeats / (repeats.std() + 1e-12), np.float32)


def _peaks(repeats: Floats, size: tuple[int, ...]) -> Iterator[npt.NDArray[np.float64]]:
    """Yield shifts (x, y), float64, the strongest first, from one half plane."""
    height, width = repeats.shape
    dy = (np.arange(height) + height // 2) % height - height // 2
    dx = (np.arange(width) + width // 2) % width - width // 2
    radius = np.hypot(dy[:, np.newaxis], dx)
    inside = (np.abs(dy) < 0.8 * size[0])[:, np.newaxis] & (np.abs(dx) < 0.8 * size[1])
    is_half = (dy[:, np.newaxis] > 0) | ((dy[:, np.newaxis] == 0) & (dx > 0))
    left = np.where(inside & is_half & (radius >= LEAST_PERIOD) & (radius <= 1.5 * LARGEST_PERIOD), repeats, 0)
    for _ in range(_NUM_PEAKS):
        row, column = np.unravel_index(int(left.argmax()), left.shape)
        if left[row, column] <= 0:
            return
        yield _climbed(repeats, np.array([dx[column], dy[row]], np.float64))
        rows, columns = (np.arange(place - 4, place + 5) for place in (row, column))
        left[np.ix_(rows % height, columns % width)] = 0


def _climbed(repeats: Floats, shift: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the top of the peak next to a shift, with fractions of pixels."""
    height, width = repeats.shape
    column, row = (round(float(value)) for value in shift)
    near = repeats[np.ix_(np.arange(row - 2, row + 3) % height, np.arange(column - 2, column + 3) % width)]
    down, across = np.unravel_index(int(near.argmax()), near.shape)
    row, column = row + int(down) - 2, column + int(across) - 2
    near = repeats[np.ix_(np.arange(row - 1, row + 2) % height, np.arange(column - 1, column + 2) % width)]
    return np.array([column + _top(near[1]), row + _top(near[:, 1])])


def _top(values: Floats) -> float:
    """Return where a parabola through three values, of which the second is the largest, has its top: -0.5 to 0.5."""
    before, here, after = (float(value) for value in values)
    bend = before - 2 * here + after
    return 0.0 if bend >= 0 else max(-0.5, min(0.5, 0.5 * (before - after) / bend))


def _value(repeats: Floats, shift: npt.NDArray[np.float64]) -> float:
    height, width = repeats.shape
    column, row = (round(float(value)) for value in shift)
    near = repeats[np.ix_(np.arange(row - 1, row + 2) % height, np.arange(column - 1, column + 2) % width)]
    return float(near.max())


def _score(repeats: Floats, basis: npt.NDArray[np.float64]) -> float:
    """Return how much a lattice with these two shifts explains."""
    return sum(_value(repeats, np.array(multiple) @ basis) for multiple in _MULTIPLES)


def _refined(repeats: Floats, basis: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the basis from peaks that lie farther and farther away."""
    height, width = repeats.shape
    used, seen = [], []
    order = sorted(
        ((i, j) for i in range(-4, 5) for j in range(5) if (j, i) > (0, 0)),
        key=lambda pair: pair[0] ** 2 + pair[1] ** 2,
    )
    for pair in order:
        guess = np.array(pair) @ basis
        if abs(guess[0]) > 0.45 * width or abs(guess[1]) > 0.45 * height or _value(repeats, guess) < 4:
            continue
        top = _climbed(repeats, guess)
        if np.abs(top - guess).max() > 2:
            continue
        used.append(pair)
        seen.append(top)
        if np.linalg.matrix_rank(np.array(used)) == 2:
            basis = np.linalg.lstsq(np.array(used, np.float64), np.array(seen), rcond=None)[0]
    return basis


def _upright(lattice: Lattice) -> Lattice:
    """Return the same lattice with axes in the order and direction that is closest to the frame's."""
    if abs(lattice[0, 0]) < abs(lattice[0, 1]):
        lattice = lattice[::-1]
    signs = np.sign([lattice[0, 0], lattice[1, 1]])
    upright: Lattice = lattice * np.where(signs == 0, 1, signs)[:, np.newaxis]
    if np.abs(upright[[0, 1], [1, 0]]).max() * LARGEST_PERIOD < 1e-3:
        upright[0, 1] = upright[1, 0] = 0.0
    return upright


def _fast_size(side: int) -> int:
    """Return the smallest size from `side` on that has no prime factor above 5."""
    while True:
        rest = side
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return side
        side += 1
