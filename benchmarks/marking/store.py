"""Results of single clips in a file, so that a long measurement can be stopped and continued."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class ResultLines:
    """Lines of JSON, each with a key; a line that was cut off by a kill is left out.

    Args:
        file: None keeps everything in memory.

    Raises:
        OSError: the file cannot be read or written.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self.values: dict[str, Any] = {}
        if file is not None and file.is_file():
            for line in file.read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue
                self.values[entry["key"]] = entry["value"]

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def add(self, key: str, value: Any) -> None:
        """Keep a value, and write it at once."""
        self.values[key] = value
        if self._file is not None:
            with self._file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"key": key, "value": value}) + "\n")

    def of(self, part: str) -> dict[str, Any]:
        """Return the values whose key begins with `part` and a slash, by the rest of the key."""
        return {key.removeprefix(f"{part}/"): value for key, value in self.values.items() if key.startswith(f"{part}/")}
