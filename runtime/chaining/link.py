"""One link of a chain: a generator whose live frames are those of the link before."""

from __future__ import annotations

import statistics
from collections import deque
from time import perf_counter

from runtime.generator import Generator
from runtime.live_frames import FrameArray
from runtime.pixels.fitting import FrameFitter

RECENT = 60  # frames over which the time of a link is taken


class ChainLink:
    """A generator, its name, and what fits the frames of the link before to its live input.

    Args:
        generator: makes the link's frames.
        name: unique within the chain.
        before: generator of the link before; None for the first link.
    """

    def __init__(self, generator: Generator, name: str, before: Generator | None) -> None:
        self.generator, self.name = generator, name
        self._times_ms: deque[float] = deque(maxlen=RECENT)
        self._fitter: FrameFitter | None = None
        if before is not None:
            self.follow(before)

    def follow(self, before: Generator) -> None:
        """Take the frames of this generator as live frames from now on."""
        live = self.generator.live_size
        assert live is not None, "checked when the chain was made"
        self._fitter = FrameFitter((before.width, before.height), live)

    @property
    def ms(self) -> float:
        """The median milliseconds of the recent frames, the fitting of live frames included; 0 before the first."""
        times_ms = list(self._times_ms)  # frames may be made meanwhile
        return statistics.median(times_ms) if times_ms else 0.0

    def make(self, before: FrameArray | None) -> FrameArray:
        """Return the next frame; `before` is that of the link before, None in the first link.

        Raises:
            EngineError: the engine failed.
        """
        began_s = perf_counter()
        if before is not None:
            self.feed(before)
        frame = next(self.generator)
        self._times_ms.append(1000 * (perf_counter() - began_s))
        return frame

    def feed(self, before: FrameArray) -> None:
        """Set the live frame: that of the link before, which must not be freed before the next one is set."""
        assert self._fitter is not None, "the first link has no link before"
        self.generator.feed_view(self._fitter.fit(before))
