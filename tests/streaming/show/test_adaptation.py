"""Frames are made ahead once some are late; detail follows lateness: down within a second, back after a calm while."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, cast

import pytest

from runtime import Generator
from streaming.output.pacing import Pacer
from streaming.show.adaptation import Adaptation

FPS = 30
AHEAD = "frames run late: each is made one ahead now, and shown 33 ms later"


@dataclass
class Counts:
    """The counts of a pacer."""

    fps: Fraction = Fraction(FPS)
    next_slot: int = 0
    num_late: int = 0
    num_dropped: int = 0
    num_ahead: int = 0

    def make_ahead(self, slots: int) -> None:
        self.num_ahead += slots


@dataclass
class Machine:
    """A generator on a machine that makes every third frame late while it has to work too hard."""

    is_slow_at: Any  # (slot) -> whether frames with full detail are late then
    has_half_detail: bool = True
    detail: str = "full"
    said: list[str] = field(default_factory=list)
    changes: list[tuple[int, str]] = field(default_factory=list)
    pacer: Counts = field(default_factory=Counts)
    ahead_since: int | None = None  # slot

    def play(self, slots: int) -> None:
        adaptation, before, counts = Adaptation(cast(Pacer, self.pacer), self.said.append), "full", self.pacer
        for slot in range(slots):
            counts.next_slot = slot
            counts.num_late += slot % 3 == 0 and self.detail == "full" and self.is_slow_at(slot)
            adaptation.update(cast(Generator, self))
            if counts.num_ahead and self.ahead_since is None:
                self.ahead_since = slot
            if self.detail != before:
                before = self.detail
                self.changes.append((slot, before))


def test_a_machine_that_keeps_up_is_left_alone() -> None:
    machine = Machine(lambda slot: slot % 70 == 0)  # a late frame every 7 s
    machine.play(1000)
    assert (machine.changes, machine.said, machine.ahead_since) == ([], [], None)


def test_a_few_late_frames_let_each_be_made_ahead_and_cost_no_detail() -> None:
    machine = Machine(lambda slot: slot % 50 == 0)  # every 5 s
    machine.play(1000)
    assert machine.ahead_since == 300
    assert machine.pacer.num_ahead == 1
    assert (machine.changes, machine.said) == ([], [AHEAD])


def test_detail_is_halved_within_a_second_and_comes_back() -> None:
    machine = Machine(lambda slot: 300 <= slot < 600)
    machine.play(1500)
    (down, first), (up, second) = machine.changes
    assert (first, second) == ("half", "full")
    assert machine.ahead_since == 306
    assert 306 < down <= 340
    assert up - down == pytest.approx(10 * FPS, abs=FPS)
    assert machine.said == [
        AHEAD,
        "half the detail, because frames run late (--adapt off keeps it)",
        "full detail again",
    ]


def test_the_way_back_is_tried_later_each_time_it_fails() -> None:
    machine = Machine(lambda slot: True)
    machine.play(60 * 60 * FPS)
    downs = [slot for slot, detail in machine.changes if detail == "half"]
    waits = [b - a for a, b in itertools.pairwise(downs)]
    assert waits[:5] == sorted(waits[:5])
    assert waits[0] < 15 * FPS
    assert waits[-1] == pytest.approx(160 * FPS, abs=3 * FPS)


def test_a_generator_without_half_detail_keeps_it() -> None:
    machine = Machine(lambda slot: True, has_half_detail=False)
    machine.play(300)
    assert machine.changes == []
