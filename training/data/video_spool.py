"""One video becomes a spool: its takes, ready to be packed, and their metadata. Imports neither torch nor Ray."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np

from training.atomic_file import write_text
from training.data.remote_files import local_copy
from training.data.sources import Source
from training.data.takes import (
    ShardSettings,
    TakeBuilder,
    open_video_file,
    pack_take,
    reason_of,
    small_frames,
    with_cuts,
)

CRASHED = "its decoder took the whole process down"


class Job(NamedTuple):
    """A video to decode."""

    number: int  # its place in the order
    source: Source
    spool: Path  # the takes go to SPOOL.takes, the metadata to SPOOL.json


def spool_source(source: Source, spool: Path, settings: ShardSettings) -> dict[str, Any]:
    """Write the takes of a video, which is first fetched if it lies at an address; see `_shard_video`.

    Raises:
        OSError: it cannot be fetched, or the disk is full.
    """
    with local_copy(source.place, spool.with_name(f"{spool.name}.{os.getpid()}.partial")) as path:
        return _shard_video(str(path.resolve()), source.name, str(spool), settings)


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
    keep_spool(Path(spool), partial, entry)
    return entry


def keep_spool(spool: Path, partial: Path, entry: dict[str, Any]) -> None:
    """Give a spool that is complete its name; without takes, `partial` is removed."""
    if entry.get("takes"):
        partial.replace(f"{spool}.takes")
    else:
        partial.unlink()
    # Written last: if it exists, the takes are complete.
    write_text(Path(f"{spool}.json"), json.dumps(entry, separators=(",", ":")))


def finished_spool(spool: Path) -> dict[str, Any] | None:
    """Return the metadata of a spool that is complete, else None."""
    try:
        entry: dict[str, Any] = json.loads(Path(f"{spool}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if entry.get("takes"):
        takes = Path(f"{spool}.takes")
        if not takes.exists() or takes.stat().st_size != sum(take[4] for take in entry["takes"]):
            return None
    return entry


def remove_spool(spool: Path) -> None:
    """Remove what `keep_spool` has written."""
    Path(f"{spool}.takes").unlink(missing_ok=True)
    Path(f"{spool}.json").unlink(missing_ok=True)
