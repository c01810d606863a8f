"""One show in a process of its own: it sends while it has its streams, and ends when it may have lost them."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from fleet import show_process
from fleet.show_process import LOST
from tests.fakes import FakeClock
from tests.fleet.conftest import LEASE_S, Start
from tests.fleet.keepers import LocalKeeper
from tests.fleet.seeing import SeeingSink
from tests.fleet.waiting import WAIT_S, wait_until


def num_beats(keeper: LocalKeeper) -> int:
    """Return how often a lease was to be renewed; beats with positions do not count."""
    return sum(position is None for _, position in keeper.made("beat"))


def test_nothing_is_sent_before_all_streams_are_free(
    start: Start, keeper: LocalKeeper, sinks: list[SeeingSink]
) -> None:
    keeper.answers["lease"] = [0.05] * 3
    start()
    wait_until(lambda: keeper.is_on_air())
    names = [name for name, *_ in keeper.calls]
    assert names[:6] == ["enter", "lease", "lease", "lease", "lease", "on_air"]
    wait_until(lambda: sinks[0].seen)
    assert sinks[0].seen[0].slot == 0


def test_a_show_may_be_stopped_while_it_waits_for_its_stream(
    start: Start, keeper: LocalKeeper, sinks: list[SeeingSink]
) -> None:
    keeper.answers["lease"] = [0.05] * 10_000
    process = start()
    wait_until(lambda: keeper.made("lease"))
    process.stop(keep=True)
    assert (keeper.show()["state"], sinks[0].seen) == ("moves", [])


def test_a_process_that_was_replaced_ends_without_a_frame(
    start: Start, keeper: LocalKeeper, sinks: list[SeeingSink]
) -> None:
    keeper.answers["lease"] = [-1.0]
    process = start()
    process._threads[0].join(WAIT_S)
    assert not process._threads[0].is_alive()
    assert (sinks[0].seen, keeper.made("on_air")) == ([], [])
    assert keeper.show()["error"] == ""


def test_a_beat_that_is_refused_ends_the_process(
    start: Start, keeper: LocalKeeper, ends: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show_process, "_BEATS", 600)
    start()
    wait_until(lambda: keeper.is_on_air())
    keeper.keeper.enter("lobby", "another node")
    wait_until(lambda: ends)
    assert ends == [LOST]
    assert keeper.show()["node"] == "another node"


def test_a_keeper_that_does_not_answer_ends_the_process_before_its_lease_ends(
    start: Start, keeper: LocalKeeper, ends: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    monkeypatch.setattr(show_process, "boot_s", clock.now)
    monkeypatch.setattr(show_process, "_BEATS", 600)
    process = start()
    wait_until(lambda: keeper.is_on_air())
    clock.advance(0.8 * LEASE_S)
    wait_until(lambda: process._renewed_s == clock.now(), "a beat that is answered")
    keeper.is_silent = True
    asked = num_beats(keeper)
    clock.advance(0.89 * LEASE_S)
    wait_until(lambda: num_beats(keeper) > asked + 5, "beats that are not answered")
    assert not ends, "it asks again"
    clock.advance(0.02 * LEASE_S)
    wait_until(lambda: ends)
    assert ends == [LOST]
    assert clock.now() - process._renewed_s < LEASE_S


def test_a_keeper_that_does_not_answer_at_first_is_asked_again(
    start: Start, keeper: LocalKeeper, ends: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, silences = keeper.lease, [True] * 3

    def answer_later(name: str, generation: int, keys: Any) -> float:
        keeper.is_silent = bool(silences and silences.pop())
        return ask(name, generation, keys)

    monkeypatch.setattr(keeper, "lease", answer_later)
    monkeypatch.setattr(show_process, "_ASK_S", 0.01)
    start()
    wait_until(lambda: keeper.is_on_air())
    assert (len(keeper.made("lease")), ends) == (4, [])


def test_a_process_that_cannot_say_that_it_begins_ends(start: Start, keeper: LocalKeeper, ends: list[int]) -> None:
    keeper.is_silent = True
    with pytest.raises(OSError, match="the head of the fleet does not answer"):
        start()
    assert ends == [LOST]


def test_an_answer_that_took_too_long_is_asked_for_again(
    start: Start, keeper: LocalKeeper, ends: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    monkeypatch.setattr(show_process, "boot_s", clock.now)
    answer, delays = keeper.lease, [0.95 * LEASE_S]

    def answer_late(name: str, generation: int, keys: Any) -> float:
        wait_s = answer(name, generation, keys)
        clock.advance(delays.pop() if delays else 0.0)
        return wait_s

    monkeypatch.setattr(keeper, "lease", answer_late)
    start()
    wait_until(lambda: keeper.is_on_air())
    assert len(keeper.made("lease")) == 2
    assert not ends


def test_a_slow_position_does_not_lose_the_lease(
    start: Start, keeper: LocalKeeper, ends: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, beat = FakeClock(), keeper.beat
    is_sending, goes_on = threading.Event(), threading.Event()

    def beat_slowly(name: str, generation: int, position: bytes | None) -> bool:
        if position is not None:
            is_sending.set()
            goes_on.wait(WAIT_S)
        return beat(name, generation, position)

    monkeypatch.setattr(keeper, "beat", beat_slowly)
    monkeypatch.setattr(show_process, "boot_s", clock.now)
    monkeypatch.setattr(show_process, "_BEATS", 600)
    process = start()
    assert is_sending.wait(WAIT_S), "a position is on its way"
    for _ in range(3):
        clock.advance(0.8 * LEASE_S)
        wait_until(lambda: process._renewed_s == clock.now(), "a beat that is answered")
    assert (ends, keeper.position()) == ([], b""), "it sends while its position has not arrived"
    goes_on.set()
    wait_until(keeper.position, "the position")
    assert not ends


def test_a_show_that_is_over_does_not_begin_again(
    start: Start, keeper: LocalKeeper, sinks: list[SeeingSink], ends: list[int]
) -> None:
    keeper.keeper.leave("lobby", keeper.keeper.enter("lobby", "a node").generation, is_over=True)
    process = start()
    process._threads[0].join(WAIT_S)
    wait_until(lambda: keeper.made("leave"))
    assert (sinks, keeper.made("lease"), ends) == ([], [], [])
    assert (keeper.show()["state"], keeper.show()["error"]) == ("over", "")
