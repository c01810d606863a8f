"""Which videos are in which shards: read from the index and the journal, written to both."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

from training.data.shard_folder import INDEX, ShardFolder
from training.data.shard_index import VERSION, ShardIndex, load_index, shard_problem
from training.data.takes import ShardSettings


class ShardState:
    """Work done so far, read from the index and the journal of a folder of shards."""

    def __init__(self, folder: ShardFolder, settings: ShardSettings) -> None:
        """Read it; raises ValueError if the shards were made with other settings."""
        self.folder, self.settings = folder, settings
        self.shards: dict[str, dict[str, Any]] = {}
        self.videos: dict[str, dict[str, Any]] = {}  # name -> entry; takes are [first, length, h, w, shard, record]
        self.number = 0
        self.changed = False
        self.header = {"version": VERSION, "settings": dataclasses.asdict(settings)}
        if folder.read_text(INDEX) is not None:
            index = load_index(folder)
            self._require_settings(dataclasses.asdict(index.settings))
            self._read(index)
        header, entries = folder.journal()
        if header:
            self._require_settings(header["settings"])
        for entry in entries:
            self._apply(entry)

    def _require_settings(self, before: dict[str, Any]) -> None:
        now = dataclasses.asdict(self.settings)
        other = [f"{key} {before.get(key)} and not {value}" for key, value in now.items() if before.get(key) != value]
        if other:
            raise ValueError(
                f"the shards at {self.folder.place} were made with {', '.join(other)}: name another --out or the same "
                "settings"
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
        """Append an entry to the journal and apply it."""
        self.folder.log(self.header, entry)
        self._apply(entry)

    def repair(self) -> None:
        """Forget the videos of damaged shards, so that they are rebuilt; remove what was cut off."""
        self.folder.mend()
        written = self.folder.written()
        used = sorted({take[4] for entry in self.videos.values() for take in entry.get("takes", ())})
        problems = {file: shard_problem(self.folder, written, self.shards[file]) for file in used}
        damaged = {file for file, problem in problems.items() if problem}
        for file in sorted(damaged):
            print(f"{problems[file]}; it is rebuilt")
        forget = [name for name, entry in self.videos.items() if any(t[4] in damaged for t in entry.get("takes", ()))]
        if forget:
            self.log({"forget": forget})

    def tidy(self) -> None:
        """Remove shards that nothing refers to."""
        used = {take[4] for entry in self.videos.values() for take in entry.get("takes", ())}
        self.shards = {file: shard for file, shard in self.shards.items() if file in used}
        for file in self.folder.written():
            if file.startswith("shard-") and file not in used:
                self.folder.remove(file)

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
            index = load_index(self.folder)
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
        if self.folder.read_text(INDEX) != text:
            self.folder.write_text(INDEX, text)
        self.folder.end()
