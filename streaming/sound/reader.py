"""A sink's place in the show's sound: with each frame it takes what belongs to it."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import floor

import numpy as np

from streaming.sound.timeline import RATE, Samples, SoundTimeline

_PATIENCE = RATE // 5  # for sound that is late; then there is silence


class SoundReader:
    """Reads the sound of one stream from its first frame on, without gaps.

    Args:
        timeline: of the show.
        fps: slots per second.
        gain: returns the factor on the samples now.
        ahead_s: how far beyond a frame's end its sound may reach; muxers hold a frame until later sound has come.
    """

    def __init__(
        self, timeline: SoundTimeline, fps: Fraction, gain: Callable[[], float], *, ahead_s: float = 0.0
    ) -> None:
        self._timeline, self._fps, self._gain = timeline, fps, gain
        self._ahead = round(ahead_s * RATE)
        self._position: int | None = None
        self._last_gain: float | None = None  # None before the first block

    def restart(self) -> None:
        """Begin anew with the next frame, as a stream does that has been lost."""
        self._position = None

    def read(self, slot: int) -> Samples:
        """Return the sound up to the end of a frame, as far as it is there.

        Args:
            slot: of the frame; later than the one before.

        Returns:
            int16 (n, 2): what follows the samples of the call before. Empty while the source is late; what is missing
            after 0.2 s is silent.
        """
        begins = floor(slot * RATE / self._fps)
        if self._position is None:
            self._position = begins
        wanted = floor((slot + 1) * RATE / self._fps) + self._ahead
        end = max(self._position, min(wanted, max(self._timeline.end, begins - _PATIENCE)))
        samples = self._timeline.read(self._position, end)
        self._position = end
        return self._with_gain(samples)

    def _with_gain(self, samples: Samples) -> Samples:
        """Apply the gain; a new one comes in over the block, so that it does not click."""
        if not len(samples):
            return samples
        gain = self._gain()
        before, self._last_gain = gain if self._last_gain is None else self._last_gain, gain
        if before == gain == 1:
            return samples
        factors = np.linspace(before, gain, len(samples), dtype=np.float32)[:, np.newaxis]
        louder: Samples = np.clip(np.rint(samples * factors), -32768, 32767).astype(np.int16)
        return louder
