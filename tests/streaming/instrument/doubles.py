"""What the tests of the instrument share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from tests.streaming.doubles import WAIT_S


def wait_until(is_so: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    deadline_s, pause = time.monotonic() + WAIT_S, threading.Event()
    while not is_so():
        assert time.monotonic() < deadline_s, "it did not happen"
        pause.wait(0.001)


class RecordingPerformer:
    """Keeps what it is asked for."""

    def __init__(self) -> None:
        self.dissolve_s = 1.0
        self.controls: list[tuple[str, float]] = []
        self.requests: list[tuple[str, dict[str, Any]]] = []

    def set_control(self, name: str, value: float) -> None:
        self.controls.append((name, value))

    def ask(self, name: str, given: dict[str, Any], report: Callable[[str], object]) -> None:
        self.requests.append((name, given))
