"""Is what a generator makes only what it has seen? Nearest neighbours in features and in small pictures; coverage.

Legend: n clips of one set, m of another, d values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.quality.distances import Estimate
from benchmarks.quality.intervals import bootstrap_mean

Values = npt.NDArray[np.float64]
Clip = npt.NDArray[np.uint8]
SMALL = 16  # pixels, side of a small picture


@dataclass(frozen=True)
class Nearness:
    """How near a set lies to the training footage, beside how near footage held out of it lies.

    Args:
        training: median over clips of the distance to the nearest training clip.
        heldout: the same to the nearest held-out clip.
        real: what held-out clips themselves have as distance to the nearest training clip.
        ratio: `training / real`; well below 1 is suspicious: nearer to what was trained on than new footage ever is.
        nearer: share of clips nearer to the training footage than the nearest 5 % of held-out clips are.
        share: of clips whose nearest neighbour among as many training as held-out clips is a training clip: 0.5 is
            even, a copier lies well above. Blur brings a clip nearer to everything; this share it leaves alone.
    """

    training: Estimate
    heldout: Estimate
    real: Estimate
    ratio: float
    nearer: float
    share: float

    def to_json(self) -> dict[str, object]:
        """Return plain data."""
        return {
            "to_training": self.training.to_json(),
            "to_heldout": self.heldout.to_json(),
            "heldout_to_training": self.real.to_json(),
            "ratio": self.ratio,
            "nearer_than_5_percent_of_heldout": self.nearer,
            "nearest_is_training": self.share,
        }


def distances(x: npt.ArrayLike, y: npt.ArrayLike) -> Values:
    """Return the Euclidean distance of every row of `x` (n, d) to every row of `y` (m, d): (n, m)."""
    one, two = np.asarray(x, np.float64), np.asarray(y, np.float64)
    squares = (one**2).sum(1)[:, None] + (two**2).sum(1)[None] - 2 * one @ two.T
    found: Values = np.sqrt(np.maximum(squares, 0))
    return found


def nearness(
    made: npt.ArrayLike,
    training: npt.ArrayLike,
    heldout: npt.ArrayLike,
    *,
    made_groups: Sequence[str] | None = None,
    heldout_groups: Sequence[str] | None = None,
    seed: int = 0,
) -> Nearness:
    """Compare the distances to the nearest neighbours.

    Args:
        made: (n, d); several rows may belong to one clip, see `made_groups`.
        training: (m, d).
        heldout: (k, d) real clips that training never saw.
        made_groups: what may not count as new for the interval; None for every row by itself.
        heldout_groups: the scene of each held-out clip; a made clip and its own scene are not compared.
        seed: of the intervals.
    """
    known = distances(made, training)
    to_training = known.min(1)
    real = distances(heldout, training).min(1)
    between = distances(made, heldout)
    if made_groups is not None and heldout_groups is not None:
        own = np.array([[a == b for b in heldout_groups] for a in made_groups])
        if not own.all(1).any():
            between = np.where(own, np.inf, between)
    to_heldout = between.min(1)

    def median(values: Values, groups: Sequence[str] | None) -> Estimate:
        return bootstrap_mean(values, groups=groups, statistic=lambda drawn: float(np.median(drawn)), seed=seed)

    ratio = float(np.median(to_training) / max(float(np.median(real)), 1e-12))
    nearer = float((to_training < np.percentile(real, 5)).mean())
    return Nearness(
        median(to_training, made_groups),
        median(to_heldout, made_groups),
        median(real, heldout_groups),
        ratio,
        nearer,
        _share_of_training(known, between, seed),
    )


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
    """Return small pictures of every `step`-th frame, contrast and brightness evened out, for distances of pixels.

    Args:
        clip: (T, H, W, 3) uint8 RGB.
        step: frames from one to the next.

    Returns:
        (N, SMALL * SMALL * 3) float32 rows of mean 0 and length 1 (all 0 for a picture of one colour), so that the
        distance of two is 0 for the same picture and about 1.4 for two that have nothing in common.
    """
    from PIL import Image

    rows = []
    for frame in clip[::step]:
        small = np.asarray(Image.fromarray(frame).resize((SMALL, SMALL), Image.Resampling.BOX), np.float32)
        row = small.ravel() - small.mean()
        rows.append(row / max(float(np.linalg.norm(row)), 1e-6))
    return np.stack(rows)


def clip_nearest(made: Sequence[Clip], pictures: npt.ArrayLike) -> Values:
    """Return for each clip the smallest distance of any of its small pictures to any row of `pictures`: (n,)."""
    return np.array([distances(small_pictures(clip), pictures).min() for clip in made])


def precision_recall(real: npt.ArrayLike, made: npt.ArrayLike, k: int = 3) -> tuple[float, float]:
    """Return improved precision and recall (Kynkaanniemi et al. 1904.06991, eqs. 1 and 2).

    A point lies in a set if it is within the distance of any of the set's points to its k-th nearest neighbour there.

    Args:
        real: (n, d), n above k.
        made: (m, d), m above k.
        k: neighbours.

    Returns:
        The share of made clips that lie among real ones, and of real clips that lie among made ones.
    """
    one, two = np.asarray(real, np.float64), np.asarray(made, np.float64)
    if min(len(one), len(two)) <= k:
        raise ValueError(f"precision and recall with k = {k} need {k + 1} clips or more, got {len(one)} and {len(two)}")

    def covered(points: Values, of: Values) -> float:
        radii = np.sort(distances(of, of), axis=1)[:, k]  # column 0 is the point itself
        return float((distances(points, of) <= radii[None]).any(1).mean())

    return covered(two, one), covered(one, two)
