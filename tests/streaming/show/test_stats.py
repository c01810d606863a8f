"""The show's figures against slow but obvious ways to work them out."""

from __future__ import annotations

import json
from fractions import Fraction
from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.output.fan_out import SinkStats
from streaming.show.stats import FrameTimes, FrameTiming, ShowStats, percentile


@given(st.lists(st.floats(0, 1e3, width=32), min_size=1, max_size=300), st.integers(1, 100))
def test_percentile_is_the_nearest_rank(values: list[float], percent: int) -> None:
    rank = ceil(Fraction(percent * len(values), 100))
    assert percentile(np.array(values), percent) == sorted(values)[rank - 1]


def test_percentiles_of_a_hundred_values() -> None:
    values = np.arange(100, 0, -1)
    assert [percentile(values, percent) for percent in (1, 50, 95, 99, 100)] == [1, 50, 95, 99, 100]


def test_no_frames_make_no_figures() -> None:
    times = FrameTimes(Fraction(25))
    assert times.recent() == times.total() == FrameTiming()
    assert times.seconds == 0


def test_rate_and_length_count_the_last_interval() -> None:
    times = FrameTimes(Fraction(25))
    for index in range(50):
        times.add(0.004, 100 + index / 25)
    assert times.seconds == pytest.approx(2)
    assert times.total().fps == pytest.approx(25)
    assert times.total().p50_ms == pytest.approx(4)


def test_recent_figures_forget_what_total_keeps() -> None:
    times = FrameTimes(Fraction(10))
    for index in range(300):
        times.add(0.5 if index == 7 else 0.002, index / 10)
    assert times.recent().worst_ms == pytest.approx(2)
    assert times.total().worst_ms == pytest.approx(500)
    assert times.total().p99_ms == pytest.approx(2)


def test_memory_is_bounded_and_the_worst_frame_stays() -> None:
    times = FrameTimes(Fraction(1000))
    times.add(9.0, 0)
    for index in range(1, 2**17 + 10):
        times.add(0.001, index / 1000)
    assert times.total().worst_ms == 9000
    assert times.total().p99_ms == pytest.approx(1)
    assert times.num == 2**17 + 10


def test_stats_are_json_and_do_not_tell_where_files_lie() -> None:
    sink = SinkStats("a.mp4", "on air", False, 5, 1, 0, "/home/somebody/a.mp4, 3 MB")
    stats = ShowStats(5, 0.2, FrameTiming(25, 1, 2, 3, 4), 1, 2, [sink]).to_json()
    assert json.loads(json.dumps(stats)) == {
        "frames": 5,
        "seconds": 0.2,
        "fps": 25,
        "p50_ms": 1,
        "p95_ms": 2,
        "p99_ms": 3,
        "worst_ms": 4,
        "late": 1,
        "dropped": 2,
        "filled": 0,
        "sinks": [
            {
                "name": "a.mp4",
                "state": "on air",
                "written": 5,
                "dropped": 1,
                "errors": 0,
                "is_up": True,
                "bitrate": None,
                "reconnects": 0,
            }
        ],
    }
