"""This process seen from outside: when it began, the signals that ask it to end, its standard streams, and its exit."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

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


def fill_standard_streams() -> None:
    """Open the null device for each standard stream that was closed when the process started.

    Otherwise the next file or socket gets descriptor 0, 1 or 2, and whatever writes to a standard stream, in this
    process or in a child, writes into it. `sys.stdout` stays None if it was closed.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor, which is this one
            os.set_inheritable(descriptor, True)
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115


def leave(status: int) -> NoReturn:
    """End this process at once, without finalising the interpreter.

    Before Python 3.14 a daemon thread that returns from native code during finalisation is ended by unwinding its
    stack, which aborts the process if a C++ frame is on it ("terminate called without an active exception"). Such a
    thread can be left: a job in an idle moment may still run when the show has ended.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # None, or closed by the reader
            stream.flush()
    os._exit(status)


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
