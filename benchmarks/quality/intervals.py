"""How sure a distance is: bootstraps over clips or whole scenes; and what chance alone makes of two halves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.quality.distances import Estimate, Values, frechet, kernel, mmd2, rows_of, weighted_mmd2

RESAMPLES = 500  # of a bootstrap
LEVEL = 0.95  # of every interval
MIN_GROUPS = 8  # scenes, below which single clips are drawn


def bootstrap_mmd2(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    groups: Sequence[str],
    other_groups: Sequence[str] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Return `mmd2` with its percentile interval over clips drawn anew.

    Args:
        x: (n, d) the real clips.
        y: (m, d) the others.
        groups: what each row of `x` was cut from; whole groups are drawn together.
        other_groups: the same of `y`; None if row i of `y` belongs to row i of `x`, which are then drawn together.
        seed: of the draws.
        resamples: how many.
    """
    one, two = rows_of(x, y, 2)
    paired = other_groups is None
    xx, yy, xy = kernel(one, one), kernel(two, two), kernel(one, two)
    rng = np.random.default_rng((seed, 1))
    found = []
    for _ in range(resamples):
        u = draw_weights(groups, rng)
        v = u if other_groups is None else draw_weights(other_groups, rng)
        found.append(weighted_mmd2(xx, yy, xy, u, v, paired))
    low, high = _percentiles(found)
    return Estimate(weighted_mmd2(xx, yy, xy, np.ones(len(one)), np.ones(len(two)), paired), low, high)


def bootstrap_mmd2_difference(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    rival: npt.ArrayLike,
    *,
    groups: Sequence[str],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Return `mmd2(x, y) - mmd2(x, rival)` with its percentile interval: below 0 throughout, `y` is closer for sure.

    Row i of all three, (n, d) each, belongs together, and is drawn together: much of what makes each distance
    uncertain is the same in both and cancels.
    """
    one, two = rows_of(x, y, 2)
    _, three = rows_of(x, rival, 2)
    xx, parts = kernel(one, one), [(kernel(other, other), kernel(one, other)) for other in (two, three)]
    rng = np.random.default_rng((seed, 1))

    def difference(u: Values) -> float:
        made, still = (weighted_mmd2(xx, within, between, u, u, True) for within, between in parts)
        return made - still

    low, high = _percentiles([difference(draw_weights(groups, rng)) for _ in range(resamples)])
    return Estimate(difference(np.ones(len(one))), low, high)


def bootstrap_frechet(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    groups: Sequence[str],
    other_groups: Sequence[str] | None = None,
    seed: int = 0,
    resamples: int = 100,
) -> Estimate:
    """Return `frechet` with the interval value +- 1.96 standard deviations over clips drawn anew.

    Clips drawn twice make a covariance smaller, so the draws themselves lie too high: only their spread is used.
    The arguments are those of `bootstrap_mmd2`.
    """
    one, two = rows_of(x, y, 2)
    rng = np.random.default_rng((seed, 2))
    found = []
    for _ in range(resamples):
        u = draw_weights(groups, rng).astype(int)
        v = u if other_groups is None else draw_weights(other_groups, rng).astype(int)
        found.append(frechet(np.repeat(one, u, axis=0), np.repeat(two, v, axis=0)))
    value, half = frechet(one, two), 1.96 * float(np.std(found, ddof=1)) if resamples > 1 else math.nan
    return Estimate(value, max(0.0, value - half), value + half)


def draw_weights(groups: Sequence[str], rng: np.random.Generator) -> Values:
    """Draw clips with replacement and return how often each was drawn: (n,).

    Clips of one scene say much the same, so whole scenes are drawn; where there are fewer than eight, single clips are
    (the interval then only speaks of these scenes).
    """
    names = sorted(set(groups))
    if len(names) < MIN_GROUPS:
        drawn = rng.integers(len(groups), size=len(groups))
        return np.bincount(drawn, minlength=len(groups)).astype(np.float64)
    counts = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
    by_name = dict(zip(names, counts.tolist(), strict=True))
    return np.array([by_name[name] for name in groups], np.float64)


def bootstrap_mean(
    values: npt.ArrayLike,
    *,
    groups: Sequence[str] | None = None,
    statistic: Callable[[Values], float] = lambda values: float(np.mean(values)),
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Return a statistic (the mean) of (n,) values with its percentile interval over values drawn anew."""
    array = np.asarray(values, np.float64)
    if array.size == 0:
        return Estimate(math.nan, math.nan, math.nan)
    rng = np.random.default_rng((seed, 3))
    names = groups or [str(number) for number in range(len(array))]
    draws = [np.repeat(array, draw_weights(names, rng).astype(int)) for _ in range(resamples)]
    low, high = _percentiles([statistic(draw) for draw in draws if draw.size])
    return Estimate(statistic(array), low, high)


def half_against_half(x: npt.ArrayLike, groups: Sequence[str], *, seed: int = 0, splits: int = 100) -> Estimate:
    """Return `mmd2` between two disjoint halves of one set: mean and spread over random splits.

    What a distance between two samples of the same thing looks like at this number of clips; its mean is about 0. Whole
    groups go into a half where there are enough of them.
    """
    rows = np.asarray(x, np.float64)
    names = sorted(set(groups))
    by_group = len(names) >= MIN_GROUPS
    units = names if by_group else [str(number) for number in range(len(rows))]
    of_row = list(groups) if by_group else units
    rng = np.random.default_rng((seed, 4))
    found = []
    for _ in range(splits):
        order = rng.permutation(len(units))
        first = {units[number] for number in order[: len(units) // 2].tolist()}
        mine = np.array([name in first for name in of_row])
        if mine.sum() >= 2 and (~mine).sum() >= 2:
            found.append(mmd2(rows[mine], rows[~mine]))
    if not found:
        return Estimate(math.nan, math.nan, math.nan)
    low, high = _percentiles(found)
    return Estimate(float(np.mean(found)), low, high)


def _percentiles(values: Sequence[float]) -> tuple[float, float]:
    array = np.asarray(values, np.float64)
    array = array[np.isfinite(array)]
    if array.size == 0:
        return math.nan, math.nan
    low, high = np.percentile(array, [50 * (1 - LEVEL), 50 * (1 + LEVEL)]).tolist()
    return low, high
