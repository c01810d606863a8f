"""How a show changes over time: quantities of short probes against the band of real footage, and recurrence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.quality.clips import Clip
from benchmarks.quality.distances import Values
from benchmarks.quality.memory import distances
from benchmarks.quality.motion import QUANTITIES

PROBE_FRAMES = 3
NOMINAL = 0.02  # of the training footage itself is outside its 1st to 99th percentile
VERDICT = 2.0  # a show may be outside this many times as often as held-out video
LOOP = 0.1  # of the typical distance: a show that comes closer to itself than this repeats


def snippets(clips: Sequence[Clip], step: int = 16) -> list[Clip]:
    """Cut short probes out of clips, one every `step` frames."""
    return [
        clip[start : start + PROBE_FRAMES] for clip in clips for start in range(0, len(clip) - PROBE_FRAMES + 1, step)
    ]


def band_of(probes: npt.ArrayLike) -> Values:
    """Return the 1st and 99th percentile of each quantity of (N, quantities) values: (2, quantities)."""
    return np.percentile(np.asarray(probes, np.float64), [1, 99], axis=0)


def outside(probes: npt.ArrayLike, band: Values) -> Values:
    """Return the share of probes outside the band, of each quantity: (quantities,)."""
    values = np.asarray(probes, np.float64)
    return np.asarray(((values < band[0]) | (values > band[1])).mean(0), np.float64)


def band_table(band: Values, shows: Sequence[npt.ArrayLike], heldout: npt.ArrayLike) -> list[dict[str, Any]]:
    """Return for each quantity how much of the shows and of held-out video is outside the band.

    Args:
        band: of the training footage.
        shows: (N, quantities) of each show.
        heldout: (M, quantities) of held-out video.

    Returns:
        One row per quantity. `within`: the show is outside at most twice as often as held-out video, which counts as
        at least 2 %, the share of the training footage itself.
    """
    by_show, real = np.stack([outside(show, band) for show in shows]), outside(heldout, band)
    rows = []
    for number, name in enumerate(QUANTITIES):
        made, allowed = float(by_show[:, number].mean()), VERDICT * max(float(real[number]), NOMINAL)
        rows.append(
            {
                "quantity": name,
                "band": band[:, number].tolist(),
                "outside": made,
                "heldout_outside": float(real[number]),
                "allowed": allowed,
                "within": made <= allowed,
            }
        )
    return rows


def recurrence(pictures: npt.ArrayLike, frames: npt.ArrayLike, apart: int) -> dict[str, Any] | None:
    """Look for moments at which a show returns to what it was.

    Args:
        pictures: (N, D) small pictures in the order of time.
        frames: (N,) their frame numbers.
        apart: frames that two must be apart at least to count as a return.

    Returns:
        `ratio`: the median distance of a probe to the most similar other one over the median of all distances, 0 for a
        loop, near 1 for noise; `is_loop`: the ratio is below `LOOP`; `lag`: frames after which it repeats best, if it
        is a loop. None if no two are so far apart, or nothing changes.
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
    ratio, lag = float(np.median(nearest)) / typical, None
    if ratio < LOOP:
        known = np.unique(lags[far]).tolist()
        lag = min(known, key=lambda value: (round(float(np.median(found[lags == value])) / typical, 2), value))
    return {"ratio": ratio, "is_loop": ratio < LOOP, "lag": lag}
