"""Raw frames on standard output, without headers or padding.

python -m streaming --to - | ffplay -f rawvideo -pixel_format yuv420p -video_size 128x128 -framerate 25 -
"""

from __future__ import annotations

import os
import sys

from streaming.errors import ReaderGoneError, SinkError
from streaming.sinks.sink import Frame, Sink, StreamFormat


class PipeSink(Sink):
    """Writes width x height x 1.5 bytes (I420) or x 3 bytes (RGB) per frame to file descriptor 1.

    While the sink is open, other output to standard output, e.g. by C libraries, goes to standard error.

    Args:
        spec: "-".
    """

    def __init__(self, spec: str) -> None:
        self.name = spec
        self._fd = -1
        self._num_bytes = 0
        self._form = ""

    def open(self, feed: StreamFormat) -> None:
        """Take over standard output; a terminal is an error."""
        self._form = f"{feed.width} x {feed.height} {feed.pixels}"
        if sys.stdout is None:  # closed when the process started; the descriptor is the null device
            raise SinkError("sink - needs standard output, and it is closed: add | PROGRAM or > FILE")
        try:
            if os.isatty(1):
                raise SinkError("sink - writes raw video, and standard output is a terminal: add | PROGRAM or > FILE")
            self._fd = os.dup(1)
        except OSError as error:
            raise SinkError("sink - needs standard output, and it is closed: add | PROGRAM or > FILE") from error
        os.dup2(2, 1)

    def write(self, frame: Frame) -> bool:
        """Write a frame; blocks while the reader is busy."""
        rest = frame.picture.reshape(-1).data
        try:
            while rest:
                written = os.write(self._fd, rest)
                self._num_bytes += written
                rest = rest[written:]
        except BrokenPipeError as error:
            raise ReaderGoneError("the reader closed the pipe") from error
        except OSError as error:
            raise SinkError(f"sink - cannot write to standard output: {error.strerror}") from error
        return True

    def close(self) -> None:
        """Restore standard output."""
        os.dup2(self._fd, 1)
        os.close(self._fd)

    def result(self) -> str:
        """Return the number of bytes and their format."""
        return f"{self._num_bytes} bytes, {self._form}"
