"""Reads a clip's frames at the size, format and rate of a show, within a limit of memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.clips.clip_source import Clip, ClipSource, open_clip
from runtime.clips.frame_writer import FrameWriter
from runtime.prompts.images import refusing

MAX_BYTES = 256 << 20  # of frames; about 6 s at 1280 x 720 and 30 fps
MAX_FRAMES = 600
MIN_FRAMES = 12
LEAST_S = 0.5  # that must fit
HEAD_S = 2.0  # of a clip of twice the length that are played as they are: it can begin before the rest has been read
_CUT_RATIO, _CUT_LEVELS = 4.0, 15.0  # a cut changes so many times more than its neighbours, and so many levels
_BLACK_LEVELS = 20  # a frame without a brighter pixel is black
_STILL_LEVELS = 2.0  # change of a place below which nothing moves; coding noise is less
_ENLARGED, _REDUCED, _CROPPED = 1.5, 0.5, 0.75  # beyond which people are told

Rgb = npt.NDArray[np.uint8]
Grey = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class ClipFrames:
    """The frames of a clip.

    Args:
        frames: uint8 (N, H, W, 3) RGB or (N, H * 3 / 2, W) I420, read-only.
        small: uint8 (N, h, w, 3) RGB, the same frames as small as they are compared; empty once they have been.
        grey: uint8 (N, h, w), the mean of the small ones' channels; the like.
        fps: frames per second of the clip, at most those of the show.
        notes: what was done to the clip, for people, e.g. "its first 6.5 s are used".
        head: how many frames are played first, before any jump.
    """

    frames: npt.NDArray[np.uint8]
    small: npt.NDArray[np.uint8]
    grey: npt.NDArray[np.uint8]
    fps: float
    notes: tuple[str, ...] = ()
    head: int = 0


def read_clip(
    clip: Clip,
    size: tuple[int, int],
    small: tuple[int, int],
    *,
    fps: float,
    pixels: str = "rgb",
    how: str = "cover",
    max_bytes: int = MAX_BYTES,
    threads: int = 1,
    check: Callable[[], None] = lambda: None,
    on_head: Callable[[ClipFrames], object] = lambda _: None,
) -> ClipFrames:
    """Read a clip: its first take of `HEAD_S` without a cut and without black frames, else its longest one.

    A clip that is too long for the memory is cut off. Frames that are faster than the show's are left out; a clip
    whose rate varies is read at its mean rate.

    Args:
        clip: path of a video or an animated picture, or a uint8 (t, h, w, 3) RGB array, which has the show's rate.
        size, small: (width, height) of the frames, and of their small copies, in pixels.
        fps: frames per second of the show.
        pixels: "rgb", or "i420" in BT.709, limited range.
        how: how frames of another shape fit, one of `runtime.prompts.images.FITS`.
        max_bytes: of `ClipFrames.frames`.
        threads: that decode it; 0 for one for each core.
        check: called before each frame; raises to give up, e.g. because the show ends.
        on_head: called with the head of a clip that has one, as soon as it has been read.

    Raises:
        ValueError: there is no such clip; it is damaged, too short or black, or nothing in it moves.
    """
    name = _name(clip)
    bytes_each = size[0] * size[1] * 3 if pixels == "rgb" else size[0] * size[1] * 3 // 2
    most = min(MAX_FRAMES, max_bytes // bytes_each)
    if most < MIN_FRAMES or most < LEAST_S * fps:
        raise ValueError(
            f"frames of {size[0]}x{size[1]} are too large to keep a clip: {most} of them take {max_bytes >> 20} MiB; "
            "choose a smaller --size"
        )
    writer = FrameWriter(size, small, pixels, how)
    frames, smalls = np.empty((most, *writer.shape), np.uint8), np.empty((most, small[1], small[0], 3), np.uint8)
    count, before, notes = 0, None, []
    with refusing(Path(name), "clip"):
        source, head = open_clip(clip, fps, threads), 0
        for picture in source.pictures:
            check()
            if count and count == _head(source) and _is_one_take(smalls[:count]):
                head = count
                on_head(_read_only(frames[:head], smalls[:head], to_grey(smalls[:head]), source.fps, (), head))
            if count == most:
                notes.append(f"its first {count / source.fps:.1f} s are used")
                break
            if picture is before:  # it is shown longer
                frames[count], smalls[count] = frames[count - 1], smalls[count - 1]
            else:
                writer.write(picture, frames[count], smalls[count])
            count, before = count + 1, picture
    if count < MIN_FRAMES:
        raise ValueError(
            f"{name} has {count} frame{'s' if count != 1 else ''}, at least {MIN_FRAMES} are needed to play on for "
            "ever: give a longer clip, or a picture as an image"
        )
    notes = [*source.notes, *_size_notes(before, size, how), *notes]
    return _one_take(name, frames[:count], smalls[:count], source.fps, notes, head)


def check_readable(path: str | Path) -> None:
    """Raise ValueError unless the first frames of a clip's file can be read."""
    with refusing(Path(_name(path)), "clip"):
        if next(open_clip(path, 30.0).pictures, None) is None:
            raise ValueError("it holds no frames")


def to_grey(small: Rgb) -> Grey:
    """Return the mean of the channels, rounded down: uint8 (N, h, w, 3) -> (N, h, w)."""
    grey = np.empty(small.shape[:3], np.uint8)
    for frame, into in zip(small, grey, strict=True):  # one by one, in the processor's cache
        total = frame[..., 0].astype(np.uint16)
        total += frame[..., 1]
        total += frame[..., 2]
        np.floor_divide(total, 3, out=into, casting="unsafe")
    return grey


def _name(clip: Clip) -> str:
    """Return what a clip is called in messages; ValueError if there is no such file."""
    if isinstance(clip, (str, Path)) and not os.path.isfile(clip):  # noqa: PTH113 - Path raises if a name is too long
        raise ValueError(f"there is no clip file {clip}")
    return str(clip) if isinstance(clip, (str, Path)) else "array"


def _size_notes(picture: Any, size: tuple[int, int], how: str) -> list[str]:
    """Return what was done to the size of pictures like this one."""
    is_array = isinstance(picture, np.ndarray)
    width, height = picture.shape[1::-1] if is_array else (picture.width, picture.height)
    across, down = size[0] / width, size[1] / height
    scale = max(across, down) if how == "cover" else min(across, down)
    notes = []
    if scale >= _ENLARGED:
        notes.append(f"it is enlarged {scale:.{int(scale < 10)}f} times from {width} x {height}")
    elif scale <= _REDUCED:
        notes.append(f"it is reduced from {width} x {height}")
    if how == "cover" and (shown := min(across, down) / max(across, down)) < _CROPPED:
        notes.append(f"{shown:.0%} of its picture is seen (all of it with the fit contain or blur)")
    return notes


def _head(source: ClipSource) -> int:
    """Return how many frames the head of a clip has; 0 if it is too short for one, or does not say how long it is."""
    return round(HEAD_S * source.fps) if source.seconds >= 2 * HEAD_S else 0


def _is_one_take(small: Rgb) -> bool:
    """Return whether small frames, uint8 (N, h, w, 3), have no cut and are not black, and something moves."""
    grey = to_grey(small)
    changes = np.array([_change(one, two) for one, two in pairwise(grey)], np.float32)
    is_lit = small.reshape(len(small), -1).max(axis=1).min() > _BLACK_LEVELS
    return bool(is_lit) and not len(_cuts(changes)) and _largest_change(grey) >= _STILL_LEVELS


def _read_only(frames: Rgb, small: Rgb, grey: Grey, fps: float, notes: tuple[str, ...], head: int) -> ClipFrames:
    for array in (frames, small, grey):
        array.flags.writeable = False
    return ClipFrames(frames, small, grey, fps, notes, head)


def _one_take(name: str, frames: Rgb, small: Rgb, rate: float, notes: list[str], head: int) -> ClipFrames:
    is_trimmed = any(note.startswith("its first") for note in notes)
    grey = to_grey(small)
    changes = np.array([_change(one, two) for one, two in pairwise(grey)], np.float32)
    is_black = small.reshape(len(small), -1).max(axis=1) <= _BLACK_LEVELS
    if is_black.all():
        raise ValueError(f"{name} is black: give a clip that shows something")
    borders = sorted({0, len(frames), *(_cuts(changes) + 1), *(np.flatnonzero(np.diff(is_black)) + 1)})
    takes = [(first, last) for first, last in pairwise(borders) if not is_black[first]]
    first, last = max(takes, key=lambda take: take[1] - take[0])
    if head:
        first, last = 0, next(border for border in borders if border >= head)
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
    return _read_only(frames[first:last], small[first:last], grey[first:last], rate, tuple(notes), head)


def _largest_change(grey: npt.NDArray[np.uint8]) -> float:
    """Return by how much any square of 4 x 4 pixels ever differs from the first frame, in levels; grey is (N, h, w)."""
    count, height, width = grey.shape
    squares = grey[:, : height // 4 * 4, : width // 4 * 4].reshape(count, height // 4, 4, width // 4 * 4)
    rows = squares.sum(axis=2, dtype=np.uint16).reshape(count, height // 4, width // 4, 4)
    cells = rows.sum(axis=3, dtype=np.float32) / np.float32(16)
    return float(np.abs(cells - cells[0]).max())


def _change(one: Grey, two: Grey) -> float:
    """Return the mean difference of two frames (h, w), in levels."""
    return float((np.maximum(one, two) - np.minimum(one, two)).mean(dtype=np.float32))


def _cuts(changes: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    """Return after which frames there is a cut, as PySceneDetect's AdaptiveDetector finds it.

    Args:
        changes: float32 (N - 1,), mean change from each frame to the next, in levels.
    """
    padded = np.pad(changes, 2, mode="reflect")
    around = (padded[:-4] + padded[1:-3] + padded[3:-1] + padded[4:]) / 4
    return np.flatnonzero((changes > _CUT_LEVELS) & (changes > _CUT_RATIO * around))
