"""Reads the frames of a file, an address or a webcam with PyAV."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from runtime.masking import mask

WEBCAM = "webcam"
_OPEN_S, _READ_S = 10.0, 10.0
_LATE_S = 0.5  # by which the frames of a whole file may end before its stated end
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


@dataclass
class Unread:
    """What of a source was not read; `read_frames` fills it in.

    Attributes:
        error: why reading ended before the end; "" if it did not.
        error_s: when that was, in seconds since the first frame.
        limit_s: the seconds after which reading was to end, if a file has more frames; else None.
        stated_s: how long the file says that it lasts; None if it does not.
        ended_s: when its frames end, if that is earlier than it says; else None.
        resized: frames that were left out because they differ from the first one in size.
    """

    error: str = ""
    error_s: float = 0.0
    limit_s: float | None = None
    stated_s: float | None = None
    ended_s: float | None = None
    resized: int = 0

    def sentences(self) -> list[str]:
        """Return it in plain words; empty if everything was read."""
        told = []
        if self.error:
            told.append(f"Reading ended at {self.error_s:.1f} s: {self.error}. What comes after it was not read.")
        if self.limit_s is not None:
            whole = "" if self.stated_s is None else f" of {self.stated_s:.1f} s"
            told.append(f"Only the first {self.limit_s:g} s{whole} were read: give --seconds for more.")
        if self.ended_s is not None:
            told.append(
                f"The file is cut short or damaged: it says that it lasts {self.stated_s:.1f} s, and its frames end at "
                f"{self.ended_s:.1f} s."
            )
        if self.resized:
            told.append(f"{self.resized} frames were not read, because their size differs from that of the first one.")
        return told

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def is_live(source: str) -> bool:
    """Return whether a source is an address or a webcam, which may have no end."""
    return "://" in source or source.partition(":")[0] == WEBCAM


def to_name(source: str) -> str:
    """Return a source as it is shown: an address without user, password, query and stream key."""
    return mask(source) if "://" in source else source


def read_frames(source: str, seconds: float | None, unread: Unread | None = None) -> Iterator[VideoFrame]:
    """Yield the frames of a video of one size; those after a change of the size are left out.

    Args:
        source: path of a video or a picture, an address that FFmpeg opens, or webcam or webcam:DEVICE.
        seconds: how much is read; None for all.
        unread: is told what was not read, e.g. because a frame behind the first one is damaged.

    Raises:
        ValueError: it cannot be opened, or has no picture.
    """
    import av

    unread = Unread() if unread is None else unread
    address, container = _to_address(source)
    started_s, first_s, at_s, end_s = 0.0, None, 0.0, 0.0
    size: tuple[int, int] | None = None
    try:
        with av.open(address, format=container, timeout=(_OPEN_S, _READ_S)) as opened:
            if not opened.streams.video or opened.format.name in _NO_VIDEO:
                raise ValueError(f"{to_name(source)} has no picture: give a video, a picture, an address or webcam")
            stream = opened.streams.video[0]
            # A decoder's thread that logs into Python while its decoder is freed would wait for ever, and so would we.
            stream.thread_type = "NONE"
            unread.stated_s = None if is_live(source) else _stated_s(opened)
            with suppress(av.EOFError):
                for number, frame in enumerate(opened.decode(stream)):
                    now_s = number / 25 if frame.time is None else float(frame.time)
                    if first_s is None:
                        first_s, started_s, size = now_s, time.monotonic(), (frame.width, frame.height)
                    passed_s = time.monotonic() - started_s if is_live(source) else now_s - first_s
                    if seconds is not None and passed_s >= seconds:
                        unread.limit_s = None if is_live(source) else seconds
                        return
                    at_s = now_s - first_s
                    end_s = at_s + float((frame.duration or 0) * (frame.time_base or 0))
                    if (frame.width, frame.height) == size:
                        yield VideoFrame(_to_luma(frame), at_s, frame)
                    else:
                        unread.resized += 1
            late_s = _LATE_S + 2 / float(stream.average_rate or 25)
            if unread.stated_s is not None and first_s is not None and end_s + late_s < unread.stated_s:
                unread.ended_s = end_s
    except (av.FFmpegError, OSError) as error:
        if first_s is None:
            raise ValueError(
                f"{to_name(source)} cannot be read: {_reason(error, source)}; give a video, a picture or an address"
            ) from error
        unread.error, unread.error_s = _reason(error, source), at_s


def to_thumbnail(picture: Any) -> bytes:
    """Return a frame of the video library as a small JPEG."""
    import io

    width = min(_THUMBNAIL, picture.width)
    small = picture.reformat(width, max(2, round(picture.height * width / picture.width)), "rgb24").to_image()
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def _stated_s(opened: Any) -> float | None:
    """Return how long a file says that its pictures last: of their stream, else of a file without sound."""
    stream = opened.streams.video[0]
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    hours, minutes, seconds = ([*stream.metadata.get("DURATION", "").split(":"), "", ""])[:3]  # of Matroska
    with suppress(ValueError):
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    return None if opened.duration is None or len(opened.streams) > 1 else opened.duration / 1_000_000


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


def _reason(error: Exception, source: str) -> str:
    reason = getattr(error, "strerror", None) or f"{error}\n".splitlines()[0] or type(error).__name__
    return reason.replace(source, to_name(source))
