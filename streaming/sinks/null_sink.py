"""Nowhere: frames are counted and forgotten, for measuring what the rest costs."""

from __future__ import annotations

from streaming.sinks.sink import Frame, Sink, StreamFormat


class NullSink(Sink):
    """Takes every frame and does nothing with it.

    Args:
        spec: "null".
    """

    def __init__(self, spec: str) -> None:
        self.name = spec
        self._num_bytes = 0

    def open(self, feed: StreamFormat) -> None:
        """Nothing to open."""

    def write(self, frame: Frame) -> bool:
        """Count the frame's bytes and forget it."""
        self._num_bytes += frame.picture.nbytes
        return True

    def close(self) -> None:
        """Nothing to close."""

    def result(self) -> str:
        """Return how much was thrown away."""
        return f"{self._num_bytes} bytes"
