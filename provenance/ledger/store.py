"""The file of the ledger: one table of events, each with the hash of the one before.

    start    a show begins: its facts and its sinks, without keys and passwords
    prompt   something else is shown
    beat     the number of the last frame so far, about every ten seconds
    signed   a recording or a chain of segments was signed, or could not be
    end      the show has ended, with its last frame and the reason

A show without an `end` was killed, or still runs. Triggers refuse changes, which protects from mistakes. Whoever can
write the file can remove the triggers; the hashes then show the first event that was changed. They do not show that the
last events were cut off.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provenance.ledger import BEAT, END, PROMPT, SIGNED, START

_APPLICATION = 0x45764C67  # "EvLg", SQLite's application_id
_VERSION = 1
_BUSY_S = 1.0  # how long a call waits for another program's lock
_FIRST = "0" * 64  # the hash before the first event
_COLUMNS = "id, show, time, kind, data, mark"
_HASHED = "id, show, time, kind, mark, data"
_SCHEMA = """
CREATE TABLE events (
    id INTEGER PRIMARY KEY, show TEXT NOT NULL, time TEXT NOT NULL, kind TEXT NOT NULL,
    mark TEXT, data TEXT NOT NULL, hash TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_mark ON events (mark) WHERE mark IS NOT NULL;
CREATE INDEX events_by_show ON events (show, kind);
CREATE TRIGGER events_stay BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER events_remain BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER events_follow BEFORE INSERT ON events
    WHEN NEW.id IS NOT (SELECT ifnull(max(id), 0) + 1 FROM events)
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
"""


@dataclass(frozen=True)
class Event:
    """One event.

    Args:
        id: counts from 1.
        show: the show's id.
        time: UTC, as ISO 8601 with a Z.
        kind: one of `provenance.ledger`'s.
        data: what happened, ready for JSON; empty if it was changed into something else.
        mark: of a start: the payload in every frame, as 12 hex digits, or None.
    """

    id: int
    show: str
    time: str
    kind: str
    data: Mapping[str, Any]
    mark: str | None


class Ledger:
    """An open ledger; each object belongs to the thread that made it.

    Args:
        path: of the file.
        is_writer: whether it is made if it is not there; otherwise it is opened for reading only.

    Raises:
        ValueError: it is not a ledger, or cannot be opened; one sentence says why.
        BlockingIOError: another program holds the file.
    """

    def __init__(self, path: Path, *, is_writer: bool = False) -> None:
        self.path = path
        if is_writer and not path.absolute().parent.is_dir():
            raise ValueError(f"there is no folder {path.absolute().parent} for the ledger: make it first")
        if not is_writer and not path.is_file():
            raise ValueError(f"there is no ledger at {path}: everframe stream --ledger {path} begins one")
        try:
            self._database = self._open("mode=rwc" if is_writer else "mode=ro", is_writer)
        except sqlite3.Error as error:
            if isinstance(error, sqlite3.OperationalError) and _is_busy(error):
                raise BlockingIOError(0, str(error), str(path)) from error
            if is_writer or not _needs_writing(error):
                raise ValueError(f"the ledger {path} cannot be used: {error}") from error
            self._database = self._open_unwritable()

    def append(self, show: str, time: str, kind: str, data: Mapping[str, Any], mark: str | None = None) -> None:
        """Add an event; it is on the disk when this returns.

        Raises:
            OSError: another program holds the file, the disk is full, or the file was damaged. Nothing was added.
            ValueError: the event cannot be encoded, see `encode`.
        """
        text = encode(data)
        try:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                last = self._database.execute("SELECT id, hash FROM events ORDER BY id DESC LIMIT 1").fetchone()
                number, before = (last[0] + 1, last[1]) if last else (1, _FIRST)
                values = (number, show, time, kind, mark, text)
                row = (*values, _hash(before, values))
                self._database.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", row)
                self._database.execute("COMMIT")
            except sqlite3.Error:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise OSError(0, str(error), str(self.path)) from error

    def events(self, kinds: tuple[str, ...] = (START, PROMPT, BEAT, SIGNED, END), show: str = "") -> Iterator[Event]:
        """Yield events in order; raises ValueError if the file is damaged."""
        marks = ", ".join("?" * len(kinds))
        only = " AND show = ?" if show else ""
        query = f"SELECT {_COLUMNS} FROM events WHERE kind IN ({marks}){only} ORDER BY id"
        values = [*kinds, *([show] if show else [])]
        for row in self._rows(query, values):
            yield _to_event(row)

    def last(self, show: str, kind: str) -> Event | None:
        """Return a show's last event of a kind."""
        query = f"SELECT {_COLUMNS} FROM events WHERE show = ? AND kind = ? ORDER BY id DESC LIMIT 1"
        return next(map(_to_event, self._rows(query, (show, kind))), None)

    def first_changed(self) -> int | None:
        """Return the id of the first event that was changed or is missing; None if all of them are as written.

        Raises:
            ValueError: the file is damaged.
        """
        before = _FIRST
        for number, row in enumerate(self._rows(f"SELECT {_HASHED}, hash FROM events ORDER BY id"), 1):
            before = _hash(before, row[:6])
            if row[0] != number or row[6] != before:
                return number
        return None

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rows(self, query: str, values: Sequence[str] = ()) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self._database.execute(query, values)
        except sqlite3.Error as error:
            raise ValueError(f"the ledger {self.path} is damaged: {error}") from error

    def _open(self, how: str, is_writer: bool) -> sqlite3.Connection:
        """Return the opened ledger; errors are SQLite's, or ValueError for another file."""
        uri = f"{self.path.absolute().as_uri()}?{how}"
        self._database = sqlite3.connect(uri, timeout=_BUSY_S, isolation_level=None, uri=True)
        self._database.text_factory = lambda data: data.decode(errors="replace")  # what was changed may be anything
        try:
            self._prepare(is_writer)
        except (sqlite3.Error, ValueError):
            self._database.close()
            raise
        return self._database

    def _open_unwritable(self) -> sqlite3.Connection:
        """Return a ledger in a folder that cannot be written, where SQLite cannot make the file that readers share.

        The file alone is read then. That is all of the ledger if there is no NAME-wal beside it.
        """
        log = self.path.with_name(f"{self.path.name}-wal")
        try:
            if log.exists() and log.stat().st_size:
                raise ValueError(
                    f"the ledger {self.path} cannot be read here: {log.name} has its last events, and to read them its "
                    "folder must be writable; copy both files to a folder of yours"
                )
            return self._open("mode=ro&immutable=1", is_writer=False)
        except (sqlite3.Error, OSError) as error:
            raise ValueError(f"the ledger {self.path} cannot be read: {error}") from error

    def _prepare(self, is_writer: bool) -> None:
        """Check that the file is a ledger; make the table in a new one."""
        [application] = self._database.execute("PRAGMA application_id").fetchone()
        [num_tables] = self._database.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if is_writer and not application and not num_tables:
            self._database.execute("PRAGMA journal_mode = WAL")
            marks = f"PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {_VERSION};"
            try:
                self._database.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} {marks} COMMIT;")
            except sqlite3.OperationalError as error:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                if "already exists" not in str(error):  # another show has made it in between
                    raise
        elif application != _APPLICATION:
            raise ValueError(f"{self.path} is no ledger of Everframe: choose another file")
        [version] = self._database.execute("PRAGMA user_version").fetchone()
        if version != _VERSION:
            raise ValueError(f"the ledger {self.path} has version {version}, this everframe reads version {_VERSION}")
        self._database.execute("PRAGMA synchronous = FULL")


def encode(data: Mapping[str, Any]) -> str:
    """Return an event's data as JSON; raises ValueError if that cannot be done, e.g. for lone surrogates."""
    try:
        text = json.dumps(data, ensure_ascii=False, sort_keys=True)
        text.encode()
    except (TypeError, RecursionError) as error:
        raise ValueError(f"an event cannot be encoded: {error}") from error
    return text


def _to_event(row: tuple[Any, ...]) -> Event:
    number, show, time, kind, text, mark = row
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):  # `first_changed` names it
        data = {}
    return Event(number, show, time, kind, data if isinstance(data, dict) else {}, mark)


def _needs_writing(error: sqlite3.Error) -> bool:
    """Return whether SQLite could not make the files beside a database that it only reads."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _hash(before: str, values: tuple[Any, ...]) -> str:
    """Return the hash of an event: of the one before and of all its values."""
    return hashlib.sha256(json.dumps([before, *values], ensure_ascii=False).encode()).hexdigest()
