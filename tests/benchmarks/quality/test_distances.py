"""Distances, shares and their intervals have known values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.quality.distances import (
    Resampler,
    bootstrap_frechet,
    bootstrap_mean,
    bootstrap_mmd2,
    bootstrap_mmd2_difference,
    covariance_rank,
    frechet,
    half_against_half,
    mmd2,
    paired_test,
    wilson,
)


def names(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def test_frechet_of_two_gaussians() -> None:
    """Diagonal covariances: |m1 - m2|^2 + sum (s1 - s2)^2, exactly for samples made to have these moments."""
    rng = np.random.default_rng(0)
    white = rng.normal(size=(400, 3))
    white -= white.mean(0)
    white = white @ np.linalg.inv(np.linalg.cholesky(np.cov(white.T))).T  # covariance exactly 1
    x = white * [1, 2, 3]
    y = white[:, [0, 1, 2]] * [2, 2, 1] + [1, 0, -2]
    assert frechet(x, y) == pytest.approx(5 + 1 + 0 + 4, rel=1e-9)


def test_frechet_agrees_with_the_matrix_root_where_covariances_do_not_commute() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(50, 4)) @ rng.normal(size=(4, 4)), rng.normal(size=(60, 4)) @ rng.normal(size=(4, 4)) + 1
    one, two = np.cov(x.T), np.cov(y.T)
    roots = np.sqrt(np.maximum(np.linalg.eigvals(one @ two).real, 0)).sum()
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(one) + np.trace(two) - 2 * roots
    assert frechet(x, y) == pytest.approx(expected, rel=1e-9)


def test_frechet_is_safe_where_clips_are_fewer_than_values() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(5, 100))
    assert frechet(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet(x, x + 0.5) == pytest.approx(25, rel=1e-9)
    assert covariance_rank(5, 100) == {"rank_at_most": 4, "values": 100, "is_deficient": True}
    assert not covariance_rank(500, 100)["is_deficient"]


def test_mmd_of_a_set_with_itself_is_zero_and_of_equal_distributions_about_zero() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(40, 8))
    assert mmd2(x, x, paired=True) == pytest.approx(0, abs=1e-12)
    found = [mmd2(rng.normal(size=(40, 8)), rng.normal(size=(40, 8))) for _ in range(50)]
    assert abs(float(np.mean(found))) < 3 * float(np.std(found)) / math.sqrt(50)
    assert mmd2(x, x + 1) > 10 * float(np.std(found))


def test_mmd_is_the_plain_formula() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(5, 3)), rng.normal(size=(6, 3))

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / 3 + 1) ** 3)

    within = sum(k(x[i], x[j]) for i in range(5) for j in range(5) if i != j) / 20
    other = sum(k(y[i], y[j]) for i in range(6) for j in range(6) if i != j) / 30
    between = sum(k(a, b) for a in x for b in y) / 30
    assert mmd2(x, y) == pytest.approx(within + other - 2 * between)


def test_intervals_hold_the_value_and_are_the_same_every_time() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(30, 6)), rng.normal(size=(30, 6)) + 0.5
    first = bootstrap_mmd2(x, y, groups=names(30), other_groups=names(30))
    assert first == bootstrap_mmd2(x, y, groups=names(30), other_groups=names(30))
    assert first.low < first.value < first.high
    distance = bootstrap_frechet(x, y, groups=names(30))
    assert distance.value == pytest.approx(frechet(x, y))
    assert 0 <= distance.low < distance.value < distance.high
    paired = bootstrap_mmd2(x, x, groups=names(30))
    assert (paired.low, paired.value, paired.high) == pytest.approx((0, 0, 0), abs=1e-12)


def test_a_paired_difference_has_a_narrower_interval() -> None:
    rng = np.random.default_rng(7)
    real = rng.normal(size=(30, 6))
    near, far = real + 0.2 * rng.normal(size=(30, 6)) + 0.3, real + 0.2 * rng.normal(size=(30, 6)) + 0.5
    found = bootstrap_mmd2_difference(real, near, far, groups=names(30))
    assert found.value == pytest.approx(mmd2(real, near, paired=True) - mmd2(real, far, paired=True))
    assert found.low < found.value < found.high < 0
    itself = bootstrap_mmd2_difference(real, near, near, groups=names(30))
    assert (itself.low, itself.high) == pytest.approx((0, 0), abs=1e-12)


def test_whole_scenes_are_drawn_where_there_are_enough() -> None:
    groups = [str(number // 3) for number in range(30)]
    drawn = Resampler(groups).draw(np.random.default_rng(0)).reshape(10, 3)
    assert (drawn == drawn[:, :1]).all()
    assert drawn[:, 0].sum() == 10
    few = Resampler(["a"] * 15 + ["b"] * 15).draw(np.random.default_rng(0))
    assert few.sum() == 30


def test_halves_of_one_set_are_about_zero_apart() -> None:
    x = np.random.default_rng(6).normal(size=(40, 8))
    found = half_against_half(x, names(40))
    assert found.low < 0 < found.high
    assert math.isnan(half_against_half(x[:3], names(3)).value)


def test_wilson_has_its_published_values() -> None:
    """Newcombe 1998, table I: 81 of 263 is 0.2553 to 0.3662, 15 of 148 is 0.0624 to 0.1605, 0 of 20 is 0 to 0.1611."""
    assert (wilson(81, 263).low, wilson(81, 263).high) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert (wilson(15, 148).low, wilson(15, 148).high) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert (wilson(0, 20).low, wilson(0, 20).high) == pytest.approx((0, 0.1611), abs=1e-4)
    assert math.isnan(wilson(0, 0).value)
    with pytest.raises(ValueError, match="must not be greater"):
        wilson(3, 2)


def test_paired_counts_the_closer_ones() -> None:
    real = np.zeros((4, 2))
    made = np.array([[1, 0], [1, 0], [3, 0], [0, 1.0]])
    rival = np.full((4, 2), 2.0)
    found = paired_test(made, rival, real)
    assert (found.closer, found.clips) == (3, 4)
    assert found.share.value == 0.75
    assert found.to_json()["median_distance_ratio"] == pytest.approx(1 / math.sqrt(8))
    with pytest.raises(ValueError, match="one shape"):
        paired_test(made[:2], rival, real)


def test_mean_and_its_interval() -> None:
    found = bootstrap_mean(np.arange(100.0))
    assert found.value == 49.5
    assert 40 < found.low < 49.5 < found.high < 59
    assert math.isnan(bootstrap_mean([]).value)


def test_sets_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        frechet(np.zeros((1, 3)), np.zeros((4, 3)))
    with pytest.raises(ValueError, match="as many values"):
        mmd2(np.zeros((4, 3)), np.zeros((4, 2)))
