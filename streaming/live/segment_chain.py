"""Writes the chain of the segments of a live stream (`provenance.segments`), in the process that publishes it."""

from __future__ import annotations

import os
from pathlib import Path

from provenance.segments import SUFFIX, next_line
from streaming.sinks.output_file import OutputFile

_PARTIAL = ".tmp"  # of a chain that begins


class SegmentChain:
    """The chain beside a playlist. A stream that begins again continues the chain of the same show.

    Args:
        playlist: its path.
        first: the first line, which the file gets with the first segment.
    """

    def __init__(self, playlist: Path, first: str) -> None:
        self._path = playlist.with_name(f"{playlist.stem}{SUFFIX}")
        self._first = first
        self._last = ""  # the last line; "" before the first segment of this stream

    def add(self, name: str, sha256: str, size_bytes: int) -> None:
        """Append a segment.

        Raises:
            OSError: the file cannot be written, or there is a link, a pipe or a device of its name.
        """
        if not self._last:
            self._last = self._begin()
        line = next_line(self._last, name, sha256, size_bytes)
        with OutputFile(self._path, "") as file:
            file.seek(0, os.SEEK_END)
            file.write(line.encode() + b"\n")
        self._last = line

    def _begin(self) -> str:
        """Return the last line of this show's chain; begin it if there is none."""
        if self._path.is_file():
            with OutputFile(self._path, "") as file:
                lines = file.readall().split(b"\n")
                if lines[0] == self._first.encode():
                    file.truncate(file.tell() - len(lines[-1]))  # what a killed process has not completed
                    return lines[-2].decode()
        file = OutputFile(self._path, _PARTIAL)
        try:
            file.truncate()
            file.write(self._first.encode() + b"\n")
            file.commit()
        except OSError:
            file.discard()
            raise
        return self._first
