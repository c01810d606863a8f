"""Raw frames on standard output, one after the other, without header or padding.

python -m streaming --to - | ffplay -f rawvideo -pixel_format yuv420p -video_size 128x128 -framerate 25 -
"""

from __future__ import annotations

import os
import sys

from streaming.errors import ReaderGoneError, SinkError
from streaming.sinks.sink import Frame, Sink, StreamFormat


class PipeSink(Sink):
    """Writes width x height x 1.5 bytes (I420) or x 3 bytes (RGB) per frame to file descriptor 1.

    Whatever else writes to standard output, C libraries included, is sent to standard error while the sink is open.

    Args:
        spec: "-".
    """

    def __init__(self, spec: str) -> None:
        self.name = spec
        self._fd = -1
        self._num_bytes = 0
        self._form = ""

    def open(self, feed: StreamFormat) -> None:
        """Take standard output; refuse a terminal, which raw video would only garble."""
        self._form = f"{feed.width} x {feed.height} {feed.pixels}"
        if sys.stdout is None:  # closed when the process started; the descriptor is the null device now
            raise SinkError("sink - needs standard output, and it is closed: add | PROGRAM or > FILE")
        try:
            if os.isatty(1):
                raise SinkError("sink - writes raw video, and standard output is a terminal: add | PROGRAM or > FILE")
            self._fd = os.dup(1)
        except OSError as error:
            raise SinkError("sink - needs standard output, and it is closed: add | PROGRAM or > FILE") from error
        os.dup2(2, 1)

    def write(self, frame: Frame) -> bool:
        """Write a whole frame; blocks while the reader is busy."""
        rest = frame.picture.reshape(-1).data
        try:
            while rest:
                written = os.write(self._fd, rest)
                self._num_bytes += written
                rest = rest[written:]
        except BrokenPipeError as error:
            raise ReaderGoneError("the reader of the pipe has left") from error
        except OSError as error:
            raise SinkError(f"sink - cannot write to standard output: {error.strerror}") from error
        return True

    def close(self) -> None:
        """Give standard output back."""
        os.dup2(self._fd, 1)
        os.close(self._fd)

    def result(self) -> str:
        """Return how much was written, and in which form."""
        return f"{self._num_bytes} bytes, {self._form}"
