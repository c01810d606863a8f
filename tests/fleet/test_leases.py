"""Leases: whatever the order of events, two processes never send to one stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.keeper import Keeper
from fleet.show_process import _MARGIN as MARGIN
from tests.fakes import FakeClock

LEASE_S = 5.0


@dataclass
class Holder:
    """A process as `ShowProcess` behaves: it sends while it has its streams, and ends itself in time."""

    name: str
    generation: int
    keys: tuple[str, ...]
    renewed_s: float = 0.0
    is_sending: bool = False
    is_alive: bool = True

    def look(self, now_s: float) -> None:
        """End if the lease could not be renewed."""
        if self.is_sending and now_s - self.renewed_s > MARGIN * LEASE_S:
            self.is_sending = self.is_alive = False


class Fleet:
    """Processes that ask a keeper, whose answers may take their time or be lost."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.keeper = Keeper(LEASE_S, now=self.clock.now)
        self.holders: list[Holder] = []
        for name in SHOWS:
            self.keeper.add(name)

    def enter(self, name: str, keys: tuple[str, ...]) -> None:
        begin = self.keeper.enter(name, "a node")
        if not begin.error:
            self.holders.append(Holder(name, begin.generation, keys))

    def start(self, name: str, keys: tuple[str, ...]) -> None:
        """Let a process begin that gets its answers at once."""
        self.enter(name, keys)
        self.lease(0, 0.0, 0.0)

    def add_again(self, name: str) -> None:
        """Remove a show whose process is not reached, and add it again."""
        self.keeper.remove(name)
        self.keeper.add(name)

    def time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        for holder in self.holders:
            holder.look(self.clock.now())

    def lease(self, index: int, before_s: float, after_s: float) -> None:
        holder = self._holder(index)
        if holder is None or holder.is_sending:
            return
        asked_s = self.clock.now()
        self.time(before_s)
        wait_s = self.keeper.lease(holder.name, holder.generation, holder.keys)
        self.time(after_s)
        if wait_s < 0:
            holder.is_alive = False
        elif wait_s == 0 and self.clock.now() - asked_s <= MARGIN * LEASE_S:
            holder.is_sending, holder.renewed_s = True, asked_s

    def beat(self, index: int, before_s: float, after_s: float) -> None:
        holder = self._holder(index)
        if holder is None or not holder.is_sending:
            return
        asked_s = self.clock.now()
        self.time(before_s)
        is_good = self.keeper.beat(holder.name, holder.generation, None)
        self.time(after_s)
        if not holder.is_alive:
            return
        if is_good:
            holder.renewed_s = asked_s
        else:
            holder.is_sending = holder.is_alive = False

    def lose_answer(self, index: int) -> None:
        """Renew the leases of a process that does not learn it."""
        if (holder := self._holder(index)) is not None and holder.is_sending:
            self.keeper.beat(holder.name, holder.generation, None)

    def leave(self, index: int) -> None:
        if (holder := self._holder(index)) is not None:
            holder.is_sending = holder.is_alive = False  # a process leaves when its sinks are closed
            self.keeper.leave(holder.name, holder.generation)

    def _holder(self, index: int) -> Holder | None:
        alive = [holder for holder in self.holders if holder.is_alive]
        return alive[-1 - index % len(alive)] if alive else None


SHOWS = ("lobby", "hall")
_INDEX, _KEYS = st.integers(0, 2), st.sampled_from([("a",), ("a", "b")])
_DELAY = st.one_of(st.just(0.0), st.sampled_from([0.3, 1.2, 4.6, 5.5]))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["start", "start", "enter"]), st.sampled_from(SHOWS), _KEYS),
        st.tuples(st.just("start"), st.sampled_from(SHOWS), _KEYS),
        st.tuples(st.just("lease"), _INDEX, _DELAY, _DELAY),
        st.tuples(st.just("beat"), _INDEX, _DELAY, _DELAY),
        st.tuples(st.sampled_from(["leave", "lose_answer"]), _INDEX),
        st.tuples(st.just("time"), st.sampled_from([0.3, 1.2, 2.5, 4.2, 4.4, 4.6, 5.2])),
        st.tuples(st.just("add_again"), st.sampled_from(SHOWS)),
    ),
    min_size=5,
    max_size=40,
)


@given(STEPS)
@settings(max_examples=500, deadline=None)
def test_two_processes_never_send_to_one_stream(steps: list[tuple[Any, ...]]) -> None:
    fleet = Fleet()
    for kind, *values in steps:
        getattr(fleet, kind)(*values)
        sent = [key for holder in fleet.holders if holder.is_sending for key in holder.keys]
        assert len(sent) == len(set(sent)), "one stream has two senders"


def test_a_process_that_did_not_end_itself_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Holder, "look", lambda holder, now_s: None)
    fleet = Fleet()
    for _ in range(2):
        fleet.enter("lobby", ("a",))
        fleet.lease(0, 0.0, 0.0)
        fleet.time(LEASE_S)
    assert [holder.is_sending for holder in fleet.holders] == [True, True]
