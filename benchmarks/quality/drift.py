"""How a show is over time: figures of short probes against the band of real footage, and: is it a loop?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.quality.distances import Estimate
from benchmarks.quality.intervals import bootstrap_mean
from benchmarks.quality.memory import distances
from benchmarks.quality.motion import flow_magnitude, high_frequency, luminance, saturation

Clip = npt.NDArray[np.uint8]
Values = npt.NDArray[np.float64]
PROBE_FRAMES = 3
QUANTITIES: dict[str, Callable[[Clip], float]] = {
    "luminance": luminance,
    "saturation": saturation,
    "high_frequency": high_frequency,
    "flow": flow_magnitude,
}
NOMINAL = 0.02  # of the training footage itself lies outside its 1st to 99th percentile
VERDICT = 2.0  # times the held-out share that a show may lie outside
LOOP = 0.1  # of the typical distance: a show that comes nearer to itself than this keeps repeating


def quantities(clip: Clip) -> list[float]:
    """Return the figures of `QUANTITIES` of a short clip, in their order."""
    return [measure(clip) for measure in QUANTITIES.values()]


def snippets(clips: Sequence[Clip], step: int = 16) -> list[Clip]:
    """Cut short probes out of clips, one every `step` frames."""
    return [
        clip[start : start + PROBE_FRAMES] for clip in clips for start in range(0, len(clip) - PROBE_FRAMES + 1, step)
    ]


@dataclass(frozen=True)
class Band:
    """Where real footage lies: 1st and 99th percentile of each quantity, (quantities,)."""

    low: Values
    high: Values

    @classmethod
    def of(cls, probes: npt.ArrayLike) -> Band:
        """Take the band of (N, quantities) values."""
        low, high = np.percentile(np.asarray(probes, np.float64), [1, 99], axis=0)
        return cls(low, high)

    def outside(self, probes: npt.ArrayLike) -> Values:
        """Return the share of probes outside the band, of each quantity: (quantities,)."""
        values = np.asarray(probes, np.float64)
        return np.asarray(((values < self.low) | (values > self.high)).mean(0), np.float64)


def band_table(band: Band, shows: Sequence[npt.ArrayLike], heldout: npt.ArrayLike) -> list[dict[str, Any]]:
    """Say for each quantity how much of the shows lies outside the band, beside how much of held-out video does.

    Args:
        band: of the training footage.
        shows: (N, quantities) of each show.
        heldout: (M, quantities) of held-out video.

    Returns:
        One row per quantity. `within` is the verdict: at most twice the held-out share, which counts as 2 % if it is
        less, because so much of the training footage itself lies outside.
    """
    by_show = np.stack([band.outside(show) for show in shows])
    real = band.outside(heldout)
    rows = []
    for number, name in enumerate(QUANTITIES):
        share = bootstrap_mean(by_show[:, number]) if len(by_show) > 1 else None
        made, allowed = float(by_show[:, number].mean()), VERDICT * max(float(real[number]), NOMINAL)
        rows.append(
            {
                "quantity": name,
                "band": [float(band.low[number]), float(band.high[number])],
                "outside": made,
                "outside_interval_over_shows": None if share is None else [share.low, share.high],
                "heldout_outside": float(real[number]),
                "allowed": allowed,
                "within": made <= allowed,
            }
        )
    return rows


@dataclass(frozen=True)
class Recurrence:
    """Whether a show comes back to what it was, by distances of small pictures far apart in time.

    Args:
        closest: the smallest distance of any two.
        typical: the median distance of all.
        nearest: the median over probes of the distance to the most similar other one.
        ratio: `nearest / typical`: 0 for a loop, near 1 for noise.
        is_loop: whether the show keeps repeating itself: the ratio is below `LOOP`.
        lag: frames after which it repeats best, if it is a loop.
    """

    closest: float
    typical: float
    nearest: float
    ratio: float
    is_loop: bool
    lag: int | None

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return dict(self.__dict__)


def recurrence(pictures: npt.ArrayLike, frames: npt.ArrayLike, apart: int) -> Recurrence | None:
    """Look for returns.

    Args:
        pictures: (N, D) small pictures in the order of time.
        frames: (N,) their frame numbers.
        apart: how many frames two must be apart at least to count as a return.

    Returns:
        What was found; None if no two are as far apart, or nothing ever changes.
    """
    numbers = np.asarray(frames, np.int64)
    lags = np.abs(numbers[:, None] - numbers[None])
    far = lags >= apart
    if not far.any():
        return None
    found = distances(pictures, pictures)
    typical = float(np.median(found[far]))
    if typical < 1e-6:
        return None
    nearest = np.where(far, found, np.inf).min(1)
    nearest = nearest[np.isfinite(nearest)]
    ratio = float(np.median(nearest)) / typical
    lag = None
    if ratio < LOOP:
        known = sorted({int(value) for value in lags[far].tolist()})
        lag = min(known, key=lambda value: (round(float(np.median(found[lags == value])) / typical, 2), value))
    return Recurrence(float(nearest.min()), typical, float(np.median(nearest)), ratio, ratio < LOOP, lag)


def slope(marks: Sequence[int], values: Sequence[Estimate]) -> float | None:
    """Return how much a distance grows per tenfold time, by least squares over the marks above 0."""
    points = [(np.log10(mark), estimate.value) for mark, estimate in zip(marks, values, strict=True) if mark > 0]
    if len(points) < 2:
        return None
    x, y = np.array(points).T
    return float(np.polyfit(x, y, 1)[0])
