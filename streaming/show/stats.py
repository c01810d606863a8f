"""The statistics of a show: times per frame, late and dropped frames, and the state of each sink."""

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
    """Frame rate and times per frame over a part of the show.

    Args:
        fps: frames shown per second.
        p50_ms: the engine's milliseconds for a frame, without waiting; the median.
        p95_ms: the 95th percentile.
        p99_ms: the 99th percentile.
        worst_ms: the slowest frame.
    """

    fps: float = 0.0
    p50_ms: float = 0.0
    p95_ms: float = 0.0
    p99_ms: float = 0.0
    worst_ms: float = 0.0


@dataclass(frozen=True)
class ShowStats:
    """The statistics at one moment.

    Args:
        frames: number of frames shown.
        seconds: from the first frame to the end of the last one.
        timing: of the last ten seconds, or of the whole show for the summary.
        late: frames shown more than half an interval after their slot was due.
        dropped: slots without a frame, because the engine was whole intervals behind.
        sinks: in the order of `--to`.
        filled: slots in which the last frame was repeated.
    """

    frames: int
    seconds: float
    timing: FrameTiming
    late: int
    dropped: int
    sinks: Sequence[SinkStats]
    filled: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the content of the page's `/stats`."""
        return {
            "frames": self.frames,
            "seconds": round(self.seconds, 3),
            **{key: round(value, 3) for key, value in asdict(self.timing).items()},
            "late": self.late,
            "dropped": self.dropped,
            "filled": self.filled,
            # Without the result: viewers should not see the paths of files.
            "sinks": [
                {key: value for key, value in asdict(sink).items() if key not in ("result", "is_dead")}
                for sink in self.sinks
            ],
        }


class FrameTimes:
    """Collects the time of each frame in bounded memory.

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
            took_s: the engine's seconds for it.
            shown_s: when it was shown, in seconds of the clock.
        """
        if self.num == 0:
            self._first_s = shown_s
        self._last_s = shown_s
        self._recent.append((took_s * 1000, shown_s))
        self._kept[self.num % _KEPT] = took_s * 1000
        self._worst_ms = max(self._worst_ms, took_s * 1000)
        self.num += 1

    def last(self, count: int) -> list[float]:
        """Return the engine's milliseconds for the last frames, oldest first; at most ten seconds of them."""
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
        """Return the timing of the whole show; its percentiles use the last 131,072 frames at most."""
        if not self.num:
            return FrameTiming()
        return _timing(self._kept[: self.num], self.num / self.seconds, self._worst_ms)


def _timing(times: npt.NDArray[Any], fps: float, worst_ms: float) -> FrameTiming:
    p50, p95, p99 = (percentile(times, percent) for percent in (50, 95, 99))
    return FrameTiming(fps, p50, p95, p99, worst_ms)


def percentile(values: npt.NDArray[Any], percent: int) -> float:
    """Return a percentile by the nearest-rank method.

    Args:
        values: (N,), N at least 1.
        percent: whole, 1 to 100.
    """
    rank = -(-len(values) * percent // 100)  # rounded up, in whole numbers: a float would be off by one now and then
    return float(np.partition(values, rank - 1)[rank - 1])
