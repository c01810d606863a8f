"""A sink that reads the numbers in the frames of the tiny bundle."""

from __future__ import annotations

import time
from dataclasses import dataclass

from streaming.sinks.sink import Frame, Sink, StreamFormat

FPS = 30  # of the tiny bundle


@dataclass(frozen=True)
class Seen:
    """A frame that a sink got.

    Args:
        slot: its place in the show.
        number: that it shows, 0 to 255, off by one at most.
        unix_s: when it was written.
    """

    slot: int
    number: int
    unix_s: float

    def is_in_place(self, begun: int = 0) -> bool:
        """Whether the frame is the one of its slot.

        Args:
            begun: slot in which the bundle began.
        """
        return (self.number - self.slot + begun + 1) % 256 <= 2


class SeeingSink(Sink):
    """A sink that reads the numbers of its frames.

    Args:
        error: raised when it is opened; None for none.
    """

    def __init__(self, error: Exception | None = None) -> None:
        self.name = "seeing"
        self.seen: list[Seen] = []
        self._error = error

    def open(self, feed: StreamFormat) -> None:
        if self._error is not None:
            raise self._error

    def start(self) -> None:
        pass

    def write(self, frame: Frame) -> bool:
        luma = float(frame.picture[2:6, 2:6].mean())
        self.seen.append(Seen(frame.slot, round((luma - 16) * 255 / 219), time.time()))
        return True

    def close(self, *, keep: bool = True) -> None:
        pass
