"""The priority of the session: low at first, a small share later, and left alone where it cannot be set."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from streaming.painting.low_priority import LowPriority
from tests.streaming.doubles import WAIT_S

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has autogroups")


class Notes:
    """Stands for the system's file.

    Args:
        failures: raised by the first writes.
    """

    def __init__(self, *failures: OSError) -> None:
        self.values: list[str] = []
        self.news = threading.Semaphore(0)
        self._failures = list(failures)

    def write_text(self, value: str) -> None:
        if self._failures:
            raise self._failures.pop(0)
        self.values.append(value)
        self.news.release()


def test_each_piece_of_work_begins_with_idle_moments_and_shares_later() -> None:
    notes = Notes()
    priority = LowPriority(0.01, notes)  # type: ignore[arg-type]
    for _ in range(2):
        with priority:
            assert notes.news.acquire(timeout=WAIT_S)
            assert notes.news.acquire(timeout=WAIT_S)
    assert notes.values == ["19", "10", "19", "10"]


def test_short_work_changes_nothing_twice() -> None:
    notes = Notes()
    priority = LowPriority(1000.0, notes)  # type: ignore[arg-type]
    for _ in range(3):
        with priority:
            pass
    assert notes.values == ["19"]


def test_a_share_that_is_being_raised_is_raised_before_the_next_piece_of_work() -> None:
    class Busy(Notes):
        was_asked = threading.Event()

        def write_text(self, value: str) -> None:
            if value == "10" and not self.was_asked.is_set():
                self.was_asked.set()
                raise BlockingIOError(11, "try again")
            super().write_text(value)

    busy = Busy()
    with LowPriority(0.0, busy):  # type: ignore[arg-type]
        assert busy.was_asked.wait(WAIT_S)
    assert busy.values == ["19", "10"]


def test_a_system_that_is_busy_is_asked_again_and_one_without_is_left_alone(tmp_path: Path) -> None:
    busy = Notes(BlockingIOError(11, "try again"))
    with LowPriority(1000.0, busy):  # type: ignore[arg-type]
        assert busy.values == ["19"]
    with LowPriority(1000.0, tmp_path / "no" / "autogroup"):
        pass
    with LowPriority(None, notes := Notes()):  # type: ignore[arg-type]
        assert notes.values == []
