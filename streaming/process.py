"""This process seen from outside: when it began, and the signals that ask it to end."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from types import FrameType

_IMPORTED_S = time.monotonic()


def process_start_s() -> float:
    """Return when this process began, in seconds of `time.monotonic`.

    Linux keeps the moment in /proc (proc(5), field 22 of stat). Elsewhere it is when this module was imported, some
    hundredths of a second later.
    """
    try:
        fields = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        began_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return time.monotonic() - (time.clock_gettime(time.CLOCK_BOOTTIME) - began_s)
    except (OSError, ValueError, IndexError, AttributeError):
        return _IMPORTED_S


class Interruption:
    """SIGINT, SIGTERM and SIGHUP (the terminal was closed), taken over for as long as the `with` lasts.

    Before the show they end what is going on by KeyboardInterrupt. During the show the first one only sets `is_set`, so
    that files are closed in peace; the second one is a KeyboardInterrupt again.
    """

    def __init__(self) -> None:
        self.is_set = False
        self.is_on_air = False

    def __enter__(self) -> Interruption:
        numbers = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
        self._before = {number: signal.signal(number, self._handle) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self.is_set or not self.is_on_air:
            raise KeyboardInterrupt
        self.is_set = True
