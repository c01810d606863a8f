"""A loop is found in a periodic show and not in noise; the band counts what lies outside."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from benchmarks.quality.drift import band_of, band_table, outside, recurrence, snippets
from benchmarks.quality.endless import marks_up_to, plan, watch
from benchmarks.quality.motion import QUANTITIES


def test_a_loop_is_found_in_a_periodic_show() -> None:
    period = np.random.default_rng(0).normal(size=(20, 30))
    pictures = np.tile(period, (10, 1)) + 0.001 * np.random.default_rng(1).normal(size=(200, 30))
    found = recurrence(pictures, 50 * np.arange(200), apart=400)
    assert found is not None
    assert found["is_loop"]
    assert found["lag"] == 20 * 50
    assert found["ratio"] < 0.01


def test_no_loop_is_found_in_noise_or_in_a_slow_walk() -> None:
    rng = np.random.default_rng(2)
    noise = recurrence(rng.normal(size=(200, 30)), 50 * np.arange(200), apart=400)
    walk = recurrence(np.cumsum(rng.normal(size=(200, 30)), axis=0), 50 * np.arange(200), apart=400)
    for found in (noise, walk):
        assert found is not None
        assert not found["is_loop"]
        assert found["lag"] is None
    assert noise is not None
    assert noise["ratio"] > 0.5


def test_a_still_or_too_short_show_has_no_returns() -> None:
    assert recurrence(np.ones((50, 3)), np.arange(50), apart=10) is None
    assert recurrence(np.random.default_rng(0).normal(size=(5, 3)), np.arange(5), apart=10) is None


def test_the_band_holds_98_per_cent_of_itself_and_counts_what_drifts() -> None:
    rng = np.random.default_rng(3)
    training = rng.normal(size=(5000, len(QUANTITIES)))
    band = band_of(training)
    assert outside(training, band) == pytest.approx([0.02] * 4, abs=0.001)
    heldout = rng.normal(size=(500, 4))
    steady = [rng.normal(size=(500, 4)), rng.normal(size=(500, 4))]
    assert all(row["within"] for row in band_table(band, steady, heldout))
    drifting = [show + np.array([0, 0, 3, 0]) for show in steady]
    rows = band_table(band, drifting, heldout)
    assert [row["within"] for row in rows] == [True, True, False, True]
    assert rows[2]["outside"] > 0.6
    assert band_table(band, steady[:1], np.zeros((10, 4)))[0]["allowed"] == pytest.approx(0.04)


def test_marks_and_plan() -> None:
    assert marks_up_to(100_000) == [0, 1000, 10_000, 100_000]
    assert marks_up_to(2500) == [0, 1000, 2500]
    assert marks_up_to(0) == [0]
    items = plan([0, 1000], [16, 16], spacing=100, probe_every=50)
    assert [item for item in items if item[2] is not None] == [
        (0, 16, 0),
        (100, 16, 0),
        (1000, 16, 1000),
        (1100, 16, 1000),
    ]
    ends = [start + length for start, length, _ in items]
    assert all(start >= end for (start, _, _), end in zip(items[1:], ends, strict=False))
    assert {50, 150, 950} <= {start for start, _, mark in items if mark is None}
    crowded = plan([0, 100], [64] * 4, spacing=10, probe_every=50)
    assert all(b[0] >= a[0] + a[1] for a, b in itertools.pairwise(crowded))


class Counter:
    """A show whose frames all have the value of their number, modulo 251."""

    def __init__(self) -> None:
        self.now, self.made, self.prompts = 0, 0, []

    def condition(self, **prompt: object) -> None:
        self.prompts.append(prompt)

    def reset(self, seed: int | None = None) -> None:
        self.now = 0

    def skip(self, count: int) -> None:
        self.now += count

    def __iter__(self) -> Counter:
        return self

    def __next__(self) -> np.ndarray:
        frame = np.full((32, 32, 3), self.now % 251, np.uint8)
        self.now, self.made = self.now + 1, self.made + 1
        return frame


def test_windows_are_at_their_marks() -> None:
    show = Counter()
    passed: list[int] = []
    record = watch(show, 5, [0, 1000], [16, 16], spacing=100, probe_every=50, norm=lambda: 2.0, advance=passed.append)
    assert [int(clip[0, 0, 0, 0]) for clip in record.windows[1000]] == [1000 % 251, 1100 % 251]
    assert record.windows[0][0].shape == (16, 32, 32, 3)
    assert show.prompts == [{"seed": 5}]
    assert sum(passed) == show.now == 1116
    assert show.made < 1116
    assert record.probes.shape == (len(record.frames), len(QUANTITIES))
    assert (record.state_norms == 2).all()


def test_snippets() -> None:
    found = snippets([np.zeros((35, 4, 4, 3), np.uint8)])
    assert len(found) == 3
    assert {len(clip) for clip in found} == {3}
