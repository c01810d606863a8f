"""What somebody can do to a mark who knows how it works: this project is open, so everybody does.

Clips are lists of I420 frames, uint8 (H * 3 / 2, W).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.marking.changes import Frame, luma, scaled
from benchmarks.marking.detection import payload_of
from benchmarks.marking.footage import Case, make_clip, read_i420
from runtime.marking.frame_marker import FrameMarker
from runtime.marking.plane import tile_size
from verify.mark_reader import MarkReader
from verify.whitening import box_mean

Floats = npt.NDArray[np.float32]
CLIPS = 8
FRAMES_AVERAGED = 1000


def mean_residual(frames: Sequence[Frame]) -> Floats:
    """Return what frames have in common in their fine detail, float32 (H, W)."""
    total = np.zeros(luma(frames[0]).shape, np.float32)
    for frame in frames:
        values = luma(frame).astype(np.float32)
        total += values - box_mean(values, 9)
    return total / np.float32(len(frames))


def folded(residual: Floats) -> Floats:
    """Return a residual with nothing but what repeats with the tile, of the frame's size."""
    height, width = residual.shape
    size = tile_size(width, height)
    rows, columns = height // size, width // size
    whole = residual[: rows * size, : columns * size].reshape(rows, size, columns, size).mean(axis=(0, 2))
    return np.tile(whole, (-(-height // size), -(-width // size)))[:height, :width]


def subtracted(clip: Sequence[Frame], estimate: Floats, gain: float = 1.0) -> list[Frame]:
    """Return frames from whose brightness an estimate of the mark was subtracted."""
    return [_with_luma(frame, luma(frame) - gain * estimate) for frame in clip]


def marked_again(clip: Sequence[Frame], payload: int) -> list[Frame]:
    """Return frames that were marked a second time, with another payload."""
    height, width = luma(clip[0]).shape
    marker = FrameMarker.of_payload(payload, width, height, "i420")
    return [marker(frame).copy() for frame in clip]


def copied(clip: Sequence[Frame], estimate: Floats, gain: float = 1.0) -> list[Frame]:
    """Return frames of a real video onto which an estimate of somebody's mark was put."""
    return [_with_luma(frame, luma(frame) + gain * estimate) for frame in clip]


def _with_luma(frame: Frame, values: Floats) -> Frame:
    changed = frame.copy()
    changed[: len(values)] = np.clip(np.round(values), 0, 255).astype(np.uint8)
    return changed


def measure_attacks(case: Case, photos: list[Path], real: Sequence[Path], *, clips: int = CLIPS) -> dict[str, Any]:
    """Try each attack on marked clips, all of one show: of one payload.

    Args:
        case: makes the clips.
        photos: pictures that are animated.
        real: videos onto which the mark is copied.
        clips: how many clips each attack is tried on.

    Returns:
        Attack -> number of clips in which the show's payload, another payload, and none was read, and the PSNR of
        brightness between the attacked and the unmarked frames.
    """
    payload, other = payload_of(1), payload_of(2)
    marked = [make_clip(case, number, payload, photos, []) for number in range(clips)]
    plain = [make_clip(case, number, None, photos, []) for number in range(clips)]
    mean = mean_residual(_show(case, payload, FRAMES_AVERAGED, photos))
    alone = [folded(mean_residual(clip)) for clip in marked]
    together = folded(mean)
    tried: dict[str, list[list[Frame]]] = {
        "none": marked,
        f"mean of {FRAMES_AVERAGED} frames, subtracted": [subtracted(clip, mean) for clip in marked],
        f"mean of {FRAMES_AVERAGED} frames, folded by the tile, subtracted": [subtracted(c, together) for c in marked],
        "the same, twice as strong": [subtracted(clip, together, 2.0) for clip in marked],
        "the clip's own 16 frames, folded, subtracted": [
            subtracted(clip, one) for clip, one in zip(marked, alone, strict=True)
        ],
        "marked again with another payload": [marked_again(clip, other) for clip in marked],
        "a quarter of the size and back": [[_blurred(frame) for frame in clip] for clip in marked],
    }
    found: dict[str, Any] = {}
    for name, attacked in tried.items():
        counts = [_read(clip, payload) for clip in attacked]
        psnrs = [psnr(one, two) for one, two in zip(attacked, plain, strict=True)]
        found[name] = {**_count(counts), "psnr_db": float(np.mean(psnrs))}
    counts = []
    for video in real[:clips]:
        frames = read_i420(video, len(marked[0]))
        height, width = luma(frames[0]).shape
        rows, columns = (-(-one // two) for one, two in zip((height, width), together.shape, strict=True))
        spread = np.tile(together, (rows, columns))[:height, :width]  # tiles do not meet at seams, which matters little
        counts.append(_read(copied(frames, spread, 1.0), payload))
    found["the folded mean, copied onto real videos"] = _count(counts)
    return found


def psnr(one: Sequence[Frame], two: Sequence[Frame]) -> float:
    """Return the PSNR of the brightness of two clips in dB."""
    errors = [np.mean((luma(a).astype(np.float32) - luma(b)) ** 2) for a, b in zip(one, two, strict=True)]
    return float(10 * np.log10(255**2 / max(float(np.mean(errors)), 1e-9)))


def _show(case: Case, payload: int, count: int, photos: list[Path]) -> list[Frame]:
    """Return frames of a show whose pictures change."""
    frames: list[Frame] = []
    number = 1000  # none of the clips that are attacked
    while len(frames) < count:
        frames += make_clip(case, number, payload, photos, [])
        number += 1
    return frames[:count]


def _read(clip: Sequence[Frame], payload: int) -> str:
    found = MarkReader().read([luma(frame) for frame in clip])
    return "none" if found is None else "own" if found[0].payload == payload else "other"


def _count(outcomes: Sequence[str]) -> dict[str, int]:
    return {name: outcomes.count(name) for name in ("own", "other", "none")}


def _blurred(frame: Frame) -> Frame:
    height, width = luma(frame).shape
    small = scaled(luma(frame), width // 4, height // 4)
    return _with_luma(frame, scaled(small, width, height).astype(np.float32))
