"""Where things lie in two consecutive frames: low-resolution flow both ways, trusted only where the directions agree.

Flow is Dense Inverse Search (Kroeger, Timofte, Dai and Van Gool, ECCV 2016) of OpenCV. Without OpenCV
nothing is displaced, and frames are blended as they are.
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


def between(alignment: Alignment, share: float) -> Floats:
    """Return how two frames are displaced and blended to one that lies between them, as the clip stage reads it.

    Args:
        alignment: of the two frames.
        share: of the second one; where things lie between the two.

    Returns:
        float32 (1, 5, h, w): x, y of the first, x, y of the second, and the share of the first.
    """
    return dissolve(share, share * alignment.forward, (1 - share) * alignment.backward)


def dissolve(share: float, first: Floats, second: Floats) -> Floats:
    """Return moves as `between`, with the displacements (2, h, w) of both frames."""
    found = np.empty((1, 5, *first.shape[1:]), np.float32)
    found[0, 0:2], found[0, 2:4], found[0, 4] = first, second, 1 - share
    return found


def _flow() -> Any:
    """Return OpenCV's flow of this thread; it keeps its memory, and must not be used by two threads."""
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


def _displaced(plane: Floats, displacement: Floats) -> Floats:
    """Return a plane (H, W) whose content has moved by (2, H, W) pixels."""
    import cv2

    height, width = plane.shape
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    found: Floats = cv2.remap(
        plane, columns - displacement[0], rows - displacement[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return found
