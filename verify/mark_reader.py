"""Reads marks from frames, window by window.

How often noise is taken for a mark: every candidate has to pass a check of 32 bits, and at most `MOST_DECODED`
candidates of a window are decoded, so that a window without a mark yields a payload with a probability of at most
MOST_DECODED * 2**-32 = 1.5e-8 (docs/verify.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.marking.pattern import TILE, tile
from runtime.marking.payload import format_payload
from verify.decoding import LEAST_PILOTS, Complex, Reading, Sync, read, synchronise
from verify.finding import Finding
from verify.lattice import SYMMETRIES, Lattice, degrees_of, period_of, spectrum_at, square, tile_places
from verify.synchronisation import find_lattices
from verify.whitening import Floats, to_luma, whitened

WINDOW = 16  # frames
MOST_DECODED = 64  # candidates of a window
MAP = (6, 8)  # rows and columns of the map of a frame
_SIZES = (1.0, 1.5, 3.0)  # of tiles, see runtime.marking.plane
_RATIOS = (1.0, 1 / 2, 2 / 3, 3 / 4, 4 / 3, 3 / 2, 2.0, 1 / 3)  # between 360, 480, 540, 720, 1080 and 2160 lines
_FINE = 3  # of a tile's picture, as many pixels
_SEEN = 5.5  # standard deviations of the pilots from which single frames are tried as well

Luma = npt.NDArray[Any]  # (H, W)


class MarkReader:
    """Finds the mark in windows of frames; remembers how tiles lay, which holds for a whole video.

    Args:
        searches: how many windows without a mark are searched for pictures that were turned, or scaled by any factor,
            which takes about a second for 1280 x 720; None for all.

    Attributes:
        size: (width, height) of the last frames in pixels.
        decodings_left: candidates of the last window that could still have been decoded.
    """

    def __init__(self, *, searches: int | None = None) -> None:
        self._searches = searches
        self._latest: Lattice | None = None
        self.size, self.decodings_left = (0, 0), MOST_DECODED

    def read(self, frames: Sequence[Luma], *, searches_anyway: bool = False) -> tuple[Reading, Lattice, Floats] | None:
        """Return the payload in some frames, the lattice of its tiles, and the map of where it is; None if none.

        Args:
            frames: uint8 or float (H, W), brightness in levels; at least one. They are read together.
            searches_anyway: whether turned and scaled pictures are searched in any case.
        """
        self.size, self.decodings_left = (frames[0].shape[1], frames[0].shape[0]), MOST_DECODED
        total = frames[0].astype(np.float32)
        for frame in frames[1:]:
            total += frame
        plane = whitened(total / np.float32(len(frames)))
        seen: list[Lattice] = []
        for lattice in self._lattices(plane, searches_anyway=searches_anyway):
            syncs, reading = self._decode(spectrum_at(plane, lattice))
            if reading is not None:
                return self._found(plane, lattice, reading)
            if syncs[0].strength >= _SEEN:
                seen.append(lattice)
        for lattice in seen if len(frames) > 1 else ():
            if (reading := self._decode_frames(frames, lattice)) is not None:
                return self._found(plane, lattice, reading)
        return None

    def _lattices(self, plane: Floats, *, searches_anyway: bool) -> Iterator[Lattice]:
        latest = self._latest
        if latest is not None:
            yield latest
        periods = dict.fromkeys(round(TILE * size * ratio, 3) for ratio in _RATIOS for size in _SIZES)
        for period in periods:
            lattice = square(period)
            is_new = latest is None or not np.array_equal(lattice, latest)
            if is_new and TILE / 3 <= period <= 1.1 * max(plane.shape):
                yield lattice
        if min(plane.shape) >= TILE and (searches_anyway or self._searches is None or self._searches > 0):
            self._searches = None if self._searches is None else self._searches - 1
            yield from find_lattices(plane)

    def _found(self, plane: Floats, lattice: Lattice, reading: Reading) -> tuple[Reading, Lattice, Floats]:
        self._latest = lattice
        return reading, lattice, place_map(plane, lattice, reading)

    def _decode(self, spectrum: Complex) -> tuple[list[Sync], Reading | None]:
        """Return where the pilots may be, and the payload."""
        syncs = synchronise(spectrum)
        for sync in syncs:
            if sync.strength < LEAST_PILOTS or self.decodings_left <= 0:
                break
            self.decodings_left -= 1
            if (reading := read(spectrum, sync)) is not None:
                return syncs, reading
        return syncs, None

    def _decode_frames(self, frames: Sequence[Luma], lattice: Lattice) -> Reading | None:
        """Return the payload where the pilots are seen, but the mean of the frames was not good enough.

        Where a codec has few bits, one frame, e.g. a key frame, may be better than the mean of all.
        """
        spectra = [spectrum_at(whitened(frame), lattice) for frame in frames]
        order = np.argsort([-synchronise(spectrum)[0].strength for spectrum in spectra])
        for count in sorted({len(frames), -(-len(frames) // 4), 1}, reverse=True):
            _, reading = self._decode(np.sum([spectra[number] for number in order[:count]], axis=0))
            if reading is not None:
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
    for first, part in windows(frames, window):
        found = reader.read(part)
        if found is not None:
            findings.append(to_finding(first, len(part), *found))
    return findings


def to_finding(first: int, count: int, reading: Reading, lattice: Lattice, places: Floats) -> Finding:
    """Return the finding of a window of `count` frames from number `first` on."""
    symmetry = SYMMETRIES[reading.sync.symmetry]
    quarter = float(np.rad2deg(np.arctan2(symmetry[1, 0], symmetry[0, 0])))
    is_mirrored = bool(np.linalg.det(symmetry) < 0)
    return Finding(
        payload=format_payload(reading.payload),
        first=first,
        last=first + count - 1,
        agreement=reading.agreement,
        pilots=reading.sync.strength,
        period=period_of(lattice),
        degrees=degrees_of(lattice) + (0.0 if is_mirrored else quarter),
        is_mirrored=is_mirrored,
        places=places,
    )


def windows(frames: Iterable[npt.NDArray[np.uint8]], window: int = WINDOW) -> Iterator[tuple[int, list[Luma]]]:
    """Yield the number of the first frame of each window, and the brightness of its frames.

    Raises:
        ValueError: frames differ in size, or are none.
    """
    if window < 1:
        raise ValueError(f"a window must have at least 1 frame, got {window}")
    part: list[Luma] = []
    first, size = 0, None
    for number, frame in enumerate(frames):
        if frame.dtype != np.uint8 or frame.ndim not in (2, 3) or (frame.ndim == 3 and frame.shape[2] != 3):
            raise ValueError(f"a frame must be uint8 (H, W, 3) or (H, W), got {frame.dtype} {frame.shape}")
        luma = to_luma(frame)
        if size is not None and luma.shape != size:
            raise ValueError(f"all frames must have one size, got {luma.shape} after {size}")
        size = luma.shape
        part.append(luma.copy() if luma is frame else luma)  # the caller may use its memory again
        if len(part) == window:
            yield first, part
            part, first = [], number + 1
    if part:
        yield first, part


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
