"""Sound as encoded packets: AAC in containers, Opus for WebRTC."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import numpy as np

from streaming.sound.timeline import RATE, Samples

OPUS_BITRATE = 96_000  # bit/s, for a stream without a bit rate of its own; enough for music


class SoundTrack:
    """Encodes samples; time 0 is the first one.

    Args:
        encoder: an `av` audio stream or codec context for 48 kHz stereo, whose container has been started.
    """

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder
        self._num = 0

    def encode(self, samples: Samples) -> list[Any]:
        """Return the packets that are complete; raises av.FFmpegError if the encoder fails.

        Args:
            samples: int16 (n, 2).
        """
        if not len(samples):
            return []
        frame: Any = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples).reshape(1, -1), "s16", "stereo")
        frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), self._num
        self._num += len(samples)
        return list(self._encoder.encode(frame))

    def finish(self) -> list[Any]:
        """Return the packets that are left."""
        return list(self._encoder.encode(None)) if self._num else []


def add_aac(container: Any, bitrate: int | None, codec: str = "aac") -> Any:
    """Add an audio stream to an output container without a header yet.

    Args:
        container: an `av` output container.
        bitrate: in bit/s; None for the codec's default.
        codec: libavcodec's name.
    """
    stream = container.add_stream(codec, rate=RATE, layout="stereo")
    if bitrate is not None:
        stream.codec_context.bit_rate = bitrate
    return stream


def open_opus(bitrate: int | None) -> Any:
    """Return an Opus encoder for WebRTC, whose packets last 20 ms.

    Args:
        bitrate: in bit/s; None for the codec's default.
    """
    context: Any = av.CodecContext.create("libopus", "w")
    context.sample_rate, context.layout, context.format = RATE, "stereo", "s16"
    context.time_base = Fraction(1, RATE)
    if bitrate is not None:
        context.bit_rate = bitrate
    context.open()
    return context
