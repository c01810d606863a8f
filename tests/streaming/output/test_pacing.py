"""The pacer on a fake clock."""

from __future__ import annotations

import time
from fractions import Fraction
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.output.pacing import Pacer, SystemClock
from tests.fakes import FakeClock


def test_first_frame_goes_out_at_once_and_starts_the_clock() -> None:
    clock = FakeClock(500.0)
    pacer = Pacer(clock, Fraction(25))
    assert pacer.pace() == 0
    assert clock.sleeps == []
    assert pacer.deadline(0) == 500
    assert pacer.deadline(1000) == 540


def test_an_early_frame_waits_for_its_slot() -> None:
    clock = FakeClock()
    pacer = Pacer(clock, Fraction(30))
    pacer.pace()
    clock.advance(0.010)
    assert pacer.pace() == 1
    assert clock.now() == pytest.approx(1000 + 1 / 30, abs=1e-9)
    assert (pacer.num_late, pacer.num_dropped) == (0, 0)


@pytest.mark.parametrize(
    ("took_s", "slot", "late", "dropped"),
    [
        (0.1, 1, 0, 0),  # on time, to the tick
        (0.125, 1, 0, 0),  # a quarter of an interval late is no matter
        (0.150, 1, 0, 0),  # exactly half an interval is not more than half
        (0.1875, 1, 1, 0),  # more than half: late
        (0.1999, 1, 1, 0),
        (0.2125, 2, 0, 1),  # a whole interval behind: the slot is dropped, and the next one is nearly on time
        (0.275, 2, 1, 1),
        (1.04, 10, 0, 9),
    ],
)
def test_lateness_and_drops(took_s: float, slot: int, late: int, dropped: int) -> None:
    clock = FakeClock(0.0)
    pacer = Pacer(clock, Fraction(10))
    pacer.pace()
    clock.advance(took_s)
    assert (pacer.pace(), pacer.num_late, pacer.num_dropped) == (slot, late, dropped)


def test_nothing_is_queued_up_after_a_stall() -> None:
    clock = FakeClock(0.0)
    pacer = Pacer(clock, Fraction(10))
    pacer.pace()
    clock.advance(5.0)
    slots = [pacer.pace() for _ in range(4)]
    assert slots == [50, 51, 52, 53]
    assert clock.now() == pytest.approx(5.3)


def test_odd_rates_do_not_drift_in_a_week() -> None:
    pacer = Pacer(FakeClock(0.0), Fraction(30000, 1001))
    pacer.pace()
    slots_of_a_week = 7 * 24 * 3600 * 30000 // 1001
    assert pacer.deadline(slots_of_a_week) == Fraction(slots_of_a_week * 1001, 30000)


@given(
    fps=st.fractions(Fraction(1, 2), 240, max_denominator=1001),
    costs_s=st.lists(st.floats(0, 3), max_size=40),
    start_s=st.floats(0, 1e6),
)
def test_every_frame_is_in_the_slot_of_its_time(fps: Fraction, costs_s: list[float], start_s: float) -> None:
    clock = FakeClock(start_s)
    pacer = Pacer(clock, fps)
    last = pacer.pace()
    assert last == 0
    for cost_s in costs_s:
        clock.advance(cost_s)
        ready = Fraction(clock.now())
        slot = pacer.pace()
        shown = Fraction(clock.now())
        assert slot > last
        assert shown >= pacer.deadline(slot)  # never early
        assert shown - pacer.deadline(slot) < 1 / fps  # never a whole interval late
        assert slot == max(last + 1, floor((ready - pacer.deadline(0)) * fps))  # the earliest that is possible
        last = slot
    assert last == len(costs_s) + pacer.num_dropped
    assert pacer.num_late <= len(costs_s)


def test_a_stopped_show_does_not_wait_for_a_far_slot() -> None:
    clock = FakeClock(0.0)
    pacer = Pacer(clock, Fraction(1, 60))
    pacer.pace()
    pacer.pace(lambda: clock.now() >= 1)
    assert 1 <= clock.now() <= 1.25


def test_system_clock_is_monotonic_and_never_wakes_early() -> None:
    clock = SystemClock()
    deadline = clock.now() + 0.002
    clock.sleep_until(deadline)
    assert clock.now() >= deadline
    before = time.monotonic()
    clock.sleep_until(before - 100)  # a deadline that has passed
    assert clock.now() >= before


def test_a_frame_that_is_made_ahead_is_passed_on_early_and_shown_later() -> None:
    clock = FakeClock(0.0)
    pacer = Pacer(clock, Fraction(10))
    pacer.pace()
    pacer.make_ahead(1)
    assert (pacer.pace(), clock.now()) == (1, pytest.approx(0.1))  # and it is due at 0.2
    assert pacer.deadline(1) == Fraction(2, 10)
    clock.advance(0.17)  # longer than its slot
    assert (pacer.pace(), clock.now()) == (2, pytest.approx(0.27))
    clock.advance(0.02)  # the one after it makes up for that
    assert (pacer.pace(), clock.now()) == (3, pytest.approx(0.3))
    assert (pacer.num_late, pacer.num_dropped) == (0, 0)
    clock.advance(0.26)
    assert (pacer.pace(), pacer.num_late) == (4, 1)


def test_a_show_that_began_earlier_goes_on_at_its_slot() -> None:
    """Also where the machine was started after the show had begun, so that its slot 0 is before the clock's zero."""
    clock = FakeClock(2.0)
    pacer = Pacer(clock, Fraction(10))
    pacer.begin(Fraction(-100), 1021)
    assert (pacer.next_slot, pacer.deadline(0), pacer.deadline(1021)) == (1021, -100, Fraction(21, 10))
    assert (pacer.pace(), clock.now()) == (1021, pytest.approx(2.1))
    assert pacer.pace() == 1022
    clock.advance(0.35)
    assert (pacer.pace(), pacer.num_dropped) == (1025, 2)


def test_a_show_goes_on_late_if_its_slot_has_passed() -> None:
    clock = FakeClock(0.0)
    pacer = Pacer(clock, Fraction(10))
    pacer.begin(Fraction(-1), 10)
    clock.advance(0.56)  # for the first frame
    assert (pacer.pace(), pacer.num_dropped, pacer.num_late) == (15, 5, 1)


def test_frames_that_were_paced_belong_to_one_show() -> None:
    pacer = Pacer(FakeClock(), Fraction(10))
    pacer.pace()
    with pytest.raises(AssertionError, match="frames have been paced already"):
        pacer.begin(Fraction(0), 5)
