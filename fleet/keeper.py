"""Keeps what must outlive a machine: where each show is, and who may send to which stream. Runs on the head, once.

A lease gives one sender the right to a stream. It is granted for `lease_s` seconds and renewed with every beat of the
show. A sender that could not renew it in time ends itself; it counts from the moment before it asked, so it ends before
the lease is given to another one, whatever the clocks of the two machines say.
"""

from __future__ import annotations

import itertools
import secrets
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fleet.ending import boot_s
from fleet.state_store import StateStore

MAX_CRASHES = 5  # of a show within `_CRASH_S`, then it is not started again
_CRASH_S = 60.0
_FLUSH_S = 5.0
_SILENT = 2.0  # leases without a beat, after which a show is not on air
_PAYLOAD_BITS = 48  # of the mark


@dataclass
class Entry:
    """What is known of one show."""

    name: str
    state: str = "waits for a machine"
    error: str = ""
    node: str = ""
    generation: int = 0  # number of the process that runs it
    num_starts: int = 0  # of its processes
    url: str = ""  # of its page
    token: str = ""
    bundle: str = ""  # on air, if it is another one than the configuration's
    position: bytes = b""
    mark: str = field(default_factory=lambda: f"{secrets.randbits(_PAYLOAD_BITS):012x}")
    starts: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_CRASHES))
    beat_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return what users see; no address, no token."""
        return {
            "name": self.name,
            "state": self.state,
            "error": self.error,
            "node": self.node,
            "starts": self.num_starts,
            "bundle": self.bundle,
        }


@dataclass(frozen=True)
class Begin:
    """What a process needs to run a show.

    Args:
        generation: number of the process, which no other process of the fleet has; later ones replace it.
        position: where to go on from, as `ShowPosition.to_bytes` returns it; empty to begin.
        bundle: on air, if it is another one than the configuration's; else "".
        mark: payload of the show's mark, in hexadecimal.
        error: why it must not run; "" if it may.
    """

    generation: int
    position: bytes = field(repr=False)
    bundle: str
    mark: str
    error: str = ""


class Keeper:
    """The shows of a fleet, and the leases of their streams; one thread at a time.

    Args:
        lease_s: see the module.
        store: keeps positions in files as well; None for memory alone.
        now: returns the time in seconds of a clock that only goes on.
        waits: whether no lease is given before those of a keeper that was there before have ended.
    """

    def __init__(
        self,
        lease_s: float,
        store: StateStore | None = None,
        now: Callable[[], float] = boot_s,
        *,
        waits: bool = False,
    ) -> None:
        self._lease_s, self._store, self._now = lease_s, store, now
        self._opens_s = now() + lease_s if waits else now()
        self._entries: dict[str, Entry] = {}
        self._generations = itertools.count(1)  # of all shows: a show may be removed and added while its process lives
        self._leases: dict[str, tuple[str, int, float]] = {}  # key -> show, generation, end

    def add(self, name: str, error: str = "", position: bytes = b"", bundle: str = "") -> None:
        """Add a show: where it goes on, or why it cannot be started."""
        entry = self._entries[name] = Entry(name, position=position, bundle=bundle)
        if error:
            entry.state, entry.error = "failed", error

    def remove(self, name: str, *, keep: bool = False) -> None:
        """Forget a show, but with `keep` not its file; leases that its process still has run out, as it may send."""
        self._entries.pop(name, None)
        if self._store is not None and not keep:
            self._store.remove(name)

    def enter(self, name: str, node: str) -> Begin:
        """A process begins to run a show; those before it are replaced."""
        entry, now_s = self._entries[name], self._now()
        if entry.state in ("failed", "over"):  # its process ended before Ray was told not to start another one
            return Begin(entry.generation, b"", "", "", entry.error or f"{name} is over")
        is_crashing = len(entry.starts) == MAX_CRASHES and now_s - entry.starts[0] < _CRASH_S
        entry.starts.append(now_s)
        entry.generation, entry.num_starts = next(self._generations), entry.num_starts + 1
        entry.node, entry.url, entry.token, entry.state = node, "", "", "starts"
        if is_crashing:
            entry.error = f"{name} has crashed {MAX_CRASHES} times in a minute: see the log of its process on {node}"
            entry.state = "failed"
        return Begin(entry.generation, entry.position, entry.bundle, entry.mark, entry.error)

    def lease(self, name: str, generation: int, keys: Sequence[str]) -> float:
        """Give the streams to a process if all of them are free.

        Returns:
            0 if it may send now, else the seconds after which to ask again; below 0 if it was replaced.
        """
        now_s = self._now()
        if name not in self._entries or self._entries[name].generation != generation:
            return -1.0
        if now_s < self._opens_s:
            return self._opens_s - now_s
        held = [self._leases[key] for key in keys if key in self._leases]
        ends = [end for show, number, end in held if (show, number) != (name, generation) and end > now_s]
        if ends:
            return max(0.05, max(ends) - now_s)
        for key in keys:
            self._leases[key] = name, generation, now_s + self._lease_s
        return 0.0

    def on_air(self, name: str, generation: int, url: str, token: str) -> None:
        """Say where the page of a show is."""
        entry = self._entries.get(name)
        if entry is not None and entry.generation == generation:
            entry.url, entry.token, entry.state, entry.error = url, token, "on air", ""
            entry.beat_s = self._now()

    def beat(self, name: str, generation: int, position: bytes | None) -> bool:
        """Renew the leases of a process, and keep the position of its show.

        Returns:
            Whether it still is the one that runs the show; if not, it has to end.
        """
        entry, now_s = self._entries.get(name), self._now()
        if entry is None or entry.generation != generation:
            return False
        entry.beat_s = now_s
        for key, (show, number, end) in tuple(self._leases.items()):
            if (show, number) == (name, generation):
                if end <= now_s:  # somebody may have it already, or may get it at any time
                    return False
                self._leases[key] = show, number, now_s + self._lease_s
        if position is not None:
            entry.position = position
            if self._store is not None:
                self._store.save(name, position, entry.bundle)
        return True

    def leave(self, name: str, generation: int, error: str = "", *, is_over: bool = False) -> None:
        """A process ends: because it failed (error), because the show is over, or to go on elsewhere."""
        self._free(name, generation)
        entry = self._entries.get(name)
        if entry is None or entry.generation != generation or entry.state in ("failed", "over"):
            return  # one that must not begin leaves, too
        entry.url = entry.token = ""
        entry.state, entry.error = ("failed", error) if error else ("over" if is_over else "moves", "")
        if entry.state == "moves":
            _forget_start(entry)

    def set_bundle(self, name: str, generation: int, bundle: str) -> None:
        """Another bundle is on air."""
        entry = self._entries.get(name)
        if entry is not None and entry.generation == generation:
            entry.bundle = bundle

    def lost(self, nodes: Sequence[str]) -> None:
        """Machines are gone: their shows wait for another one."""
        for entry in self._entries.values():
            if entry.node in nodes and entry.state in ("on air", "starts"):
                entry.state, entry.url, entry.token = "waits for a machine", "", ""
                _forget_start(entry)

    def shows(self) -> list[dict[str, Any]]:
        """Return all shows, ready for JSON."""
        for entry in self._entries.values():
            if entry.state == "on air" and self._now() - entry.beat_s > _SILENT * self._lease_s:
                entry.state, entry.url, entry.token = "waits for a machine", "", ""
        return [entry.to_json() for entry in self._entries.values()]

    def pages(self) -> Mapping[str, tuple[str, str]]:
        """Return the address and the token of the page of every show on air; not for users."""
        return {entry.name: (entry.url, entry.token) for entry in self._entries.values() if entry.url}

    def flush(self) -> None:
        """Wait until what is kept in files is written or deleted, 5 seconds at most."""
        if self._store is not None:
            self._store.flush(_FLUSH_S)

    def problem(self) -> str:
        """Return why positions are not written to files, in one sentence; "" if they are, or need not be."""
        return "" if self._store is None else self._store.error

    def _free(self, name: str, generation: int) -> None:
        for key, (show, number, _) in tuple(self._leases.items()):
            if (show, number) == (name, generation):
                del self._leases[key]


def _forget_start(entry: Entry) -> None:
    """Its process did not crash, so its start does not count."""
    if entry.starts:
        entry.starts.pop()
