"""HLS: a playlist of the last seconds and its segments, in a folder that any web server can serve."""

from __future__ import annotations

import os
from pathlib import Path

from provenance.segments import SUFFIX
from streaming.errors import SinkError
from streaming.live.live_sink import LiveSink, StreamTarget
from streaming.sinks.sink import StreamFormat

_CLOSE_S = 10.0  # what is not written by then is lost


class HlsSink(LiveSink):
    """Writes "FOLDER/NAME.m3u8" and "NAME-NUMBER.ts" next to it; old segments are deleted.

    A segment begins with a key frame. The playlist is replaced by renaming, and is ended with the show. If a segment
    or the playlist cannot be written, the stream begins again, which counts as an error; frames that are in no complete
    segment count as dropped. With a chain, "NAME.segments.jsonl" has the hash of every segment.
    """

    close_s = _CLOSE_S + 1
    makes_file = True

    @staticmethod
    def to_target(spec: str) -> StreamTarget:
        """Return the playlist's path."""
        return StreamTarget(
            str(Path(spec).absolute()), "hls", stream="streaming.live.hls_stream:HlsStream", close_s=_CLOSE_S
        )

    def open(self, feed: StreamFormat) -> None:
        """Check that the playlist and its segments can be written."""
        from streaming.live.hls import HlsFolder

        path = Path(self._target.url)
        if os.path.isdir(path):  # noqa: PTH112 - Path raises where a name is too long
            raise SinkError(f"sink {self.name} is a folder: give the path of a playlist in it")
        if not os.path.isdir(path.parent):  # noqa: PTH112
            raise SinkError(f"sink {self.name} cannot be written: there is no folder {path.parent}; make it first")
        try:
            HlsFolder(path).probe()
        except OSError as error:
            raise SinkError(f"sink {self.name} cannot be written: {error.strerror}; choose another path") from error
        self._chain, self._first = path.with_name(f"{path.stem}{SUFFIX}"), feed.chain
        super().open(feed)

    def close(self) -> None:
        """End the stream; its chain of segments can be signed then."""
        super().close()
        if self._first and self._is_ours():
            self.product = self._chain

    def _is_ours(self) -> bool:
        """Return whether this show has begun the chain; that of an earlier show stays until a segment is complete."""
        if not self._chain.is_file():
            return False
        try:
            with self._chain.open("rb") as file:
                return file.readline() == f"{self._first}\n".encode()
        except OSError:
            return False
