"""Shards: videos decoded once, cut into takes and stored as ArrayRecord files for random access.

A folder of shards, on this machine or at an address, holds

    shards.json                 the index: settings, shards, videos and takes; written last, when all else is complete
    report.json                 what was cut and dropped, per video
    shard-00000.array_record    one record per take, see `takes.pack_take`
    journal.jsonl, work/        only while sharding: the state from which a stopped command resumes

Videos are found (`sources`), each is cut into takes (`video_spool`) by processes of this machine (`shard_pool`) or of
a Ray cluster (`cluster_shards`), and the takes are packed in order (`shard_packing`), so that the shards do not depend
on who decoded them. None of these modules imports torch, so that worker processes stay small.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from training.data.remote_files import Address, Place, to_place
from training.data.shard_folder import INDEX, JOURNAL, REPORT, WORK, open_folder
from training.data.shard_index import VERSION, ShardIndex, load_index, read_index, shard_report
from training.data.shard_packing import SHARD_BYTES, Packer
from training.data.shard_pool import decode, default_workers
from training.data.shard_reader import ShardReader
from training.data.shard_state import ShardState
from training.data.sources import SUFFIXES, Source, find_videos, printable, read_captions
from training.data.takes import ShardSettings
from training.data.video_spool import Job, finished_spool
from training.progress import ProgressLines

__all__ = [
    "INDEX",
    "JOURNAL",
    "REPORT",
    "SHARD_BYTES",
    "SUFFIXES",
    "VERSION",
    "WORK",
    "ShardIndex",
    "ShardReader",
    "default_workers",
    "find_videos",
    "print_report",
    "printable",
    "read_captions",
    "read_index",
    "shard_report",
    "write_shards",
]

Decoder = Callable[[Sequence[Job]], Iterable[tuple[int, dict[str, Any]]]]


def write_shards(
    folders: Sequence[Place],
    out: Place,
    settings: ShardSettings,
    workers: int | None,
    progress: bool = True,
    prune: bool = False,
    cluster: str | None = None,
) -> ShardIndex:
    """Write every video below the folders as takes in shards; resumes an earlier call that was stopped.

    Args:
        folders: searched recursively; `captions.csv` may lie in any of them.
        out: the folder of shards, created if missing.
        settings: must be those of the shards already there.
        workers: processes that decode; 0 decodes in this process, which a decoder crash then ends. On a cluster, the
            number of videos given out at a time. One per core, or two per core of the cluster, if None.
        progress: show a bar, or lines where there is no terminal.
        prune: remove videos that are no longer below the folders.
        cluster: a Ray cluster that decodes, see `cluster_shards.decode_on`; this machine if None.

    Raises:
        ValueError: there is no footage, no video has a take, or the shards were made with other settings.
        OSError: a disk is full, or an address or the cluster cannot be reached; the same call resumes.
    """
    without: Place = out
    if isinstance(out, Path):
        without = Path(os.path.realpath(out))  # not resolve(), which raises RuntimeError for a circle of links
    if any((Path(os.path.realpath(folder)) if isinstance(folder, Path) else folder) == without for folder in folders):
        raise ValueError(f"{out} is the folder of videos itself: name another folder for the shards")
    if workers != 0 and any(isinstance(folder, Address) and folder.protocol == "memory" for folder in folders):
        raise ValueError("memory:// is seen by this process alone: decode in it (0 workers), or name another place")
    sources = find_videos(folders, without)
    folder = open_folder(out)
    with folder.lock():
        state = ShardState(folder, settings)
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
            _run(state, todo, _decoder(settings, workers, cluster), progress)
        state.write_index({source.name: source.row for source in sources})
        if state.changed or folder.read_text(REPORT) is None:
            folder.write_text(REPORT, json.dumps(shard_report(load_index(folder)), indent=1) + "\n")
    index = read_index(out)
    if not len(index.takes["video"]):
        folder.remove(INDEX)
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


def _decoder(settings: ShardSettings, workers: int | None, cluster: str | None) -> Decoder:
    if cluster is None:
        return partial(decode, settings=settings, workers=default_workers() if workers is None else workers)
    from training.data.cluster_shards import decode_on

    return partial(decode_on, settings=settings, address=cluster, at_once=workers)


def _run(state: ShardState, todo: list[Source], decoder: Decoder, progress: bool) -> None:
    work = state.folder.work
    work.mkdir(exist_ok=True)
    state.log({})  # marks the folder as unfinished and stores its settings
    for left in work.glob("*.partial*"):
        left.unlink()
    packer = Packer(state)
    jobs, ready = [], {}
    for number, source in enumerate(todo):
        entry = finished_spool(work / source.key)
        if entry is None:
            jobs.append(Job(number, source, work / source.key))
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
        for number, entry in decoder(jobs) if jobs else ():
            ready[number] = entry
            bar.update(task, advance=1)
            if lines is not None:
                lines.advance()
            pack()
    packer.flush()


# The command line.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `python -m training shard`."""
    parser.add_argument(
        "folders", nargs="+", metavar="FOLDER", help="videos, at any depth: a path, or an address such as s3://BUCKET/X"
    )
    parser.add_argument("--out", required=True, metavar="SHARDS", help="where the shards go: a path or an address")
    parser.add_argument("--workers", type=int, metavar="N", help="processes that decode; one per core if not given")
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help='decode on a Ray cluster: "auto" for the one that this machine belongs to, or HOST:PORT; --workers is '
        "then the number of videos given out at a time, two per core if not given",
    )
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
    lowest = 0 if arguments.cluster is None else 1
    if arguments.workers is not None and arguments.workers < lowest:
        raise ValueError(f"--workers is {arguments.workers}, expected {lowest} or more")
    out = to_place(arguments.out)
    before = _written(out)
    folders = [to_place(folder) for folder in arguments.folders]
    index = write_shards(folders, out, settings, arguments.workers, cluster=arguments.cluster)
    if _written(out) == before:
        print(f"{out} is finished: every video is in it already")
    print_report(index)


def _written(out: Place) -> dict[str, tuple[int, int]]:
    """Return size and time of modification of each shard and the index."""
    return open_folder(out).written()


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
