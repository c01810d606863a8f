"""Memorisation: nearest neighbours in features and in small pictures; precision and recall.

Legend: n clips of one set, m of another, d values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from benchmarks.quality.distances import bootstrap_mean

Values = npt.NDArray[np.float64]
Clip = npt.NDArray[np.uint8]
SMALL = 16  # pixels, side of a small picture


def distances(x: npt.ArrayLike, y: npt.ArrayLike) -> Values:
    """Return the Euclidean distance of every row of `x` (n, d) to every row of `y` (m, d): (n, m)."""
    return np.asarray(cdist(np.asarray(x, np.float64), np.asarray(y, np.float64)), np.float64)


def nearness(
    made: npt.ArrayLike,
    training: npt.ArrayLike,
    heldout: npt.ArrayLike,
    *,
    made_groups: Sequence[str] | None = None,
    heldout_groups: Sequence[str] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare how near made clips and held-out clips are to the training footage.

    Args:
        made: (n, d).
        training: (m, d).
        heldout: (k, d) real clips that training never saw.
        made_groups: the scene of each made clip; None for no scenes.
        heldout_groups: the scene of each held-out clip; a made clip and its own scene are not compared.
        seed: of the intervals.

    Returns:
        `to_training`, `to_heldout` and `heldout_to_training`: medians over clips of the distance to the nearest, with
        intervals. `ratio`: the first over the last; well below 1 the clips are nearer to the training footage than new
        footage is. `nearer_than_5_percent_of_heldout`: share of clips nearer to it than the nearest 5 % of held-out
        clips. `nearest_is_training`: share of clips whose nearest neighbour among as many training as held-out clips is
        a training clip; 0.5 is even. Blur brings a clip nearer to everything and leaves this share alone.
    """
    known, between = distances(made, training), distances(made, heldout)
    if made_groups is not None and heldout_groups is not None:
        own = np.array([[a == b for b in heldout_groups] for a in made_groups])
        if not own.all(1).any():
            between = np.where(own, np.inf, between)
    to_training, to_heldout, real = known.min(1), between.min(1), distances(heldout, training).min(1)

    def median(values: Values, groups: Sequence[str] | None) -> dict[str, float | None]:
        return bootstrap_mean(values, groups, np.median, seed).to_json()

    return {
        "to_training": median(to_training, made_groups),
        "to_heldout": median(to_heldout, made_groups),
        "heldout_to_training": median(real, heldout_groups),
        **nearness_ratios(to_training, real),
        "nearest_is_training": _share_of_training(known, between, seed),
    }


def nearness_ratios(made: Values, real: Values) -> dict[str, float]:
    """Return `ratio` and `nearer_than_5_percent_of_heldout` of `nearness`, of distances to the training footage."""
    return {
        "ratio": float(np.median(made) / max(float(np.median(real)), 1e-12)),
        "nearer_than_5_percent_of_heldout": float((made < np.percentile(real, 5)).mean()),
    }


def _share_of_training(known: Values, new: Values, seed: int, draws: int = 100) -> float:
    """Return how often the nearest of equally many training and held-out clips is a training clip."""
    count = min(known.shape[1], int(np.isfinite(new).sum(1).min()))
    rng = np.random.default_rng((seed, 5))
    found = []
    for _ in range(draws):
        trained = known[:, rng.permutation(known.shape[1])[:count]].min(1)
        order = np.argsort(np.where(np.isfinite(new), rng.random(new.shape), 2.0), axis=1)[:, :count]
        found.append(float((trained < np.take_along_axis(new, order, axis=1).min(1)).mean()))
    return float(np.mean(found))


def small_pictures(clip: Clip, step: int = 8) -> npt.NDArray[np.float32]:
    """Return small pictures of every `step`-th frame, normalised in brightness and contrast, to compare pixels.

    Args:
        clip: (T, H, W, 3) uint8 RGB.
        step: frames from one to the next.

    Returns:
        (N, SMALL * SMALL * 3) float32 rows of mean 0 and length 1 (all 0 for a picture of one colour): two equal
        pictures have distance 0, two unrelated ones about 1.4.
    """
    from PIL import Image

    rows = []
    for frame in clip[::step]:
        small = np.asarray(Image.fromarray(frame).resize((SMALL, SMALL), Image.Resampling.BOX), np.float32)
        row = small.ravel() - small.mean()
        rows.append(row / max(float(np.linalg.norm(row)), 1e-6))
    return np.stack(rows)


def precision_recall(real: npt.ArrayLike, made: npt.ArrayLike, k: int = 3) -> tuple[float, float]:
    """Return improved precision and recall (Kynkaanniemi et al. 1904.06991, eqs. 1 and 2).

    A point is in a set if it is within the distance of any of the set's points to its k-th nearest neighbour there.

    Args:
        real: (n, d), n above k.
        made: (m, d), m above k.
        k: neighbours.

    Returns:
        The share of made clips that are among real ones, and of real clips that are among made ones.
    """
    one, two = np.asarray(real, np.float64), np.asarray(made, np.float64)
    if min(len(one), len(two)) <= k:
        raise ValueError(f"precision and recall with k = {k} need {k + 1} clips or more, got {len(one)} and {len(two)}")

    def covered(points: Values, of: Values) -> float:
        radii = np.sort(distances(of, of), axis=1)[:, k]  # column 0 is the point itself
        return float((distances(points, of) <= radii[None]).any(1).mean())

    return covered(two, one), covered(one, two)
