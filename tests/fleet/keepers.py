"""A keeper in this process, which answers the calls of a show's process, or does not."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from fleet.keeper import Begin, Keeper


class LocalKeeper:
    """Calls a keeper of this process; see `fleet.show_process.KeeperCalls`.

    Args:
        name: of its only show.
        lease_s: see `Keeper`.

    Attributes:
        keeper: the keeper itself.
        calls: (name of the call, arguments behind the name of the show and the generation).
        answers: name of a call -> answers that are given instead of the keeper's, the first one first.
        is_silent: whether no call is answered.
    """

    def __init__(self, name: str, lease_s: float) -> None:
        self.keeper = Keeper(lease_s)
        self.calls: list[tuple[Any, ...]] = []
        self.answers: dict[str, list[Any]] = {}
        self.is_silent = False
        self._lock = threading.Lock()
        self.keeper.add(name)

    def enter(self, name: str, node: str) -> Begin:
        """See `Keeper.enter`."""
        begin: Begin = self._call("enter", name, node)
        return begin

    def lease(self, name: str, generation: int, keys: Sequence[str]) -> float:
        """See `Keeper.lease`."""
        return float(self._call("lease", name, generation, keys))

    def on_air(self, name: str, generation: int, url: str, token: str) -> None:
        """See `Keeper.on_air`."""
        self._call("on_air", name, generation, url, token)

    def beat(self, name: str, generation: int, position: bytes | None) -> bool:
        """See `Keeper.beat`."""
        return bool(self._call("beat", name, generation, position))

    def leave(self, name: str, generation: int, error: str, is_over: bool) -> None:
        """See `Keeper.leave`."""
        self._call("leave", name, generation, error, is_over=is_over)

    def set_bundle(self, name: str, generation: int, bundle: str) -> None:
        """See `Keeper.set_bundle`."""
        self._call("set_bundle", name, generation, bundle)

    def made(self, call: str) -> list[tuple[Any, ...]]:
        """Return the arguments of all calls of a name."""
        with self._lock:
            return [arguments for name, *arguments in self.calls if name == call]  # type: ignore[misc]

    def show(self) -> dict[str, Any]:
        """Return what users see of the show."""
        with self._lock:
            [found] = self.keeper.shows()
            return found

    def is_on_air(self) -> bool:
        """Return whether the show is on air."""
        return bool(self.show()["state"] == "on air")

    def url(self) -> str:
        """Return the address of the show's page; "" if it is not on air."""
        with self._lock:
            return next((url for url, _ in self.keeper.pages().values()), "")

    def position(self) -> bytes:
        """Return the position of the show."""
        with self._lock:
            [entry] = self.keeper._entries.values()
            return entry.position

    def _call(self, call: str, name: str, *arguments: Any, **options: Any) -> Any:
        with self._lock:
            self.calls.append((call, *arguments, *options.values()))
            if self.is_silent:
                raise OSError("the head of the fleet does not answer: GetTimeoutError")
            if self.answers.get(call):
                return self.answers[call].pop(0)
            return getattr(self.keeper, call)(name, *arguments, **options)
