"""The director of a fleet, with actors in this process instead of Ray's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from fleet import director as module
from fleet.config import FleetConfig, ShowConfig, Tenant, to_show
from fleet.director import Director, UnknownShowError
from fleet.keeper import Keeper
from fleet.nodes import Node
from fleet.ray_actors import ActorLostError, answer_of
from fleet.state_store import StateStore
from tests.fleet.waiting import WAIT_S, wait_until

KEY = "rtmp://h/live/first"
SILENT = "does not answer: it does not answer: GetTimeoutError"


class Handle:
    """Calls the methods of an object as `handle.method.remote(...)`, and at once."""

    def __init__(self, target: Any) -> None:
        self.target = target

    def __getattr__(self, name: str) -> Any:
        return _Method(getattr(self.target, name))


class _Method:
    def __init__(self, method: Callable[..., Any]) -> None:
        self.remote = method


class FakeShow:
    """A show that runs on the first machine that takes shows, or fails as told; see `ShowProcess`."""

    def __init__(self, config: ShowConfig, cluster: FakeCluster) -> None:
        self.config, self.cluster = config, cluster
        self.stops: list[bool] = []
        self.error: Exception | None = None
        self.begin()

    def begin(self) -> None:
        """Enter, as a process does that Ray starts."""
        self.number = 0
        nodes = [node for node in self.cluster.nodes() if node.gpus >= self.config.gpus and not node.is_draining]
        if not nodes:
            return
        keeper = self.cluster.keeper
        self.number = keeper.enter(self.config.name, nodes[0].name).generation
        if self.config.bundle == "missing":
            keeper.leave(self.config.name, self.number, "there is no bundle")
        else:
            keeper.on_air(self.config.name, self.number, f"http://{self.config.name}", "a token")

    def stop(self, *, keep: bool) -> None:
        assert self.number, "it has no process"
        self.stops.append(keep)
        self.cluster.keeper.leave(self.config.name, self.number, is_over=not keep)

    def change_bundle(self, bundle: str, dissolve_s: float) -> None:
        if self.error is not None:
            raise self.error
        self.cluster.keeper.set_bundle(self.config.name, self.number, bundle)


class FakeCluster:
    """What the director asks of Ray.

    Attributes:
        names: of the machines that take shows, the head not among them.
        drained: of those that do not any more.
        killed: names of shows whose process was killed, and whether it is not started again.
    """

    def __init__(self) -> None:
        self.keeper = Keeper(5.0)
        self.names, self.drained = ["n1", "n2"], set[str]()
        self.gone: set[str] = set()
        self.shows: dict[str, FakeShow] = {}
        self.killed: list[tuple[str, bool]] = []

    def nodes(self, drained: Any = ()) -> tuple[Node, ...]:
        head = Node("head", "127.0.0.1", True, True, True, 0.0, 0.0)
        return (
            *(
                Node(name, "127.0.0.1", name not in self.gone, False, name in self.drained, 4.0, 1.0)
                for name in self.names
            ),
            head,
        )

    def start_show(self, config: ShowConfig, settings: Any, keeper: Any) -> Handle:
        self.shows[config.name] = FakeShow(config, self)
        return Handle(self.shows[config.name])

    def kill(self, actor: Handle, no_restart: bool = True) -> None:
        if isinstance(actor.target, FakeShow):
            self.killed.append((actor.target.config.name, no_restart))
            if not no_restart:
                actor.target.begin()


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    cluster = FakeCluster()
    monkeypatch.setattr(module, "_LOOK_S", 0.01)
    monkeypatch.setattr(module, "start_keeper", lambda name, lease_s, state: Handle(cluster.keeper))
    monkeypatch.setattr(module, "start_show", cluster.start_show)
    monkeypatch.setattr(module, "read_nodes", cluster.nodes)
    monkeypatch.setattr(module, "drain", cluster.drained.add)
    monkeypatch.setattr(module, "answer_of", lambda call, timeout_s: call())
    monkeypatch.setattr(module.ray, "kill", cluster.kill)
    return cluster


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def director(cluster: FakeCluster, told: list[str]) -> Iterator[Director]:
    """A fleet of shows that run, fail, wait, and cannot be started."""
    shows = {
        "lobby": to_show("lobby", {"to": KEY, "tenant": "acme"}, {}),
        "hall": to_show("hall", {"gpus": 0.5}, {}),
        "lost": to_show("lost", {"bundle": "missing"}, {}),
        "greedy": to_show("greedy", {"gpus": 3}, {}),
    }
    config = FleetConfig(shows, {"typing": "[shows.typing] is wrong"}, {"acme": Tenant("acme", shows=2)})
    with Director(config, told.append) as director:
        yield director


def show_of(director: Director, name: str) -> dict[str, Any]:
    return next((show for show in director.shows() if show["name"] == name), {"state": "unknown"})


def names(director: Director) -> list[str]:
    return sorted(show["name"] for show in director.shows())


def wait_failed(director: Director, name: str) -> None:
    wait_until(lambda: show_of(director, name)["state"] == "failed")


def test_every_show_has_a_state(director: Director) -> None:
    assert names(director) == ["greedy", "hall", "lobby", "lost", "typing"]
    lobby = show_of(director, "lobby")
    assert (lobby["state"], lobby["node"], lobby["tenant"], lobby["cpus"]) == ("on air", "n1", "acme", 1.0)
    assert director.page_of("lobby") == ("http://lobby", "a token")
    assert show_of(director, "lost")["error"] == "there is no bundle"
    assert show_of(director, "typing")["error"] == "[shows.typing] is wrong"
    greedy = show_of(director, "greedy")
    assert (greedy["state"], greedy["error"]) == (
        "waits for a machine",
        "it needs 3 GPUs, the largest machine has 1: add one, or ask for less",
    )
    assert [(node["name"], node["shows"]) for node in director.nodes()] == [("n1", 2), ("n2", 0), ("head", 0)]


def test_what_changes_is_told_once(director: Director, told: list[str]) -> None:
    wait_failed(director, "lost")
    count = len(told)
    director._look()
    assert told[:count] == told
    assert "lobby: on air" in told
    assert "lost: failed: there is no bundle" in told


def test_a_failed_show_is_not_started_again_and_can_be_replaced(director: Director, cluster: FakeCluster) -> None:
    wait_until(lambda: ("lost", True) in cluster.killed)
    with pytest.raises(ValueError, match="lost does not run any more: remove it, and add it again"):
        director.move("lost")
    with pytest.raises(ValueError, match="there is a show lost already"):
        director.add(to_show("lost", {}, {}))
    director.remove("lost")
    wait_until(lambda: "lost" not in names(director))
    director.add(to_show("lost", {}, {}))
    wait_until(lambda: show_of(director, "lost")["state"] == "on air")


def test_one_that_could_not_be_started_can_be_corrected(director: Director) -> None:
    director.add(to_show("typing", {}, {}))
    wait_until(lambda: show_of(director, "typing")["state"] == "on air")
    director.remove("typing")
    wait_until(lambda: "typing" not in names(director))


@pytest.mark.parametrize("act", ["remove", "move", "page_of"])
def test_an_unknown_show_is_one_sentence(director: Director, act: str) -> None:
    with pytest.raises(UnknownShowError, match="there is no show nobody"):
        getattr(director, act)("nobody")


def test_a_page_that_is_not_on_air_is_one_sentence(director: Director) -> None:
    with pytest.raises(OSError, match="greedy is not on air: try again in a moment"):
        director.page_of("greedy")


def test_shows_are_added_within_the_limits(director: Director) -> None:
    with pytest.raises(ValueError, match="streams to the same place and key as lobby"):
        director.add(to_show("attic", {"to": KEY}, {}))
    director.add(to_show("attic", {"tenant": "acme"}, {}))
    with pytest.raises(ValueError, match="over the limit of acme: 3 shows, 2 are allowed"):
        director.add(to_show("cellar", {"tenant": "acme"}, {}))
    director.remove("lobby")
    director.add(to_show("cellar", {"to": KEY, "tenant": "acme"}, {}))
    wait_until(lambda: show_of(director, "cellar")["state"] == "on air")


def test_a_machine_is_drained(director: Director, cluster: FakeCluster) -> None:
    director.drain("n1")
    assert {name for name, no_restart in cluster.killed if not no_restart} == {"lobby", "hall"}
    assert cluster.shows["lobby"].stops == [True]
    wait_until(lambda: show_of(director, "lobby")["node"] == show_of(director, "hall")["node"] == "n2")
    with pytest.raises(ValueError, match="head is the head, which keeps the positions of all shows"):
        director.drain("head")
    with pytest.raises(ValueError, match="there is no machine n3: choose one of n1, n2"):
        director.drain("n3")


def test_a_lost_machine_is_noticed(director: Director, cluster: FakeCluster) -> None:
    cluster.gone.add("n1")
    wait_until(lambda: show_of(director, "lobby")["state"] == "waits for a machine")
    with pytest.raises(OSError, match="lobby is not on air"):
        director.page_of("lobby")


def test_a_bundle_is_rolled_out_until_one_fails(director: Director, cluster: FakeCluster) -> None:
    assert director.roll("bundles/landscape", "bundles/other", 1.0) == (["lobby", "hall"], ["greedy"])
    wait_until(lambda: show_of(director, "hall")["bundle"] == "bundles/other")
    cluster.shows["hall"].error = ValueError("it makes frames of another size")
    with pytest.raises(
        ValueError, match="hall keeps bundles/other: it makes frames of another size; changed before: lobby"
    ):
        director.roll("bundles/other", "bundles/third", 1.0)
    assert director.roll("bundles/nobody-has-it", "bundles/third", 1.0) == ([], [])


def test_a_show_that_waits_is_not_moved(director: Director, cluster: FakeCluster) -> None:
    with pytest.raises(ValueError, match=r"^greedy waits for a machine: there is nothing to move$"):
        director.move("greedy")
    assert "greedy" not in [name for name, _ in cluster.killed]


def test_a_start_that_fails_leaves_nothing_behind(director: Director, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("the cluster takes no actors")

    with monkeypatch.context() as patch:
        patch.setattr(module, "start_show", fail)
        with pytest.raises(RuntimeError, match="takes no actors"):
            director.add(to_show("attic", {"to": "rtmp://h/live/second"}, {}))
    director._look()
    assert "attic" not in names(director)
    with pytest.raises(UnknownShowError):
        director.move("attic")
    director.add(to_show("cellar", {"to": "rtmp://h/live/second"}, {}))
    director.add(to_show("attic", {}, {}))
    wait_until(lambda: show_of(director, "attic")["state"] == "on air")


def test_a_keeper_that_has_ended_is_the_end_of_the_fleet(
    director: Director, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ActorLostError("its process has ended")

    assert not director.is_lost
    monkeypatch.setattr(cluster.keeper, "shows", fail)
    wait_until(lambda: director.is_lost)
    assert director.problem == "the keeper on the head has ended, and all shows with it: start the fleet again"


def test_an_actor_that_has_died_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ray.exceptions.ActorDiedError

    monkeypatch.setattr(ray, "get", fail)
    with pytest.raises(ActorLostError, match="its process has ended"):
        answer_of(list, 1.0)


def test_a_keeper_that_does_not_answer_is_told(
    director: Director, cluster: FakeCluster, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise OSError("it does not answer: GetTimeoutError")

    with monkeypatch.context() as patch:
        patch.setattr(cluster.keeper, "shows", fail)
        wait_until(lambda: director.problem)
        assert director.problem == f"the keeper on the head {SILENT}"
    wait_until(lambda: not director.problem)
    assert [line for line in told if line.startswith("the keeper")] == [f"the keeper on the head {SILENT}"]


def test_all_shows_end_with_the_fleet(cluster: FakeCluster) -> None:
    shows = {name: to_show(name, {}, {}) for name in ("lobby", "hall")}
    with Director(FleetConfig(shows, {}, {}), [].append):
        pass
    assert [cluster.shows[name].stops for name in shows] == [[False], [False]]
    assert sorted(cluster.killed) == [("hall", True), ("lobby", True)]


def test_a_state_that_cannot_be_used_is_one_sentence(cluster: FakeCluster) -> None:
    with pytest.raises(ValueError, match=r'\[fleet\] state = "/dev/null/shows" cannot be used: '):
        Director(FleetConfig({}, {}, {}, state="/dev/null/shows"), [].append)


def test_shows_go_on_where_the_store_says_until_they_are_removed(cluster: FakeCluster, tmp_path: Path) -> None:
    store = StateStore(str(tmp_path))
    store.save("lobby", b"at 10", "bundles/other")
    assert store.flush(WAIT_S)
    with Director(FleetConfig({"lobby": to_show("lobby", {}, {})}, {}, {}, state=str(tmp_path)), [].append) as director:
        entry = cluster.keeper._entries["lobby"]
        assert (entry.position, entry.bundle) == (b"at 10", "bundles/other")
        director.remove("lobby")
        assert store.load("lobby") == (b"at 10", "bundles/other"), "it is deleted later"
        director.add(to_show("lobby", {}, {}))
        entry = cluster.keeper._entries["lobby"]
        assert (entry.position, entry.bundle) == (b"", "")


def test_a_position_that_cannot_be_read_is_told(cluster: FakeCluster, told: list[str], tmp_path: Path) -> None:
    (tmp_path / "lobby.position").write_bytes(b"{")
    shows = {name: to_show(name, {}, {}) for name in ("lobby", "hall")}
    with Director(FleetConfig(shows, {}, {}, state=str(tmp_path)), told.append):
        [line] = [line for line in told if line.endswith("; it begins anew")]
        assert line.startswith("the position of lobby cannot be read from")


def test_a_start_that_fails_keeps_the_position(
    cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("the cluster takes no actors")

    cluster.keeper = Keeper(5.0, store := StateStore(str(tmp_path)))
    store.save("lobby", b"at 10", "")
    assert store.flush(WAIT_S)
    monkeypatch.setattr(module, "start_show", fail)
    with pytest.raises(RuntimeError, match="takes no actors"):
        Director(FleetConfig({"lobby": to_show("lobby", {}, {})}, {}, {}, state=str(tmp_path)), [].append)
    assert store.flush(WAIT_S)
    assert (store.load("lobby"), cluster.keeper.shows()) == ((b"at 10", ""), [])
