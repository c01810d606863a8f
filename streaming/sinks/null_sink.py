"""A sink that discards its frames, for measuring the rest of the show."""

from __future__ import annotations

from streaming.sinks.sink import Frame, Sink, StreamFormat


class NullSink(Sink):
    """Counts the bytes of each frame and discards it.

    Args:
        spec: "null".
    """

    def __init__(self, spec: str) -> None:
        self.name = spec
        self._num_bytes = 0

    def open(self, feed: StreamFormat) -> None:
        """Do nothing."""

    def write(self, frame: Frame) -> bool:
        """Count the frame's bytes."""
        self._num_bytes += frame.picture.nbytes
        return True

    def close(self) -> None:
        """Do nothing."""

    def result(self) -> str:
        """Return the number of bytes."""
        return f"{self._num_bytes} bytes"
