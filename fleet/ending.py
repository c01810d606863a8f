"""Ends a process and everything that it has started, at once."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path


def end_at_once(status: int) -> None:
    """End this process without a goodbye, its children first: one that is sending would go on for seconds."""
    for child in _children(os.getpid()):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(child, signal.SIGKILL)
    os._exit(status)


def boot_s() -> float:
    """Return the seconds since the machine was started, those in which it slept included."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def _children(parent: int) -> list[int]:
    """Return the children of a process and theirs, as Linux lists them in /proc (proc(5)); none elsewhere."""
    found: list[int] = []
    for path in Path(f"/proc/{parent}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, path.read_text(encoding="ascii").split()):
                found += [*_children(child), child]
    return found
