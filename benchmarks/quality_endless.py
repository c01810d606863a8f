"""Does a show hold for ever? Windows at marks far apart in time, short probes all along, and: is it a loop?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.quality_distances import Estimate, bootstrap_mean
from benchmarks.quality_memory import distances, small_pictures
from benchmarks.quality_motion import flow_magnitude, high_frequency, luminance, saturation
from benchmarks.quality_sets import Show, take_frames

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


@dataclass(frozen=True)
class ShowRecord:
    """What was seen of one endless show.

    Args:
        windows: mark -> clips (T, H, W, 3) uint8 RGB around it.
        frames: (N,) number of each probe's first frame.
        probes: (N, quantities) float64, in the order of `QUANTITIES`.
        pictures: (N, D) float32 small pictures, see `small_pictures`.
        state_norms: (N,) the largest absolute value of any state after the probe; nan where it is not known.
    """

    windows: dict[int, list[Clip]]
    frames: npt.NDArray[np.int64]
    probes: Values
    pictures: npt.NDArray[np.float32]
    state_norms: Values


def marks_up_to(horizon: int) -> list[int]:
    """Return 0 and the powers of ten from 1000 to the horizon, and the horizon itself."""
    marks = [0, *(10**power for power in range(3, 10) if 10**power <= horizon)]
    return marks if marks[-1] == horizon else [*marks, horizon]


def plan(
    marks: Sequence[int], lengths: Sequence[int], spacing: int, probe_every: int
) -> list[tuple[int, int, int | None]]:
    """Lay out what is looked at in one show: (first frame, frames, mark or None for a probe), in time, without overlap.

    Args:
        marks: frame numbers.
        lengths: of the windows at each mark, which follow each other `spacing` frames apart.
        spacing: frames; at least as long as a window.
        probe_every: frames from one probe to the next; a probe that would fall into a window is taken from it.
    """
    spacing = max(spacing, *lengths)
    windows = [(mark + number * spacing, length, mark) for mark in marks for number, length in enumerate(lengths)]
    windows.sort()
    kept: list[tuple[int, int, int]] = []
    for start, length, mark in windows:  # marks close together: the later mark's windows wait for the earlier's
        start = max(start, kept[-1][0] + kept[-1][1] if kept else 0)
        kept.append((start, length, mark))
    end = kept[-1][0] + kept[-1][1]
    taken = [(start, start + length) for start, length, _ in kept]
    probes: list[tuple[int, int, int | None]] = []
    index = 0
    for start in range(0, end, probe_every):
        while index < len(taken) and taken[index][1] <= start:
            index += 1
        if index == len(taken) or start + PROBE_FRAMES <= taken[index][0]:
            probes.append((start, PROBE_FRAMES, None))
    return sorted([*kept, *probes], key=lambda item: item[0])


def watch(
    show: Show,
    seed: int,
    marks: Sequence[int],
    lengths: Sequence[int],
    *,
    spacing: int,
    probe_every: int = 50,
    norm: Callable[[], float] = lambda: float("nan"),
    advance: Callable[[int], object] = int,
) -> ShowRecord:
    """Watch one show, renewals included, from frame 0 to beyond the last mark.

    Args:
        show: a generator; if it has `skip(n)`, frames between are advanced without being rendered.
        seed: of the show.
        marks: see `plan`.
        lengths: see `plan`.
        spacing: see `plan`.
        probe_every: see `plan`.
        norm: the largest absolute value of the states now.
        advance: called with the number of frames that have passed.
    """
    skip = getattr(show, "skip", None)
    show.reset(seed=seed)
    show.condition(seed=seed)
    now = 0
    windows: dict[int, list[Clip]] = {mark: [] for mark in marks}
    frames, probes, pictures, norms = [], [], [], []
    for start, length, mark in plan(marks, lengths, spacing, probe_every):
        if skip is not None and start > now:
            skip(start - now)
        else:
            for _ in range(start - now):
                next(show)
        clip = take_frames(show, length)
        advance(start + length - now)
        now = start + length
        if mark is not None:
            windows[mark].append(clip)
        probe = clip[:PROBE_FRAMES]
        frames.append(start)
        probes.append(quantities(probe))
        pictures.append(small_pictures(probe[:1])[0])
        norms.append(norm())
    return ShowRecord(windows, np.array(frames), np.array(probes), np.array(pictures), np.array(norms))


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


LOOP = 0.1


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
