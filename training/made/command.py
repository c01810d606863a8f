"""The command `python -m training footage`: makes clips of moving scenes, in several processes."""

from __future__ import annotations

import argparse
import difflib
import multiprocessing
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from training.data.shards import default_workers
from training.made.table import KINDS
from training.made.writer import FootageSettings, is_complete, prepare, write_captions, write_clip
from training.progress import ProgressLines
from training.workers import end_with_parent

MIN_FRAMES = 16  # the sharder drops shorter takes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `python -m training footage`."""
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="FOLDER", help="where videos, captions and flow go")
    add("--clips", type=int, default=4, metavar="N", help="clips of each kind (4)")
    add("--kinds", default=",".join(KINDS), metavar="A,B", help=f"kinds of scenes ({', '.join(KINDS)})")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--seconds", type=float, default=3.0, metavar="S", help="length of a clip (3)")
    length.add_argument("--frames", type=int, metavar="N", help="length of a clip in frames")
    add("--size", default="320x192", metavar="WxH", help="of a frame, multiples of 8 (320x192)")
    add("--fps", type=float, default=30.0, metavar="N", help="frames a second (30)")
    add("--seed", type=int, default=0, metavar="N", help="of everything that is drawn (0)")
    add("--jobs", type=int, metavar="N", help="processes; one per core if not given")


def settings_of(arguments: argparse.Namespace) -> tuple[FootageSettings, list[str]]:
    """Return the settings and the kinds that the command line names.

    Raises:
        ValueError: a value is not usable.
    """
    size = re.fullmatch(r"(\d{1,5})x(\d{1,5})", arguments.size)
    width, height = (int(side) for side in size.groups()) if size else (0, 0)
    if width % 8 or height % 8 or not 64 <= min(width, height) <= max(width, height) <= 1920:
        raise ValueError(
            f"--size is {arguments.size}, expected WIDTHxHEIGHT with multiples of 8 from 64 to 1920, such as 320x192"
        )
    if not 1 <= arguments.fps <= 120:
        raise ValueError(f"--fps is {arguments.fps:g}, expected 1 to 120")
    if not 0 <= arguments.seconds <= 3600:
        raise ValueError(f"--seconds is {arguments.seconds:g}, expected up to 3600")
    frames = round(arguments.seconds * arguments.fps) if arguments.frames is None else arguments.frames
    if not MIN_FRAMES <= frames <= 10_000:
        raise ValueError(f"a clip would have {frames} frames, expected {MIN_FRAMES} to 10000: change its length")
    for name, low, high in (("clips", 1, 1000), ("seed", 0, 2**32 - 1), ("jobs", 1, 256)):
        value = getattr(arguments, name)
        if value is not None and not low <= value <= high:
            raise ValueError(f"--{name} is {value}, expected {low} to {high}")
    kinds = [kind.strip() for kind in arguments.kinds.split(",")]
    for kind in kinds:
        if kind not in KINDS:
            nearest = difflib.get_close_matches(kind, KINDS, n=1, cutoff=0.0)[0]
            raise ValueError(
                f'there is no kind "{kind[:40]}"; the nearest known one is "{nearest}", all are {", ".join(KINDS)}'
            )
    return FootageSettings(arguments.seed, width, height, arguments.fps, frames), list(dict.fromkeys(kinds))


def run(arguments: argparse.Namespace) -> None:
    """Run `python -m training footage`; raises ValueError for a mistake of the user."""
    settings, kinds = settings_of(arguments)
    folder: Path = arguments.out
    prepare(folder, settings)
    clips = [(kind, number) for number in range(arguments.clips) for kind in kinds]
    todo = [clip for clip in clips if not is_complete(folder, *clip)]
    if not todo:
        print(f"{folder} is finished: every clip is in it already")
    else:
        _make(folder, todo, len(clips), settings, arguments.jobs or default_workers())
    write_captions(folder, clips, settings)
    minutes = len(clips) * settings.frames / settings.fps / 60
    print(f"{folder} has {len(clips)} clips of {len(kinds)} kinds, {minutes:.1f} minutes")


def _make(folder: Path, todo: list[tuple[str, int]], total: int, settings: FootageSettings, jobs: int) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    lines = None if console.is_terminal else ProgressLines("footage", total, total - len(todo))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("clips", total=total, completed=total - len(todo))
        for clip in _finished(folder, todo, settings, min(jobs, len(todo))):
            write_captions(folder, [clip], settings)
            bar.update(task, advance=1)
            if lines is not None:
                lines.advance()


def _finished(
    folder: Path, todo: list[tuple[str, int]], settings: FootageSettings, jobs: int
) -> Iterator[tuple[str, int]]:
    """Make the clips; yield each when it is written."""
    if jobs == 1:
        for clip in todo:
            write_clip(folder, *clip, settings)
            yield clip
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _start_worker) as pool:
        futures = {pool.submit(write_clip, folder, *clip, settings): clip for clip in todo}
        try:
            for future in as_completed(futures):
                future.result()
                yield futures[future]
        except BrokenProcessPool:
            raise OSError(
                "a process that made a clip was ended from outside, perhaps for lack of memory: "
                "start the same command again, with a lower --jobs"
            ) from None
        finally:  # after an error or Ctrl-C, clips that have begun are finished, and no other is begun
            pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
