"""Sources: the videos below folders or addresses, with their rows of captions.csv."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TextIO

from training.data.remote_files import Address, Place, RemoteFile, list_files, read_bytes

SUFFIXES = frozenset((".mp4", ".mkv", ".mov", ".avi", ".webm", ".mpg", ".mpeg", ".m4v", ".ts", ".mts", ".m2ts", ".gif"))
SUFFIXES |= {".wmv", ".flv", ".ogv", ".3gp", ".vob", ".mxf", ".y4m"}
CAPTIONS = "captions.csv"


@dataclasses.dataclass(frozen=True)
class Source:
    """A video, or a file that is called one."""

    place: Place
    name: str
    size: int
    mtime_ns: int
    row: dict[str, str]  # of captions.csv
    problem: str = ""  # why it cannot be read; empty if it can

    @property
    def key(self) -> str:
        """A name for files that belong to this version of the video."""
        return hashlib.sha256(f"{self.name}|{self.size}|{self.mtime_ns}".encode()).hexdigest()[:24]


def read_captions(folder: Path) -> dict[str, dict[str, str]]:
    """Return the rows of `captions.csv` by file name; an empty dictionary where there is none.

    Raises:
        ValueError: its first line does not name a column called file, or it is no text file.
    """
    path = folder / CAPTIONS
    if not path.exists():
        return {}
    if not path.is_file():
        raise ValueError(f"{path} is not a file: expected a table in CSV; rename or remove it")
    with path.open(newline="", encoding="utf-8-sig") as file:
        return _parse_captions(file, path)


def _parse_captions(lines: TextIO | Iterable[str], place: Place) -> dict[str, dict[str, str]]:
    try:
        reader = csv.DictReader(lines)
        rows, columns = list(reader), reader.fieldnames or []
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{place} cannot be read as CSV in UTF-8: {error}") from None
    if columns and "file" not in columns:
        raise ValueError(
            f'the first line of {place} is "{",".join(columns)[:80]}": expected the names of its columns, one of them '
            'called file, for example "file,caption"; write such a line above the first row'
        )
    return {row["file"]: row for row in rows if row["file"]}


@dataclasses.dataclass(frozen=True)
class _Directory:
    """One directory of a folder of footage."""

    place: str  # within the folder; "." for itself
    files: list[str]
    rows: dict[str, dict[str, str]]  # of its captions.csv


def _local_directories(folder: Path, without: Path | None) -> Iterator[_Directory]:
    """Yield the directories of a folder from the top down."""
    for root, names, files in os.walk(folder):
        names[:] = sorted(name for name in names if not without or (Path(root) / name).resolve() != without)
        yield _Directory(str(Path(root).relative_to(folder)), files, read_captions(Path(root)))


def _remote_directories(folder: Address, files: dict[str, RemoteFile], without: Address | None) -> Iterator[_Directory]:
    groups: dict[str, list[str]] = {}
    for path in files:
        if without is None or not str(folder / path).startswith(f"{without}/"):
            directory = PurePosixPath(path)
            groups.setdefault(str(directory.parent), []).append(directory.name)
    for place in sorted(groups, key=lambda place: (len(PurePosixPath(place).parts), place)):
        rows: dict[str, dict[str, str]] = {}
        if CAPTIONS in groups[place]:
            captions = folder / os.path.normpath(f"{place}/{CAPTIONS}")
            try:
                lines = read_bytes(captions).decode("utf-8-sig").splitlines(keepends=True)
            except UnicodeDecodeError as error:
                raise ValueError(f"{captions} cannot be read as CSV in UTF-8: {error}") from None
            rows = _parse_captions(lines, captions)
        yield _Directory(place, groups[place], rows)


def find_videos(folders: Sequence[Place], without: Place | None = None) -> list[Source]:
    """Return every video below the folders, sorted by name (the path within its folder).

    Files that cannot be read (not a regular file, a broken link, a name that is not UTF-8) are listed with the reason
    as `problem`. Rows of captions.csv that name no video are reported in one warning.

    Args:
        folders: folders of this machine or addresses.
        without: the folder of shards, which is left out.

    Raises:
        ValueError: a folder is missing, none has a video, or two videos have one name.
        OSError: an address does not exist, refuses access or cannot be reached.
    """
    found: dict[str, Source] = {}
    for folder in folders:
        listed: dict[str, RemoteFile] = {}
        if isinstance(folder, Address):
            listed = list_files(folder)
            directories = _remote_directories(folder, listed, without if isinstance(without, Address) else None)
        elif folder.is_dir():
            directories = _local_directories(folder, without if isinstance(without, Path) else None)
        else:
            raise ValueError(f"no footage at {folder}: name a folder with videos in it")
        rows: dict[str, dict[str, str]] = {}
        named: dict[Place, dict[str, str]] = {}  # captions.csv -> path of the video -> name in the row
        here: list[str] = []
        for directory in directories:
            for name, row in directory.rows.items():  # a deeper captions.csv comes later and wins
                target = os.path.normpath(os.path.join(directory.place, name))  # noqa: PTH118 (names of a store, too)
                rows[target] = row
                captions = folder / os.path.normpath(f"{directory.place}/{CAPTIONS}")
                named.setdefault(captions, {})[target] = name
            for name in directory.files:
                if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                    here.append(str(Path(directory.place) / name))
        videos, paths = set(here), {str(PurePosixPath(path)): path for path in listed}
        for captions, targets in named.items():
            _warn_of_missing(captions, [name for target, name in targets.items() if target not in videos])
        for relative in here:
            name = printable(Path(relative).as_posix())
            if name in found:
                name = f"{folder.resolve().name if isinstance(folder, Path) else folder.name}/{name}"
            if name in found:
                raise ValueError(f"two videos are called {name}: give one of the folders another name")
            row = rows.get(os.path.normpath(relative), {})
            if isinstance(folder, Path):
                size, mtime_ns, problem = _status_of(folder / relative)
                found[name] = Source(folder / relative, name, size, mtime_ns, row, problem)
            else:
                path = paths[relative]
                found[name] = Source(folder / path, name, listed[path].size, listed[path].mtime_ns, row)
    if not found:
        raise ValueError(
            f"{', '.join(map(str, folders))} has no videos: expected files such as .mp4, .mkv, .mov, .webm or .avi"
        )
    return [found[name] for name in sorted(found)]


def printable(name: str) -> str:
    """Return a file's name as valid UTF-8; other bytes become escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _status_of(path: Path) -> tuple[int, int, str]:
    """Return a file's size in bytes, its time of modification in ns, and why it cannot be read, if it cannot."""
    if printable(str(path)) != str(path):
        return 0, 0, "its name is not in UTF-8: rename it"
    try:
        status = path.stat()
    except OSError as error:  # a broken link, a circle of links
        return 0, 0, f"it cannot be opened: {error.strerror}"
    if not stat.S_ISREG(status.st_mode):
        return 0, 0, "it is not a regular file"
    return status.st_size, status.st_mtime_ns, ""


def _warn_of_missing(captions: Place, missing: Sequence[str]) -> None:
    if missing:
        names = ", ".join(repr(name[:80]) for name in missing[:5]) + (", ..." if len(missing) > 5 else "")
        print(
            f"warning: {printable(str(captions))} names {len(missing)} files that are not among the videos ({names}); "
            "its other rows are used",
            flush=True,
        )
