"""The sound of files and streams as blocks of 48 kHz stereo."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from streaming.sound.timeline import CHANNELS, RATE, Samples

Block = tuple[Samples, float]  # and its time in seconds


def check_sound(container: Any) -> None:
    """Raise ValueError unless an opened file or stream has sound."""
    if not container.streams.audio:
        raise ValueError("it has no sound")


def decoded(container: Any) -> Iterator[Block]:
    """Yield the sound of an opened file or stream as blocks and their time in it in seconds."""
    converter = make_converter()
    for frame in container.decode(audio=0):
        yield from converted(converter, frame)


def make_converter() -> Any:
    """Return what converts frames of sound to 48 kHz stereo."""
    import av

    return av.AudioResampler("s16", "stereo", RATE)


def converted(converter: Any, frame: Any) -> Iterator[Block]:
    """Yield a decoded frame of sound as blocks and their time in seconds."""
    for part in converter.resample(frame):
        samples = part.to_ndarray().reshape(-1, CHANNELS)
        yield samples, 0.0 if part.time is None else float(part.time)
