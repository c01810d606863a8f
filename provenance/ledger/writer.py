"""Writes a show's events on a thread of its own: the show waits for nothing and ends for nothing in the ledger.

While the file is busy, the disk is full or the folder is gone, events wait in memory and are tried again. An event that
cannot be encoded is left out and counted.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from provenance.facts import now
from provenance.ledger import BEAT
from provenance.ledger.store import Ledger, encode

RETRY_S, _LAST_RETRY_S = 2.0, 0.1  # between attempts, during the show and at its end
CLOSE_S = 3.0  # for the events that are left at the end of the show
BEAT_S = 10.0  # between two beats
_MOST = 10_000  # events that wait; then new ones are left out
Waiting = tuple[str, str, Mapping[str, Any], str | None]  # kind, time, data, mark


def _check(path: Path) -> None:
    """Raise ValueError if a path cannot be a ledger's, so that it is an error before the show; make no file."""
    folder = path.absolute().parent
    if path.exists():
        with contextlib.suppress(BlockingIOError):  # the thread tries again
            Ledger(path, is_writer=True).close()
    elif not folder.is_dir():
        raise ValueError(f"there is no folder {folder} for the ledger: make it first")
    elif not os.access(folder, os.W_OK):
        raise ValueError(f"the ledger {path} cannot be made: its folder cannot be written; choose another one")


class LedgerWriter:
    """The ledger of one show.

    Args:
        path: of the file; made if it is not there.
        show: the show's id.
        say: called with one line when the file cannot be written, and once more when it can; from the thread.
        retry_s: seconds between attempts.
        beat_s: seconds between two beats.

    Raises:
        ValueError: the file is not a ledger, or cannot be made. A file that is only in use is no error.
    """

    def __init__(
        self,
        path: Path,
        show: str,
        say: Callable[[str], None],
        *,
        retry_s: float = RETRY_S,
        beat_s: float = BEAT_S,
    ) -> None:
        self._path, self._show, self._say, self._retry_s, self._beat_s = path, show, say, retry_s, beat_s
        _check(path)
        self._waiting: deque[Waiting] = deque()
        self._changed = threading.Condition()
        self._is_closed = self._is_abandoned = self._is_failing = False
        self._num_lost = 0
        self._next_beat_s = 0.0
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)  # started by the first event

    def note(self, kind: str, data: Mapping[str, Any], mark: str | None = None) -> None:
        """Queue an event; returns at once. A beat replaces one that still waits."""
        with self._changed:
            if kind == BEAT and self._waiting and self._waiting[-1][0] == BEAT:
                self._waiting.pop()
            if len(self._waiting) >= _MOST:
                self._num_lost += 1
                return
            self._waiting.append((kind, now(), data, mark))
            if self._thread.ident is None:
                self._thread.start()
            self._changed.notify()

    def beat(self, frame: int) -> None:
        """Note the number of the last frame, if the last beat is old enough; may be called for every frame."""
        now_s = time.monotonic()
        if now_s >= self._next_beat_s:
            self._next_beat_s = now_s + self._beat_s
            self.note(BEAT, {"frame": frame})

    def close(self, timeout_s: float = CLOSE_S) -> int:
        """Write what waits, within some seconds, and end the thread.

        Returns:
            How many events could not be written.
        """
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        with self._changed:
            self._is_abandoned = True
            self._changed.notify()
            return len(self._waiting) + self._num_lost

    def _run(self) -> None:
        ledger: Ledger | None = None
        try:
            while (event := self._next()) is not None:
                kind, at, data, mark = event
                try:
                    encode(data)
                except ValueError:  # it never can be written, and others wait behind it
                    self._drop(event)
                    continue
                try:
                    ledger = ledger or Ledger(self._path, is_writer=True)
                    ledger.append(self._show, at, kind, data, mark)
                except (OSError, ValueError) as error:
                    if ledger is not None:
                        ledger.close()
                    ledger = None
                    self._report(error)
                    self._wait()
                    continue
                self._recover()
                self._remove(event)
        finally:
            if ledger is not None:
                ledger.close()

    def _drop(self, event: Waiting) -> None:
        self._remove(event)
        with self._changed:
            self._num_lost += 1

    def _remove(self, event: Waiting) -> None:
        with self._changed:
            if self._waiting and self._waiting[0] is event:  # else a newer beat has replaced it
                self._waiting.popleft()

    def _next(self) -> Waiting | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            return self._waiting[0] if self._waiting and not self._is_abandoned else None

    def _wait(self) -> None:
        """Wait until the next attempt; at once when the show has just ended."""
        with self._changed:
            was_closed = self._is_closed
            wait_s = _LAST_RETRY_S if was_closed else self._retry_s
            self._changed.wait_for(lambda: self._is_abandoned or self._is_closed != was_closed, wait_s)

    def _report(self, error: Exception) -> None:
        if not self._is_failing:
            self._is_failing = True
            reason = getattr(error, "strerror", None) or str(error)
            self._say(f"the ledger {self._path} cannot be written ({reason}): the show goes on, and it is tried again")

    def _recover(self) -> None:
        if self._is_failing:
            self._is_failing = False
            lost = f"{self._num_lost} events were lost" if self._num_lost else "nothing was lost"
            self._say(f"the ledger {self._path} can be written again; {lost}")
