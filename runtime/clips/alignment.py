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


def align(first: Grey, second: Grey) -> Alignment:
    """Return the flow between two frames, uint8 (H, W) each, H and W multiples of `REDUCTION`."""
    height, width = first.shape
    if not is_available():
        nothing = np.zeros((2, height // REDUCTION, width // REDUCTION), np.float32)
        return Alignment(nothing, nothing)
    flow = _flow()
    there, back = _reduced_flow(flow.calc(first, second, None)), _reduced_flow(flow.calc(second, first, None))
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


def _flow() -> Any:
    """Return OpenCV's flow of this thread; it keeps its memory, and must not be used by two threads.

    The preset "medium" takes five times as long for the same seams.
    """
    import cv2

    if not hasattr(_THREAD, "flow"):
        _THREAD.flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    return _THREAD.flow


def _reduced_flow(flow: Floats) -> Floats:
    """Return a flow (H, W, 2) as means of blocks, (2, h, w)."""
    import cv2

    height, width, _ = flow.shape
    small = cv2.resize(flow, (width // REDUCTION, height // REDUCTION), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(small.transpose(2, 0, 1))


def _trusted(there: Floats, back: Floats) -> Floats:
    """Return a flow (2, h, w), faded to 0 where the way there and back does not end at its start."""
    import cv2

    displacement = there * np.float32(-1 / REDUCTION)
    returned = there + np.stack([_displaced(back[0], displacement), _displaced(back[1], displacement)])
    error, length = np.hypot(*returned), np.hypot(*there)
    trust = np.clip(2 - error / (_LOOSE + _SHARE * length), 0, 1)
    # Smoothed, so that a block does not tear at the border of what is trusted.
    found: Floats = there * np.clip(2 * cv2.blur(trust, (3, 3), borderType=cv2.BORDER_REPLICATE) - 0.5, 0, 1)
    return found


def _reduced(plane: Floats) -> Floats:
    """Return the means of blocks: (..., H, W) -> (..., H / 4, W / 4)."""
    *rest, height, width = plane.shape
    shape = (*rest, height // REDUCTION, REDUCTION, width // REDUCTION, REDUCTION)
    found: Floats = plane.reshape(shape).mean(axis=(-3, -1), dtype=np.float32)
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
