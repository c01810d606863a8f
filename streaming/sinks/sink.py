"""What a sink is: something that takes frames off the show's hands, on a thread of its own.

A new sink is one file with one class, and one line in the table of `sinks.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # whoever has a desk has loaded the runtime; most sinks need neither
    from streaming.control.controller import ShowController

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class StreamFormat:
    """What a sink is told about the show before the first frame.

    Args:
        title: name of what is shown, for people.
        width: of a frame in pixels, even.
        height: of a frame in pixels, even.
        fps: slots per second.
        pixels: "i420" (H * 3 / 2, W; planes Y, U, V; BT.709 limited range) or "rgb" (H, W, 3).
        figures: returns the show's latest figures, ready for JSON; may be called from any thread.
        desk: where the show is steered, or None.
        preset: name of the service whose rules live streams follow, of `streaming.live.presets`; "" for none.
        encoder: name of the encoder for H.264, of `streaming.live.encoders`; "" where no sink makes any.
    """

    title: str
    width: int
    height: int
    fps: Fraction
    pixels: str
    figures: Callable[[], Mapping[str, Any]]
    desk: ShowController | None = None
    preset: str = ""
    encoder: str = "x264"


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame, shared by all sinks.

    Args:
        picture: uint8, shaped as the feed's `pixels` says, C-contiguous and read-only.
        slot: its place in the show: it is shown slot / fps seconds after the first frame.
    """

    picture: Picture
    slot: int


class Sink(ABC):
    """Where frames go. `open` runs on the main thread, everything after it on the sink's own.

    Attributes:
        name: what people see; never holds a stream key.
        invitation: what people need to know to use it, told once when the show begins; "" for nothing.
        errors: how often something went wrong that the sink got over by itself.
        lost: frames that were delivered, as `write` said, and turned out to be lost.
        reconnects: how often a stream was begun anew.
        sent_bytes: of encoded picture and sound so far; None where nothing is encoded, or nobody counts.
        close_s: seconds that the end of the show waits for `close`, None for as long as it takes.
    """

    name: str
    invitation: str = ""
    errors: int = 0
    lost: int = 0
    reconnects: int = 0
    sent_bytes: int | None = None
    close_s: float | None = 1.8

    @abstractmethod
    def open(self, feed: StreamFormat) -> None:
        """Claim what the sink needs (a path, a port, a device) quickly, and import nothing heavy.

        Raises:
            SinkError: it cannot be had. Nothing is left behind then, and nothing else is called.
        """

    def start(self) -> None:  # noqa: B027 - most sinks have nothing to prepare
        """Do the slow part of opening, while the engine compiles.

        Raises:
            SinkError: the sink cannot work; `discard` is called next.
        """

    @abstractmethod
    def write(self, frame: Frame) -> bool:
        """Take one frame, as long as that may last.

        Returns:
            True if it was delivered, False if it had to be left out.

        Raises:
            SinkError: the sink is dead; `close` is called next.
            ClosedError: somebody has closed it; likewise.
        """

    @abstractmethod
    def close(self) -> None:
        """Finish what was begun and release everything.

        Raises:
            SinkError: what was written could not be finished.
        """

    def discard(self) -> None:
        """Release everything and leave nothing behind: the show never began."""
        self.close()

    def is_up(self) -> bool:
        """Return whether frames get where they should just now; may be called from any thread."""
        return True

    def state(self) -> str:
        """Return in a few words how the sink is doing; may be called from any thread."""
        return "on air"

    def result(self) -> str:
        """Return where the frames went, for the summary."""
        return ""
