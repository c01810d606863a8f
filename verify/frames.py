"""Reads the frames of a file, an address or a webcam with PyAV."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

WEBCAM = "webcam"
_OPEN_S, _READ_S = 10.0, 10.0
_THUMBNAIL = 320  # pixels wide
_NO_VIDEO = ("tty",)  # FFmpeg draws texts
_PLANAR = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "nv12", "gray")


class VideoFrame(NamedTuple):
    """A frame of a video.

    Args:
        luma: uint8 (H, W), brightness.
        at_s: seconds since the first frame.
        picture: the frame of the video library, for `to_thumbnail`.
    """

    luma: npt.NDArray[np.uint8]
    at_s: float
    picture: Any


def is_live(source: str) -> bool:
    """Return whether a source is an address or a webcam, which may have no end."""
    return "://" in source or source.partition(":")[0] == WEBCAM


def read_frames(source: str, seconds: float | None) -> Iterator[VideoFrame]:
    """Yield the frames of a video of one size; those after a change of the size are left out.

    Args:
        source: path of a video or a picture, an address that FFmpeg opens, or webcam or webcam:DEVICE.
        seconds: how much is read; None for all.

    Raises:
        ValueError: it cannot be opened, or has no picture.
    """
    import av

    address, container = _to_address(source)
    started_s = 0.0
    try:
        with av.open(address, format=container, timeout=(_OPEN_S, _READ_S)) as opened:
            if not opened.streams.video or opened.format.name in _NO_VIDEO:
                raise ValueError(f"{source} has no picture: give a video, a picture, an address or webcam")
            stream = opened.streams.video[0]
            stream.thread_type = "AUTO"
            first_s: float | None = None
            size: tuple[int, int] | None = None
            with suppress(av.EOFError):
                for number, frame in enumerate(opened.decode(stream)):
                    at_s = number / 25 if frame.time is None else float(frame.time)
                    if first_s is None:
                        first_s, started_s = at_s, time.monotonic()
                    passed_s = time.monotonic() - started_s if is_live(source) else at_s - first_s
                    if seconds is not None and passed_s >= seconds:
                        return
                    size = size or (frame.width, frame.height)
                    if (frame.width, frame.height) == size:
                        yield VideoFrame(_to_luma(frame), at_s - first_s, frame)
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"{source} cannot be read: {_reason(error)}; give a video, a picture or an address") from error


def to_thumbnail(picture: Any) -> bytes:
    """Return a frame of the video library as a small JPEG."""
    import io

    width = min(_THUMBNAIL, picture.width)
    small = picture.reformat(width, max(2, round(picture.height * width / picture.width)), "rgb24").to_image()
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def _to_luma(frame: Any) -> npt.NDArray[np.uint8]:
    """Return the brightness of a frame: its plane where it has one, which is faster than a conversion."""
    if frame.format.name not in _PLANAR:
        converted: npt.NDArray[np.uint8] = frame.reformat(format="gray").to_ndarray()
        return converted
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    return rows[: frame.height, : frame.width]


def _to_address(source: str) -> tuple[str, str | None]:
    """Return what FFmpeg opens, and its format if it has to be named."""
    kind, _, device = source.partition(":")
    if kind != WEBCAM:
        return source, None
    if sys.platform == "darwin":
        return device or "default", "avfoundation"
    if sys.platform == "win32":
        return f"video={device}", "dshow"
    return f"/dev/video{device or 0}" if not device.startswith("/") else device, "v4l2"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error).splitlines()[0]
