"""Finished videos are packed into shards, in order."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from array_record.python import array_record_module

from training.data.shard_state import ShardState
from training.data.sources import Source
from training.data.video_spool import remove_spool

SHARD_BYTES = 32 * 2**20  # a shard is closed once it holds as much


class Packer:
    """Writes finished videos into shards, in order; a video larger than a shard gets shards of its own."""

    def __init__(self, state: ShardState) -> None:
        self.state = state
        self.waiting: list[tuple[Source, dict[str, Any], Path]] = []
        self.bytes = 0

    def add(self, source: Source, entry: dict[str, Any], spool: Path) -> None:
        """Take the next video in the order; its spool is removed when it is in a shard."""
        entry = {**entry, "size": source.size, "mtime_ns": source.mtime_ns}
        if not entry.get("takes"):
            self.state.log({"videos": {source.name: entry}})
            remove_spool(spool)
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
                f"the shards at {self.state.folder.place} cannot be written ({error}): make room and start the same "
                "command again"
            ) from error

    def _write(self) -> None:
        state = self.state
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
                            str(state.folder.partial(file)), "group_size:1,uncompressed"
                        )
                    writer.write(data.read(size))
                    takes.append([first, length, height, width, file, record])
                    record, written = record + 1, written + size
            done[source.name] = {**entry, "takes": takes}
        assert writer is not None
        writer.close()
        state.log({"shard": self._finish(file), "videos": done})
        for _, _, spool in self.waiting:
            remove_spool(spool)
        self.waiting, self.bytes = [], 0

    def _finish(self, file: str) -> dict[str, Any]:
        partial = self.state.folder.partial(file)
        digest = hashlib.sha256()
        with partial.open("rb") as data:
            while block := data.read(2**20):
                digest.update(block)
            size = data.tell()
            os.fsync(data.fileno())
        self.state.folder.publish(file)
        return {"file": file, "bytes": size, "sha256": digest.hexdigest()}
