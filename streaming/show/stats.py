"""The show's figures: how long frames took to make, how many left on time, and how each sink is doing."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

from streaming.output.fan_out import SinkStats

_RECENT_S = 10
_KEPT = 2**17  # frame times in the summary: the last 73 minutes at 30 frames per second, in half a megabyte


@dataclass(frozen=True)
class FrameTiming:
    """How regularly frames came, over some part of the show.

    Args:
        fps: frames shown per second.
        p50_ms: milliseconds that the engine took for a frame, without waiting; half of the frames took at most this.
        p95_ms: 95 % of the frames took at most this.
        p99_ms: 99 % of the frames took at most this.
        worst_ms: the slowest frame.
    """

    fps: float = 0.0
    p50_ms: float = 0.0
    p95_ms: float = 0.0
    p99_ms: float = 0.0
    worst_ms: float = 0.0


@dataclass(frozen=True)
class ShowStats:
    """The show's figures at one moment.

    Args:
        frames: shown since the beginning.
        seconds: since the first frame, until the last has been on for one interval.
        timing: of the last ten seconds, or of the whole show in its summary.
        late: frames shown more than half an interval after their slot was due.
        dropped: slots without a frame, because the engine was whole intervals behind.
        sinks: in the order in which they were asked for.
        filled: slots in which the last frame was shown again, as no new one came for a while.
    """

    frames: int
    seconds: float
    timing: FrameTiming
    late: int
    dropped: int
    sinks: Sequence[SinkStats]
    filled: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return what the page's `/stats` sends."""
        return {
            "frames": self.frames,
            "seconds": round(self.seconds, 3),
            **{key: round(value, 3) for key, value in asdict(self.timing).items()},
            "late": self.late,
            "dropped": self.dropped,
            "filled": self.filled,
            # Without the result: where files lie is no business of everybody who may watch.
            "sinks": [
                {key: value for key, value in asdict(sink).items() if key not in ("result", "is_dead")}
                for sink in self.sinks
            ],
        }


class FrameTimes:
    """Collects one figure per frame in bounded memory, however long the show is.

    Args:
        fps: slots per second.
    """

    def __init__(self, fps: Fraction) -> None:
        self.num = 0
        self._interval_s = float(1 / fps)
        self._recent: deque[tuple[float, float]] = deque(maxlen=max(2, ceil(_RECENT_S * fps)))
        self._kept = np.zeros(_KEPT, np.float32)
        self._worst_ms = 0.0
        self._first_s = self._last_s = 0.0

    @property
    def seconds(self) -> float:
        """Length of the show so far."""
        return self._last_s - self._first_s + self._interval_s if self.num else 0.0

    def add(self, took_s: float, shown_s: float) -> None:
        """Add a frame.

        Args:
            took_s: seconds that the engine took for it.
            shown_s: when it was shown, in the clock's seconds.
        """
        if self.num == 0:
            self._first_s = shown_s
        self._last_s = shown_s
        self._recent.append((took_s * 1000, shown_s))
        self._kept[self.num % _KEPT] = took_s * 1000
        self._worst_ms = max(self._worst_ms, took_s * 1000)
        self.num += 1

    def last(self, count: int) -> list[float]:
        """Return the engine's milliseconds for the last frames, oldest first, at most those of ten seconds."""
        recent = len(self._recent)
        return [round(self._recent[index][0], 2) for index in range(max(0, recent - count), recent)]

    def recent(self) -> FrameTiming:
        """Return the timing of the last ten seconds' frames."""
        if not self.num:
            return FrameTiming()
        times = np.array([took_ms for took_ms, _ in self._recent])
        seconds = self._last_s - self._recent[0][1] + self._interval_s
        return _timing(times, len(times) / seconds, float(times.max()))

    def total(self) -> FrameTiming:
        """Return the timing of the whole show; its percentiles are of the last 131,072 frames at most."""
        if not self.num:
            return FrameTiming()
        return _timing(self._kept[: self.num], self.num / self.seconds, self._worst_ms)


def _timing(times: npt.NDArray[Any], fps: float, worst_ms: float) -> FrameTiming:
    p50, p95, p99 = (percentile(times, percent) for percent in (50, 95, 99))
    return FrameTiming(fps, p50, p95, p99, worst_ms)


def percentile(values: npt.NDArray[Any], percent: int) -> float:
    """Return the smallest of the values that at least `percent` per cent of them do not exceed (the nearest rank).

    Args:
        values: (N,), N at least 1.
        percent: whole, 1 to 100.
    """
    rank = -(-len(values) * percent // 100)  # rounded up, in whole numbers: a float would be off by one now and then
    return float(np.partition(values, rank - 1)[rank - 1])
