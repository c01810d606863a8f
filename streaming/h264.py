"""H.264 through libx264, set up alike for recordings and for live streams."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import av
from av.video.frame import PictureType

from streaming.sink import Feed, Frame

KEY_INTERVAL_S = 2
_BT709 = 1  # ITU-T H.273, tables 2 to 4: primaries, transfer and matrix are all 1
_LIMITED = 1  # AVCOL_RANGE_MPEG
_PIXELS_PER_THREAD = 300_000  # a small picture cut into slices for many threads costs quality and gains nothing


def add_video(container: Any, feed: Feed, options: Mapping[str, str]) -> Any:
    """Add an H.264 stream to an output container.

    Args:
        container: an `av` output container that has written nothing yet.
        feed: frame size and rate.
        options: of libx264, besides those for size, rate and colour.

    Returns:
        The `av` stream; its encoder counts time in slots.
    """
    # Chroma was averaged over 2 x 2 pixels and so sits in the middle of them (H.264, annex E: location 1).
    stream = container.add_stream("libx264", rate=feed.fps, options={"x264-params": "chromaloc=1", **options})
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = feed.width, feed.height, "yuv420p"
    context.time_base = 1 / feed.fps
    context.gop_size = math.ceil(KEY_INTERVAL_S * feed.fps)
    context.color_range = _LIMITED
    context.color_primaries = context.color_trc = context.colorspace = _BT709
    context.thread_count = min(4, 1 + feed.width * feed.height // _PIXELS_PER_THREAD)
    return stream


def to_video_frame(frame: Frame, feed: Feed, slot: int, *, is_key: bool = False) -> Any:
    """Wrap an I420 frame for the encoder.

    Args:
        frame: uint8 (H * 3 / 2, W); copied.
        feed: its rate.
        slot: presentation time in slots.
        is_key: whether it must become a key frame.

    Returns:
        An `av.VideoFrame` in yuv420p.
    """
    video = av.VideoFrame.from_ndarray(frame.picture, format="yuv420p")
    video.pts = slot
    video.time_base = 1 / feed.fps
    if is_key:
        video.pict_type = PictureType.I
    return video
