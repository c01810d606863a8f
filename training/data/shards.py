"""Shards: videos decoded once, cut into takes and stored as ArrayRecord files for random access.

A folder of shards holds

    shards.json                 the index: settings, shards, videos and takes; written last, when all else is complete
    report.json                 what was cut and dropped, per video
    shard-00000.array_record    one record per take, see `takes.pack_take`
    journal.jsonl, work/        only while sharding: the state from which a stopped command resumes

Neither this module nor `takes` imports torch, so that worker processes stay small.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import stat
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from threading import Lock
from typing import Any

import av
import cv2
import numpy as np
from array_record.python import array_record_module
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from training.atomic_file import write_text
from training.data.takes import (
    ShardSettings,
    TakeBuilder,
    TakeRecord,
    UnreadableTakeError,
    open_video_file,
    pack_take,
    reason_of,
    small_frames,
    with_cuts,
)
from training.progress import ProgressLines
from training.workers import end_with_parent

SUFFIXES = frozenset((".mp4", ".mkv", ".mov", ".avi", ".webm", ".mpg", ".mpeg", ".m4v", ".ts", ".mts", ".m2ts", ".gif"))
SUFFIXES |= {".wmv", ".flv", ".ogv", ".3gp", ".vob", ".mxf", ".y4m"}
INDEX, REPORT, JOURNAL, WORK = "shards.json", "report.json", "journal.jsonl", "work"
VERSION = 2
SHARD_BYTES = 32 * 2**20  # a shard is closed once it holds as much
OPEN_READERS = 32  # shards one process keeps open


@dataclasses.dataclass(frozen=True)
class ShardIndex:
    """The content of `shards.json` as columns: `takes` has one row per take, `videos` one per video."""

    path: Path
    settings: ShardSettings
    shards: list[dict[str, Any]]  # file, bytes, sha256
    videos: dict[str, list[Any]]  # file, scene, caption, label, licence, source, fps, frames, ...
    takes: dict[str, np.ndarray]  # video, first, length, height, width, shard, record: (takes,) int64
    skipped: list[dict[str, Any]]  # file, reason, size, mtime_ns


# One video -> a spool of takes.


def _shard_video(path: str, name: str, spool: str, settings: ShardSettings) -> dict[str, Any]:
    """Write the takes of a video to `spool`.takes and its metadata to `spool`.json; runs in a worker.

    Returns the metadata, or `{"error": reason}` for a video that cannot be used.
    """
    notes: list[str] = []
    cuts: list[int] = []
    takes: list[list[int]] = []  # first, length, height, width, bytes
    partial = Path(f"{spool}.{os.getpid()}.partial")
    total, entry = 0, {}
    with partial.open("wb") as file:
        try:
            with open_video_file(Path(path)) as container:
                rate = container.streams.video[0].average_rate if container.streams.video else None
            fps = round(float(rate), 4) if rate else 25.0
            builder = TakeBuilder(settings, fps)

            def keep(ready: Iterable[tuple[int, list[np.ndarray]]]) -> None:
                for first, frames in ready:
                    data = pack_take(name, first, fps, frames, settings.quality)
                    file.write(data)
                    takes.append([first, len(frames), *frames[0].shape[:2], len(data)])

            small = small_frames(Path(path), settings.short_side, notes)
            for number, frame, begins in with_cuts(small, settings, cuts):
                keep(builder.feed(number, frame, begins))
                total = number + 1
            keep(builder.end(total))
            entry = {"fps": fps, "frames": total, "cuts": cuts, "dropped": builder.dropped, "note": "; ".join(notes)}
            if not total:
                raise ValueError("; ".join(notes) or "it has no frames")
            entry["takes"] = takes
        except (av.error.FFmpegError, ValueError, IndexError, MemoryError, cv2.error) as error:
            entry = {"error": reason_of(error)}
    if entry.get("takes"):
        partial.replace(f"{spool}.takes")
    else:
        partial.unlink()
    # Written last: if it exists, the takes are complete.
    write_text(Path(f"{spool}.json"), json.dumps(entry, separators=(",", ":")))
    return entry


def _start_worker() -> None:
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    cv2.setNumThreads(1)
    av.logging.set_level(av.logging.PANIC)


# Folders -> the list of videos.


@dataclasses.dataclass(frozen=True)
class _Source:
    path: Path
    name: str
    size: int
    mtime_ns: int
    row: dict[str, str]  # of captions.csv
    problem: str = ""  # why it cannot be read; empty if it can

    @property
    def key(self) -> str:
        return hashlib.sha256(f"{self.name}|{self.size}|{self.mtime_ns}".encode()).hexdigest()[:24]


def read_captions(folder: Path) -> dict[str, dict[str, str]]:
    """Return the rows of `captions.csv` by file name; an empty dictionary where there is none.

    Raises:
        ValueError: its first line does not name a column called file, or it is no text file.
    """
    path = folder / "captions.csv"
    if not path.exists():
        return {}
    if not path.is_file():
        raise ValueError(f"{path} is not a file: expected a table in CSV; rename or remove it")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), reader.fieldnames or []
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read as CSV in UTF-8: {error}") from None
    if columns and "file" not in columns:
        raise ValueError(
            f'the first line of {path} is "{",".join(columns)[:80]}": expected the names of its columns, one of them '
            'called file, for example "file,caption"; write such a line above the first row'
        )
    return {row["file"]: row for row in rows if row["file"]}


def find_videos(folders: Sequence[Path], without: Path | None = None) -> list[_Source]:
    """Return every video below the folders, sorted by name (the path within its folder).

    Files that cannot be read (not a regular file, a broken link, a name that is not UTF-8) are listed with the reason
    as `problem`. Rows of captions.csv that name no video are reported in one warning.

    Raises:
        ValueError: a folder is missing, none has a video, or two videos have one name.
    """
    found: dict[str, _Source] = {}
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"no footage at {folder}: name a folder with videos in it")
        rows: dict[str, dict[str, str]] = {}
        named: dict[Path, dict[str, str]] = {}  # captions.csv -> path of the video -> name in the row
        here: dict[str, Path] = {}
        for root, names, files in os.walk(folder):
            names[:] = sorted(name for name in names if not without or (Path(root) / name).resolve() != without)
            place = Path(root).relative_to(folder)
            for name, row in read_captions(Path(root)).items():  # a deeper captions.csv comes later and wins
                target = os.path.normpath(place / name)
                rows[target] = row
                named.setdefault(Path(root) / "captions.csv", {})[target] = name
            for name in files:
                if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                    here[str(place / name)] = Path(root) / name
        for captions, targets in named.items():
            _warn_of_missing(captions, [name for target, name in targets.items() if target not in here])
        for relative, path in here.items():
            name = printable(Path(relative).as_posix())
            if name in found:
                name = f"{folder.resolve().name}/{name}"
            if name in found:
                raise ValueError(f"two videos are called {name}: give one of the folders another name")
            row = rows.get(os.path.normpath(relative), {})
            size, mtime_ns, problem = _status_of(path)
            found[name] = _Source(path, name, size, mtime_ns, row, problem)
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


def _warn_of_missing(captions: Path, missing: Sequence[str]) -> None:
    if missing:
        names = ", ".join(repr(name[:80]) for name in missing[:5]) + (", ..." if len(missing) > 5 else "")
        print(
            f"warning: {printable(str(captions))} names {len(missing)} files that are not among the videos ({names}); "
            "its other rows are used",
            flush=True,
        )


# The index.


def read_index(path: Path) -> ShardIndex:
    """Open a folder of shards.

    Raises:
        ValueError: it is not a folder of shards, is unfinished or of another version, or a shard is damaged.
    """
    if (path / JOURNAL).exists():
        raise ValueError(f"the shards at {path} are unfinished: run the same shard command again")
    index = _load_index(path)
    for shard in index.shards:
        problem = _shard_problem(path, shard)
        if problem:
            raise ValueError(f"{problem}; run the same shard command again to rebuild it")
    return index


def _load_index(path: Path) -> ShardIndex:
    file = path / INDEX
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["version"] != VERSION:
            raise ValueError(f"{file} is of version {content['version']}, expected {VERSION}: shard the footage again")
        return ShardIndex(
            path,
            ShardSettings(**content["settings"]),
            content["shards"],
            content["videos"],
            {name: np.array(column, np.int64) for name, column in content["takes"].items()},
            content["skipped"],
        )
    except FileNotFoundError:
        raise ValueError(f"no {file}: name a folder that `python -m training shard` has made") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{file} cannot be read ({error}): delete it and run the same shard command again") from None


def _shard_problem(path: Path, shard: dict[str, Any]) -> str:
    file = path / shard["file"]
    try:
        size = file.stat().st_size
    except FileNotFoundError:
        return f"{file} is missing"
    return "" if size == shard["bytes"] else f"{file} is {size} bytes, the index says {shard['bytes']}"


class _State:
    """Work done so far, read from the index and the journal."""

    def __init__(self, out: Path, settings: ShardSettings) -> None:
        self.out, self.settings = out, settings
        self.shards: dict[str, dict[str, Any]] = {}
        self.videos: dict[str, dict[str, Any]] = {}  # name -> entry; takes are [first, length, h, w, shard, record]
        self.number = 0
        self.changed = False
        header = {"version": VERSION, "settings": dataclasses.asdict(settings)}
        if (out / INDEX).exists():
            index = _load_index(out)
            self._require_settings(dataclasses.asdict(index.settings))
            self._read(index)
        journal = out / JOURNAL
        lines = journal.read_text(encoding="utf-8").splitlines(keepends=True) if journal.exists() else []
        for number, line in enumerate(lines):
            if not line.endswith("\n"):
                break  # truncated by a crash
            entry = json.loads(line)
            if number == 0:
                self._require_settings(entry["settings"])
                continue
            self._apply(entry)
        self.header = json.dumps(header, separators=(",", ":")) + "\n"

    def _require_settings(self, before: dict[str, Any]) -> None:
        now = dataclasses.asdict(self.settings)
        other = [f"{key} {before.get(key)} and not {value}" for key, value in now.items() if before.get(key) != value]
        if other:
            raise ValueError(
                f"the shards at {self.out} were made with {', '.join(other)}: name another --out or the same settings"
            )

    def _read(self, index: ShardIndex) -> None:
        self.shards = {shard["file"]: shard for shard in index.shards}
        names = index.videos["file"]
        for row, name in enumerate(names):
            keys = ("size", "mtime_ns", "fps", "frames", "cuts", "dropped", "note")
            self.videos[name] = {key: index.videos[key][row] for key in keys} | {"takes": []}
        columns = [index.takes[key].tolist() for key in ("first", "length", "height", "width", "shard", "record")]
        for video, *take in zip(index.takes["video"].tolist(), *columns, strict=True):
            take[4] = index.shards[take[4]]["file"]
            self.videos[names[video]]["takes"].append(take)
        for entry in index.skipped:
            self.videos[entry["file"]] = {**entry, "error": entry["reason"]}

    def _apply(self, entry: dict[str, Any]) -> None:
        if entry.get("shard"):
            self.shards[entry["shard"]["file"]] = entry["shard"]
        for name in entry.get("forget", ()):
            self.videos.pop(name, None)
        self.videos.update(entry.get("videos", {}))
        self.changed = True

    def log(self, entry: dict[str, Any]) -> None:
        """Append an entry to the journal (fsync) and apply it."""
        journal = self.out / JOURNAL
        with journal.open("a", encoding="utf-8") as file:
            if not file.tell():
                file.write(self.header)
            file.write(json.dumps(entry, separators=(",", ":")) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._apply(entry)

    def repair(self) -> None:
        """Forget the videos of damaged shards, so that they are rebuilt; remove unused files."""
        journal = self.out / JOURNAL
        if journal.exists():  # drop half a line before more is added
            text = journal.read_text(encoding="utf-8")
            if text and not text.endswith("\n"):
                write_text(journal, text[: text.rfind("\n") + 1])
        used = {take[4] for entry in self.videos.values() for take in entry.get("takes", ())}
        damaged = {file for file in used if _shard_problem(self.out, self.shards[file])}
        for file in sorted(damaged):
            print(f"{_shard_problem(self.out, self.shards[file])}; it is rebuilt")
        forget = [name for name, entry in self.videos.items() if any(t[4] in damaged for t in entry.get("takes", ()))]
        if forget:
            self.log({"forget": forget})

    def tidy(self) -> None:
        """Remove shards that nothing refers to."""
        used = {take[4] for entry in self.videos.values() for take in entry.get("takes", ())}
        self.shards = {file: shard for file, shard in self.shards.items() if file in used}
        for file in self.out.glob("shard-*.array_record*"):
            if file.name not in used:
                file.unlink()

    def next_file(self) -> str:
        """Return an unused file name."""
        while (file := f"shard-{self.number:05d}.array_record") in self.shards:
            self.number += 1
        return file

    def write_index(self, rows: dict[str, dict[str, str]]) -> None:
        """Write the index; captions come from `rows`, by video."""
        self.tidy()
        old = {}
        with contextlib.suppress(ValueError):
            index = _load_index(self.out)
            text_keys = ("scene", "caption", "label", "licence", "source")
            old = {
                name: {key: index.videos[key][row] for key in text_keys}
                for row, name in enumerate(index.videos["file"])
            }
        videos: dict[str, list[Any]] = {
            key: []
            for key in (
                *("file", "scene", "caption", "label", "licence", "source", "fps", "frames"),
                *("size", "mtime_ns", "cuts", "dropped", "note"),
            )
        }
        takes: dict[str, list[int]] = {
            key: [] for key in ("video", "first", "length", "height", "width", "shard", "record")
        }
        files = sorted(self.shards)
        numbers = {file: number for number, file in enumerate(files)}
        skipped = []
        for name in sorted(self.videos):
            entry = self.videos[name]
            if "error" in entry:
                skipped.append(
                    {"file": name, "reason": entry["error"], "size": entry["size"], "mtime_ns": entry["mtime_ns"]}
                )
                continue
            if name in old and name not in rows:
                texts = old[name]
            else:
                row = rows.get(name, {})
                texts = {key: row.get(key) or "" for key in ("caption", "licence", "source")}
                texts["scene"] = row.get("scene") or Path(name).with_suffix("").as_posix()
                texts["label"] = row.get("class") or ""
            for key, column in videos.items():
                column.append(name if key == "file" else texts[key] if key in texts else entry[key])
            for first, length, height, width, shard, record in entry["takes"]:
                values = (len(videos["file"]) - 1, first, length, height, width, numbers[shard], record)
                for column, value in zip(takes.values(), values, strict=True):
                    column.append(value)
        content = {
            "version": VERSION,
            "settings": dataclasses.asdict(self.settings),
            "shards": [self.shards[file] for file in files],
            "videos": videos,
            "takes": takes,
            "skipped": skipped,
        }
        text = json.dumps(content, separators=(",", ":"))
        if not (self.out / INDEX).exists() or (self.out / INDEX).read_text(encoding="utf-8") != text:
            write_text(self.out / INDEX, text)
        (self.out / JOURNAL).unlink(missing_ok=True)
        shutil.rmtree(self.out / WORK, ignore_errors=True)


def shard_report(index: ShardIndex) -> dict[str, Any]:
    """Return totals, and per video what was cut, dropped or skipped and why."""
    dropped: dict[str, dict[str, float]] = {}
    details = {}
    videos = index.videos
    counts = np.bincount(index.takes["video"], minlength=len(videos["file"]))
    fps = np.array(videos["fps"], float)
    for row, name in enumerate(videos["file"]):
        for first, last, why in videos["dropped"][row]:
            total = dropped.setdefault(why, {"stretches": 0, "seconds": 0.0})
            total["stretches"] += 1
            total["seconds"] = round(total["seconds"] + (last - first) / fps[row], 3)
        if videos["cuts"][row] or videos["dropped"][row] or videos["note"][row] or not counts[row]:
            details[name] = {
                "frames": videos["frames"][row],
                "fps": videos["fps"][row],
                "takes": int(counts[row]),
                "cuts": videos["cuts"][row],
                "dropped": [{"first": first, "last": last, "why": why} for first, last, why in videos["dropped"][row]],
                "note": videos["note"][row],
            }
    lengths = index.takes["length"]
    return {
        "videos": len(videos["file"]),
        "videos_with_takes": int((counts > 0).sum()),
        "takes": len(lengths),
        "frames": int(lengths.sum()),
        "hours": round(float((lengths / fps[index.takes["video"]]).sum()) / 3600, 4) if len(lengths) else 0.0,
        "shards": len(index.shards),
        "bytes": sum(shard["bytes"] for shard in index.shards),
        "cuts": sum(len(cuts) for cuts in videos["cuts"]),
        "dropped": dropped,
        "skipped": {entry["file"]: entry["reason"] for entry in index.skipped},
        "details": details,
    }


# Writing shards.


class _Packer:
    """Writes finished videos into shards, in order; a video larger than a shard gets shards of its own."""

    def __init__(self, state: _State) -> None:
        self.state = state
        self.waiting: list[tuple[_Source, dict[str, Any], Path]] = []
        self.bytes = 0

    def add(self, source: _Source, entry: dict[str, Any], spool: Path) -> None:
        entry = {**entry, "size": source.size, "mtime_ns": source.mtime_ns}
        if not entry.get("takes"):
            self.state.log({"videos": {source.name: entry}})
            Path(f"{spool}.json").unlink(missing_ok=True)
            return
        size = sum(take[4] for take in entry["takes"])
        if self.waiting and self.bytes + size > SHARD_BYTES:
            self.flush()
        self.waiting.append((source, entry, spool))
        self.bytes += size
        if self.bytes >= SHARD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the waiting videos; a large video counts as done after its last shard."""
        if not self.waiting:
            return
        try:
            self._write()
        except RuntimeError as error:  # the only type that ArrayRecord raises, also for a full disk
            raise OSError(
                f"the shards at {self.state.out} cannot be written ({error}): make room and start the same "
                "command again"
            ) from error

    def _write(self) -> None:
        out, state = self.state.out, self.state
        done: dict[str, dict[str, Any]] = {}
        writer, file, record, written = None, "", 0, 0
        for source, entry, spool in self.waiting:
            takes = []
            with Path(f"{spool}.takes").open("rb") as data:
                for first, length, height, width, size in entry["takes"]:
                    if writer is not None and len(self.waiting) == 1 and written + size > SHARD_BYTES:
                        writer.close()
                        state.log({"shard": self._finish(file)})
                        writer = None
                    if writer is None:
                        file, record, written = state.next_file(), 0, 0
                        writer = array_record_module.ArrayRecordWriter(
                            str(out / f"{file}.partial"), "group_size:1,uncompressed"
                        )
                    writer.write(data.read(size))
                    takes.append([first, length, height, width, file, record])
                    record, written = record + 1, written + size
            done[source.name] = {**entry, "takes": takes}
        assert writer is not None
        writer.close()
        state.log({"shard": self._finish(file), "videos": done})
        for _, _, spool in self.waiting:
            Path(f"{spool}.takes").unlink(missing_ok=True)
            Path(f"{spool}.json").unlink(missing_ok=True)
        self.waiting, self.bytes = [], 0

    def _finish(self, file: str) -> dict[str, Any]:
        partial = self.state.out / f"{file}.partial"
        digest = hashlib.sha256()
        with partial.open("rb") as data:
            while block := data.read(2**20):
                digest.update(block)
            size = data.tell()
            os.fsync(data.fileno())
        partial.replace(self.state.out / file)
        return {"file": file, "bytes": size, "sha256": digest.hexdigest()}


def _finished(spool: Path) -> dict[str, Any] | None:
    try:
        entry = json.loads(Path(f"{spool}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if entry.get("takes"):
        takes = Path(f"{spool}.takes")
        if not takes.exists() or takes.stat().st_size != sum(take[4] for take in entry["takes"]):
            return None
    return entry


def _process(
    jobs: Sequence[tuple[int, _Source, Path]], settings: ShardSettings, workers: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Run `_shard_video` for every job, in any order; a worker that crashes loses only its own video."""

    def ask(pool: ProcessPoolExecutor, job: tuple[int, _Source, Path]) -> Future[dict[str, Any]]:
        return pool.submit(_shard_video, str(job[1].path.resolve()), job[1].name, str(job[2]), settings)

    if workers == 0:
        for number, source, spool in jobs:
            yield number, _shard_video(str(source.path.resolve()), source.name, str(spool), settings)
        return
    context = multiprocessing.get_context("spawn")
    remaining = deque(jobs)
    while remaining:
        pool = ProcessPoolExecutor(min(workers, len(remaining)), context, _start_worker)
        running: dict[Future[dict[str, Any]], tuple[int, _Source, Path]] = {}
        suspects: list[tuple[int, _Source, Path]] = []
        try:
            while (remaining or running) and not suspects:
                while remaining and len(running) < 2 * workers:
                    job = remaining.popleft()
                    try:
                        running[ask(pool, job)] = job
                    except BrokenProcessPool:
                        suspects.append(job)
                        break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    job = running.pop(future)
                    try:
                        yield job[0], future.result()
                    except BrokenProcessPool:
                        suspects.append(job)
            suspects += running.values()
        finally:
            _stop(pool)
        # One of these crashed its worker. Retry each alone to find out which.
        for job in sorted(suspects):
            pool = ProcessPoolExecutor(1, context, _start_worker)
            try:
                yield job[0], ask(pool, job).result()
            except BrokenProcessPool:
                yield job[0], {"error": "its decoder took the whole process down"}
            finally:
                _stop(pool)


def _stop(pool: ProcessPoolExecutor) -> None:
    processes = list((getattr(pool, "_processes", None) or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join()
    pool.shutdown(wait=True)


@contextlib.contextmanager
def _lock(out: Path) -> Iterator[None]:
    """Lock a folder of shards; other processes wait."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with (out / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print(f"another process is writing {out}: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_shards(
    folders: Sequence[Path],
    out: Path,
    settings: ShardSettings,
    workers: int,
    progress: bool = True,
    prune: bool = False,
) -> ShardIndex:
    """Write every video below the folders as takes in shards; resumes an earlier call that was stopped.

    Args:
        folders: searched recursively; `captions.csv` may lie in any of them.
        out: the folder of shards, created if missing.
        settings: must be those of the shards already there.
        workers: processes that decode; 0 decodes in this process, which a decoder crash then ends.
        progress: show a bar, or lines where there is no terminal.
        prune: remove videos that are no longer below the folders.

    Raises:
        ValueError: there is no footage, no video has a take, or the shards were made with other settings.
    """
    resolved = Path(os.path.realpath(out))  # not resolve(), which raises RuntimeError for a circle of links
    if any(Path(os.path.realpath(folder)) == resolved for folder in folders):
        raise ValueError(f"{out} is the folder of videos itself: name another folder for the shards")
    sources = find_videos(folders, resolved)
    out.mkdir(parents=True, exist_ok=True)
    with _lock(out):
        state = _State(out, settings)
        state.repair()
        names = {source.name for source in sources}
        gone = [name for name in state.videos if name not in names] if prune else []
        changed = [
            source.name
            for source in sources
            if (entry := state.videos.get(source.name))
            and (entry["size"], entry["mtime_ns"]) != (source.size, source.mtime_ns)
        ]
        if gone or changed:
            state.log({"forget": gone + changed})
        unreadable = {
            source.name: {"error": source.problem, "size": source.size, "mtime_ns": source.mtime_ns}
            for source in sources
            if source.problem and source.name not in state.videos
        }
        if unreadable:
            state.log({"videos": unreadable})
        todo = [source for source in sources if source.name not in state.videos]
        if todo:
            state.tidy()
            _run(state, todo, workers, progress)
        state.write_index({source.name: source.row for source in sources})
        if state.changed or not (out / REPORT).exists():
            report = shard_report(_load_index(out))
            write_text(out / REPORT, json.dumps(report, indent=1) + "\n")
    index = read_index(out)
    if not len(index.takes["video"]):
        (out / INDEX).unlink()
        lines = [f"{entry['file']}: {entry['reason']}" for entry in index.skipped]
        lines += [
            f"{name}: nothing of {settings.min_frames} frames or more is left of it (too short, static or black)"
            for name in index.videos["file"]
        ]
        raise ValueError(
            f"no video below {', '.join(map(str, folders))} has a take of {settings.min_frames} frames to keep "
            f"({'; '.join(lines[:3])}{'; ...' if len(lines) > 3 else ''}): add other footage"
        )
    return index


def _run(state: _State, todo: list[_Source], workers: int, progress: bool) -> None:
    work = state.out / WORK
    work.mkdir(exist_ok=True)
    state.log({})  # marks the folder as unfinished and stores its settings
    for partial in work.glob("*.partial"):
        partial.unlink()
    packer = _Packer(state)
    jobs, ready = [], {}
    for number, source in enumerate(todo):
        entry = _finished(work / source.key)
        if entry is None:
            jobs.append((number, source, work / source.key))
        else:
            ready[number] = entry
    next_number = 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    shown = progress and console.is_terminal
    lines = ProgressLines("shard", len(todo), len(ready)) if progress and not shown else None
    with Progress(*columns, console=console, transient=True, disable=not shown) as bar:
        task = bar.add_task("videos", total=len(todo), completed=len(ready))

        def pack() -> None:
            nonlocal next_number
            while next_number in ready:
                source = todo[next_number]
                packer.add(source, ready.pop(next_number), work / source.key)
                next_number += 1

        pack()
        for number, entry in _process(jobs, state.settings, workers):
            ready[number] = entry
            bar.update(task, advance=1)
            if lines is not None:
                lines.advance()
            pack()
    packer.flush()


class ShardReader:
    """Random access to the records of shards; opens files on first use, per process, and keeps a few open."""

    def __init__(self, path: Path, files: Sequence[str]) -> None:
        self.path, self.files = path, list(files)
        self._forget()

    def _forget(self) -> None:
        self._readers: OrderedDict[int, Any] = OrderedDict()
        self._lock, self._process = Lock(), os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "files": self.files}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def read(self, shard: int, record: int) -> TakeRecord:
        """Return one take; raises UnreadableTakeError if it cannot be read."""
        if self._process != os.getpid():
            self._forget()  # a forked child must not share its parent's file positions
        try:
            with self._lock:
                reader = self._readers.pop(shard, None)
                if reader is None:
                    reader = array_record_module.ArrayRecordReader(
                        str(self.path / self.files[shard]),
                        "readahead_buffer_size:0,max_parallelism:0,footer_prefetch_bytes:64K",
                        file_reader_buffer_size=2**16,
                    )
                self._readers[shard] = reader
                if len(self._readers) > OPEN_READERS:
                    self._readers.popitem(last=False)[1].close()
                (data,) = reader.read([record])
            return TakeRecord(data)
        except (RuntimeError, IndexError, ValueError, OSError) as error:
            with self._lock:
                self._readers.pop(shard, None)
            raise UnreadableTakeError(f"{self.path / self.files[shard]}, record {record}: {error}") from None


# The command line.


def default_workers() -> int:
    """Return the default number of decoding processes: one per core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `python -m training shard`."""
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="videos, at any depth")
    parser.add_argument("--out", type=Path, required=True, metavar="SHARDS", help="where the shards go")
    parser.add_argument("--workers", type=int, metavar="N", help="processes that decode; one per core if not given")
    helps = {
        "short_side": "pixels of a frame's short side",
        "max_frames": "frames of one record: longer takes are split",
        "min_frames": "shorter takes are dropped",
        "quality": "of the JPEG frames",
        "cut_ratio": "a cut changes the lightness this many times as much as the frames around it do",
        "cut_change": "and by at least this many of 255 levels",
        "static_seconds": "static stretches of this length or longer are dropped",
        "static_change": "static: no spot changes by more than this many levels",
        "black_seconds": "black stretches of this length or longer are dropped",
        "black_level": "black: 99 %% of the pixels are at most this bright",
    }
    for field in dataclasses.fields(ShardSettings):
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=type(field.default),
            default=field.default,
            metavar="X",
            help=f"{helps[field.name]} (%(default)s)",
        )


def run(arguments: argparse.Namespace) -> None:
    """Run `python -m training shard`; raises ValueError for a mistake of the user."""
    settings = ShardSettings(
        **{field.name: getattr(arguments, field.name) for field in dataclasses.fields(ShardSettings)}
    )
    workers = default_workers() if arguments.workers is None else arguments.workers
    if workers < 0:
        raise ValueError(f"--workers is {workers}, expected 0 or more")
    before = _written(arguments.out)
    index = write_shards(arguments.folders, arguments.out, settings, workers)
    if _written(arguments.out) == before:
        print(f"{arguments.out} is finished: every video is in it already")
    print_report(index)


def _written(out: Path) -> dict[str, int]:
    """Return when each shard and the index were written, in nanoseconds."""
    return {path.name: path.stat().st_mtime_ns for path in out.glob("shard*")}


def print_report(index: ShardIndex) -> None:
    """Print the totals of `shard_report` and the videos that were skipped."""
    report = shard_report(index)
    print(
        f"{report['videos_with_takes']} videos -> {report['takes']} takes, {report['hours'] * 60:.1f} minutes, "
        f"{report['shards']} shards, {report['bytes'] / 1e6:.1f} MB; {report['cuts']} cuts"
    )
    for why, total in sorted(report["dropped"].items()):
        print(f"dropped {total['stretches']} {why} stretches, {total['seconds']:.1f} seconds")
    for name, detail in report["details"].items():
        if not detail["takes"]:
            reasons = ", ".join(sorted({stretch["why"] for stretch in detail["dropped"]}))
            print(f"skipped {name}: {detail['frames']} frames, nothing left ({reasons})")
        elif detail["note"]:
            print(f"note on {name}: {detail['note']}")
    for name, reason in report["skipped"].items():
        print(f"skipped {name}: {reason}")
    print(f"details of cuts and dropped stretches: {index.path / REPORT}")
