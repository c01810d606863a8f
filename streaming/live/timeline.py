"""When each frame passed the encoder and the network, for benchmarks: off unless the environment names a file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

VARIABLE = "EVERFRAME_TIMELINE"


def open_timeline() -> Callable[[int, int, int], None]:
    """Return what notes (slot, nanoseconds at arrival, nanoseconds after encoding), and the time now, as a line.

    The file that the variable names is appended to; times are those of `time.monotonic_ns`, one clock for all processes
    of a machine (Linux).
    """
    path = os.environ.get(VARIABLE)
    if not path:
        return lambda slot, arrived_ns, encoded_ns: None  # noqa: ARG005

    def note(slot: int, arrived_ns: int, encoded_ns: int) -> None:
        now_ns = time.monotonic_ns()
        with Path(path).open("a", encoding="ascii") as file:
            file.write(f"{slot} {arrived_ns} {encoded_ns} {now_ns}\n")

    return note
