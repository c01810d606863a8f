"""One uninterrupted SRT stream: FFmpegStream's packets as MPEG-TS -> libsrt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import av

from streaming.live.ffmpeg_stream import FFmpegStream
from streaming.live.publisher import PublishJob
from streaming.live.srt import MESSAGE_BYTES, SrtOutput, parse

_MESSAGES_IN_BUFFER = 24


class SrtStream(FFmpegStream):
    """Publishes to "srt://..."; arguments and errors as `FFmpegStream` has them."""

    def open_container(self, job: PublishJob, order: Mapping[str, str], options: Mapping[str, str]) -> Any:
        """Connect, and open a muxer that writes to the connection."""
        self._output = SrtOutput(parse(job.url))
        size = _MESSAGES_IN_BUFFER * MESSAGE_BYTES  # so that the muxer writes a whole number of TS packets
        return av.open(self._output, "w", format=job.muxer, container_options={**order, **options}, buffer_size=size)

    def close(self) -> None:
        """Send what is still buffered and close the connection."""
        try:
            super().close()
        finally:
            self._output.close()
