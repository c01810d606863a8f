"""Starts and ends the shows of a fleet on a Ray cluster, moves them, and changes their bundles."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import ray

from fleet.config import FleetConfig, ShowConfig, check_show
from fleet.nodes import Node, drain, read_nodes
from fleet.ray_actors import ActorLostError, answer_of, start_keeper, start_show
from fleet.show_process import ShowSettings
from fleet.state_store import StateStore

_KEEPER = "keeper"
_ANSWER_S = 10.0
_CHANGE_S = 120.0  # for a bundle to be opened
_STOP_S = 12.0
_ROUNDS = 5  # of moving shows away from a machine
_LOOK_S = 0.5  # between two looks at the machines and the shows
UNPLACED = "waits for a machine"


class UnknownShowError(ValueError):
    """There is no such show."""


class Director:
    """The shows of a fleet; may be called from any thread. A context manager.

    Args:
        config: of the fleet.
        say: called with one line for each event.

    Raises:
        ValueError: the folder of the state cannot be used.
    """

    def __init__(self, config: FleetConfig, say: Callable[[str], object]) -> None:
        self._config, self._say = config, say
        self._settings = ShowSettings(config.lease_s, config.state_every_s)
        self._lock = threading.Lock()
        self._configs: dict[str, ShowConfig] = {}
        self._actors: dict[str, Any] = {}
        self._latest: list[dict[str, Any]] = []
        self._pages: Mapping[str, tuple[str, str]] = {}
        self._nodes: tuple[Node, ...] = ()
        self._told: dict[str, str] = {}
        self._drained: set[str] = set()
        self.problem = ""  # of the whole fleet, in one sentence
        self._is_closed = threading.Event()
        self.is_lost = False  # whether the keeper has ended, and all shows with it
        self._store = StateStore(config.state) if config.state else None
        self._removed: set[str] = set()  # names whose files may not be deleted yet
        self._keeper = start_keeper(_KEEPER, config.lease_s, config.state)
        for name, problem in config.problems.items():
            self._ask(partial(self._keeper.add.remote, name, problem))
        for show in config.shows.values():
            self._start(show)
        self._watcher = threading.Thread(target=self._watch, name="fleet", daemon=True)
        self._look()
        self._watcher.start()

    def __enter__(self) -> Director:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def shows(self) -> list[dict[str, Any]]:
        """Return all shows, at most half a second old, ready for JSON."""
        return [
            {**show, "tenant": config.tenant, "cpus": config.cpus, "gpus": config.gpus}
            if (config := self._configs.get(show["name"])) is not None
            else {**show, "tenant": "", "cpus": 0, "gpus": 0}
            for show in self._latest
        ]

    def page_of(self, name: str) -> tuple[str, str]:
        """Return the address and the token of a show's page.

        Raises:
            UnknownShowError: there is no such show.
            OSError: it is not on air.
        """
        if name in self._pages:
            return self._pages[name]
        if not self._is_listed(name):
            raise UnknownShowError(f"there is no show {name}")
        raise OSError(f"{name} is not on air: try again in a moment")

    def nodes(self) -> list[dict[str, Any]]:
        """Return the machines of the cluster, ready for JSON."""
        counts: dict[str, int] = {}
        for show in self._latest:
            if show["state"] in ("on air", "starts"):
                counts[show["node"]] = counts.get(show["node"], 0) + 1
        return [{**node.to_json(), "shows": counts.get(node.name, 0)} for node in self._nodes]

    def add(self, show: ShowConfig) -> None:
        """Start another show.

        Raises:
            ValueError: there is one of that name or with its stream key, or its tenant has no room for it.
        """
        with self._lock:
            check_show(show, self._configs.values(), self._config.tenants)
            self._start(show)

    def remove(self, name: str) -> None:
        """End a show for good.

        Raises:
            UnknownShowError: there is no such show.
        """
        with self._lock:
            if name not in self._configs and not self._is_listed(name):
                raise UnknownShowError(f"there is no show {name}")
            actor = self._actors.pop(name, None)
        if actor is not None:  # else it has failed, or is over
            self._end(name, actor)
        self._removed.add(name)
        self._ask(lambda: self._keeper.remove.remote(name))
        with self._lock:  # only now another show may have its name
            self._configs.pop(name, None)
            self._latest = [show for show in self._latest if show["name"] != name]

    def move(self, name: str) -> None:
        """End the process of a show; Ray starts it again on a machine that takes shows.

        Raises:
            UnknownShowError: there is no such show.
            ValueError: it has failed, is over, or has no machine.
        """
        actor = self._actor(name)
        if self._is_unplaced(name):
            raise ValueError(f"{name} waits for a machine: there is nothing to move")
        with contextlib.suppress(ValueError, OSError):
            answer_of(lambda: actor.stop.remote(keep=True), _STOP_S)
        ray.kill(actor, no_restart=False)

    def drain(self, node: str) -> None:
        """Let a machine take no further shows, and move those that it has, one after the other.

        Raises:
            ValueError: there is no such machine, or it is the head.
        """
        found = next((one for one in self._nodes if one.name == node), None)
        if found is None or not found.is_alive:
            raise ValueError(f"there is no machine {node}: choose one of {', '.join(one.name for one in self._nodes)}")
        if found.is_head:
            raise ValueError(f"{node} is the head, which keeps the positions of all shows: it cannot be drained")
        drain(node)
        self._drained.add(node)
        for _ in range(_ROUNDS):  # shows that were placed there in the meantime follow
            here = [
                show["name"]
                for show in self._ask(self._keeper.shows.remote)
                if show["node"] == node and show["state"] in ("on air", "starts") and show["name"] in self._actors
            ]
            for name in here:
                with contextlib.suppress(ValueError):  # it has just ended
                    self.move(name)
            if not here:
                return

    def change_bundle(self, name: str, bundle: str, dissolve_s: float) -> None:
        """Open another bundle in a show, and cross-fade to it.

        Raises:
            UnknownShowError: there is no such show.
            ValueError: the bundle cannot be opened or does not fit; the show goes on as it is.
            OSError: the show does not answer.
        """
        actor = self._actor(name)
        answer_of(lambda: actor.change_bundle.remote(bundle, dissolve_s), _CHANGE_S)

    def roll(self, before: str, after: str, dissolve_s: float) -> tuple[list[str], list[str]]:
        """Change a bundle in all shows that have it, one after the other; stop at the first that fails.

        Returns:
            The names of the shows that were changed, and of those that have the bundle and are not on air.

        Raises:
            ValueError: a show could not be changed; the message says which, and which were.
        """
        done: list[str] = []
        left_out: list[str] = []
        for show in self.shows():
            config = self._configs.get(show["name"])
            if config is None or Path(show["bundle"] or config.bundle) != Path(before):
                continue
            if show["state"] != "on air":
                left_out.append(config.name)
                continue
            try:
                self.change_bundle(config.name, after, dissolve_s)
            except (ValueError, OSError) as error:
                were = f"changed before: {', '.join(done)}" if done else "none was changed before"
                raise ValueError(f"{config.name} keeps {before}: {error}; {were}") from error
            done.append(config.name)
        return done, left_out

    def close(self) -> None:
        """End all shows."""
        if self._is_closed.is_set():
            return
        self._is_closed.set()
        self._watcher.join()
        with self._lock:
            actors, self._actors = dict(self._actors), {}
        threads = [threading.Thread(target=self._end, args=item) for item in actors.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for name in actors:
            with contextlib.suppress(OSError, ValueError):
                self._ask(partial(self._keeper.remove.remote, name))
        with contextlib.suppress(OSError, ValueError):
            self._ask(self._keeper.flush.remote)
        ray.kill(self._keeper)

    def _start(self, show: ShowConfig) -> None:
        position, bundle = b"", ""
        if self._store is not None and show.name not in self._removed:
            position, bundle = self._store.load(show.name)
            if problem := self._store.error_of(show.name):
                self._say(problem)
        self._ask(lambda: self._keeper.add.remote(show.name, "", position, bundle))
        try:
            self._actors[show.name] = start_show(show, self._settings, _KEEPER)
        except BaseException:
            with contextlib.suppress(OSError, ValueError):
                self._ask(lambda: self._keeper.remove.remote(show.name, keep=True))
            raise
        self._configs[show.name] = show

    def _end(self, name: str, actor: Any) -> None:
        if not self._is_unplaced(name):  # no process would answer
            with contextlib.suppress(ValueError, OSError):
                answer_of(lambda: actor.stop.remote(keep=False), _STOP_S)
        ray.kill(actor)

    def _actor(self, name: str) -> Any:
        if name in self._actors:
            return self._actors[name]
        if not self._is_listed(name):
            raise UnknownShowError(f"there is no show {name}")
        raise ValueError(f"{name} does not run any more: remove it, and add it again")

    def _is_unplaced(self, name: str) -> bool:
        return any(show["name"] == name and show["state"] == UNPLACED for show in self._latest)

    def _is_listed(self, name: str) -> bool:
        return any(show["name"] == name for show in self._latest)

    def _ask(self, call: Callable[[], Any]) -> Any:
        return answer_of(call, _ANSWER_S)

    def _watch(self) -> None:
        while not self._is_closed.wait(_LOOK_S):
            try:
                self._look()
                self.problem = str(self._ask(self._keeper.problem.remote))
            except ActorLostError:
                self.problem = "the keeper on the head has ended, and all shows with it: start the fleet again"
                self.is_lost = True
            except (OSError, ValueError, ray.exceptions.RayError) as error:
                self.problem = f"the keeper on the head does not answer: {error}"
            self._tell("", self.problem)

    def _look(self) -> None:
        """Read what the machines and the shows do, and tell what has changed."""
        self._nodes, actors = read_nodes(self._drained), dict(self._actors)
        if gone := [node.name for node in self._nodes if not node.is_alive]:
            self._ask(lambda: self._keeper.lost.remote(gone))
        shows, self._pages = self._ask(self._keeper.shows.remote), self._ask(self._keeper.pages.remote)
        for show in shows:
            if show["state"] == UNPLACED and (config := self._configs.get(show["name"])) is not None:
                show["error"] = self._why_unplaced(config)
            self._tell(show["name"], f"{show['state']}: {show['error']}" if show["error"] else show["state"])
        self._latest = shows
        for show in shows:  # Ray would start the process of a failed show again
            name, actor = show["name"], actors.get(show["name"])
            with self._lock:  # another show may have the name by now
                is_same = actor is not None and self._actors.get(name) is actor
                if show["state"] in ("failed", "over") and is_same:
                    ray.kill(self._actors.pop(name))

    def _why_unplaced(self, show: ShowConfig) -> str:
        """Return why a show has no machine; "" while it may get one at any moment."""
        alive = [node for node in self._nodes if node.is_alive and not node.is_draining]
        for what, wanted, most in (
            ("GPUs", show.gpus, max((node.gpus for node in alive), default=0.0)),
            ("CPUs", show.cpus, max((node.cpus for node in alive), default=0.0)),
        ):
            if wanted > most:
                return f"it needs {wanted:g} {what}, the largest machine has {most:g}: add one, or ask for less"
        return ""

    def _tell(self, name: str, what: str) -> None:
        if self._told.get(name, "") != what:
            self._told[name] = what
            if what:
                self._say(f"{name}: {what}" if name else what)
