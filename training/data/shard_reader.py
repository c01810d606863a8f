"""Random access to the records of shards."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from array_record.python import array_record_module

from training.data.takes import TakeRecord, UnreadableTakeError

OPEN_READERS = 32  # shards one process keeps open


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
