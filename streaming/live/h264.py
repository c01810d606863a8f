"""The set-up of H.264 encoders, the same for recordings and live streams."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import av
from av.video.frame import PictureType

from streaming.live.encoders import H264Encoder
from streaming.sinks.sink import Frame, StreamFormat

KEY_INTERVAL_S = 2
_KEY_PAUSE_S = Fraction(1, 2)  # at least, before a requested key frame
_BT709 = 1  # ITU-T H.273, tables 2 to 4: primaries, transfer and matrix are all 1
_LIMITED = 1  # AVCOL_RANGE_MPEG
_PIXELS_PER_THREAD = 300_000  # more threads cut a small frame into slices, which costs quality


class KeyFrames:
    """Chooses the key frames of a stream: the first frame, one per interval, and those that receivers request.

    Args:
        fps: slots per second.
        interval_s: between key frames.

    Attributes:
        last: the slot of the latest key frame, None before the first.
    """

    def __init__(self, fps: Fraction, interval_s: int = KEY_INTERVAL_S) -> None:
        self.last: int | None = None
        self._interval, self._pause = math.ceil(interval_s * fps), _KEY_PAUSE_S * fps  # in slots
        self._is_requested = False

    def request(self) -> None:
        """Ask for a key frame soon; may be called from any thread."""
        self._is_requested = True

    def is_key(self, slot: int) -> bool:
        """Return whether the frame in this slot becomes a key frame; call it once per frame."""
        if self.last is not None:
            passed = slot - self.last
            if passed < self._interval and not (self._is_requested and passed >= self._pause):
                return False
        self.last, self._is_requested = slot, False
        return True


def add_video(container: Any, feed: StreamFormat, encoder: H264Encoder, options: Mapping[str, str]) -> Any:
    """Add an H.264 stream to an output container.

    Args:
        container: an `av` output container without a header yet.
        feed: frame size and rate.
        encoder: one that works on this machine.
        options: of the encoder, except size, rate and colour.

    Returns:
        The `av` stream; its encoder counts time in slots.
    """
    stream = container.add_stream(encoder.codec, rate=feed.fps, options=dict(options))
    _set_up(stream.codec_context, feed, encoder)
    return stream


def open_video(feed: StreamFormat, encoder: H264Encoder, options: Mapping[str, str]) -> Any:
    """Open an H.264 encoder without a container; its key frames contain the stream's headers.

    Args:
        feed: frame size and rate.
        encoder: one that works on this machine.
        options: of the encoder, except size, rate and colour.

    Returns:
        The `av` codec context; it counts time in slots.

    Raises:
        av.FFmpegError: the encoder rejects the options.
    """
    context = av.CodecContext.create(encoder.codec, "w")
    context.options = dict(options)
    context.framerate = feed.fps
    _set_up(context, feed, encoder)
    context.open()
    return context


def _set_up(context: Any, feed: StreamFormat, encoder: H264Encoder) -> None:
    context.width, context.height, context.pix_fmt = feed.width, feed.height, encoder.pixels
    context.time_base = 1 / feed.fps
    context.gop_size = math.ceil(KEY_INTERVAL_S * feed.fps)
    context.color_range = _LIMITED
    context.color_primaries = context.color_trc = context.colorspace = _BT709
    context.thread_count = min(4, 1 + feed.width * feed.height // _PIXELS_PER_THREAD)


def to_video_frame(
    frame: Frame, feed: StreamFormat, slot: int, *, pixels: str = "yuv420p", is_key: bool = False
) -> Any:
    """Wrap an I420 frame for the encoder.

    Args:
        frame: uint8 (H * 3 / 2, W); copied.
        feed: its rate.
        slot: presentation time in slots.
        pixels: the encoder's input format.
        is_key: whether to request a key frame.

    Returns:
        An `av.VideoFrame`.
    """
    video = av.VideoFrame.from_ndarray(frame.picture, format="yuv420p")
    if pixels != "yuv420p":
        video = video.reformat(format=pixels)
    video.pts = slot
    video.time_base = 1 / feed.fps
    if is_key:
        video.pict_type = PictureType.I
    return video
