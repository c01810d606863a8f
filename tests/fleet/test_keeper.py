"""The keeper on a fake clock: leases, crashes, positions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fleet.keeper import MAX_CRASHES, Keeper
from fleet.state_store import StateStore
from tests.fakes import FakeClock
from tests.fleet.waiting import wait_until

LEASE_S = 5.0
KEYS = ("first", "second")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def keeper(clock: FakeClock) -> Keeper:
    keeper = Keeper(LEASE_S, now=clock.now)
    for name in ("lobby", "hall"):
        keeper.add(name)
    return keeper


def state_of(keeper: Keeper, name: str = "lobby") -> dict[str, Any]:
    [found] = [show for show in keeper.shows() if show["name"] == name]
    return found


def test_a_free_stream_is_given_at_once_and_a_held_one_is_not(keeper: Keeper, clock: FakeClock) -> None:
    lobby, hall = keeper.enter("lobby", "one").generation, keeper.enter("hall", "two").generation
    assert keeper.lease("lobby", lobby, KEYS) == 0
    clock.advance(1)
    assert keeper.lease("hall", hall, ("second",)) == LEASE_S - 1
    assert keeper.lease("hall", hall, ("third",)) == 0
    assert keeper.lease("lobby", lobby, KEYS) == 0, "it has it already"


def test_all_streams_or_none_are_given(keeper: Keeper) -> None:
    lobby, hall = keeper.enter("lobby", "one").generation, keeper.enter("hall", "two").generation
    assert keeper.lease("lobby", lobby, ("second",)) == 0
    assert keeper.lease("hall", hall, KEYS) > 0
    assert keeper.lease("lobby", lobby, ("first",)) == 0, "hall got neither"


def test_a_lease_ends_when_it_is_not_renewed(keeper: Keeper, clock: FakeClock) -> None:
    lobby, hall = keeper.enter("lobby", "one").generation, keeper.enter("hall", "two").generation
    keeper.lease("lobby", lobby, KEYS)
    clock.advance(LEASE_S - 0.01)
    assert keeper.lease("hall", hall, KEYS) == 0.05, "the least that a process waits"
    clock.advance(0.01)
    assert keeper.lease("hall", hall, KEYS) == 0


def test_a_beat_renews_a_lease(keeper: Keeper, clock: FakeClock) -> None:
    lobby, hall = keeper.enter("lobby", "one").generation, keeper.enter("hall", "two").generation
    keeper.lease("lobby", lobby, KEYS)
    for _ in range(5):
        clock.advance(LEASE_S / 2)
        assert keeper.beat("lobby", lobby, None)
        assert keeper.lease("hall", hall, KEYS) == LEASE_S


def test_a_beat_after_the_lease_has_ended_is_refused(keeper: Keeper, clock: FakeClock) -> None:
    lobby = keeper.enter("lobby", "one").generation
    keeper.lease("lobby", lobby, KEYS)
    clock.advance(LEASE_S)
    assert not keeper.beat("lobby", lobby, b"late")
    assert keeper.enter("lobby", "one").position == b""


def test_a_process_that_was_replaced_is_refused(keeper: Keeper, clock: FakeClock) -> None:
    before = keeper.enter("lobby", "one").generation
    keeper.lease("lobby", before, KEYS)
    after = keeper.enter("lobby", "two").generation
    assert after > before
    assert keeper.lease("lobby", before, KEYS) < 0
    assert not keeper.beat("lobby", before, b"old")
    keeper.on_air("lobby", before, "http://one", "token")
    keeper.set_bundle("lobby", before, "old")
    assert (keeper.pages(), state_of(keeper)["bundle"], state_of(keeper)["state"]) == ({}, "", "starts")
    assert keeper.lease("lobby", after, KEYS) == LEASE_S, "the one before may still send"
    keeper.leave("lobby", before, "it broke")
    assert keeper.lease("lobby", after, KEYS) == 0
    assert state_of(keeper)["state"] == "starts", "what the one before says does not count"


def test_a_process_that_nobody_knows_is_refused(keeper: Keeper) -> None:
    assert keeper.lease("nobody", 1, KEYS) < 0
    assert not keeper.beat("nobody", 1, None)
    keeper.on_air("nobody", 1, "http://one", "token")
    keeper.leave("nobody", 1)
    keeper.set_bundle("nobody", 1, "other")
    assert [show["name"] for show in keeper.shows()] == ["lobby", "hall"]


def test_positions_are_handed_to_the_next_process(keeper: Keeper) -> None:
    first = keeper.enter("lobby", "one")
    assert (first.position, first.bundle, first.error) == (b"", "", "")
    assert keeper.beat("lobby", first.generation, b"at 10")
    assert keeper.beat("lobby", first.generation, None)
    keeper.set_bundle("lobby", first.generation, "bundles/other")
    second = keeper.enter("lobby", "two")
    assert (second.position, second.bundle, second.mark) == (b"at 10", "bundles/other", first.mark)
    assert b"at 10" not in repr(second).encode()


def test_users_see_neither_address_nor_token(keeper: Keeper) -> None:
    generation = keeper.enter("lobby", "one").generation
    keeper.on_air("lobby", generation, "http://10.0.0.7:4000", "a-secret")
    assert state_of(keeper) == {
        "name": "lobby",
        "state": "on air",
        "error": "",
        "node": "one",
        "starts": 1,
        "bundle": "",
    }
    assert keeper.pages() == {"lobby": ("http://10.0.0.7:4000", "a-secret")}
    assert "a-secret" not in str(keeper.shows())
    assert "10.0.0.7" not in str(keeper.shows())


@pytest.mark.parametrize(
    ("error", "is_over", "state"), [("it broke", False, "failed"), ("", True, "over"), ("", False, "moves")]
)
def test_a_process_says_why_it_ends(keeper: Keeper, error: str, is_over: bool, state: str) -> None:
    lobby, hall = keeper.enter("lobby", "one").generation, keeper.enter("hall", "two").generation
    keeper.lease("lobby", lobby, KEYS)
    keeper.on_air("lobby", lobby, "http://one", "token")
    keeper.leave("lobby", lobby, error, is_over=is_over)
    assert (state_of(keeper)["state"], state_of(keeper)["error"], keeper.pages()) == (state, error, {})
    assert keeper.lease("hall", hall, KEYS) == 0


def test_a_failed_show_is_not_begun_again(keeper: Keeper) -> None:
    keeper.leave("lobby", keeper.enter("lobby", "one").generation, "there is no bundle")
    assert keeper.enter("lobby", "two").error == "there is no bundle"
    assert (state_of(keeper)["state"], state_of(keeper)["starts"]) == ("failed", 1)


def test_a_show_that_crashes_again_and_again_fails(keeper: Keeper, clock: FakeClock) -> None:
    for _ in range(MAX_CRASHES):
        begin = keeper.enter("lobby", "one")
        assert not begin.error
        keeper.on_air("lobby", begin.generation, "http://one", "token")
        clock.advance(10)
    told = keeper.enter("lobby", "one").error
    assert told == "lobby has crashed 5 times in a minute: see the log of its process on one"
    assert (state_of(keeper)["state"], state_of(keeper)["error"], keeper.pages()) == ("failed", told, {})
    assert keeper.enter("lobby", "two").error == told


def test_one_that_crashes_now_and_then_does_not(keeper: Keeper, clock: FakeClock) -> None:
    for _ in range(4 * MAX_CRASHES):
        assert not keeper.enter("lobby", "one").error
        clock.advance(13)


def test_moves_and_lost_machines_are_no_crashes(keeper: Keeper) -> None:
    for number in range(2 * MAX_CRASHES):
        begin = keeper.enter("lobby", f"node {number}")
        assert not begin.error
        keeper.on_air("lobby", begin.generation, "http://one", "token")
        if number % 2:
            keeper.leave("lobby", begin.generation)
        else:
            keeper.lost([f"node {number}"])


def test_shows_of_lost_machines_wait_for_another_one(keeper: Keeper) -> None:
    for name, node in (("lobby", "one"), ("hall", "two")):
        keeper.on_air(name, keeper.enter(name, node).generation, "http://page", "token")
    keeper.lost(["one", "three"])
    assert [show["state"] for show in keeper.shows()] == ["waits for a machine", "on air"]
    assert list(keeper.pages()) == ["hall"]
    keeper.leave("hall", keeper.enter("hall", "two").generation, "it broke")
    keeper.lost(["two"])
    assert state_of(keeper, "hall")["state"] == "failed"


def test_one_that_cannot_be_started_is_listed_and_can_be_added_again(keeper: Keeper) -> None:
    keeper.add("attic", "its key is wrong")
    assert (state_of(keeper, "attic")["state"], state_of(keeper, "attic")["error"]) == ("failed", "its key is wrong")
    keeper.remove("attic")
    assert "attic" not in [show["name"] for show in keeper.shows()]
    keeper.add("attic", "its key is wrong")
    keeper.add("attic")
    assert not keeper.enter("attic", "one").error


def test_a_show_that_was_removed_keeps_its_stream_until_its_lease_ends(keeper: Keeper, clock: FakeClock) -> None:
    old = keeper.enter("lobby", "one").generation
    keeper.lease("lobby", old, KEYS)
    keeper.remove("lobby")
    keeper.add("lobby")
    new = keeper.enter("lobby", "two").generation
    assert not keeper.beat("lobby", old, None), "its process was not reached when the show was removed"
    assert keeper.lease("lobby", new, KEYS) == LEASE_S
    clock.advance(LEASE_S)
    assert keeper.lease("lobby", new, KEYS) == 0


def test_positions_are_kept_in_files_too() -> None:
    store = StateStore("memory://keeper")
    keeper = Keeper(LEASE_S, store)
    keeper.add("lobby")
    generation = keeper.enter("lobby", "one").generation
    keeper.set_bundle("lobby", generation, "bundles/other")
    keeper.beat("lobby", generation, b"at 10")
    wait_until(lambda: store.load("lobby") == (b"at 10", "bundles/other"))
    again = Keeper(LEASE_S, store)
    again.add("lobby", "", *store.load("lobby"))
    begin = again.enter("lobby", "one")
    assert (begin.position, begin.bundle, again.problem()) == (b"at 10", "bundles/other", "")
    again.remove("lobby", keep=True)
    again.flush()
    assert store.load("lobby") == (b"at 10", "bundles/other")
    again.add("lobby")
    assert again.enter("lobby", "one").position == b"", "files are read by whoever adds it"
    again.remove("lobby")
    again.flush()
    assert store.load("lobby") == (b"", "")


def test_positions_that_are_not_kept_are_told(tmp_path: Path) -> None:
    store = StateStore(str(tmp_path))
    keeper = Keeper(LEASE_S, store)
    keeper.add("lobby")
    (tmp_path / "lobby.position.partial").mkdir()  # no file can be written there
    keeper.beat("lobby", keeper.enter("lobby", "one").generation, b"at 10")
    keeper.flush()
    assert keeper.problem().startswith(f"positions cannot be written to {tmp_path}: ")
    assert keeper.problem() == store.error
    assert Keeper(LEASE_S).problem() == ""


def test_a_keeper_that_waits_gives_no_lease_before_older_ones_have_ended(clock: FakeClock) -> None:
    keeper = Keeper(LEASE_S, now=clock.now, waits=True)
    keeper.add("lobby")
    lobby = keeper.enter("lobby", "one").generation
    assert keeper.lease("lobby", lobby, KEYS) == LEASE_S
    clock.advance(LEASE_S - 1)
    assert keeper.lease("lobby", lobby, KEYS) == 1
    assert keeper.lease("lobby", lobby + 1, KEYS) < 0, "nobody is told to wait in vain"
    clock.advance(1)
    assert keeper.lease("lobby", lobby, KEYS) == 0


def test_a_show_that_is_silent_waits_for_a_machine(keeper: Keeper, clock: FakeClock) -> None:
    for name in ("lobby", "hall"):
        keeper.on_air(name, keeper.enter(name, "one").generation, f"http://{name}", "token")
    clock.advance(2 * LEASE_S)
    keeper.beat("hall", 2, None)
    assert [show["state"] for show in keeper.shows()] == ["on air", "on air"]
    clock.advance(0.1)
    assert [show["state"] for show in keeper.shows()] == ["waits for a machine", "on air"]
    assert list(keeper.pages()) == ["hall"]


def test_a_show_that_is_over_is_not_begun_again(keeper: Keeper) -> None:
    generation = keeper.enter("lobby", "one").generation
    keeper.leave("lobby", generation, is_over=True)
    begin = keeper.enter("lobby", "two")
    assert (begin.error, begin.generation) == ("lobby is over", generation)
    keeper.leave("lobby", begin.generation, begin.error)
    found = state_of(keeper)
    assert (found["state"], found["error"], found["node"], found["starts"]) == ("over", "", "one", 1)
