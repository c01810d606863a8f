"""Reads a clip's frames at the size, format and rate of a show, within a limit of memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.pixels.covering import FrameCover
from runtime.pixels.video_frames import KeptFrame, to_pixels, to_small
from runtime.prompts.clips import ANIMATED, open_video
from runtime.prompts.images import check_pixels, fit, load_image, refusing, to_rgb

MAX_BYTES = 256 << 20  # of frames; about 6 s at 1280 x 720 and 30 fps
MAX_FRAMES = 600
MIN_FRAMES = 12
LEAST_S = 0.5  # that must fit
_LEAST_FPS = 4.0  # of a clip; slower ones count as this fast
_LONGEST_GAP = 30  # frames by which one stands still at most
_CUT_RATIO, _CUT_LEVELS = 4.0, 15.0  # a cut changes so many times more than its neighbours, and so many levels
_BLACK_LEVELS = 20  # a frame without a brighter pixel is black
_STILL_LEVELS = 2.0  # change of a place below which nothing moves; coding noise is less

Clip = str | Path | npt.NDArray[np.uint8]
Rgb = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class ClipFrames:
    """The frames of a clip.

    Args:
        frames: uint8 (N, H, W, 3) RGB or (N, H * 3 / 2, W) I420, read-only.
        small: uint8 (N, h, w, 3) RGB, the same frames as small as they are compared; empty once they have been.
        fps: frames per second of the clip, at most those of the show.
        notes: what was done to the clip, for people, e.g. "the first 6.5 s are used".
    """

    frames: npt.NDArray[np.uint8]
    small: npt.NDArray[np.uint8]
    fps: float
    notes: tuple[str, ...] = ()


def read_clip(
    clip: Clip,
    size: tuple[int, int],
    small: tuple[int, int],
    *,
    fps: float,
    pixels: str = "rgb",
    how: str = "cover",
    max_bytes: int = MAX_BYTES,
    check: Callable[[], None] = lambda: None,
) -> ClipFrames:
    """Read a clip: its longest take without a cut and without black frames.

    A clip that is too long for the memory is cut off. Frames that are faster than the show's are left out; a clip
    whose rate varies is read at its mean rate.

    Args:
        clip: path of a video or an animated picture, or a uint8 (t, h, w, 3) RGB array, which has the show's rate.
        size, small: (width, height) of the frames, and of their small copies, in pixels.
        fps: frames per second of the show.
        pixels: "rgb", or "i420" in BT.709, limited range.
        how: how frames of another shape fit, one of `runtime.prompts.images.FITS`.
        max_bytes: of `ClipFrames.frames`.
        check: called before each frame; raises to give up, e.g. because the show ends.

    Raises:
        ValueError: there is no such clip; it is damaged, too short or black, or nothing in it moves.
    """
    name = str(clip) if isinstance(clip, (str, Path)) else "array"
    if isinstance(clip, (str, Path)) and not os.path.isfile(clip):  # noqa: PTH113 - Path raises if a name is too long
        raise ValueError(f"there is no clip file {clip}")
    bytes_each = size[0] * size[1] * 3 if pixels == "rgb" else size[0] * size[1] * 3 // 2
    most = min(MAX_FRAMES, max_bytes // bytes_each)
    if most < MIN_FRAMES or most < LEAST_S * fps:
        raise ValueError(
            f"frames of {size[0]}x{size[1]} are too large to keep a clip: {most} of them take {max_bytes >> 20} MiB; "
            "choose a smaller --size"
        )
    kept = KeptFrame(*size)
    shape = (size[1], size[0], 3) if pixels == "rgb" else (size[1] * 3 // 2, size[0])
    frames, smalls = np.empty((most, *shape), np.uint8), np.empty((most, small[1], small[0], 3), np.uint8)
    count, is_trimmed = 0, False
    with refusing(Path(name), "clip"):
        rate, pictures = _opened(clip, size, how, fps)
        for picture in pictures:
            check()
            if count == most:
                is_trimmed = True
                break
            video = kept.write(picture)
            frames[count] = picture if pixels == "rgb" else to_pixels(video, pixels)
            smalls[count] = to_small(video, *small)
            count += 1
    if count < MIN_FRAMES:
        raise ValueError(
            f"{name} has {count} frames, at least {MIN_FRAMES} are needed to play on for ever: give a longer "
            "clip, or a picture as an image"
        )
    return _longest_take(name, frames[:count], smalls[:count], rate, is_trimmed=is_trimmed)


def check_readable(path: str | Path) -> None:
    """Raise ValueError unless the first frames of a clip's file can be read."""
    if not os.path.isfile(path):  # noqa: PTH113 - Path raises if a name is too long
        raise ValueError(f"there is no clip file {path}")
    with refusing(Path(path), "clip"):
        _, pictures = _opened(path, (64, 64), "cover", 30.0)
        if next(pictures, None) is None:
            raise ValueError("it holds no frames")


def _longest_take(name: str, frames: Rgb, small: Rgb, rate: float, *, is_trimmed: bool) -> ClipFrames:
    notes = [f"its first {len(frames) / rate:.1f} s are used"] if is_trimmed else []
    grey = np.stack([frame.mean(axis=2).astype(np.uint8) for frame in small])
    changes = np.array([np.abs(one - two.astype(np.float32)).mean() for one, two in pairwise(grey)], np.float32)
    is_black = small.max(axis=(1, 2, 3)) <= _BLACK_LEVELS
    if is_black.all():
        raise ValueError(f"{name} is black: give a clip that shows something")
    borders = sorted({0, len(frames), *(_cuts(changes) + 1), *(np.flatnonzero(np.diff(is_black)) + 1)})
    takes = [(first, last) for first, last in pairwise(borders) if not is_black[first]]
    first, last = max(takes, key=lambda take: take[1] - take[0])
    if last - first < len(frames):
        notes.append(f"it has cuts or black frames: the part from {first / rate:.1f} to {last / rate:.1f} s is used")
    if last - first < MIN_FRAMES:
        raise ValueError(
            f"the longest part of {name} without a cut has {last - first} frames, at least {MIN_FRAMES} are needed: "
            "give a clip without cuts"
        )
    if _largest_change(grey[first:last]) < _STILL_LEVELS:
        what = f"the first {len(small) / rate:.1f} s of {name}" if is_trimmed else name
        raise ValueError(f"nothing moves in {what}: give one of its frames as an image")
    frames, small = frames[first:last], small[first:last]
    frames.flags.writeable = small.flags.writeable = False
    return ClipFrames(frames, small, rate, tuple(notes))


def _largest_change(grey: npt.NDArray[np.uint8]) -> float:
    """Return by how much any square of 4 x 4 pixels ever differs from the first frame, in levels; grey is (N, h, w)."""
    count, height, width = grey.shape
    squares = grey[:, : height // 4 * 4, : width // 4 * 4].reshape(count, height // 4, 4, width // 4, 4)
    cells = squares.mean(axis=(2, 4), dtype=np.float32)
    return float(np.abs(cells - cells[0]).max())


def _cuts(changes: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    """Return after which frames there is a cut, as PySceneDetect's AdaptiveDetector finds it.

    Args:
        changes: float32 (N - 1,), mean change from each frame to the next, in levels.
    """
    padded = np.pad(changes, 2, mode="reflect")
    around = (padded[:-4] + padded[1:-3] + padded[3:-1] + padded[4:]) / 4
    return np.flatnonzero((changes > _CUT_LEVELS) & (changes > _CUT_RATIO * around))


def _opened(clip: Clip, size: tuple[int, int], how: str, fps: float) -> tuple[float, Iterator[Rgb]]:
    """Return the rate of a clip, and its frames at that rate."""
    if isinstance(clip, np.ndarray):
        if clip.dtype != np.uint8 or clip.ndim != 4 or clip.shape[-1] != 3 or 0 in clip.shape:
            raise ValueError(f"an array must be uint8 (frames, height, width, 3) RGB, got {clip.dtype} {clip.shape}")
        return fps, (load_image(frame, *size, how) for frame in clip)
    if not isinstance(clip, (str, Path)):
        raise ValueError(f"it must be a path or a uint8 array, got {type(clip).__name__}")
    from PIL import Image, UnidentifiedImageError

    with suppress(UnidentifiedImageError), Image.open(clip) as opened:
        if opened.format in ANIMATED:
            check_pixels(*opened.size)
            times = _animation_times(opened)
            rate, grid = _rates((len(times) - 1) / times[-1], fps)
            return rate, _even(grid, _animation(Path(clip), times, size, how))
        if opened.format != "MPEG":
            raise ValueError("it is a picture: give it as an image")
    with _decoding(), open_video(clip) as container:
        if not container.streams.video or container.streams.video[0].codec_context is None:
            raise ValueError("it holds no video that FFmpeg can decode: convert it to H.264")
        rate, grid = _rates(float(container.streams.video[0].average_rate or fps), fps)
    return rate, _even(grid, _video(Path(clip), size, how))


def _rates(own: float, show: float) -> tuple[float, float]:
    """Return the rate at which a clip plays, and that at which its frames are kept.

    Both are its own if it is slower than the show, and the show's if it is faster. If the two are close, every frame is
    kept, and plays at the show's rate.
    """
    if own < 0.95 * show:
        return max(_LEAST_FPS, own), max(_LEAST_FPS, own)
    return show, own if own < 1.05 * show else show


def _even(rate: float, timed: Iterator[tuple[float | None, Rgb]]) -> Iterator[Rgb]:
    """Yield the frame that is nearest to each of even times."""
    count, latest, zero_s, last_s = 0, None, None, 0.0
    for time_s, picture in timed:
        if time_s is None:  # without times, every frame counts
            yield picture
            continue
        zero_s = time_s if zero_s is None else zero_s
        gap = 0
        while latest is not None and count / rate < time_s - zero_s - 0.45 / rate and gap < _LONGEST_GAP:
            count, gap = count + 1, gap + 1
            yield latest
        if gap == _LONGEST_GAP:  # the clip's clock jumps
            zero_s = time_s - count / rate
        latest, last_s = picture, time_s - zero_s
    if latest is not None and count / rate < last_s + 0.1 / rate:
        yield latest


def _video(path: Path, size: tuple[int, int], how: str) -> Iterator[tuple[float | None, Rgb]]:
    cover = FrameCover(*size)
    with _decoding(), open_video(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1  # frames may be made at the same time
        for frame in container.decode(stream):
            check_pixels(frame.width, frame.height)
            turns = round(getattr(frame, "rotation", 0) / 90) % 4  # quarter turns, counterclockwise
            if turns or how != "cover":
                picture = np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))
                yield frame.time, load_image(picture, *size, how)
            else:
                yield frame.time, cover.fit(frame)


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
    for index in range(min(getattr(opened, "n_frames", 1), 2 * MAX_FRAMES)):
        opened.seek(index)
        opened.load()  # WebP says how long a frame lasts only then
        times.append(times[-1] + float(Fraction(opened.info.get("duration") or 100)) / 1000)
    return times


def _animation(path: Path, times: list[float], size: tuple[int, int], how: str) -> Iterator[tuple[float | None, Rgb]]:
    from PIL import Image

    with Image.open(path) as opened:
        check_pixels(*opened.size)
        for index, time_s in enumerate(times[:-1]):
            opened.seek(index)
            opened.load()
            yield time_s, fit(to_rgb(opened), *size, how)
