"""The interface of sinks: each receives the show's frames on its own thread.

A new sink is one file with one class, and one line in `streaming.sinks.table`. A new live protocol is the same, with a
subclass of `streaming.live.live_sink.LiveSink`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # it loads the runtime, which most sinks do not need
    from streaming.control.controller import ShowController
    from streaming.sound.sound import Sound

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class StreamFormat:
    """The format of a show's frames, and what else a sink needs to know before the first one.

    Args:
        title: the name of the show.
        width: of a frame in pixels, even.
        height: of a frame in pixels, even.
        fps: slots per second.
        pixels: "i420" (H * 3 / 2, W; planes Y, U, V; BT.709 limited range) or "rgb" (H, W, 3).
        stats: returns the show's latest statistics, ready for JSON; may be called from any thread.
        controller: the show's controller, or None.
        preset: a name of `streaming.live.presets`, whose rules live streams follow; "" for none.
        encoder: a name of `streaming.live.encoders`; "" if no sink encodes H.264.
        sound: the show's sound; None for silence.
        chain: the first line of a chain of segments (`provenance.segments`), for sinks that write segments; "" for
            none.
    """

    title: str
    width: int
    height: int
    fps: Fraction
    pixels: str
    stats: Callable[[], Mapping[str, Any]]
    controller: ShowController | None = None
    preset: str = ""
    encoder: str = "x264"
    sound: Sound | None = None
    chain: str = ""


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame, shared by all sinks.

    Args:
        picture: uint8, in the shape given by `StreamFormat.pixels`, C-contiguous and read-only.
        slot: its position in the show: it is shown slot / fps seconds after the first frame.
    """

    picture: Picture
    slot: int


class Sink(ABC):
    """A destination of frames. `open` runs on the main thread, everything else on the sink's own.

    Attributes:
        name: is displayed; never contains a stream key.
        invitation: what users must know to use the sink, printed once when the show begins; "" for nothing.
        errors: number of errors that the sink recovered from.
        lost: frames that `write` reported as delivered, and that were lost later.
        reconnects: how often a stream was begun again.
        sent_bytes: of encoded video and audio so far; None if unknown.
        close_s: seconds that the end of the show waits for `close`; None waits until it returns.
        makes_file: whether it makes a file that can be signed.
        product: the finished file that can be signed, once `close` has returned; None for no such file.
    """

    name: str
    invitation: str = ""
    errors: int = 0
    lost: int = 0
    reconnects: int = 0
    sent_bytes: int | None = None
    close_s: float | None = 1.8
    makes_file: bool = False
    product: Path | None = None

    @abstractmethod
    def open(self, feed: StreamFormat) -> None:
        """Acquire what the sink needs (a path, a port, a device) quickly, without slow imports.

        Raises:
            SinkError: it is not available. Nothing is left behind then, and no other method is called.
        """

    def start(self) -> None:  # noqa: B027 - most sinks need no preparation
        """Do the slow part of opening, while the engine compiles.

        Raises:
            SinkError: the sink cannot work; `discard` is called next.
        """

    @abstractmethod
    def write(self, frame: Frame) -> bool:
        """Take one frame; may block.

        Returns:
            True if it was delivered, False if it was dropped.

        Raises:
            SinkError: the sink has failed; `close` is called next.
            ClosedError: a user has closed it; `close` is called next.
        """

    @abstractmethod
    def close(self) -> None:
        """Complete the output and release everything.

        Raises:
            SinkError: the output could not be completed.
        """

    def discard(self) -> None:
        """Release everything and leave no output behind, because the show never began."""
        self.close()

    def is_up(self) -> bool:
        """Return whether frames are being delivered; may be called from any thread."""
        return True

    def state(self) -> str:
        """Return the sink's state in a few words; may be called from any thread."""
        return "on air"

    def result(self) -> str:
        """Return where the frames went, for the summary at the end."""
        return ""
