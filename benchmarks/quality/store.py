"""Finished measurements: arrays in files whose names depend on everything that the arrays depend on."""

from __future__ import annotations

import hashlib
import itertools
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.report import write_beside

Arrays = dict[str, npt.NDArray[Any]]
VERSION = 2  # raised when a measure changes, so that old figures are not mixed with new ones


class ResultStore:
    """A folder of finished measurements.

    Args:
        folder: made if missing; may be shared, and deleted to measure again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, name: str, key: Mapping[str, Any], make: Callable[[], Arrays]) -> Arrays:
        """Return the arrays kept under a key, or make and keep them.

        Args:
            name: the beginning of the file's name.
            key: plain data, everything that the arrays depend on.
            make: makes them.
        """
        text = json.dumps({"version": VERSION, **key}, sort_keys=True, default=str)
        file = self.folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.npz"
        if file.is_file():
            try:
                with file.open("rb") as opened, np.load(opened) as kept:
                    return {entry: kept[entry] for entry in kept.files}
            except (OSError, ValueError, EOFError, zipfile.BadZipFile):
                pass  # damaged: made again
        arrays = make()
        file.parent.mkdir(parents=True, exist_ok=True)
        write_beside(file, lambda beside: np.savez(beside, allow_pickle=False, **arrays))
        return arrays


def pack(files: list[bytes]) -> Arrays:
    """Return several files as two arrays, `bytes` and `ends`."""
    ends = np.cumsum([len(file) for file in files], dtype=np.int64)
    return {"bytes": np.frombuffer(b"".join(files), np.uint8), "ends": ends}


def unpack(arrays: Arrays) -> list[bytes]:
    """Return the files of `pack`."""
    data, ends = arrays["bytes"].tobytes(), arrays["ends"].tolist()
    return [data[start:end] for start, end in itertools.pairwise([0, *ends])]
