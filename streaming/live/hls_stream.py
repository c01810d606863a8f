"""One uninterrupted HLS stream: FFmpegStream's packets -> a playlist and segments in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av

from streaming.live.ffmpeg_stream import FFmpegStream
from streaming.live.hls import PLAYLIST, HlsFolder
from streaming.live.publisher import PublishJob
from streaming.sinks.sink import Frame
from streaming.sound.timeline import Samples


class HlsStream(FFmpegStream):
    """Writes the playlist that the job's url names; arguments and errors as `FFmpegStream` has them."""

    def __init__(self, job: PublishJob) -> None:
        super().__init__(job)
        self._folder.check()
        self.num_kept = 0
        self._num_frames = 0

    def open_container(self, job: PublishJob, order: Mapping[str, str], options: Mapping[str, str]) -> Any:
        """Open the muxer, whose files belong to an `HlsFolder`."""
        self._folder = folder = HlsFolder(Path(job.url), chain=job.chain)
        return av.open(
            PLAYLIST,
            "w",
            format="hls",
            container_options={**order, **options, **folder.options()},
            io_open=folder.open,
        )

    def send(self, frame: Frame, sound: Samples | None = None) -> None:
        """Encode a frame and its sound, and write them; raises OSError if a segment or the playlist fails."""
        super().send(frame, sound)
        self._folder.check()
        if self._keys.last == frame.slot and self._folder.num_segments:  # the frames before this key frame are complete
            self.num_kept = self._num_frames
        self._num_frames += 1

    def close(self) -> None:
        """Complete the last segment and the playlist."""
        super().close()
        self._folder.check()
        self.num_kept = self._num_frames
