"""How visible the seams of a clip that plays on for ever are, in units of its ordinary consecutive frames."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.quality.networks import Lpips
from benchmarks.quality.photos import laplacian
from runtime.clips.clip_frames import ClipFrames

Frames = npt.NDArray[np.uint8]
FIGURES = ("lpips", "flow", "detail", "ghost")
WANTED = 1.25  # times the 95th percentile of ordinary frames, in LPIPS and flow jump
_ORDINARY = 60  # steps of the clip that are the unit of LPIPS


class SeamJudge:
    """Measures the seams of one clip.

    Args:
        clip: in RGB.
        lpips: the network.

    Attributes:
        ordinary: 95th percentile of LPIPS from frame to frame, the unit of `lpips` and `ghost`.
    """

    def __init__(self, clip: ClipFrames, lpips: Lpips) -> None:
        self._frames, self._lpips = clip.frames, lpips
        flows = [_flow(one, two) for one, two in pairwise(clip.small)]
        jumps = [float(np.abs(two - one).mean()) for one, two in pairwise(flows)]
        self._ordinary_flow = max(1e-6, float(np.percentile(jumps, 95)))
        count = len(clip.frames) - 1
        numbers = np.unique(np.linspace(0, count - 1, min(_ORDINARY, count)).round().astype(int))
        steps = [self._distances(clip.frames[number : number + 2])[0] for number in numbers]
        self.ordinary = max(1e-6, float(np.percentile(steps, 95)))

    def figures(self, seams: Sequence[Frames]) -> dict[str, float]:
        """Return the median of each of `FIGURES` over seams, uint8 (T, H, W, 3) each."""
        found: dict[str, list[float]] = {name: [] for name in FIGURES}
        for seam in seams:
            found["lpips"].append(max(self._distances(seam)) / self.ordinary)
            moved = [_flow(one, two) for one, two in pairwise(seam)]
            jolts = [float(np.abs(two - one).mean()) for one, two in pairwise(moved)]
            found["flow"].append(max(jolts) / self._ordinary_flow)
            ends, middle = 0.5 * (laplacian(seam[0]) + laplacian(seam[-1])), seam[len(seam) // 2]
            found["detail"].append(laplacian(middle) / max(1e-6, ends))
            found["ghost"].append(self._nearest(middle) / self.ordinary)
        return {name: median(values) for name, values in found.items()}

    def _distances(self, frames: Frames) -> list[float]:
        return [float(value) for value in self._lpips.distance(frames[:-1], frames[1:])]

    def _nearest(self, picture: Frames) -> float:
        """Return the least LPIPS of a picture to one of the frames whose pixels are closest to its own."""
        small = picture[::4, ::4]
        differences = [float(np.abs(frame[::4, ::4].astype(np.int16) - small).mean()) for frame in self._frames]
        closest = np.argsort(differences)[:4]
        return float(self._lpips.distance(np.stack([picture] * len(closest)), self._frames[closest]).min())


def has_reached(figures: dict[str, float]) -> bool:
    """Return whether seams are as hard to see as is wanted."""
    return figures["lpips"] <= WANTED and figures["flow"] <= WANTED


def median(values: Sequence[float]) -> float:
    """Return the median of at least one value."""
    return float(np.median(values))


def _flow(one: Frames, two: Frames) -> npt.NDArray[np.float32]:
    """Return the flow between two frames at half of their size, float32 (h, w, 2), in its own pixels."""
    import cv2

    small = [cv2.cvtColor(cv2.resize(frame, None, fx=0.5, fy=0.5), cv2.COLOR_RGB2GRAY) for frame in (one, two)]
    method: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow: npt.NDArray[np.float32] = method.calc(*small, None)
    return flow
