"""Progress of an import: one line every two seconds, and none for what takes less."""

from __future__ import annotations

import time
from collections.abc import Callable

INTERVAL_S = 2.0  # between two lines


class ProgressLines:
    """Says how far the frames of a comparison are, or the weights that are written; for several threads.

    Args:
        say: gets a line.
        clock: seconds.
    """

    def __init__(self, say: Callable[[str], object], clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._clock = say, clock
        self._last = clock()

    def counter(self, what: str, total: int) -> Callable[[int], None]:
        """Return a function to call with the number of frames that are done, of at most `total`."""

        return lambda done: self._tell(f"{what}: {done} of {total} frames")

    def share(self, what: str) -> Callable[[float], None]:
        """Return a function to call with the share that is done, 0 to 1."""
        return lambda done: self._tell(f"{what}: {100 * done:.0f} %")

    def _tell(self, line: str) -> None:
        now = self._clock()
        if now - self._last >= INTERVAL_S:
            self._last = now
            self._say(line)
