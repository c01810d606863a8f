"""I420 -> JPEG, for browsers."""

from __future__ import annotations

import io

import av
from PIL import Image

from streaming.sinks.sink import Picture

_QUALITY = 90


def to_jpeg(picture: Picture) -> bytes:
    """Encode a frame as a JPEG; the colours are converted, as JPEG has no BT.709 and no limited range.

    Args:
        picture: uint8 (H * 3 / 2, W), I420, BT.709 limited range.

    Returns:
        A complete JFIF file.
    """
    frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
    # RGB has no matrix, but swscale needs an argument for the target.
    rgb = frame.to_ndarray(
        format="rgb24",
        src_colorspace="ITU709",
        dst_colorspace="ITU709",
        src_color_range="MPEG",
        dst_color_range="JPEG",
    )
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
