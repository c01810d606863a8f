"""How far one set of clips is from another, in the features of a frozen network, with intervals.

Everything here is arithmetic on (clips, values) float arrays: no network, no video.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval at `LEVEL`; where there is too little to tell, the interval is (nan, nan)."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """Return plain data; what is not a number becomes None."""
        return {name: finite(getattr(self, name)) for name in ("value", "low", "high")}


def frechet(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Return the squared Frechet distance of the Gaussians that fit two sets (Heusel et al. 1706.08500, eq. 6).

    `|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))`. With centred rows A and B, S1 = A'A / (n - 1) and so on, the trace of
    the root is the sum of the singular values of `A B' / sqrt((n - 1)(m - 1))`: exact, and safe where there are fewer
    clips than values and both covariances are singular.

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
    """Return the largest rank that a covariance of so many clips can have, beside the values it is asked to cover."""
    rank = min(max(0, num_clips - 1), num_values)
    return {"rank_at_most": rank, "values": num_values, "is_deficient": rank < num_values}


def kernel(x: npt.ArrayLike, y: npt.ArrayLike) -> Values:
    """Return the kernel `(x . y / d + 1)^3` of every pair (Binkowski et al. 1801.01401, section 4): (n, m)."""
    one, two = rows_of(x, y, 1)
    return np.asarray((one @ two.T / one.shape[1] + 1.0) ** 3, np.float64)


def mmd2(x: npt.ArrayLike, y: npt.ArrayLike, *, paired: bool = False) -> float:
    """Return the unbiased squared maximum mean discrepancy under `kernel` (Gretton et al. 2012, eq. 3).

    Args:
        x: (n, d), n at least 2.
        y: (m, d), m at least 2.
        paired: row i of both comes from the same footage (a clip and its continuation, say). Such pairs are left out
            between the sets just as a clip's pair with itself is left out within one; a set is then at exactly 0 from
            itself.
    """
    one, two = rows_of(x, y, 2)
    return weighted_mmd2(
        kernel(one, one), kernel(two, two), kernel(one, two), np.ones(len(one)), np.ones(len(two)), paired
    )


def weighted_mmd2(xx: Values, yy: Values, xy: Values, u: Values, v: Values, paired: bool) -> float:
    """Return the weighted form: rows drawn `u` and `v` times; a clip never meets its own copies."""

    def mean(products: Values, left: Values, right: Values, without_own: bool) -> float:
        weights = np.outer(left, right)
        if without_own:
            np.fill_diagonal(weights, 0.0)
        total = weights.sum()
        return float((weights * products).sum() / total) if total else math.nan

    return mean(xx, u, u, True) + mean(yy, v, v, True) - 2 * mean(xy, u, v, paired)


def wilson(successes: int, trials: int) -> Estimate:
    """Return a share with Wilson's score interval (Wilson 1927), which stays within 0 and 1 for few trials.

    Args:
        successes: 0 to `trials`.
        trials: 0 gives nan.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} of {trials} is no share")
    if trials == 0:
        return Estimate(math.nan, math.nan, math.nan)
    z = 1.959963984540054
    share = successes / trials
    middle = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    return Estimate(share, max(0.0, middle - half), min(1.0, middle + half))


@dataclass(frozen=True)
class Paired:
    """Of how many clips the made one is closer to its own real continuation than a rival is."""

    share: Estimate
    closer: int
    clips: int
    distance_ratio: float  # median over clips of (made to real) / (rival to real): below 1 is closer

    def to_json(self) -> dict[str, object]:
        """Return plain data."""
        return {
            "closer": self.closer,
            "clips": self.clips,
            "share": self.share.to_json(),
            "median_distance_ratio": finite(self.distance_ratio),
        }


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


def rows_of(x: npt.ArrayLike, y: npt.ArrayLike, least: int) -> tuple[Values, Values]:
    one, two = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if one.ndim != 2 or two.ndim != 2 or one.shape[1] != two.shape[1] or min(len(one), len(two)) < least:
        raise ValueError(
            f"a distance needs two sets of at least {least} clips with as many values, got {one.shape} and {two.shape}"
        )
    return one, two


def finite(value: float) -> float | None:
    """Return a number for JSON: None for nan and infinity."""
    return float(value) if math.isfinite(value) else None
