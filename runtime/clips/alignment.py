"""Where things lie in two frames: low-resolution flow both ways, trusted only where the two directions agree.

Flow is Dense Inverse Search (Kroeger, Timofte, Dai and Van Gool, ECCV 2016) of OpenCV. Without OpenCV nothing is
aligned, and the sides of a jump are dissolved as they are.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Grey = npt.NDArray[np.uint8]
REDUCTION = 4  # from the frames that are compared to the flow that is kept
_LOOSE, _SHARE = 0.7, 0.1  # pixels, and share of the motion, by which the two directions may differ

_THREAD = threading.local()


class Alignment(NamedTuple):
    """Flow between two frames at 1/4 of their size, 0 where it is not trusted.

    Args:
        forward, backward: float32 (2, h, w), x and y in pixels of the frames that were compared: where what is in the
            first frame lies in the second one, less its place in the first; and the reverse.
    """

    forward: Floats
    backward: Floats


def is_available() -> bool:
    """Return whether OpenCV is installed."""
    try:
        import cv2  # noqa: F401
    except ImportError:
        return False
    return True


def align(first: Grey, second: Grey, *, is_fast: bool = False) -> Alignment:
    """Return the flow between two frames.

    Args:
        first, second: uint8 (H, W) each, H and W multiples of `REDUCTION`.
        is_fast: whether a third of the time is more important, e.g. between consecutive frames.
    """
    height, width = first.shape
    if not is_available():
        nothing = np.zeros((2, height // REDUCTION, width // REDUCTION), np.float32)
        return Alignment(nothing, nothing)
    flow = _flow(is_fast)
    there: Floats = flow.calc(first, second, None)  # (H, W, 2)
    back: Floats = flow.calc(second, first, None)
    return Alignment(_trusted(there, back), _trusted(back, there))


def moves(
    alignment: Alignment, share: float, first_drift: Floats | float = 0.0, second_drift: Floats | float = 0.0
) -> Floats:
    """Return how two frames are displaced so that they meet, as the clip stage reads it.

    Args:
        alignment: of the two frames.
        share: of the second one in the blend; where things lie between the two.
        first_drift, second_drift: (2, h, w) or 0, pixels by which each frame's content has moved since it was shown.

    Returns:
        float32 (1, 5, h, w): x, y of the first, x, y of the second, and the share of the first.
    """
    height, width = alignment.forward.shape[1:]
    found = np.empty((1, 5, height, width), np.float32)
    found[0, 0:2] = share * alignment.forward + first_drift
    found[0, 2:4] = (1 - share) * alignment.backward + second_drift
    found[0, 4] = 1 - share
    return found


def between(first: Alignment, second: Alignment, share: float) -> Alignment:
    """Return two alignments blended: `first + share * (second - first)`."""
    if share <= 0 or share >= 1:
        return second if share >= 1 else first
    return Alignment(*(one + np.float32(share) * (two - one) for one, two in zip(first, second, strict=True)))


def residual(first: Grey, second: Grey, alignment: Alignment) -> float:
    """Return the root mean squared difference of two frames, halfway aligned, in levels; uint8 (H, W) each."""
    small = [_reduced(frame.astype(np.float32)) for frame in (first, second)]
    if is_available():
        half = np.float32(0.5 / REDUCTION)
        small = [_displaced(frame, half * flow) for frame, flow in zip(small, alignment, strict=True)]
    return float(np.sqrt(np.mean((small[0] - small[1]) ** 2)))


def _flow(is_fast: bool) -> Any:
    """Return OpenCV's flow of this thread; its memory is kept, and must not be used by two threads."""
    import cv2

    name = "fast" if is_fast else "medium"
    if not hasattr(_THREAD, name):
        preset = cv2.DISOPTICAL_FLOW_PRESET_FAST if is_fast else cv2.DISOPTICAL_FLOW_PRESET_MEDIUM
        setattr(_THREAD, name, cv2.DISOpticalFlow.create(preset))
    return getattr(_THREAD, name)


def _trusted(there: Floats, back: Floats) -> Floats:
    """Return a flow (H, W, 2), reduced to (2, h, w), and 0 where the way there and back does not end at its start."""
    returned = there + np.stack([_displaced(back[..., axis], -there.transpose(2, 0, 1)) for axis in (0, 1)], axis=-1)
    error = np.linalg.norm(returned, axis=-1)
    bound = _LOOSE + _SHARE * np.linalg.norm(there, axis=-1)
    trust = np.clip(2 - error / bound, 0, 1)
    weighted = _reduced(np.moveaxis(there, 2, 0) * trust)
    # Mean over what is trusted, faded out where little is, so that a block does not tear.
    share = _smoothed(_reduced(trust))
    found: Floats = (weighted / np.maximum(_reduced(trust), 0.05) * np.clip(2 * share - 0.5, 0, 1)).astype(np.float32)
    return found


def _reduced(plane: Floats) -> Floats:
    """Return the means of blocks: (..., H, W) -> (..., H / 4, W / 4)."""
    *rest, height, width = plane.shape
    shape = (*rest, height // REDUCTION, REDUCTION, width // REDUCTION, REDUCTION)
    found: Floats = plane.reshape(shape).mean(axis=(-3, -1), dtype=np.float32)
    return found


def _smoothed(plane: Floats) -> Floats:
    padded = np.pad(plane, 1, mode="edge")
    height, width = plane.shape
    found: Floats = np.mean([padded[y : y + height, x : x + width] for y in range(3) for x in range(3)], axis=0)
    return found


def _displaced(plane: Floats, displacement: Floats) -> Floats:
    """Return a plane (H, W) whose content has moved by (2, H, W) pixels."""
    import cv2

    height, width = plane.shape
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    found: Floats = cv2.remap(
        plane, columns - displacement[0], rows - displacement[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return found
