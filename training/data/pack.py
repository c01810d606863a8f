"""A pack: a folder of videos re-encoded until it fits into so many megabytes, to be carried to where it is needed.

    python -m training pack FOOTAGE --out PACK --megabytes 20

Scenes, captions, frame numbers and rates stay what they were, and with them the split between training and held-out
footage. All videos get the same CRF, the encoders' measure of even quality, so that busy ones get more bits than calm
ones; the CRF is the lowest whose total fits. A video that is small enough, and smaller as it is than re-encoded, is
copied.

Until everything is done it lies in PACK.partial; every encoded video is kept there, and the same command goes on.
"""

from __future__ import annotations

import argparse
import csv
import functools
import hashlib
import io
import json
import math
import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from training.data.recoding import (
    CODECS,
    Codec,
    UnusableVideoError,
    Video,
    choose_quality,
    compare,
    encode,
    estimate,
    frames_of,
    open_video,
    psnr,
)
from training.progress import ProgressLines

if TYPE_CHECKING:
    from rich.progress import Progress

    from training.data.shards import _Source as Source

T = TypeVar("T")
INDEX, CAPTIONS, WORK = "pack.json", "captions.csv", "work"
VERSION = 1
SAMPLE_VIDEOS, SAMPLE_FRAMES = 12, 24


@dataclass
class _Packer:
    """The videos, where their encoded versions lie, and what has turned out to be unusable."""

    videos: list[Video]
    work: Path
    workers: int
    bars: Progress
    skipped: dict[str, str] = field(default_factory=dict)
    is_told: bool = False  # in lines, where there is no terminal for the bars

    def usable(self) -> list[Video]:
        return [video for video in self.videos if video.source.name not in self.skipped]

    def file(self, video: Video, quality: int) -> Path:
        return self.work / f"{video.key}-{quality}{Path(video.name).suffix}"

    def is_kept(self, video: Video, quality: int) -> bool:
        """Whether a video stays as it is, because re-encoded it would be no smaller."""
        return video.is_small and video.source.size <= self.file(video, quality).stat().st_size

    def for_all(self, title: str, videos: Sequence[Video], do: Callable[[Video, threading.Event], T]) -> dict[str, T]:
        """Do something with every video, several at a time; what turns out to be unusable is left out from then on."""
        stop, results = threading.Event(), {}
        pool = ThreadPoolExecutor(self.workers)
        task = self.bars.add_task(title, total=len(videos))
        lines = ProgressLines(title, len(videos)) if self.is_told and videos else None
        try:
            futures = {pool.submit(do, video, stop): video.source.name for video in videos}
            for future in as_completed(futures):
                try:
                    results[futures[future]] = future.result()
                except UnusableVideoError as error:
                    self.skipped[futures[future]] = str(error)
                self.bars.update(task, advance=1)
                if lines is not None:
                    lines.advance()
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            self.bars.remove_task(task)
        return results

    def total_bytes(self, quality: int) -> int:
        """Encode every video and return how many bytes the smaller ones of them and the originals take."""

        def one(video: Video, stop: threading.Event) -> None:
            file = self.file(video, quality)
            if not file.exists():
                encode(video, quality, file, stop)

        self.for_all(f"encoding at CRF {self.videos[0].codec.crf(quality)}", self.usable(), one)
        return sum(
            video.source.size if self.is_kept(video, quality) else self.file(video, quality).stat().st_size
            for video in self.usable()
        )

    def compare_all(self, quality: int) -> dict[str, dict[str, Any]]:
        """Return what `compare` says about every video that is not kept as it is."""

        def one(video: Video, stop: threading.Event) -> dict[str, Any]:
            file = self.file(video, quality)
            note = file.with_suffix(".json")
            if not note.exists():
                found = compare(video, file, stop)
                beside = note.with_name(f"{note.name}.{os.getpid()}.partial")
                beside.write_text(json.dumps(found), encoding="utf-8")
                beside.replace(note)
            return dict(json.loads(note.read_text(encoding="utf-8")))

        return self.for_all("comparing", [video for video in self.usable() if not self.is_kept(video, quality)], one)

    def sample(self) -> list[list[np.ndarray]]:
        """Return the first frames of some videos, spread over the list."""
        count = len(self.videos)
        spread = (number * count // SAMPLE_VIDEOS for number in range(SAMPLE_VIDEOS if count else 0))
        clips: list[list[np.ndarray]] = []
        task = self.bars.add_task("sampling", total=min(count, SAMPLE_VIDEOS))
        for number in dict.fromkeys([*spread, *range(count)]):
            if len(clips) == SAMPLE_VIDEOS:
                break
            frames = frames_of(self.videos[number], [])
            try:
                clips.append([frame for frame, _ in zip(frames, range(SAMPLE_FRAMES), strict=False)])
                self.bars.update(task, advance=1)
            except UnusableVideoError as error:
                self.skipped[self.videos[number].source.name] = str(error)
        self.bars.remove_task(task)
        return clips


def pack(
    footage: Path,
    out: Path,
    megabytes: float,
    short_side: int,
    codec: Codec,
    workers: int,
    progress: bool = True,
) -> bool:
    """Write a pack of a folder of videos; go on from where an earlier call was stopped.

    Args:
        footage: searched recursively.
        out: the pack; appears when it is whole.
        megabytes: of 10^6 bytes, that the whole folder may have.
        short_side: of a frame at most, pixels; smaller videos are not enlarged.
        codec: of `CODECS`.
        workers: threads that encode.
        progress: show a bar, or lines where there is no terminal.

    Returns:
        Whether there was anything to do.

    Raises:
        ValueError: no footage, footage that does not fit, or another folder in the way.
    """
    import av
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from training.data.shards import find_videos

    av.logging.set_level(av.logging.PANIC)
    os.environ.setdefault("SVT_LOG", "1")  # errors alone
    sources = find_videos([footage])
    if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(footage)):
        raise ValueError(f"{out} is the footage or inside it: name another folder for the pack")
    digest = hashlib.sha256(repr([(source.name, source.size, source.mtime_ns) for source in sources]).encode())
    settings = {"megabytes": megabytes, "short_side": short_side, "encoder": {"name": codec.encoder, **codec.options}}
    settings["footage"] = digest.hexdigest()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if out.is_dir() and _index_of(out).get("settings") == settings:
            return False
        raise ValueError(
            f"{out} is there and is no pack of this footage with these settings: delete it or name another --out"
        )
    budget = int(megabytes * 1e6)
    captions = _captions(footage, sources)
    overhead = sum(len(text) for text in captions.values()) + 2000 + 400 * len(sources)
    partial = out.with_name(f"{out.name}.partial")
    work = partial / WORK
    work.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    shown = progress and console.is_terminal
    is_told = progress and not shown
    with Progress(*columns, console=console, transient=True, disable=not shown) as bars:
        videos, skipped = [], {}
        for source in sources:
            try:
                videos.append(open_video(source, short_side, codec))
            except UnusableVideoError as error:
                skipped[source.name] = str(error)
        _require_names(videos)
        packer = _Packer(videos, work, workers, bars, skipped, is_told)
        clips = packer.sample()
        if not clips:
            name, reason = next(iter(packer.skipped.items()))
            raise ValueError(f"no video below {footage} can be decoded ({name}: {reason}): add other footage")
        frames = sum(video.frames for video in videos)
        estimated_bytes = functools.cache(lambda quality: estimate(clips, frames, codec, quality))
        try:
            quality, _ = choose_quality(budget - overhead, estimated_bytes, packer.total_bytes, codec.best, codec.worst)
        except ValueError:
            if not packer.usable():
                raise ValueError(f"no video below {footage} can be decoded to its end: add other footage") from None
            raise
        facts = packer.compare_all(quality)
    rows = []
    for video in packer.usable():
        kept = packer.is_kept(video, quality)
        name = video.source.name if kept else video.name
        place = partial / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(video.source.path if kept else packer.file(video, quality), place)
        row: dict[str, Any] = {"file": name, "of": video.source.name, "bytes_of": video.source.size}
        row |= {"bytes": place.stat().st_size, "fps": round(float(video.rate), 4)}
        if not kept:
            found = facts[video.source.name]
            row |= {key: found[key] for key in ("frames", "height", "width", "note")} | {"psnr": _round(found["mse"])}
        rows.append(row)
    names = {row["of"]: row["file"] for row in rows}
    for place_name, text in _captions(footage, sources, names).items():
        (partial / place_name).parent.mkdir(parents=True, exist_ok=True)
        (partial / place_name).write_bytes(text)
    content = {
        "version": VERSION,
        "settings": settings,
        "crf": quality / codec.steps,
        "videos": rows,
        "skipped": packer.skipped,
    }
    (partial / INDEX).write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")
    size = _folder_bytes(partial, without=work)
    if size > budget:
        raise ValueError(
            f"the pack is {size / 1e6:.2f} MB with its lists, {size - budget} bytes too many: lower --megabytes"
        )
    shutil.rmtree(work)
    partial.replace(out)
    return True


def _round(mse: float) -> float:
    return round(psnr(mse), 2)


def _index_of(out: Path) -> dict[str, Any]:
    try:
        content = json.loads((out / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) and content.get("version") == VERSION else {}


def _require_names(videos: Sequence[Video]) -> None:
    """Raise ValueError if two videos would get one name."""
    names: dict[str, str] = {}
    for video in videos:
        for name in {video.name, video.source.name}:
            other = names.setdefault(name, video.source.name)
            if other != video.source.name:
                raise ValueError(f"{other} and {video.source.name} would both be called {name}: rename one of them")


def _captions(footage: Path, sources: Sequence[Source], names: Mapping[str, str] | None = None) -> dict[str, bytes]:
    """Return every captions.csv of the footage by its place, with the videos' new names."""
    names = names or {}
    found: dict[str, bytes] = {}
    folders = {Path(), *(parent for source in sources for parent in Path(source.name).parents)}
    for folder in sorted(folders):
        path = footage / folder / CAPTIONS
        if not path.exists():
            continue
        data = path.read_bytes()
        rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))
        changed = False
        for row in rows:
            old = Path(os.path.normpath(folder / (row.get("file") or ""))).as_posix()
            if names.get(old, old) != old:
                row["file"] = Path(row["file"]).with_suffix(Path(names[old]).suffix).as_posix()
                changed = True
        if changed:
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
            data = text.getvalue().encode()
        found[(folder / CAPTIONS).as_posix()] = data
    return found


def _folder_bytes(folder: Path, without: Path | None = None) -> int:
    files = (path for path in folder.rglob("*") if path.is_file())
    return sum(path.stat().st_size for path in files if without is None or not path.is_relative_to(without))


# The command line.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `python -m training pack`."""
    parser.add_argument("footage", type=Path, metavar="FOOTAGE", help="videos, at any depth")
    parser.add_argument("--out", type=Path, required=True, metavar="PACK", help="where the pack goes")
    parser.add_argument(
        "--megabytes", type=float, default=20.0, metavar="X", help="that the whole folder may have (%(default)s)"
    )
    parser.add_argument(
        "--short-side", type=int, default=272, metavar="X", help="pixels of a frame's short side at most (%(default)s)"
    )
    parser.add_argument(
        "--codec",
        choices=sorted(CODECS),
        default="h264",
        help="av1 is smaller, but OpenCV does not read it (%(default)s)",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="threads that encode; one per core if not given")


def run(arguments: argparse.Namespace) -> None:
    """Carry out `python -m training pack`; ValueError for anything the user can mend."""
    from training.data.shards import default_workers

    workers = default_workers() if arguments.workers is None else arguments.workers
    if workers < 1:
        raise ValueError(f"--workers is {workers}, expected 1 or more")
    if not 0 < arguments.megabytes < math.inf:
        raise ValueError(f"--megabytes is {arguments.megabytes:g}, expected more than 0")
    if not 32 <= arguments.short_side <= 4096:
        raise ValueError(f"--short-side is {arguments.short_side}, expected 32 to 4096 pixels")
    try:
        import av
    except ImportError:
        raise ValueError("packing needs PyAV: pip install av") from None
    try:
        is_new = pack(
            arguments.footage,
            arguments.out,
            arguments.megabytes,
            arguments.short_side,
            CODECS[arguments.codec],
            workers,
        )
    except av.error.FFmpegError as error:
        raise ValueError(f"the pack cannot be written: {error}") from None
    if not is_new:
        print(f"{arguments.out} is finished: every video is in it already")
    print_pack(arguments.out)


def print_pack(out: Path) -> None:
    """Print what a pack holds, how large it is and how close to the original."""
    content = _index_of(out)
    rows, settings = content["videos"], content["settings"]
    before = sum(row["bytes_of"] for row in rows)
    print(
        f"{len(rows)} videos, {_folder_bytes(out) / 1e6:.2f} MB of {settings['megabytes']:g} "
        f"(were {before / 1e6:.2f}), "
        f"{settings['encoder']['name']} at CRF {content['crf']:g}, short side {settings['short_side']} at most"
    )
    made = sorted((row for row in rows if "psnr" in row), key=lambda row: row["psnr"])
    if made:
        values = np.array([row["psnr"] for row in made])
        print(
            f"PSNR against the originals at that size: {values.mean():.2f} dB (mean of {len(made)} videos, standard "
            f"deviation {values.std():.2f}), from {values[0]:.2f} ({made[0]['of']}) to {values[-1]:.2f}"
        )
    if len(made) < len(rows):
        print(f"{len(rows) - len(made)} videos are copies: re-encoded they would have been larger")
    for row in made:
        if row["note"]:
            print(f"note on {row['of']}: {row['note']}")
    for name, reason in content["skipped"].items():
        print(f"skipped {name}: {reason}")
