"""What somebody can do to a mark who knows how it works: this project is open, so everybody does.

Clips are lists of I420 frames, uint8 (H * 3 / 2, W).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.marking.changes import Frame, luma
from runtime.marking.frame_marker import FrameMarker
from runtime.marking.plane import tile_size
from verify.whitening import box_mean

Floats = npt.NDArray[np.float32]


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
    marker = FrameMarker(payload, width, height, "i420")
    return [marker(frame).copy() for frame in clip]


def copied(clip: Sequence[Frame], estimate: Floats, gain: float = 1.0) -> list[Frame]:
    """Return frames of a real video onto which an estimate of somebody's mark was put."""
    return [_with_luma(frame, luma(frame) + gain * estimate) for frame in clip]


def _with_luma(frame: Frame, values: Floats) -> Frame:
    changed = frame.copy()
    changed[: len(values)] = np.clip(np.round(values), 0, 255).astype(np.uint8)
    return changed
