"""Opens a clip of any kind: its pictures at an even rate, and what people should know about them.

PyAV reads videos; Pillow reads animated pictures (GIF, WebP, PNG).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.clips.high_range import RANGES, ToStandardRange
from runtime.prompts.clips import ANIMATED, open_video
from runtime.prompts.images import check_pixels, to_rgb

Rgb = npt.NDArray[np.uint8]
Clip = str | Path | npt.NDArray[np.uint8]
Picture = Any  # a frame of the video library, or uint8 (h, w, 3) RGB

_LEAST_FPS = 4.0  # of a clip; slower ones count as this fast
_LONGEST_GAP = 30  # frames by which one stands still at most
_MOST_TIMES = 1200  # of an animated picture
_UNEVEN = 0.25, 0.05  # a rate varies if more than this share of the gaps differ by more than this part of a gap
_WHOLE, _LAST_S = 0.9, 0.2  # of a file's length, within which its last frame begins
_TURNS = {1: "to the left", 2: "upside down", 3: "to the right"}


@dataclass
class ClipSource:
    """An open clip.

    Args:
        fps: frames per second at which it plays.
        pictures: its pictures at that rate, of any size; the same object again for one that is shown longer.
        notes: what was done to it, for people; complete after the last picture.
        seconds: its length, if its file says so; else 0.
    """

    fps: float
    pictures: Iterator[Picture]
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0


def open_clip(clip: Clip, fps: float, threads: int = 1) -> ClipSource:
    """Open a clip.

    Args:
        clip: path of a video or an animated picture, or a uint8 (t, h, w, 3) RGB array, which has the show's rate.
        fps: frames per second of the show. A faster clip plays at this rate.
        threads: that decode a video; 0 for one for each core.

    Raises:
        ValueError: it is none of these, or damaged. Pictures that cannot be decoded raise it later.
    """
    if isinstance(clip, np.ndarray):
        if clip.dtype != np.uint8 or clip.ndim != 4 or clip.shape[-1] != 3 or 0 in clip.shape:
            raise ValueError(f"an array must be uint8 (frames, height, width, 3) RGB, got {clip.dtype} {clip.shape}")
        return ClipSource(fps, iter(clip), seconds=len(clip) / fps)
    if not isinstance(clip, (str, Path)):
        raise ValueError(f"it must be a path or a uint8 array, got {type(clip).__name__}")
    if not os.path.isfile(clip):  # noqa: PTH113 - Path raises if a name is too long
        raise ValueError("there is no such file")
    if Path(clip).stat().st_size == 0:
        raise ValueError("it is empty")
    from PIL import Image, UnidentifiedImageError

    with suppress(UnidentifiedImageError), Image.open(clip) as opened:
        if opened.format in ANIMATED:
            check_pixels(*opened.size)
            times = _animation_times(opened)
            own = (len(times) - 1) / times[-1]
            return _at_a_rate(own, fps, times[-1], lambda _: _animation(Path(clip), times))
        if opened.format != "MPEG":
            raise ValueError("it is a picture: give it as an image")
    with _decoding(), open_video(clip) as container:
        if not container.streams.video:
            raise ValueError("it holds no video")
        if container.streams.video[0].codec_context is None:
            raise ValueError("it holds no video that FFmpeg can decode: convert it to H.264")
        own, seconds = float(container.streams.video[0].average_rate or fps), _seconds(container)
    return _at_a_rate(own, fps, seconds, lambda notes: _video(Path(clip), threads, notes))


def _at_a_rate(own: float, show: float, seconds: float, open_pictures: Any) -> ClipSource:
    """Return a clip whose pictures come with their times, at an even rate.

    That is its own rate if it is slower than the show, and the show's if it is faster. If the two are close, every
    frame is kept, and plays at the show's rate.
    """
    notes: list[str] = []
    rate = grid = max(_LEAST_FPS, own)
    if own >= 0.95 * show:
        rate, grid = show, own if own < 1.05 * show else show
    if own >= 1.05 * show:
        notes.append(f"{show:g} of its {own:g} frames a second are used")
    return ClipSource(rate, _even(grid, open_pictures(notes), notes), notes, seconds)


def _even(rate: float, timed: Iterator[tuple[float | None, Picture]], notes: list[str]) -> Iterator[Picture]:
    """Yield the picture that is nearest to each of even times."""
    count, latest, zero_s, last_s = 0, None, None, 0.0
    times: list[float] = []
    for time_s, picture in timed:
        if time_s is None:  # without times, every frame counts
            yield picture
            continue
        zero_s = time_s if zero_s is None else zero_s
        times.append(time_s)
        gap = 0
        while latest is not None and count / rate < time_s - zero_s - 0.45 / rate and gap < _LONGEST_GAP:
            count, gap = count + 1, gap + 1
            yield latest
        if gap == _LONGEST_GAP:  # the clip's clock jumps
            zero_s = time_s - count / rate
        latest, last_s = picture, time_s - zero_s
    if latest is not None and count / rate < last_s + 0.1 / rate:
        yield latest
    if varies(times):
        notes.append(f"its rate varies, it is read at {rate:.3g} frames a second")


def varies(times: list[float]) -> bool:
    """Return whether frames at these times, in seconds, do not follow one another evenly."""
    if len(times) < 3:
        return False
    gaps = np.diff(times)
    difference, share = _UNEVEN
    middle = float(np.median(gaps))
    is_off = np.abs(gaps - middle) > difference * middle + 2e-3  # containers round to milliseconds
    return float(is_off.mean()) > share


def _video(path: Path, threads: int, notes: list[str]) -> Iterator[tuple[float | None, Picture]]:
    import av

    number, first_s, last_s = -1, None, None
    with _decoding(), open_video(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_type, stream.codec_context.thread_count = "AUTO", threads
        pictures = enumerate(container.decode(stream))
        while True:
            try:
                number, frame = next(pictures)
            except StopIteration:
                break
            except av.error.FFmpegError:
                if number < 0:
                    raise
                notes.append(f"it is damaged after frame {number + 1}, and used up to there")
                return
            check_pixels(frame.width, frame.height)
            first_s, last_s = frame.time if first_s is None else first_s, frame.time
            yield frame.time, _upright(frame, stream.codec_context, notes)
        whole_s, end_s = _seconds(container), (last_s or 0.0) - (first_s or 0.0)
        if end_s < _WHOLE * whole_s - _LAST_S:
            notes.append(f"its pictures end after {end_s:.1f} of its {whole_s:.1f} s")


def _seconds(container: Any) -> float:
    """Return how long a file is, as it says itself; 0 if it does not."""
    import av

    return float((container.duration or 0) / av.time_base)


def _upright(frame: Any, codec: Any, notes: list[str]) -> Picture:
    """Return a frame as it is to be seen: opaque, in standard range, and turned."""
    seen: Picture = frame
    if any(component.is_alpha for component in frame.format.components):
        from PIL import Image

        _tell(notes, "what is transparent is black")
        seen = np.asarray(to_rgb(Image.fromarray(frame.to_ndarray(format="rgba"))))
    elif codec.color_trc in RANGES:
        _tell(notes, f"its high dynamic range ({RANGES[codec.color_trc]}) is shown in the standard one")
        seen = ToStandardRange.of(codec.color_trc).convert(frame.to_ndarray(format="rgb24"))
    turns = round(getattr(frame, "rotation", 0) / 90) % 4  # quarter turns, counterclockwise
    if turns:
        _tell(notes, f"it is turned {_TURNS[turns]}, as it was filmed")
        pixels = seen if isinstance(seen, np.ndarray) else seen.to_ndarray(format="rgb24")
        seen = np.ascontiguousarray(np.rot90(pixels, turns))
    return seen


def _tell(notes: list[str], note: str) -> None:
    if note not in notes:
        notes.append(note)


@contextmanager
def _decoding() -> Iterator[None]:
    import av

    try:
        yield
    except av.error.FFmpegError as error:
        raise ValueError(f"it is no video that FFmpeg can decode ({error.strerror})") from error


def _animation_times(opened: Any) -> list[float]:
    """Return when each frame of an animated picture begins, and when it ends, in seconds."""
    times = [0.0]
    for index in range(min(getattr(opened, "n_frames", 1), _MOST_TIMES)):
        opened.seek(index)
        opened.load()  # WebP says how long a frame lasts only then
        times.append(times[-1] + float(Fraction(opened.info.get("duration") or 100)) / 1000)
    return times


def _animation(path: Path, times: list[float]) -> Iterator[tuple[float | None, Picture]]:
    from PIL import Image

    with Image.open(path) as opened:
        check_pixels(*opened.size)
        for index, time_s in enumerate(times[:-1]):
            opened.seek(index)
            opened.load()
            yield time_s, np.array(to_rgb(opened), np.uint8)
