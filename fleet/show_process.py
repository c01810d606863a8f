"""Runs one show in a process of its own, and tells the keeper where it is."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fleet.config import ShowConfig
from fleet.ending import boot_s, end_at_once
from fleet.keeper import Begin
from streaming.arguments import parse
from streaming.broadcast import run_show
from streaming.errors import SinkError, explain
from streaming.page.server import TOKEN_VARIABLE
from streaming.process.interruption import Interruption
from streaming.process.memory import return_large_blocks
from streaming.shipped import find_shipped
from streaming.show.position import ShowPosition
from streaming.sinks.page_sink import PageSink
from streaming.sinks.table import make_sinks

if TYPE_CHECKING:
    from streaming.show.player import Player

_BEATS = 4  # in the time of a lease
_ASK_S = 0.25  # between two questions whether a stream is free
_WATCH_S = 0.05
_MARGIN = 0.9  # of a lease, after which a process that could not renew it ends
_STOP_S = 8.0  # for a show to end
LOST = 17  # exit status of a process whose lease is lost


class KeeperCalls(Protocol):
    """Calls the keeper, which is elsewhere; each raises OSError if it does not answer in time."""

    def enter(self, name: str, node: str) -> Begin:
        """See `Keeper.enter`."""
        ...

    def lease(self, name: str, generation: int, keys: tuple[str, ...]) -> float:
        """See `Keeper.lease`."""
        ...

    def on_air(self, name: str, generation: int, url: str, token: str) -> None:
        """See `Keeper.on_air`."""
        ...

    def beat(self, name: str, generation: int, position: bytes | None) -> bool:
        """See `Keeper.beat`."""
        ...

    def leave(self, name: str, generation: int, error: str, is_over: bool) -> None:
        """See `Keeper.leave`."""
        ...

    def set_bundle(self, name: str, generation: int, bundle: str) -> None:
        """See `Keeper.set_bundle`."""
        ...


@dataclass(frozen=True)
class ShowSettings:
    """What is the same for all shows of a fleet.

    Args:
        lease_s: as in `FleetConfig`.
        state_every_s: as in `FleetConfig`.
    """

    lease_s: float
    state_every_s: float


class ReplacedError(Exception):
    """Another process runs the show by now."""


class ShowProcess:
    """One show; it begins at once, on a thread of its own.

    Args:
        config: of the show.
        settings: of the fleet.
        keeper: see `KeeperCalls`.
        node: name of this machine, and the address under which others reach it.
        end: called with an exit status when this process must end at once.
    """

    def __init__(
        self,
        config: ShowConfig,
        settings: ShowSettings,
        keeper: KeeperCalls,
        node: tuple[str, str],
        end: Callable[[int], object] = end_at_once,
    ) -> None:
        self.position: ShowPosition | None = None
        self.every_s = settings.state_every_s
        self._config, self._settings, self._keeper, self._end = config, settings, keeper, end
        self._node, self._host = node
        self._interruption = Interruption()
        self._player: Player | None = None
        self._page: PageSink | None = None
        self._latest: ShowPosition | None = None
        self._renewed_s, self._has_lease = 0.0, False
        self._token, self._is_kept = "", False
        self._is_over = threading.Event()
        self._changing = threading.Lock()  # one bundle at a time
        self._threads = [
            threading.Thread(target=self._run, name=f"show {config.name}", daemon=True),
            threading.Thread(target=self._beat, name="beats", daemon=True),
            threading.Thread(target=self._send, name="positions", daemon=True),
            threading.Thread(target=self._watch, name="lease", daemon=True),
        ]
        try:
            self._begin = keeper.enter(config.name, self._node)
        except OSError:  # Ray starts a process again that has ended, but not one whose beginning has failed
            end(LOST)
            raise
        self._generation = self._begin.generation
        for thread in self._threads:
            thread.start()

    # What the director asks for.

    def stop(self, *, keep: bool) -> None:
        """End the show; with `keep`, another process will go on with it."""
        self._is_kept = keep
        self._interruption.is_set = self._interruption.is_on_air = True
        self._threads[0].join(_STOP_S)

    def change_bundle(self, bundle: str, dissolve_s: float) -> None:
        """Cross-fade to another bundle.

        Raises:
            BundleError, EngineError, ValueError: it cannot be opened or does not fit; the show goes on as it is.
        """
        if self._player is None or self._is_over.is_set():
            raise ValueError(f"{self._config.name} is not on air: try again when it is")
        with self._changing:
            self._player.change_bundle(find_shipped(Path(bundle)), dissolve_s)
            self._keeper.set_bundle(self._config.name, self._generation, bundle)

    # What the show asks for: this is its `ShowKeeper`.

    def prepared(self, player: Player) -> None:
        """Wait until nobody else sends to the show's streams."""
        self._player, page = player, self._page
        name, generation = self._config.name, self._generation
        while True:
            wait_s = self._asked(lambda: self._keeper.lease(name, generation, self._config.keys))
            if wait_s < 0:
                raise ReplacedError
            if wait_s == 0 and not self._is_late():  # else the answer took so long that somebody else may have it
                break
            if self._is_over.wait(min(wait_s, _ASK_S)) or self._interruption.is_set:
                raise ReplacedError
        self._has_lease = True
        assert page is not None, "made before the show"
        try:
            self._keeper.on_air(name, generation, page.name, self._token)
        except OSError:  # Ray starts another process, which may reach it
            self._end(LOST)
            raise

    def keep(self, position: ShowPosition) -> None:
        """Keep a position until the next beat."""
        self._latest = position

    def _asked(self, call: Callable[[], float]) -> float:
        """Ask the keeper until it answers, and note when it was asked."""
        while True:
            self._renewed_s = boot_s()
            with contextlib.suppress(OSError):
                return call()
            if self._is_over.wait(_ASK_S) or self._interruption.is_set:
                raise ReplacedError

    # The threads.

    def _run(self) -> None:
        error, is_over = self._begin.error, False
        try:
            if not error:
                is_over = self._show()
        except ReplacedError:
            pass
        except Exception as problem:  # noqa: BLE001 - whatever ends a show is told, and the others go on
            error = " ".join(explain(problem).split()) or type(problem).__name__
        self._is_over.set()
        if self._latest is not None and self._is_kept:
            with contextlib.suppress(OSError):  # the position before it is kept
                self._keeper.beat(self._config.name, self._generation, self._latest.to_bytes())
        try:
            self._keeper.leave(self._config.name, self._generation, error, is_over and not self._is_kept)
        except OSError:  # nobody knows that the show has ended: Ray starts another process
            self._end(LOST)

    def _show(self) -> bool:
        """Run the show; return whether it came to its end."""
        begin, config = self._begin, self._config
        if begin.position:
            try:
                self.position = ShowPosition.from_bytes(begin.position)
            except ValueError as error:
                print(error, flush=True)
        options = parse(config.arguments)
        options.bundle = str(find_shipped(Path(self._choose_bundle())))
        if options.mark_payload is None and not options.no_mark:
            options.mark_payload = int(begin.mark, 16)
        self._token = os.environ[TOKEN_VARIABLE] = secrets.token_urlsafe(24)
        self._page = PageSink(f"http://{f'[{self._host}]' if ':' in self._host else self._host}:0")
        return_large_blocks()
        sinks = [self._page, *make_sinks(options.to, options.pixels)]
        status = run_show(options, self._interruption, sinks, self)
        if status == 1 and not self._interruption.is_set:
            raise SinkError(
                f"no sink of {config.name} takes frames any more: {', '.join(sink.name for sink in sinks[1:])}"
            )
        return not self._is_kept

    def _choose_bundle(self) -> str:
        """Return the bundle to go on with; a position of another one than the configuration's is dropped."""
        bundle = self._begin.bundle or self._config.bundle
        if self.position is None or Path(self.position.bundle) == find_shipped(Path(bundle)):
            return bundle
        if self._begin.bundle:  # lost before the first position with the bundle that had just been changed to
            return self.position.bundle
        print(f"{self._config.name}: {self.position.bundle} was on air before, and now {bundle}: the show begins anew")
        self.position = None
        return bundle

    def _beat(self) -> None:
        """Renew the lease."""
        while not self._is_over.wait(self._settings.lease_s / _BEATS):
            if not self._has_lease:
                continue
            asked_s = boot_s()
            with contextlib.suppress(OSError):  # asked again, until the lease ends
                if not self._keeper.beat(self._config.name, self._generation, None):
                    self._end(LOST)
                    return
                self._renewed_s = asked_s

    def _send(self) -> None:
        """Send positions, which may be large: they must not delay a beat."""
        sent: ShowPosition | None = None
        while not self._is_over.wait(self._settings.lease_s / _BEATS):
            latest = self._latest
            if self._has_lease and latest is not None and latest is not sent:
                with contextlib.suppress(OSError):  # the next one is sent
                    self._keeper.beat(self._config.name, self._generation, latest.to_bytes())
                    sent = latest

    def _watch(self) -> None:
        """End this process before its lease ends, as another one may get it then."""
        while not self._is_over.wait(_WATCH_S):
            if self._has_lease and self._is_late():
                self._end(LOST)
                return

    def _is_late(self) -> bool:
        return boot_s() - self._renewed_s > _MARGIN * self._settings.lease_s
