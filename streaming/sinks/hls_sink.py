"""A folder that any web server can show: HLS, a playlist of the last seconds and their segments."""

from __future__ import annotations

import os
from pathlib import Path

from streaming.errors import SinkError
from streaming.live.live_sink import LiveSink, StreamTarget
from streaming.live.publisher import FILE_GOODBYE_S
from streaming.sinks.sink import StreamFormat


class HlsSink(LiveSink):
    """Writes "FOLDER/NAME.m3u8" and "NAME-NUMBER.ts" beside it; old segments are deleted.

    A segment begins with a key frame. The playlist is replaced by renaming, and ends with the show. A segment or a
    playlist that cannot be written is an error, and so is every attempt to begin again; frames that are in no complete
    segment then count as dropped.
    """

    close_s = FILE_GOODBYE_S + 1

    @staticmethod
    def to_target(spec: str) -> StreamTarget:
        """Say where the playlist lies."""
        return StreamTarget(str(Path(spec).absolute()), "hls")

    def open(self, feed: StreamFormat) -> None:
        """Check that files with such names can be written there."""
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
        super().open(feed)
