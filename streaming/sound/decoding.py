"""The sound of files and streams as blocks of 48 kHz stereo."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from streaming.sound.timeline import CHANNELS, RATE, Samples

Block = tuple[Samples, float]  # and its time in seconds


def check_sound(container: Any) -> None:
    """Raise ValueError unless an opened file or stream has sound."""
    if not container.streams.audio:
        raise ValueError("it has no sound")


def decoded(container: Any) -> Iterator[Block]:
    """Yield the sound of an opened file or stream as blocks and their time in it in seconds."""
    converter = Converter()
    for frame in container.decode(audio=0):
        yield from converter.convert(frame)


class Converter:
    """Converts decoded frames of sound to 48 kHz stereo; one side becomes two at the same loudness."""

    def __init__(self) -> None:
        self._resampler: Any = None
        self._is_mono: bool | None = None

    def convert(self, frame: Any) -> Iterator[Block]:
        """Yield a frame as blocks and their time in seconds."""
        import av

        is_mono = frame.layout.nb_channels == 1
        if is_mono is not self._is_mono:  # FFmpeg would make one side quieter
            self._resampler, self._is_mono = av.AudioResampler("s16", "mono" if is_mono else "stereo", RATE), is_mono
        for part in self._resampler.resample(frame):
            samples = part.to_ndarray().reshape(-1, 1 if is_mono else CHANNELS)
            yield (
                np.repeat(samples, CHANNELS // samples.shape[1], axis=1),
                0.0 if part.time is None else float(part.time),
            )
