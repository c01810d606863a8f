"""Signals that end this process; its start time, standard streams and exit."""

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
    """Return when this process started, in seconds of `time.monotonic`.

    Linux reports it in /proc/self/stat (proc(5), field 22). Elsewhere this is the time at which the module was
    imported, some hundredths of a second later.
    """
    try:
        fields = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        began_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return time.monotonic() - (time.clock_gettime(time.CLOCK_BOOTTIME) - began_s)
    except (OSError, ValueError, IndexError, AttributeError):
        return _IMPORTED_S


def fill_standard_streams() -> None:
    """Open the null device for each standard stream that was closed when the process started.

    Otherwise the next file or socket would get its descriptor, and output to the standard stream, of this process or
    a child, would be written to it. `sys.stdout` stays None if it was closed.
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

    Before Python 3.14, a daemon thread that returns from native code during finalisation is ended by unwinding its
    stack, which aborts the process if the stack has a C++ frame ("terminate called without an active exception"). A
    background job may still run in such a thread when the show has ended.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # None, or closed by the reader
            stream.flush()
    os._exit(status)


class Interruption:
    """Handles SIGINT, SIGTERM and SIGHUP (the terminal was closed) in a `with` block.

    Before the show they raise KeyboardInterrupt. During the show the first signal only sets `is_set`, so that sinks are
    closed properly; the second one raises KeyboardInterrupt.
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
