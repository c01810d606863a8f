"""One video re-encoded at a quality, and compared with the original; which quality fits into so many bytes.

H.264 is the default because whatever reads video reads it, OpenCV's wheels included; AV1 is better at the same size,
but of the packages used here PyAV alone reads it. Mean PSNR in dB of six landscapes, 60 frames each, short side 272,
between the four CRFs tried (* extended beyond them):

    bytes per frame          1010     650     425     290
    x264 veryslow            39.2*    37.8    35.9    33.9
    x264 veryslow, psnr      39.3     38.1    36.5    34.6
    x265 slow, psnr          39.4*    38.1    36.4    34.4
    SVT-AV1 5, psnr          40.0     39.2    38.0    36.6*
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from training.data.shards import _Source as Source

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mp4", ".mkv": "matroska"}  # others become .mp4
FULL = 0.97  # so much of what is allowed is enough
PASSES = 6


@dataclass(frozen=True)
class Codec:
    """An encoder at its best; a quality is its CRF in steps, lower is better."""

    encoder: str
    options: dict[str, str]
    best: int  # quality beyond which nothing is gained
    worst: int
    steps: int  # qualities per CRF

    def crf(self, quality: int) -> str:
        """Return the CRF of a quality, as the encoder reads it."""
        return f"{quality / self.steps:g}"

    def all_options(self, quality: int) -> dict[str, str]:
        """Return what the encoder is told."""
        return {**self.options, "crf": self.crf(quality)}


CODECS = {
    "h264": Codec("libx264", {"preset": "veryslow", "tune": "psnr"}, 4 * 8, 4 * 51, 4),
    "av1": Codec("libsvtav1", {"preset": "5", "svtav1-params": "tune=1:lp=1"}, 6, 63, 1),
}


class UnusableVideoError(ValueError):
    """A video that cannot be decoded."""


@dataclass(frozen=True)
class Video:
    """One video of the footage."""

    source: Source
    rate: Fraction  # frames per second
    frames: int  # as the container tells, for a first guess
    side: int  # of the short side in the pack
    is_small: bool  # may stay as it is
    codec: Codec

    @property
    def name(self) -> str:
        """Its name if it is re-encoded: another container costs a name."""
        path = Path(self.source.name)
        return (path if path.suffix.lower() in CONTAINERS else path.with_suffix(".mp4")).as_posix()

    @property
    def key(self) -> str:
        """What its encoded versions are called while there are several."""
        text = f"{self.source.name}|{self.source.size}|{self.source.mtime_ns}|{self.side}|{self.codec}"
        return hashlib.sha256(text.encode()).hexdigest()[:24]


def open_video(source: Source, short_side: int, codec: Codec) -> Video:
    """Read a video's head; UnusableVideoError if there is none."""
    import av

    from training.data.takes import open_video_file, reason_of

    try:
        if source.problem:
            raise UnusableVideoError(source.problem)
        with open_video_file(source.path) as container:
            if not container.streams.video:
                raise UnusableVideoError("it has no video stream")
            stream = container.streams.video[0]
            rate = stream.average_rate or Fraction(25)  # what sharding takes it for, too
            short = min(stream.codec_context.width, stream.codec_context.height)
            seconds = (container.duration or 0) / av.time_base
            frames = stream.frames or math.ceil(seconds * rate)
    except (av.error.FFmpegError, ValueError) as error:
        raise UnusableVideoError(reason_of(error)) from None
    if short < 16:
        raise UnusableVideoError(f"its frames have a short side of {short} pixels, expected 16 or more")
    return Video(source, rate, max(1, frames), min(short, short_side), short <= short_side, codec)


def frames_of(video: Video, notes: list[str]) -> Iterator[np.ndarray]:
    """Decode a video at the pack's size: (h, w, 3) uint8 RGB, even sides, all of one shape.

    Raises:
        UnusableVideoError: it cannot be decoded, or its frames change their size.
    """
    import av
    import cv2

    from training.data.takes import reason_of, small_frames

    frames, shape = small_frames(video.source.path, video.side, notes), None
    while True:
        try:
            frame, _ = next(frames)
        except StopIteration:
            break
        except (av.error.FFmpegError, ValueError, IndexError, MemoryError, cv2.error) as error:
            raise UnusableVideoError(reason_of(error)) from None
        height, width = frame.shape[:2]
        if (height, width) != (shape or (height, width)):
            raise UnusableVideoError("its frames change their size on the way")
        shape = height, width
        yield np.ascontiguousarray(frame[: height // 2 * 2, : width // 2 * 2])
    if shape is None:
        raise UnusableVideoError("; ".join(notes) or "it has no frames")


def encode(video: Video, quality: int, file: Path, stop: threading.Event) -> None:
    """Write a video at a quality, beside its place, and rename it."""
    import av

    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    try:
        with av.open(str(partial), "w", format=CONTAINERS[file.suffix.lower()]) as container:
            stream = None
            for frame in frames_of(video, []):
                if stop.is_set():
                    raise KeyboardInterrupt
                if stream is None:
                    stream = container.add_stream(
                        video.codec.encoder, rate=video.rate, options=video.codec.all_options(quality)
                    )
                    stream.height, stream.width = frame.shape[:2]
                    stream.pix_fmt, stream.codec_context.thread_count = "yuv420p", 1
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            assert stream is not None
            container.mux(stream.encode())
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def encoded_bytes(frames: Sequence[np.ndarray], codec: Codec, quality: int) -> int:
    """Return how many bytes some frames (h, w, 3) uint8 RGB take at a quality."""
    import av

    context = av.CodecContext.create(codec.encoder, "w")
    context.height, context.width = frames[0].shape[:2]
    context.pix_fmt, context.framerate, context.time_base = "yuv420p", Fraction(25), Fraction(1, 25)
    context.thread_count, context.options = 1, codec.all_options(quality)
    pictures = [av.VideoFrame.from_ndarray(frame, format="rgb24") for frame in frames]
    for number, picture in enumerate(pictures):
        picture.pts, picture.time_base = number, context.time_base
    packets = [packet for picture in pictures for packet in context.encode(picture)] + context.encode(None)
    return sum(packet.size for packet in packets)


def estimate(clips: Sequence[Sequence[np.ndarray]], frames: int, codec: Codec, quality: int) -> int:
    """Return about how many bytes so many frames take at a quality, from short clips of them.

    A short clip has more whole pictures than a long one; but frames that many others are predicted from get more bits,
    and a short clip has few of those. Counting whole pictures apart made the estimate worse (half of the truth).
    """
    return round(sum(encoded_bytes(clip, codec, quality) for clip in clips) / sum(map(len, clips)) * frames) + 1


def compare(video: Video, file: Path, stop: threading.Event) -> dict[str, Any]:
    """Return how far a packed video is from the original at the pack's size: frames, height, width, mse of RGB, note.

    Raises:
        ValueError: it does not have the original's frames.
    """
    import av

    notes: list[str] = []
    squares, count, shape = 0.0, 0, (0, 0)
    with av.open(str(file)) as container:
        packed = container.decode(video=0)
        for frame in frames_of(video, notes):
            other = next(packed, None)
            if stop.is_set():
                raise KeyboardInterrupt
            if other is None:
                break
            difference = frame.astype(np.float32) - other.to_ndarray(format="rgb24")
            squares, count, shape = squares + float(np.square(difference).mean()), count + 1, frame.shape[:2]
        else:
            other = next(packed, None)
            if other is None:
                height, width = shape
                note = "; ".join(notes)
                return {"frames": count, "height": height, "width": width, "mse": squares / count, "note": note}
    raise ValueError(
        f"{video.source.name} lost or won frames while it was packed (after {count}): convert it with FFmpeg first"
    )


def psnr(mse: float) -> float:
    """Return the peak signal-to-noise ratio of a mean squared error of 8-bit values, in dB."""
    return 10 * math.log10(255**2 / max(mse, 1e-6))


def _first_at_most(candidates: range, falling: Callable[[int], int], limit: float) -> int:
    return bisect_left(candidates, True, key=lambda candidate: falling(candidate) <= limit)


def choose_quality(
    budget: int,
    estimated_bytes: Callable[[int], int],
    total_bytes: Callable[[int], int],
    best: int,
    worst: int,
) -> tuple[int, int]:
    """Find the best quality that fits: bisect on an estimate, try it on everything, correct the estimate, go on.

    Args:
        budget: bytes.
        estimated_bytes: quality (lower is better) -> about how many bytes everything takes; quick.
        total_bytes: quality -> bytes of everything; slow.
        best: the lowest quality to try.
        worst: the highest.

    Returns:
        The quality, and the bytes of everything.

    Raises:
        ValueError: nothing fits.
    """
    over, found, size, total, scale = best - 1, worst + 1, 0, 0, 1.0
    for number in range(PASSES + worst - best):
        if over + 1 >= found or (number >= PASSES and found <= worst):
            break
        candidates = range(over + 1, found)
        aim = (1 + FULL) / 2 * budget / scale
        place = _first_at_most(candidates, estimated_bytes, aim)
        quality = candidates[min(place, len(candidates) - 1)]
        total = total_bytes(quality)
        scale = total / estimated_bytes(quality)
        if total > budget:
            over = quality
            continue
        found, size = quality, total
        if total >= FULL * budget:
            break
    if found > worst:
        raise ValueError(
            f"at the lowest quality there is, the footage takes {total / 1e6:.2f} MB of {budget / 1e6:.2f}: "
            "lower --short-side or raise --megabytes"
        )
    return found, size
