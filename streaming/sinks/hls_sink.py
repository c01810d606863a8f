"""A folder that any web server can show: HLS, a playlist of the last seconds and their segments."""

from __future__ import annotations

import os
from pathlib import Path

from streaming.errors import SinkError
from streaming.live.h264 import KEY_INTERVAL_S
from streaming.live.live_sink import LiveSink, Target
from streaming.sink import Feed

NUM_SEGMENTS = 6  # in the playlist; one more stays for players that are still reading it


class HlsSink(LiveSink):
    """Writes "FOLDER/NAME.m3u8" and "NAME-NUMBER.ts" beside it; old segments are deleted.

    A segment begins with a key frame. The playlist is replaced by renaming, and ends with the show.
    """

    @staticmethod
    def to_target(spec: str) -> Target:
        """Say where the playlist and its segments lie."""
        path = Path(spec)
        options = {
            "hls_time": str(KEY_INTERVAL_S),
            "hls_list_size": str(NUM_SEGMENTS),
            "hls_flags": "delete_segments+independent_segments+temp_file",
            "hls_start_number_source": "epoch",  # a name is never used again: nobody is shown what a cache has kept
            "hls_segment_filename": str(path.with_name(f"{_escape(path.stem)}-%d.ts")),
        }
        return Target(str(path), "hls", "aac", options)

    def open(self, feed: Feed) -> None:
        """Check the folder, and take away what a show before has left in it."""
        path = Path(self.name)
        folder = path.parent
        if not folder.is_dir():
            raise SinkError(f"sink {self.name} cannot be written: there is no folder {folder}; make it first")
        if not os.access(folder, os.W_OK):
            raise SinkError(f"sink {self.name} cannot be written: nothing may be written to {folder}; choose another")
        for old in folder.iterdir():
            number = old.name.removeprefix(f"{path.stem}-").removesuffix(".ts")
            if old.suffix == ".ts" and number.isdigit() and old.name == f"{path.stem}-{number}.ts":
                old.unlink(missing_ok=True)
        super().open(feed)


def _escape(name: str) -> str:
    return name.replace("%", "%%")
