"""HLS (RFC 8216): the files of the playlist and the segments, to which libavformat writes.

With its own files, libavformat would only log most errors and continue.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
import zlib
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from provenance.segments import SUFFIX
from streaming.live.h264 import KEY_INTERVAL_S
from streaming.live.segment_chain import SegmentChain
from streaming.sinks.output_file import OutputFile

NUM_SEGMENTS = 6  # in the playlist; one older segment stays for players that still read it
_SUFFIX = ".tmp"  # of files that are being written
PLAYLIST = "folder:playlist.m3u8"  # libavformat does not know this protocol and opens the file through `HlsFolder.open`


class HlsFolder:
    """One playlist "NAME.m3u8", and "NAME-NUMBER.ts" next to it; old segments are deleted.

    Each file is written as NAME.tmp and renamed. The first complete segment replaces those of an earlier show, and its
    chain. In the
    segments' names, characters with a meaning in URLs are replaced.

    Args:
        playlist: its path.
        chain: the first line of the chain of segments; "" for none.

    Attributes:
        num_segments: how many are complete.
    """

    def __init__(self, playlist: Path, *, chain: str = "") -> None:
        self.num_segments = 0
        self._playlist = playlist
        self._chain = SegmentChain(playlist, chain) if chain else None
        name = re.sub(r"[^\w.-]", "_", playlist.stem)
        # The checksum tells playlists apart whose names become the same.
        self._prefix = f"{name}-" if name == playlist.stem else f"{name}-{zlib.crc32(os.fsencode(playlist.stem)):08x}-"
        self._ours = re.compile(rf"{re.escape(self._prefix)}(\d+)\.ts(?:{re.escape(_SUFFIX)})?")
        self._segments: deque[Path] = deque()
        self._error: OSError | None = None

    def options(self) -> Mapping[str, str]:
        """Return options of libavformat's muxer "hls"; raises OSError if the folder cannot be read.

        Segment numbers are never reused, as a cache may still hold the old segment: they start at the Unix time, or
        after the existing segments if the clock was set back.
        """
        used = [int(match[1]) for path in self._playlist.parent.iterdir() if (match := self._ours.fullmatch(path.name))]
        return {
            "hls_time": str(KEY_INTERVAL_S),
            "hls_list_size": str(NUM_SEGMENTS),
            "hls_flags": "independent_segments",
            "start_number": str(max(int(time.time()), *(number + 1 for number in used), 0)),
            "hls_segment_filename": f"{self._prefix}%d.ts",
        }

    def probe(self) -> None:
        """Create and delete a file with the longest name that is needed; raises OSError if that fails."""
        with OutputFile(self._playlist.with_name(f"{self._prefix}{int(time.time())}.ts"), _SUFFIX) as file:
            file.partial.unlink()

    def open(self, url: str, _flags: int, _options: object) -> _Part:
        """Open a file for libavformat."""
        return _Part(self, self._playlist if url == PLAYLIST else self._playlist.with_name(url))

    @property
    def has_failed(self) -> bool:
        """Whether a file could not be written since the last call of `check`."""
        return self._error is not None

    def check(self) -> None:
        """Raise OSError if a file could not be written since the last call."""
        error, self._error = self._error, None
        if error is not None:
            raise OSError(error.strerror or str(error)) from error

    def note(self, error: OSError) -> None:
        """Keep the first error for `check`; libavformat cannot pass exceptions on."""
        self._error = self._error or error

    def finish(self, path: Path, sha256: str, size_bytes: int) -> None:
        """Count a complete file, add it to the chain, and delete the segments that are too old."""
        if path == self._playlist:
            return
        if self._chain is not None:
            self._chain.add(path.name, sha256, size_bytes)
        self.num_segments += 1
        self._segments.append(path)
        if self.num_segments == 1:
            self._delete_others()
        while len(self._segments) > NUM_SEGMENTS + 1:
            self._segments.popleft().unlink(missing_ok=True)

    def _delete_others(self) -> None:
        for path in self._playlist.parent.iterdir():
            if self._ours.fullmatch(path.name) and path not in self._segments:
                path.unlink(missing_ok=True)
        chain = self._playlist.with_name(f"{self._playlist.stem}{SUFFIX}")
        if self._chain is None and chain.is_file():  # it is about segments that are gone
            chain.unlink(missing_ok=True)


class _Part:
    """A file that libavformat writes; no method raises an error, the folder keeps it for `check`."""

    def __init__(self, folder: HlsFolder, path: Path) -> None:
        self._folder, self._path = folder, path
        self._file: OutputFile | None = None
        self._digest, self._num_bytes = hashlib.sha256(), 0
        if folder.has_failed:  # else a playlist would list missing segments
            return
        try:
            self._file = OutputFile(path, _SUFFIX)
            self._file.truncate()
        except OSError as error:
            self._give_up(error)

    def write(self, data: bytes) -> int:
        """Write all of the data; does nothing after an error."""
        if self._file is not None:
            try:
                self._file.write(data)
                self._digest.update(data)
                self._num_bytes += len(data)
            except OSError as error:
                self._give_up(error)
        return len(data)

    def close(self) -> None:
        """Rename the complete file; does nothing after an error."""
        if self._file is None:
            return
        try:
            self._file.commit()
            self._file = None
            self._folder.finish(self._path, self._digest.hexdigest(), self._num_bytes)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._folder.note(error)
        if self._file is not None:
            self._file.discard()
        self._file = None
