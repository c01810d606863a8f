"""Reads marks from frames, window by window.

How often noise is taken for a mark: every candidate has to pass a check of 32 bits, and at most `MOST_DECODED`
candidates of a window are decoded, so that a window without a mark yields a payload with a probability of at most
MOST_DECODED * 2**-32 = 1.5e-8 (docs/verify.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from runtime.marking.pattern import TILE, tile
from verify.decoding import LEAST_PILOTS, Reading, read, synchronise
from verify.finding import Finding, to_payload
from verify.lattice import SYMMETRIES, Lattice, degrees_of, period_of, spectrum_at, square, tile_places
from verify.synchronisation import find_lattices
from verify.whitening import Floats, to_luma, whitened

WINDOW = 16  # frames
MOST_DECODED = 64  # candidates of a window
MAP = (6, 8)  # rows and columns of the map of a frame
_SIZES = (1.0, 1.5, 3.0)  # of tiles, see runtime.marking.plane
_RATIOS = (1.0, 1 / 2, 2 / 3, 3 / 4, 4 / 3, 3 / 2, 2.0, 1 / 3)  # between 360, 480, 540, 720, 1080 and 2160 lines
_FINE = 3  # of a tile's picture, as many pixels


class MarkReader:
    """Finds the mark in means of frames; remembers how tiles lay, which holds for a whole video.

    Args:
        searches: how many means without a mark are searched for pictures that were turned, or scaled by any factor,
            which takes about a second for 1280 x 720; None for all.

    Attributes:
        size: (width, height) of the last mean in pixels.
        decodings_left: candidates of the last mean that could still have been decoded.
    """

    def __init__(self, *, searches: int | None = None) -> None:
        self._searches = searches
        self._latest: Lattice | None = None
        self.size, self.decodings_left = (0, 0), MOST_DECODED

    def read(self, mean: npt.NDArray[np.floating], *, is_last: bool = False) -> tuple[Reading, Lattice, Floats] | None:
        """Return the payload in a mean of frames, the lattice of its tiles, and the map of where it is; None if none.

        Args:
            mean: float (H, W), brightness in levels.
            is_last: whether it is searched in any case.
        """
        self.size = mean.shape[1], mean.shape[0]
        plane, self.decodings_left = whitened(mean), MOST_DECODED
        for lattice in self._lattices(plane, is_last=is_last):
            reading = self._decode(plane, lattice)
            if reading is not None:
                self._latest = lattice
                return reading, lattice, place_map(plane, lattice, reading)
            if self.decodings_left <= 0:
                break
        return None

    def _lattices(self, plane: Floats, *, is_last: bool) -> Iterator[Lattice]:
        if self._latest is not None:
            yield self._latest
        periods = dict.fromkeys(round(TILE * size * ratio, 3) for ratio in _RATIOS for size in _SIZES)
        for period in periods:
            if period <= 1.1 * max(plane.shape) and period >= TILE / 3:
                yield square(period)
        if min(plane.shape) >= TILE and (is_last or self._searches is None or self._searches > 0):
            self._searches = None if self._searches is None else self._searches - 1
            yield from find_lattices(plane)

    def _decode(self, plane: Floats, lattice: Lattice) -> Reading | None:
        spectrum = spectrum_at(plane, lattice)
        for sync in synchronise(spectrum):
            if sync.strength < LEAST_PILOTS or self.decodings_left <= 0:
                return None
            self.decodings_left -= 1
            if (reading := read(spectrum, sync)) is not None:
                return reading
        return None


def read_mark(
    frames: Iterable[npt.NDArray[np.uint8]], *, window: int = WINDOW, searches: int | None = None
) -> list[Finding]:
    """Read the mark from frames of one size.

    Args:
        frames: uint8 (H, W, 3) RGB, or (H, W) brightness; each is read before the next one is taken.
        window: frames that are read together; the last window may have fewer.
        searches: as in `MarkReader`.

    Returns:
        A finding for each window in which a mark is; empty if there is none.

    Raises:
        ValueError: frames differ in size, or are none.
    """
    reader, findings = MarkReader(searches=searches), []
    for first, count, mean in windows(frames, window):
        found = reader.read(mean)
        if found is not None:
            findings.append(to_finding(first, count, *found))
    return findings


def to_finding(first: int, count: int, reading: Reading, lattice: Lattice, places: Floats) -> Finding:
    """Return the finding of a window of `count` frames from number `first` on."""
    symmetry = SYMMETRIES[reading.sync.symmetry]
    quarter = float(np.rad2deg(np.arctan2(symmetry[1, 0], symmetry[0, 0])))
    is_mirrored = bool(np.linalg.det(symmetry) < 0)
    return Finding(
        payload=to_payload(reading.payload),
        first=first,
        last=first + count - 1,
        agreement=reading.agreement,
        pilots=reading.sync.strength,
        period=period_of(lattice),
        degrees=degrees_of(lattice) + (0.0 if is_mirrored else quarter),
        is_mirrored=is_mirrored,
        places=places,
    )


def windows(
    frames: Iterable[npt.NDArray[np.uint8]], window: int = WINDOW
) -> Iterator[tuple[int, int, npt.NDArray[np.float32]]]:
    """Yield the number of the first frame of each window, the number of its frames, and their mean brightness.

    Raises:
        ValueError: frames differ in size, or are none.
    """
    if window < 1:
        raise ValueError(f"a window must have at least 1 frame, got {window}")
    total: npt.NDArray[np.float32] | None = None
    first = count = 0
    for number, frame in enumerate(frames):
        if frame.dtype != np.uint8 or frame.ndim not in (2, 3) or (frame.ndim == 3 and frame.shape[2] != 3):
            raise ValueError(f"a frame must be uint8 (H, W, 3) or (H, W), got {frame.dtype} {frame.shape}")
        luma = to_luma(frame)
        if total is not None and luma.shape != total.shape:
            raise ValueError(f"all frames must have one size, got {luma.shape} after {total.shape}")
        total = luma.astype(np.float32) if total is None else total + luma
        count += 1
        if count == window:
            yield first, count, total / np.float32(count)
            total, first, count = None, number + 1, 0
    if total is not None:
        yield first, count, total / np.float32(count)


def place_map(plane: Floats, lattice: Lattice, reading: Reading) -> Floats:
    """Return how strongly each part of a whitened plane carries a mark, float32 `MAP`, in standard deviations."""
    height, width = plane.shape
    size = _FINE * TILE
    bins = tile_places(lattice, width, height, size)
    symmetry = SYMMETRIES[reading.sync.symmetry]
    row, column = np.divmod(np.arange(size * size), size)
    # A tile's cell, as the plane sees it -> the cell of the tile as it was made.
    seen = np.stack([column, row]) / size
    made = symmetry.T @ seen + np.array(reading.sync.shift)[:, np.newaxis]
    places = np.floor(made % 1.0 * size).astype(np.int64) % size
    wanted = tile(reading.payload, size)[places[1], places[0]].astype(np.float32)
    expected = wanted[bins]
    cells = np.zeros(MAP, np.float32)
    rows, columns = (np.linspace(0, side, count + 1).astype(int) for side, count in zip(plane.shape, MAP, strict=True))
    for i in range(MAP[0]):
        for j in range(MAP[1]):
            part = slice(rows[i], rows[i + 1]), slice(columns[j], columns[j + 1])
            product = plane[part] * expected[part]
            # Values next to each other are not independent: about a seventh of them are.
            spread = np.sqrt(float((plane[part] ** 2).sum()) * 6.8) + 1e-12
            cells[i, j] = float(product.sum()) / spread
    return cells
