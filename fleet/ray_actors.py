"""The parts of a fleet that run as Ray actors: the keeper on the head, and each show where Ray places it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import ray

from fleet.config import ShowConfig
from fleet.keeper import Begin, Keeper
from fleet.show_process import ShowProcess, ShowSettings
from fleet.state_store import StateStore

_ANSWER_S = 10.0  # for the keeper, when a show begins
_ON_HEAD = {"node:__internal_head__": 0.001}


class KeeperActor(Keeper):
    """The keeper.

    Args:
        lease_s: as in `FleetConfig`.
        state: the like.
    """

    def __init__(self, lease_s: float, state: str) -> None:
        super().__init__(lease_s, StateStore(state) if state else None, waits=True)


class RayKeeper:
    """Calls the keeper actor; see `KeeperCalls`.

    Args:
        keeper: handle of the actor.
        beat_s: for the answer to a beat.
    """

    def __init__(self, keeper: Any, beat_s: float) -> None:
        self._keeper, self._beat_s = keeper, beat_s

    def enter(self, name: str, node: str) -> Begin:
        """See `Keeper.enter`."""
        begin: Begin = self._ask(self._keeper.enter.remote(name, node))
        return begin

    def lease(self, name: str, generation: int, keys: tuple[str, ...]) -> float:
        """See `Keeper.lease`."""
        return float(self._ask(self._keeper.lease.remote(name, generation, keys)))

    def on_air(self, name: str, generation: int, url: str, token: str) -> None:
        """See `Keeper.on_air`."""
        self._ask(self._keeper.on_air.remote(name, generation, url, token))

    def beat(self, name: str, generation: int, position: bytes | None) -> bool:
        """See `Keeper.beat`."""
        timeout_s = self._beat_s if position is None else _ANSWER_S
        return bool(self._ask(self._keeper.beat.remote(name, generation, position), timeout_s))

    def leave(self, name: str, generation: int, error: str, is_over: bool) -> None:
        """See `Keeper.leave`."""
        self._ask(self._keeper.leave.remote(name, generation, error, is_over=is_over))

    def set_bundle(self, name: str, generation: int, bundle: str) -> None:
        """See `Keeper.set_bundle`."""
        self._ask(self._keeper.set_bundle.remote(name, generation, bundle))

    def _ask(self, answer: Any, timeout_s: float = _ANSWER_S) -> Any:
        try:
            return ray.get(answer, timeout=timeout_s)
        except (ray.exceptions.RayError, TimeoutError) as error:
            raise OSError(f"the head of the fleet does not answer: {type(error).__name__}") from error


class ShowActor(ShowProcess):
    """A show; Ray starts it again on another machine if its own is lost.

    Args:
        config: of the show.
        settings: of the fleet.
        keeper: name of the keeper; its handle would have to outlive the machine that was given it.
    """

    def __init__(self, config: ShowConfig, settings: ShowSettings, keeper: str) -> None:
        context = ray.get_runtime_context()
        calls = RayKeeper(ray.get_actor(keeper), settings.lease_s / 4)
        node = context.get_node_id(), ray.util.get_node_ip_address()
        super().__init__(config, settings, calls, node)


def start_keeper(name: str, lease_s: float, state: str) -> Any:
    """Start the keeper on the head, and return its handle.

    Raises:
        ValueError: the cluster has a keeper of that name.
    """
    actor = ray.remote(KeeperActor).options(name=name, num_cpus=0, resources=_ON_HEAD, max_restarts=0)
    try:
        return actor.remote(lease_s, state)
    except ValueError:
        raise ValueError("a fleet runs on this cluster already: end it, or use another cluster") from None


def start_show(config: ShowConfig, settings: ShowSettings, keeper: str) -> Any:
    """Let Ray place a show, and return its handle."""
    actor = ray.remote(ShowActor).options(
        name=f"show {config.name} {uuid4().hex}",  # a name is free only some time after its actor was killed
        num_cpus=config.cpus,
        num_gpus=config.gpus,
        max_restarts=-1,
        max_concurrency=4,
        scheduling_strategy="SPREAD",
    )
    return actor.remote(config, settings, keeper)


class ActorLostError(OSError):
    """An actor has died, and is not started again."""


def answer_of(call: Callable[[], Any], timeout_s: float) -> Any:
    """Call an actor and wait for its answer.

    Raises:
        ValueError: the actor raised it.
        OSError: it does not answer.
    """
    try:
        return ray.get(call(), timeout=timeout_s)
    except ray.exceptions.ActorDiedError as error:
        raise ActorLostError("its process has ended") from error
    except ray.exceptions.RayTaskError as error:
        raise ValueError(" ".join(str(error.cause).split())) from None
    except (ray.exceptions.RayError, TimeoutError) as error:
        raise OSError(f"it does not answer: {type(error).__name__}") from error
