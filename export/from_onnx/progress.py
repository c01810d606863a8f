"""Progress of an import: one line every two seconds, and none for what takes less."""

from __future__ import annotations

import time
from collections.abc import Callable

INTERVAL_S = 2.0  # between two lines


class ProgressLines:
    """Says how far the frames of a comparison are; may be called from several threads.

    Args:
        say: gets a line.
        clock: seconds.
    """

    def __init__(self, say: Callable[[str], object], clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._clock = say, clock
        self._last = clock()

    def counter(self, what: str, total: int) -> Callable[[int], None]:
        """Return a function to call with the number of frames that are done, of at most `total`."""

        def count(done: int) -> None:
            now = self._clock()
            if now - self._last >= INTERVAL_S:
                self._last = now
                self._say(f"{what}: {done} of {total} frames")

        return count
