"""The plane of a mark: its tile, repeated over a frame."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from runtime.bundle.tensors import TensorSpec
from runtime.marking.pattern import TILE, tile

PREFIX = "mark."  # of the names of its tensors
PLANE = f"{PREFIX}plane"
# Lines of the shorter side from which tiles are larger, and how much: large frames are shown and sent smaller.
_SCALES = ((0, 1.0), (900, 1.5), (1500, 3.0))
# Frames with fewer lines than this have fewer tiles and are sent with fewer bits: their mark is stronger.
_SMALL, SMALL_GAIN = 600, 1.25


def tile_size(width: int, height: int) -> int:
    """Return the pixels of a tile in a frame of this size."""
    return next(round(TILE * scale) for lines, scale in reversed(_SCALES) if min(width, height) >= lines)


def plane_input(frame: TensorSpec) -> TensorSpec:
    """Return the input of a marked graph that takes the plane: of the shape of its frame."""
    return TensorSpec(PLANE, "float32", frame.shape, "mark")


def make_plane(payload: int, frame: TensorSpec) -> npt.NDArray[np.float32]:
    """Return the plane of a payload: a root mean square of 1 where brightness is, or `SMALL_GAIN`; zeros in chroma.

    Args:
        payload: [0, 2**48).
        frame: the frame output, "rgb" (1, H, W, 3) or "i420" (1, H * 3 / 2, W).

    Returns:
        float32 of the frame's shape, for the input of `plane_input`.

    Raises:
        ValueError: the payload is not a whole number in [0, 2**48).
    """
    width, height = frame_size(frame)
    made = tile(payload, tile_size(width, height))
    if min(width, height) < _SMALL:
        made *= np.float32(SMALL_GAIN)
    rows, columns = -(-height // len(made)), -(-width // len(made))
    luma = np.tile(made, (rows, columns))[:height, :width]
    if frame.pixels == "rgb":
        return np.repeat(luma[np.newaxis, ..., np.newaxis], 3, axis=3)
    plane = np.zeros(frame.shape, np.float32)
    plane[0, :height] = luma
    return plane


def frame_size(frame: TensorSpec) -> tuple[int, int]:
    """Return the (width, height) in pixels of a frame output."""
    return (frame.shape[2], frame.shape[1]) if frame.pixels == "rgb" else (frame.shape[2], frame.shape[1] * 2 // 3)
