"""The folder of shards while it is written: on this machine, or at an address with a local folder for the work.

On this machine the journal is one file to which lines are added. At an address it is a folder with a file per entry,
because stores of objects cannot add to a file; `sharding()` has the folder for the work.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from training.atomic_file import write_text
from training.data.remote_files import (
    Address,
    Place,
    cache_folder,
    list_files,
    read_bytes,
    remove,
    upload,
    write_bytes,
)

INDEX, REPORT, JOURNAL, WORK = "shards.json", "report.json", "journal.jsonl", "work"
_ENTRIES = "journal"  # the journal's folder at an address


class ShardFolder(Protocol):
    """Where shards, index and journal are; names are those of files in the folder."""

    place: Place
    work: Path  # a folder of this machine for takes that are not yet in a shard

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Keep other processes of this machine out; they wait. Makes the folders."""

    def read_text(self, name: str) -> str | None:
        """Return the text of a file, None if there is none."""

    def write_text(self, name: str, text: str) -> None:
        """Write a file that is never seen half-written."""

    def written(self) -> dict[str, tuple[int, int]]:
        """Return size in bytes and time of modification in ns of the index and every shard, finished or not."""

    def partial(self, name: str) -> Path:
        """Return the file of this machine in which a shard is written."""

    def publish(self, name: str) -> None:
        """Give a shard that is complete its name."""

    def remove(self, name: str) -> None:
        """Remove a file if it is there."""

    def is_unfinished(self) -> bool:
        """Return whether there is a journal."""

    def journal(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return the journal's header and its entries; empty without one."""

    def mend(self) -> None:
        """Remove an entry that was cut off."""

    def log(self, header: dict[str, Any], entry: dict[str, Any]) -> None:
        """Add an entry to the journal; it is safe when this returns."""

    def end(self) -> None:
        """Remove the journal and the work."""


def open_folder(place: Place) -> ShardFolder:
    """Return the folder at a place; nothing is made or read yet."""
    return LocalFolder(place) if isinstance(place, Path) else RemoteFolder(place)


def sharding(address: Address) -> Path:
    """Return the folder of this machine in which shards for an address are made."""
    return cache_folder().parent / "sharding" / hashlib.sha256(str(address).encode()).hexdigest()[:24]


class LocalFolder:
    """A folder of this machine."""

    def __init__(self, place: Path) -> None:
        self.place: Place = place
        self._path, self.work = place, place / WORK

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        self._path.mkdir(parents=True, exist_ok=True)
        with locked(self._path, self.place):
            yield

    def read_text(self, name: str) -> str | None:
        try:
            return (self._path / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def write_text(self, name: str, text: str) -> None:
        write_text(self._path / name, text)

    def written(self) -> dict[str, tuple[int, int]]:
        found = {}
        for path in self._path.glob("shard*"):
            status = path.stat()
            found[path.name] = (status.st_size, status.st_mtime_ns)
        return found

    def partial(self, name: str) -> Path:
        return self._path / f"{name}.partial"

    def publish(self, name: str) -> None:
        self.partial(name).replace(self._path / name)

    def remove(self, name: str) -> None:
        (self._path / name).unlink(missing_ok=True)

    def is_unfinished(self) -> bool:
        return (self._path / JOURNAL).exists()

    def journal(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        lines = (self.read_text(JOURNAL) or "").splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):
            lines.pop()  # truncated by a crash
        entries = [json.loads(line) for line in lines]
        return (entries[0], entries[1:]) if entries else ({}, [])

    def mend(self) -> None:
        text = self.read_text(JOURNAL)
        if text and not text.endswith("\n"):
            self.write_text(JOURNAL, text[: text.rfind("\n") + 1])

    def log(self, header: dict[str, Any], entry: dict[str, Any]) -> None:
        with (self._path / JOURNAL).open("a", encoding="utf-8") as file:
            if not file.tell():
                file.write(json.dumps(header, separators=(",", ":")) + "\n")
            file.write(json.dumps(entry, separators=(",", ":")) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def end(self) -> None:
        self.remove(JOURNAL)
        shutil.rmtree(self.work, ignore_errors=True)


class RemoteFolder:
    """A folder at an address; one shard at a time, and takes that wait for theirs, lie on this machine."""

    def __init__(self, place: Address) -> None:
        self.place: Place = place
        self._address, self._staging = place, sharding(place)
        self.work = self._staging / WORK
        self._entries: int | None = None  # of the journal

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        self._staging.mkdir(parents=True, exist_ok=True)
        with locked(self._staging, self.place):
            yield

    def read_text(self, name: str) -> str | None:
        try:
            return read_bytes(self._address / name).decode()
        except FileNotFoundError:
            return None

    def write_text(self, name: str, text: str) -> None:
        write_bytes(self._address / name, text.encode())

    def written(self) -> dict[str, tuple[int, int]]:
        return {
            name: (file.size, file.mtime_ns)
            for name, file in self._files().items()
            if name.startswith("shard") and "/" not in name
        }

    def _files(self) -> dict[str, Any]:
        try:
            return dict(list_files(self._address))
        except FileNotFoundError:
            return {}

    def partial(self, name: str) -> Path:
        return self._staging / f"{name}.partial"

    def publish(self, name: str) -> None:
        upload(self.partial(name), self._address / name)
        self.partial(name).unlink()

    def remove(self, name: str) -> None:
        remove(self._address / name)

    def is_unfinished(self) -> bool:
        return bool(self._journal_files())

    def _journal_files(self) -> list[str]:
        return sorted(name for name in self._files() if name.startswith(f"{_ENTRIES}/") and name.endswith(".json"))

    def journal(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        names = self._journal_files()
        self._entries = int(Path(names[-1]).stem) + 1 if names else 0
        lines = [json.loads(read_bytes(self._address / name)) for name in names]
        return (lines[0]["header"] if lines else {}), [line["entry"] for line in lines]

    def mend(self) -> None:
        """Do nothing: every entry is a file of its own that was renamed when it was complete."""

    def log(self, header: dict[str, Any], entry: dict[str, Any]) -> None:
        if self._entries is None:
            self.journal()
        assert self._entries is not None
        text = json.dumps({"header": header, "entry": entry}, separators=(",", ":"))
        self.write_text(f"{_ENTRIES}/{self._entries:08d}.json", text)
        self._entries += 1

    def end(self) -> None:
        for name in sorted(self._files()):  # the oldest first: the others alone say the same
            is_ours = name.startswith(("shard-", "shards.json", "report.json")) and "/" not in name
            if name.startswith(f"{_ENTRIES}/") or (is_ours and name.endswith(".partial")):
                self.remove(name)
        self._entries = 0
        shutil.rmtree(self.work, ignore_errors=True)


@contextlib.contextmanager
def locked(folder: Path, place: Place) -> Iterator[None]:
    """Lock a folder of this machine; other processes wait, and say for `place`."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print(f"another process is writing {place}: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
