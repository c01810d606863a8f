"""Frames that never end: a fallback picture replaces those of a generator whose every engine has failed.

Meanwhile the generator is reopened in the background, as often as it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future

import av
import numpy as np
import numpy.typing as npt

from runtime import BundleError, EngineError
from runtime.prompts.background import BackgroundThread
from runtime.prompts.images import load_image
from streaming.output.pacing import Clock
from streaming.sinks.sink import Picture

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0


class FallbackFrames:
    """An iterator of frames that continues when its source fails.

    Args:
        source: the generator's frames.
        picture: shown until the source is back; shaped like a frame.
        reopen: opens the generator again and returns its frames; called in the background; raises EngineError,
            BundleError or ValueError if it fails.
        clock: for the waits between attempts, which double from 1 s up to 30 s.
        say: called with one line for each event.
    """

    def __init__(
        self,
        source: Iterator[Picture],
        picture: Picture,
        reopen: Callable[[], Iterator[Picture]],
        clock: Clock,
        say: Callable[[str], None],
    ) -> None:
        self._source: Iterator[Picture] | None = source
        self._picture, self._reopen, self._clock, self._say = picture, reopen, clock, say
        self._background: BackgroundThread[Iterator[Picture]] = BackgroundThread()
        self._attempt: Future[Iterator[Picture]] | None = None
        self._wait_s = FIRST_WAIT_S
        self._next_s = 0.0

    @property
    def is_up(self) -> bool:
        """Whether frames come from the generator."""
        return self._source is not None

    def __iter__(self) -> Iterator[Picture]:
        return self

    def __next__(self) -> Picture:
        """Return the next frame, or the picture; never raises EngineError."""
        if self._source is None:
            self._look()
        if self._source is not None:
            try:
                frame = next(self._source)
                self._wait_s = FIRST_WAIT_S
                return frame
            except EngineError as error:
                self._source = None
                self._postpone(f"every engine has failed ({_line(error)}): the fallback picture is shown")
        return self._picture

    def close(self) -> None:
        """Wait for an attempt in progress."""
        self._background.close()

    def _look(self) -> None:
        """Take the result of an attempt, or begin one."""
        if self._attempt is None:
            if self._clock.now() >= self._next_s:
                self._attempt = self._background.submit(self._reopen)
        elif self._attempt.done():
            attempt, self._attempt = self._attempt, None
            try:
                self._source = attempt.result()
            except (EngineError, BundleError, ValueError) as error:
                self._postpone(f"the engine cannot be opened again ({_line(error)})")
            else:
                self._say("the engine is back")

    def _postpone(self, what: str) -> None:
        self._say(f"{what}; trying again in {self._wait_s:g} s")
        self._next_s = self._clock.now() + self._wait_s
        self._wait_s = min(LONGEST_WAIT_S, 2 * self._wait_s)


def load_fallback(path: str, width: int, height: int, pixels: str) -> Picture:
    """Read a picture and convert it to a frame.

    Args:
        path: of an image file.
        width: of a frame in pixels.
        height: of a frame in pixels.
        pixels: "rgb" or "i420".

    Returns:
        uint8, (height, width, 3) or (height * 3 / 2, width).

    Raises:
        ValueError: it cannot be read.
    """
    rgb = load_image(path, width, height)
    return rgb if pixels == "rgb" else to_i420(rgb)


def to_i420(rgb: npt.NDArray[np.uint8]) -> Picture:
    """Convert (H, W, 3) RGB to (H * 3 / 2, W) I420, BT.709 limited range; both sizes even."""
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
    picture: Picture = frame.to_ndarray(
        format="yuv420p",
        src_colorspace="ITU709",
        dst_colorspace="ITU709",
        src_color_range="JPEG",
        dst_color_range="MPEG",
    )
    return picture


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
