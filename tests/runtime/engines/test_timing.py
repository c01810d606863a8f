"""Measuring engines, and the record of it in the cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from runtime import EngineError
from runtime.engines.engine import NullSession, Session
from runtime.engines.timing import Candidate, SpeedRecord, compare_speeds, describe_speeds, fastest
from tests.fakes import FakeClock

LABELS = ["a fp32", "b fp32"]


class Slow(NullSession):
    """A session whose runs take the given milliseconds of a fake clock, the last ones for ever."""

    def __init__(self, clock: FakeClock, *runs_ms: float) -> None:
        self.clock, self.runs_ms, self.num_runs, self.num_resets = clock, runs_ms, 0, 0
        self.is_closed = False

    def run(self) -> None:
        """Let the time of a run pass."""
        self.clock.advance(self.runs_ms[min(self.num_runs, len(self.runs_ms) - 1)] / 1000)
        self.num_runs += 1

    def reset(self) -> None:
        """Count."""
        self.num_resets += 1

    def close(self) -> None:
        """Remember that it was closed."""
        self.is_closed = True


class Candidates:
    """Candidates that take their time to open."""

    def __init__(self, clock: FakeClock, open_s: float = 0.2) -> None:
        self.clock, self.open_s = clock, open_s
        self.opened: dict[str, Slow] = {}

    def add(self, label: str, *runs_ms: float, is_same_engine: bool = False) -> Candidate:
        """Return one that takes the given milliseconds."""

        def open_session() -> Session:
            self.clock.advance(self.open_s)
            self.opened[label] = Slow(self.clock, *runs_ms)
            return self.opened[label]

        return Candidate(label, open_session, is_same_engine)


def measure(others: Sequence[Candidate], first: Slow, *, open_s: float = 0.3, is_short: bool = False) -> dict[str, int]:
    times = compare_speeds("a bf16", first, others, open_s=open_s, is_short=is_short, clock=first.clock.now)
    return {label: round(ms) for label, ms in times.items()}


def test_every_engine_is_measured_and_closed() -> None:
    clock = FakeClock()
    others, first = Candidates(clock), Slow(clock, 90, 21)
    times = measure([others.add("a fp32", 30, 25, is_same_engine=True), others.add("b fp32", 44)], first)
    assert times == {"a bf16": 21, "a fp32": 25, "b fp32": 44}
    assert first.num_resets == 1
    assert not first.is_closed
    assert all(session.is_closed for session in others.opened.values())
    assert max(first.num_runs, *(session.num_runs for session in others.opened.values())) <= 8


def test_a_quick_engine_is_not_compared() -> None:
    clock = FakeClock()
    others = Candidates(clock)
    assert measure([others.add("b fp32", 1)], Slow(clock, 3)) == {"a bf16": 3}
    assert others.opened == {}


def test_a_slow_engine_runs_once() -> None:
    clock = FakeClock()
    others = Candidates(clock)
    assert measure([others.add("b fp32", 3000)], Slow(clock, 40)) == {"a bf16": 40, "b fp32": 3000}
    assert others.opened["b fp32"].num_runs == 1


def test_an_engine_that_refuses_the_graph_is_left_out() -> None:
    def refuse() -> Session:
        raise EngineError("refused")

    assert measure([Candidate("b fp32", refuse, False)], Slow(FakeClock(), 40)) == {"a bf16": 40}


@pytest.mark.parametrize(("open_s", "expected"), [(0.1, {"b fp32", "a fp32"}), (2.0, {"b fp32"})])
def test_bundles_of_ours_start_within_a_second_more(open_s: float, expected: set[str]) -> None:
    clock = FakeClock()
    others, first = Candidates(clock, open_s=0.2), Slow(clock, 15)
    candidates = [others.add("a fp32", 20, is_same_engine=True), others.add("b fp32", 70)]
    start = clock.now()
    measure(candidates, first, open_s=open_s, is_short=True)
    assert set(others.opened) == expected
    assert clock.now() - start < 1.0 + 0.2


def test_another_engine_has_to_be_clearly_faster() -> None:
    assert fastest({"a": 20.0, "b": 19.0}) == "a"
    assert fastest({"a": 20.0, "b": 15.0, "c": 14.0}) == "c"
    assert fastest({}) is None
    assert describe_speeds({"a": 44.4, "b": 21.0}) == "b: 21 ms, a: 44.4 ms; measured once on this machine"


def test_a_record_is_kept_for_one_graph_and_number_of_threads(tmp_path: Path) -> None:
    record = SpeedRecord(tmp_path / "cache", "graph", 2, LABELS)
    assert record.load() is None
    assert record.begin()
    assert record.load() == {}
    record.store({"a fp32": 2.5})
    assert SpeedRecord(tmp_path / "cache", "graph", 2, LABELS).load() == {"a fp32": 2.5}
    assert SpeedRecord(tmp_path / "cache", "other", 2, LABELS).load() is None
    assert SpeedRecord(tmp_path / "cache", "graph", 4, LABELS).load() is None
    assert SpeedRecord(tmp_path / "cache", "graph", 2, [*LABELS, "a bf16"]).load() is None
    assert not SpeedRecord(None, "graph", 2, LABELS).begin()
    record.discard()
    assert record.load() is None


HUGE = b'{"a": 1' + 400 * b"0" + b', "b": true}'


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"a": "x", "b": -1, "c": NaN}', b"\xff{", HUGE])
def test_a_record_of_nonsense_has_no_times(content: bytes, tmp_path: Path) -> None:
    record = SpeedRecord(tmp_path / "cache", "graph", 2, LABELS)
    record._entry.store(content)
    assert record.load() == {}
