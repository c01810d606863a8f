"""Times at which frames pass the encoder and the network, for benchmarks; off unless $EVERFRAME_TIMELINE is set."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

VARIABLE = "EVERFRAME_TIMELINE"


def open_timeline() -> Callable[[int, int, int], None]:
    """Return a function that records a frame: slot, time of arrival, time after encoding, in nanoseconds.

    It appends a line with these and the current time to the file that the variable names. The clock is
    `time.monotonic_ns`, which on Linux is the same for all processes.
    """
    path = os.environ.get(VARIABLE)
    if not path:
        return lambda slot, arrived_ns, encoded_ns: None  # noqa: ARG005

    def note(slot: int, arrived_ns: int, encoded_ns: int) -> None:
        now_ns = time.monotonic_ns()
        with Path(path).open("a", encoding="ascii") as file:
            file.write(f"{slot} {arrived_ns} {encoded_ns} {now_ns}\n")

    return note
