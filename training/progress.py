"""Progress as plain lines, for output to a log file, a service or a pipe."""

from __future__ import annotations

import time
from collections.abc import Callable

EVERY_S = 30.0  # seconds between lines


class ProgressLines:
    """Prints lines such as "pretrain 40/600, 3.6 s each, 34 min left".

    One at the start, one after the first step, one about every 30 s, and one after the last step. Rate and remaining
    time are means over all steps since the start.

    Args:
        name: of the task.
        total: number of steps.
        done: steps done by an earlier process.
        clock: returns seconds.
    """

    def __init__(
        self,
        name: str,
        total: int,
        done: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name, self.total, self.start, self.done = name, total, done, done
        self._clock = clock
        self._began = self._printed = clock()
        self._print("")

    def advance(self) -> None:
        """Count one step, and print a line if one is due."""
        self.done += 1
        now = self._clock()
        if self.done not in (self.start + 1, self.total) and now - self._printed < EVERY_S:
            return
        self._printed = now
        each = (now - self._began) / (self.done - self.start)
        rate = f"{each:.1f} s each" if each >= 1 else f"{1 / max(each, 1e-6):.1f} a second"
        left = each * (self.total - self.done)
        self._print(f", {rate}, {duration(left)} left" if self.done < self.total else f", {rate}")

    def _print(self, more: str) -> None:
        print(f"{self.name} {self.done}/{self.total}{more}", flush=True)


def duration(seconds: float) -> str:
    """Return a duration as text: "45 s", "34 min" or "2 h 5 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
