"""Motion, flicker and what a clip looks like: figures of one clip, to be compared with real clips'."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Clip = npt.NDArray[np.uint8]  # (T, H, W, 3) RGB
LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)  # BT.709


def flow_magnitude(clip: Clip) -> float:
    """Return the mean length of the optical flow from frame to frame, in pixels; of two frames or more.

    DIS flow (Kroeger et al. 2016, medium preset, down to single pixels), averaged over cells of 4 x 4 pixels before its
    length is taken; the same as in training and sharding.
    """
    from training.data.takes import optical_flow

    if len(clip) < 2:
        raise ValueError(f"motion needs two frames or more, got {len(clip)}")
    flow = optical_flow(list(clip)).astype(np.float32)
    return float(np.hypot(flow[..., 0], flow[..., 1]).mean())


def flicker(clip: Clip) -> float:
    """Return the mean absolute second difference over time, in levels of 255: 0 for a still and for a steady fade."""
    if len(clip) < 3:
        raise ValueError(f"flicker needs three frames or more, got {len(clip)}")
    values = clip.astype(np.int16)
    return float(np.abs(values[2:] - 2 * values[1:-1] + values[:-2]).mean())


def luminance(clip: Clip) -> float:
    """Return the mean BT.709 luma of gamma-coded values, 0 to 1."""
    return float((clip.reshape(-1, 3).mean(0) @ LUMA) / 255)


def saturation(clip: Clip) -> float:
    """Return the mean of (maximum - minimum of R, G and B), 0 to 1: the chroma of the HSV cylinder."""
    return float((clip.max(-1).astype(np.float32) - clip.min(-1)).mean() / 255)


def high_frequency(clip: Clip) -> float:
    """Return the mean absolute Laplacian of the luma (4 neighbours), in levels of 255: blur lowers it."""
    luma = clip.astype(np.float32) @ LUMA
    middle = luma[:, 1:-1, 1:-1]
    neighbours = luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:]
    return float(np.abs(4 * middle - neighbours).mean())


QUANTITIES: dict[str, Callable[[Clip], float]] = {
    "luminance": luminance,
    "saturation": saturation,
    "high_frequency": high_frequency,
    "flow": flow_magnitude,
}


def quantities(clip: Clip) -> list[float]:
    """Return the figures of `QUANTITIES` of a short clip, in their order."""
    return [measure(clip) for measure in QUANTITIES.values()]
