"""The show's sound as samples with positions: a source writes them, sinks read them.

Position n belongs to the moment n / 48,000 s after the show's first frame. A source knows when a block was recorded;
its clock and the machine's drift apart by up to a second in an hour. Blocks arrive late by chance and never early, so
the smallest delay within a second shows the drift, and a few samples are added or left out until it is gone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.int16]
OnSound = Callable[[Samples, float], object]  # takes a block, and the time of its first sample in seconds

RATE = 48_000  # samples per second
CHANNELS = 2
_KEPT = 10 * RATE  # samples; sinks read much later ones
_GAP = RATE // 4  # a block further from its place than this begins there; nearer ones are moved bit by bit
_WINDOW = RATE  # over which the smallest delay is found
_TOLERANCE = RATE // 500  # 2 ms, which nobody hears
_MAX_STRETCH = 0.005  # of the length; a change of pitch that is hard to hear


class SoundTimeline:
    """The last ten seconds of sound, and up to a second of what is to come; may be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ring = np.zeros((_KEPT, CHANNELS), np.int16)
        self._end = 0  # position after the last sample
        self._is_new = True
        self._least: int | None = None  # distance of a block from its place, within the window
        self._seen = 0  # samples of the window
        self._stretch = 0.0
        self._rest = 0.0  # part of a sample that is to be added

    @property
    def end(self) -> int:
        """The position after the last sample that was written."""
        return self._end

    def write(self, samples: Samples, position: int) -> None:
        """Add a block; after a gap there is silence.

        Args:
            samples: int16 (n, 2).
            position: where its first sample belongs; samples before 0 are dropped.
        """
        if position < 0:
            samples, position = samples[-position:], 0
        if not len(samples):
            return
        with self._lock:
            distance = position - self._end
            if self._is_new or abs(distance) > _GAP:
                self._begin(position)
            else:
                samples = self._corrected(samples, distance)
            self._store(samples)

    def read(self, begin: int, end: int) -> Samples:
        """Return the samples from one position to another, int16 (end - begin, 2); silence where there are none."""
        found = np.zeros((max(0, end - begin), CHANNELS), np.int16)
        with self._lock:
            first, last = max(begin, self._end - _KEPT, 0), min(end, self._end)
            if last > first:
                found[first - begin : last - begin] = self._ring[np.arange(first, last) % _KEPT]
        return found

    def _begin(self, position: int) -> None:
        silence = min(position - self._end, _KEPT)
        if silence > 0:
            self._end = position - silence
            self._store(np.zeros((silence, CHANNELS), np.int16))
        self._end = position
        self._is_new, self._least, self._seen, self._stretch, self._rest = False, None, 0, 0.0, 0.0

    def _corrected(self, samples: Samples, distance: int) -> Samples:
        self._least = distance if self._least is None else min(self._least, distance)
        self._seen += len(samples)
        if self._seen >= _WINDOW:
            is_off = abs(self._least) > _TOLERANCE
            self._stretch = max(-_MAX_STRETCH, min(_MAX_STRETCH, self._least / _WINDOW)) if is_off else 0.0
            self._least, self._seen = None, 0
        self._rest += len(samples) * self._stretch
        more = int(self._rest)
        self._rest -= more
        return stretched(samples, len(samples) + more) if more else samples

    def _store(self, samples: Samples) -> None:
        samples = samples[-_KEPT:]
        first = self._end % _KEPT
        fits = min(len(samples), _KEPT - first)
        self._ring[first : first + fits] = samples[:fits]
        self._ring[: len(samples) - fits] = samples[fits:]
        self._end += len(samples)


def to_samples(data: bytes | bytearray | memoryview | npt.NDArray[np.uint8]) -> Samples:
    """Return the samples that a message's bytes hold, int16 (n, 2)."""
    return np.frombuffer(data, np.int16).reshape(-1, CHANNELS)


def stretched(samples: Samples, length: int) -> Samples:
    """Return a block with another number of samples, by linear interpolation."""
    places = np.linspace(0, len(samples) - 1, length)
    known = np.arange(len(samples))
    sides = [np.interp(places, known, samples[:, side]) for side in range(CHANNELS)]
    return np.rint(np.stack(sides, axis=1)).astype(np.int16)
