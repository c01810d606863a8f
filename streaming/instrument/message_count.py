"""The count of an input's messages."""

from __future__ import annotations

import threading
from typing import Any

_MAX_ERROR = 300  # characters: messages come from anybody


class MessageCount:
    """Counts messages and errors, and keeps the latest error; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_messages = self._num_errors = 0
        self._last_error = ""

    def add(self, num: int = 1) -> None:
        """Count messages."""
        with self._lock:
            self._num_messages += num

    def fail(self, why: str) -> None:
        """Count an error of a message that has been counted, with its reason."""
        line = " ".join(why.split())
        with self._lock:
            self._num_errors += 1
            self._last_error = line if len(line) <= _MAX_ERROR else f"{line[: _MAX_ERROR - 3]}..."

    def to_json(self) -> dict[str, Any]:
        """Return the counts for the show's statistics."""
        with self._lock:
            return {"messages": self._num_messages, "errors": self._num_errors, "last_error": self._last_error}
