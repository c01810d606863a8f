"""What happens to a video on its way: codecs, scaling, cropping, turning, other frame rates, screen captures.

Legend: H height, W width of a frame. Clips are lists of I420 frames, uint8 (H * 3 / 2, W); results are lists of
brightness, uint8 (H, W).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Frame = npt.NDArray[np.uint8]
Clip = Sequence[Frame]
Change = Callable[[Clip], list[Frame]]
FPS = 25


def luma(frame: Frame) -> Frame:
    """Return the brightness of an I420 frame."""
    return frame[: len(frame) * 2 // 3]


def encoded(clip: Clip, codec: str, bit_rate: int, *, fps: int = FPS, **options: object) -> list[Frame]:
    """Return a clip after an encoder and a decoder.

    Args:
        clip: I420 frames.
        codec: name in FFmpeg.
        bit_rate: bits per second; 0 for the options alone.
        fps: frames per second.
        options: of the encoder.

    Raises:
        ValueError: this build of the video library has no such encoder.
    """
    import av

    full = codec == "mjpeg"
    height, width = len(clip[0]) * 2 // 3, clip[0].shape[1]
    buffer = io.BytesIO()
    try:
        with av.open(buffer, "w", format="matroska") as out:
            stream: Any = out.add_stream(codec, rate=fps)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p" if full else "yuv420p"
            if bit_rate:
                stream.bit_rate = bit_rate
            stream.options = {key: str(value) for key, value in options.items()}
            for frame in clip:
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="yuv420p")
                out.mux(stream.encode(picture.reformat(format="yuvj420p") if full else picture))
            out.mux(stream.encode(None))
    except (av.codec.codec.UnknownCodecError, av.error.EncoderNotFoundError) as error:
        raise ValueError(f"this PyAV has no encoder {codec}") from error
    buffer.seek(0)
    with av.open(buffer) as opened:
        return [_plane(picture) for picture in opened.decode(video=0)]


def x264(clip: Clip, bit_rate: int, fps: int = FPS) -> list[Frame]:
    """Return a clip as a live stream carries it: constant bit rate, one second of buffer."""
    limits = {"maxrate": bit_rate, "bufsize": bit_rate}
    return encoded(clip, "libx264", bit_rate, fps=fps, preset="veryfast", **limits)


def scaled(frame: Frame, width: int, height: int) -> Frame:
    """Return brightness in another size (bicubic, with a filter against aliasing)."""
    from PIL import Image

    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC))


def turned(frame: Frame, degrees: float) -> Frame:
    """Return brightness, turned around its middle; what is outside is black."""
    from PIL import Image

    return np.asarray(Image.fromarray(frame).rotate(degrees, Image.Resampling.BICUBIC))


def after_gamma(frame: Frame, gamma: float) -> Frame:
    """Return brightness with another gamma."""
    table = np.round(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
    return table[frame]


def captured(frame: Frame, number: int) -> Frame:
    """Return brightness as a screenshot has it: in a window on a desktop, scaled by 1.37, as a JPEG."""
    from PIL import Image

    height, width = frame.shape
    wide, high = round(1.37 * width), round(1.37 * height)
    screen = np.full((high + 160, wide + 230), 60, np.uint8)
    screen[:40] = 200
    screen[97 : 97 + high, 131 : 131 + wide] = scaled(after_gamma(frame, 1.1), wide, high)
    buffer = io.BytesIO()
    Image.fromarray(screen).save(buffer, "JPEG", quality=80 - number % 3)
    buffer.seek(0)
    return np.asarray(Image.open(buffer))


def all_changes(width: int) -> dict[str, Change]:
    """Return all changes for frames of a width; bit rates as streams of that size have them."""
    is_large = width >= 1280
    rates = (1_500_000,) if is_large else (1_000_000, 500_000)
    middle = rates[0]

    def per_frame(change: Callable[[Frame, int], Frame]) -> Change:
        return lambda clip: [change(luma(frame), number) for number, frame in enumerate(clip)]

    def half(frame: Frame, _number: int) -> Frame:
        return scaled(frame, frame.shape[1] // 2, frame.shape[0] // 2)

    def half_and_back(frame: Frame, number: int) -> Frame:
        return scaled(half(frame, number), frame.shape[1], frame.shape[0])

    def cropped(frame: Frame, _number: int) -> Frame:
        top, left = frame.shape[0] // 7, frame.shape[1] // 11
        return frame[top : top + frame.shape[0] * 4 // 5, left : left + frame.shape[1] * 4 // 5]

    def faster(clip: Clip) -> list[Frame]:
        # 25 to 30 frames per second: of six frames, one lies between two.
        times = np.arange(0, len(clip) - 1 + 1e-9, 25 / 30)
        blended = []
        for time in times:
            first, share = int(time), time - int(time)
            second = min(first + 1, len(clip) - 1)
            mixed = (1 - share) * clip[first].astype(np.float32) + share * clip[second]
            blended.append(np.round(mixed).astype(np.uint8))
        return x264(blended, middle, 30)

    changes: dict[str, Change] = {"none": lambda clip: [luma(frame) for frame in clip]}
    for rate in rates:
        changes[f"x264 {rate / 1e6:g} Mbit/s"] = lambda clip, rate=rate: x264(clip, rate)  # type: ignore[misc]
    changes |= {
        f"VP8 {middle / 1e6:g} Mbit/s": lambda clip: encoded(
            clip, "libvpx", middle, deadline="realtime", **{"cpu-used": 6}
        ),
        f"AV1 {middle / 1e6:g} Mbit/s": lambda clip: _av1(clip, middle),
        "MJPEG, quality 70": lambda clip: [_jpeg(luma(frame), 70) for frame in clip],
        "half the size": per_frame(half),
        "half the size and back": per_frame(half_and_back),
        "half the size, x264": lambda clip: x264([_halved(frame) for frame in clip], rates[-1] // 2),
        "cropped to 80 %": per_frame(cropped),
        "gamma 0.7": per_frame(lambda frame, _: after_gamma(frame, 0.7)),
        "gamma 1.4": per_frame(lambda frame, _: after_gamma(frame, 1.4)),
        "turned by 4 degrees": per_frame(lambda frame, _: turned(frame, 4)),
        "mirrored": per_frame(lambda frame, _: frame[:, ::-1]),
        "25 to 30 fps, x264": faster,
        "screenshot": per_frame(captured),
    }
    return changes


def _av1(clip: Clip, bit_rate: int) -> list[Frame]:
    """Return a clip after AV1; the encoder takes real-time priority where it may, and this gives it back."""
    import os

    has_policies = hasattr(os, "sched_getscheduler")
    before = (os.sched_getscheduler(0), os.sched_getparam(0)) if has_policies else None
    try:
        return encoded(clip, "libsvtav1", bit_rate, preset=10)
    finally:
        if before is not None:
            os.sched_setscheduler(0, *before)


def _halved(frame: Frame) -> Frame:
    import av

    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="yuv420p")
    sides = (picture.width // 4 * 2, picture.height // 4 * 2)
    small: Frame = picture.reformat(*sides, interpolation="BICUBIC").to_ndarray()
    return small


def _jpeg(frame: Frame, quality: int) -> Frame:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=quality)
    buffer.seek(0)
    return np.asarray(Image.open(buffer))


def _plane(picture: Any) -> Frame:
    plane = picture.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    return rows[: picture.height, : picture.width].copy()
