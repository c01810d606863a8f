"""How much a clip moves and how much it flickers: figures of one clip alone, to be put beside a real one's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Clip = npt.NDArray[np.uint8]
LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)  # BT.709


def flow_magnitude(clip: Clip) -> float:
    """Return the dynamic degree: the mean length of the optical flow from frame to frame.

    DIS flow (Kroeger et al. 2016, medium preset, down to single pixels), averaged over cells of 4 x 4 pixels before its
    length is taken; the same as training and sharding use.

    Args:
        clip: (T, H, W, 3) uint8 RGB, T at least 2.

    Returns:
        Pixels of H x W per frame.
    """
    from training.data.takes import optical_flow

    if len(clip) < 2:
        raise ValueError(f"motion needs two frames or more, got {len(clip)}")
    flow = optical_flow(list(clip)).astype(np.float32)
    return float(np.hypot(flow[..., 0], flow[..., 1]).mean())


def flicker(clip: Clip) -> float:
    """Return the mean absolute second difference over time: 0 for a still and for a steady fade.

    Args:
        clip: (T, H, W, 3) uint8 RGB, T at least 3.

    Returns:
        Levels of 0 to 255.
    """
    if len(clip) < 3:
        raise ValueError(f"flicker needs three frames or more, got {len(clip)}")
    values = clip.astype(np.int16)
    return float(np.abs(values[2:] - 2 * values[1:-1] + values[:-2]).mean())


def frame_difference(clip: Clip) -> float:
    """Return the mean absolute difference from frame to frame, levels of 0 to 255 (VBench: 255 less this)."""
    values = clip.astype(np.int16)
    return float(np.abs(values[1:] - values[:-1]).mean())


def luminance(clip: Clip) -> float:
    """Return the mean BT.709 luma of gamma-coded values, 0 to 1."""
    return float((clip.reshape(-1, 3).mean(0) @ LUMA) / 255)


def saturation(clip: Clip) -> float:
    """Return the mean of (maximum - minimum of R, G and B), 0 to 1: the chroma of the HSV cylinder."""
    return float((clip.max(-1).astype(np.float32) - clip.min(-1)).mean() / 255)


def high_frequency(clip: Clip) -> float:
    """Return the mean absolute Laplacian of the luma (4 neighbours), levels of 0 to 255: what blur takes away."""
    luma = clip.astype(np.float32) @ LUMA
    middle = luma[:, 1:-1, 1:-1]
    neighbours = luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:]
    return float(np.abs(4 * middle - neighbours).mean())


def median_ratio(made: Sequence[float], real: Sequence[float], least: float = 1e-6) -> float:
    """Return the median over pairs of made / real; pairs whose real value is below `least` are left out.

    Returns:
        nan if no pair is left.
    """
    one, two = np.asarray(made, np.float64), np.asarray(real, np.float64)
    keep = two > least
    return float(np.median(one[keep] / two[keep])) if keep.any() else float("nan")
