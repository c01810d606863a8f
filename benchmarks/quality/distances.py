"""Distances between two sets of clips in the features of a frozen network, with bootstrap intervals.

Arithmetic on (clips, values) arrays: no network, no video. Intervals draw whole scenes, and the same scenes for paired
sets, which `scipy.stats.bootstrap` cannot.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest
from sklearn.metrics.pairwise import polynomial_kernel

Values = npt.NDArray[np.float64]
RESAMPLES = 500  # of a bootstrap
LEVEL = 0.95  # of every interval
MIN_GROUPS = 8  # scenes; with fewer, single clips are drawn


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval at `LEVEL`; nan where there is too little data."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """Return plain data; what is not a number becomes None."""
        return {name: finite(getattr(self, name)) for name in ("value", "low", "high")}


# Distances.


def frechet(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Return the squared Frechet distance of the Gaussians that fit two sets (Heusel et al. 1706.08500, eq. 6).

    `|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))`. With centred rows A and B, S1 = A'A / (n - 1) and so on, the trace of
    the root is the sum of the singular values of `A B' / sqrt((n - 1)(m - 1))`: exact for singular covariances (fewer
    clips than values), and an (n, m) problem where `scipy.linalg.sqrtm` needs a (d, d) one.

    Args:
        x: (n, d), one row per clip, n at least 2.
        y: (m, d).
    """
    one, two = rows_of(x, y, 2)
    mean_one, mean_two = one.mean(0), two.mean(0)
    a, b = (one - mean_one) / math.sqrt(len(one) - 1), (two - mean_two) / math.sqrt(len(two) - 1)
    shared = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    distance = ((mean_one - mean_two) ** 2).sum() + (a**2).sum() + (b**2).sum() - 2 * shared
    return max(0.0, float(distance))


def covariance_rank(num_clips: int, num_values: int) -> dict[str, int | bool]:
    """Return the largest possible rank of a covariance of so many clips, and the number of values."""
    rank = min(max(0, num_clips - 1), num_values)
    return {"rank_at_most": rank, "values": num_values, "is_deficient": rank < num_values}


def mmd2(x: npt.ArrayLike, y: npt.ArrayLike, *, paired: bool = False) -> float:
    """Return the unbiased squared maximum mean discrepancy (Gretton et al. 2012, eq. 3).

    The kernel is `(x . y / d + 1)^3` (Binkowski et al. 1801.01401, section 4).

    Args:
        x: (n, d), n at least 2.
        y: (m, d), m at least 2.
        paired: row i of both comes from the same footage (a clip and its continuation, say). Such pairs are left out
            between the sets as a clip's pair with itself is within one; a set then has distance 0 from itself.
    """
    one, two = rows_of(x, y, 2)
    return _weighted_mmd2(*_kernels(one, two), np.ones(len(one)), np.ones(len(two)), paired)


def _kernels(one: Values, two: Values) -> tuple[Values, Values, Values]:
    return polynomial_kernel(one), polynomial_kernel(two), polynomial_kernel(one, two)


def _weighted_mmd2(xx: Values, yy: Values, xy: Values, u: Values, v: Values, paired: bool) -> float:
    """Return `mmd2` of rows drawn `u` and `v` times; a clip is never compared with its own copies."""

    def mean(products: Values, left: Values, right: Values, without_own: bool) -> float:
        weights = np.outer(left, right)
        if without_own:
            np.fill_diagonal(weights, 0.0)
        total = weights.sum()
        return float((weights * products).sum() / total) if total else math.nan

    return mean(xx, u, u, True) + mean(yy, v, v, True) - 2 * mean(xy, u, v, paired)


def wilson(successes: int, trials: int) -> Estimate:
    """Return a share with Wilson's score interval (Wilson 1927); nan for no trials."""
    if trials == 0:
        return Estimate(math.nan, math.nan, math.nan)
    interval = binomtest(successes, trials).proportion_ci(LEVEL, "wilson")
    return Estimate(successes / trials, float(interval.low), float(interval.high))


@dataclass(frozen=True)
class Paired:
    """How many made clips are closer to their real continuation than a rival is."""

    share: Estimate
    closer: int
    clips: int
    distance_ratio: float  # median over clips of (made to real) / (rival to real): below 1 is closer

    def to_json(self) -> dict[str, object]:
        """Return plain data."""
        share, ratio = self.share.to_json(), finite(self.distance_ratio)
        return {"closer": self.closer, "clips": self.clips, "share": share, "median_distance_ratio": ratio}


def paired_test(made: npt.ArrayLike, rival: npt.ArrayLike, real: npt.ArrayLike) -> Paired:
    """Compare, clip by clip, the L2 distance of the made features to the real ones with that of a rival's.

    Args:
        made: (n, d) of the made continuations.
        rival: (n, d), of the repeated first frame, say.
        real: (n, d) of the real continuations; row i of all three has the same first frame.
    """
    one, two, three = (np.asarray(values, np.float64) for values in (made, rival, real))
    if not one.shape == two.shape == three.shape:
        raise ValueError(f"paired sets must be of one shape, got {one.shape}, {two.shape} and {three.shape}")
    mine, theirs = np.linalg.norm(one - three, axis=1), np.linalg.norm(two - three, axis=1)
    closer = int((mine < theirs).sum())
    ratio = float(np.median(mine / np.maximum(theirs, 1e-12))) if len(mine) else math.nan
    return Paired(wilson(closer, len(mine)), closer, len(mine), ratio)


# Intervals.


def bootstrap_mmd2(
    x: npt.ArrayLike, y: npt.ArrayLike, groups: Sequence[str], other_groups: Sequence[str] | None = None, seed: int = 0
) -> Estimate:
    """Return `mmd2` with its percentile interval.

    Args:
        x: (n, d) the real clips.
        y: (m, d) the others.
        groups: the scene of each row of `x`; whole scenes are drawn.
        other_groups: the same of `y`; None if row i of `y` belongs to row i of `x`: they are then drawn together.
        seed: of the draws.
    """
    kernels = _kernels(*rows_of(x, y, 2))
    if other_groups is None:
        return _percentile_interval(lambda u: _weighted_mmd2(*kernels, u, u, True), (groups,), (seed, 1))
    both = (groups, other_groups)
    return _percentile_interval(lambda u, v: _weighted_mmd2(*kernels, u, v, False), both, (seed, 1))


def bootstrap_mmd2_difference(
    x: npt.ArrayLike, y: npt.ArrayLike, rival: npt.ArrayLike, groups: Sequence[str], seed: int = 0
) -> Estimate:
    """Return `mmd2(x, y) - mmd2(x, rival)` with its percentile interval: if all of it is below 0, `y` is closer.

    Row i of all three, (n, d) each, belongs together and is drawn together: what makes both distances uncertain
    cancels.
    """
    near, far = _kernels(*rows_of(x, y, 2)), _kernels(*rows_of(x, rival, 2))
    return _percentile_interval(
        lambda u: _weighted_mmd2(*near, u, u, True) - _weighted_mmd2(*far, u, u, True), (groups,), (seed, 1)
    )


def bootstrap_frechet(
    x: npt.ArrayLike, y: npt.ArrayLike, groups: Sequence[str], other_groups: Sequence[str] | None = None, seed: int = 0
) -> Estimate:
    """Return `frechet` with the interval value +- 1.96 standard deviations; arguments as of `bootstrap_mmd2`.

    Clips drawn twice make a covariance smaller, so the draws are biased upwards: only their spread is used.
    """
    one, two = rows_of(x, y, 2)
    both = (groups,) if other_groups is None else (groups, other_groups)

    def distance(*weights: Values) -> float:
        u, v = weights[0].astype(int), weights[-1].astype(int)
        return frechet(np.repeat(one, u, axis=0), np.repeat(two, v, axis=0))

    value, half = frechet(one, two), 1.96 * float(np.std(_draws(distance, both, (seed, 2), 100), ddof=1))
    return Estimate(value, max(0.0, value - half), value + half)


def bootstrap_mean(
    values: npt.ArrayLike,
    groups: Sequence[str] | None = None,
    statistic: Callable[[Values], np.floating] = np.mean,
    seed: int = 0,
) -> Estimate:
    """Return a statistic (the mean) of (n,) values with its percentile interval."""
    array = np.asarray(values, np.float64)
    if array.size == 0:
        return Estimate(math.nan, math.nan, math.nan)
    names = groups or [str(number) for number in range(len(array))]
    return _percentile_interval(lambda u: float(statistic(np.repeat(array, u.astype(int)))), (names,), (seed, 3))


def half_against_half(x: npt.ArrayLike, groups: Sequence[str], seed: int = 0, splits: int = 100) -> Estimate:
    """Return `mmd2` between two disjoint halves of one set: mean and spread over random splits.

    The distance of two samples of the same thing at this number of clips; its mean is about 0. Whole groups go into a
    half where there are enough of them.
    """
    rows = np.asarray(x, np.float64)
    of_row = list(groups) if len(set(groups)) >= MIN_GROUPS else [str(number) for number in range(len(rows))]
    units = sorted(set(groups)) if len(set(groups)) >= MIN_GROUPS else of_row
    rng = np.random.default_rng((seed, 4))
    found = []
    for _ in range(splits):
        order = rng.permutation(len(units))
        first = {units[number] for number in order[: len(units) // 2].tolist()}
        mine = np.array([name in first for name in of_row])
        if mine.sum() >= 2 and (~mine).sum() >= 2:
            found.append(mmd2(rows[mine], rows[~mine]))
    return Estimate(float(np.mean(found)) if found else math.nan, *_percentiles(found))


class Resampler:
    """Draws clips with replacement.

    Clips of one scene are alike, so whole scenes are drawn. With fewer than `MIN_GROUPS` scenes, single clips are: the
    interval then holds for these scenes only.
    """

    def __init__(self, groups: Sequence[str]) -> None:
        names, of_row = np.unique(groups, return_inverse=True)
        if len(names) < MIN_GROUPS:
            names, of_row = np.arange(len(groups)), np.arange(len(groups))
        self._count, self._of_row = len(names), of_row

    def draw(self, rng: np.random.Generator) -> Values:
        """Return how often each clip was drawn, (n,)."""
        counts = np.bincount(rng.integers(self._count, size=self._count), minlength=self._count)
        return counts[self._of_row].astype(np.float64)


def _draws(
    statistic: Callable[..., float], groups: Sequence[Sequence[str]], seed: tuple[int, int], resamples: int = RESAMPLES
) -> list[float]:
    """Return a statistic of drawn weights, one array (n,) per set of groups."""
    rng = np.random.default_rng(seed)
    resamplers = [Resampler(names) for names in groups]
    return [statistic(*(resampler.draw(rng) for resampler in resamplers)) for _ in range(resamples)]


def _percentile_interval(
    statistic: Callable[..., float], groups: Sequence[Sequence[str]], seed: tuple[int, int]
) -> Estimate:
    value = statistic(*(np.ones(len(names)) for names in groups))
    return Estimate(value, *_percentiles(_draws(statistic, groups, seed)))


def _percentiles(values: Sequence[float]) -> tuple[float, float]:
    array = np.asarray(values, np.float64)
    array = array[np.isfinite(array)]
    if array.size == 0:
        return math.nan, math.nan
    low, high = np.percentile(array, [50 * (1 - LEVEL), 50 * (1 + LEVEL)]).tolist()
    return low, high


def rows_of(x: npt.ArrayLike, y: npt.ArrayLike, least: int) -> tuple[Values, Values]:
    """Return two sets as float64; ValueError if they cannot be compared."""
    one, two = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if one.ndim != 2 or two.ndim != 2 or one.shape[1] != two.shape[1] or min(len(one), len(two)) < least:
        raise ValueError(
            f"a distance needs two sets of at least {least} clips with as many values, got {one.shape} and {two.shape}"
        )
    return one, two


def finite(value: float) -> float | None:
    """Return a number for JSON: None for nan and infinity."""
    return float(value) if math.isfinite(value) else None
