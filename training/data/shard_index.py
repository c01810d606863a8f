"""The index of a folder of shards, and the report made from it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np

from training.data.remote_files import Place
from training.data.shard_folder import INDEX, ShardFolder, open_folder
from training.data.takes import ShardSettings

VERSION = 2


@dataclasses.dataclass(frozen=True)
class ShardIndex:
    """The content of `shards.json` as columns: `takes` has one row per take, `videos` one per video."""

    path: Place  # the folder
    settings: ShardSettings
    shards: list[dict[str, Any]]  # file, bytes, sha256
    videos: dict[str, list[Any]]  # file, scene, caption, label, licence, source, fps, frames, ...
    takes: dict[str, np.ndarray]  # video, first, length, height, width, shard, record: (takes,) int64
    skipped: list[dict[str, Any]]  # file, reason, size, mtime_ns


def read_index(place: Place) -> ShardIndex:
    """Open a folder of shards.

    Raises:
        ValueError: it is not a folder of shards, is unfinished or of another version, or a shard is damaged.
    """
    folder = open_folder(place)
    if folder.is_unfinished():
        raise ValueError(f"the shards at {place} are unfinished: run the same shard command again")
    index = load_index(folder)
    written = folder.written()
    for shard in index.shards:
        problem = shard_problem(folder, written, shard)
        if problem:
            raise ValueError(f"{problem}; run the same shard command again to rebuild it")
    return index


def load_index(folder: ShardFolder) -> ShardIndex:
    """Return the index as it is written; the shards are not looked at.

    Raises:
        ValueError: there is none, it is of another version or damaged.
    """
    file = folder.place / INDEX
    try:
        text = folder.read_text(INDEX)
        if text is None:
            raise ValueError(f"no {file}: name a folder that `python -m training shard` has made")
        content = json.loads(text)
        if content["version"] != VERSION:
            raise ValueError(f"{file} is of version {content['version']}, expected {VERSION}: shard the footage again")
        return ShardIndex(
            folder.place,
            ShardSettings(**content["settings"]),
            content["shards"],
            content["videos"],
            {name: np.array(column, np.int64) for name, column in content["takes"].items()},
            content["skipped"],
        )
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{file} cannot be read ({error}): delete it and run the same shard command again") from None


def shard_problem(folder: ShardFolder, written: dict[str, tuple[int, int]], shard: dict[str, Any]) -> str:
    """Return what is wrong with a shard, "" if nothing; `written` is what the folder says of its files."""
    file = folder.place / shard["file"]
    if shard["file"] not in written:
        return f"{file} is missing"
    size, _ = written[shard["file"]]
    return "" if size == shard["bytes"] else f"{file} is {size} bytes, the index says {shard['bytes']}"


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
