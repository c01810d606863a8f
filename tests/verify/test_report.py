"""What is told about a mark in words."""

from __future__ import annotations

import numpy as np
import pytest

from verify.finding import Finding
from verify.report import VideoReport, Window, mark_lines, where


def found(rows: slice, columns: slice) -> Finding:
    """Return a finding whose mark is in a part of the frame."""
    places = np.zeros((6, 8), np.float32)
    places[rows, columns] = 9
    return Finding("c0ffee123456", 0, 15, 1.0, 12.0, 126.0, 0.0, False, places)


@pytest.mark.parametrize(
    ("rows", "columns", "words"),
    [
        (slice(2, 4), slice(3, 5), "in 8% of the frame, mostly the middle"),
        (slice(0, 2), slice(0, 3), "in 12% of the frame, mostly the top and left"),
        (slice(0, 2), slice(0, 8), "in 33% of the frame, mostly the top"),
        (slice(0, 6), slice(0, 8), "all over the frame"),
        (slice(0, 0), slice(0, 0), "too weak to say where in the frame"),
    ],
)
def test_a_place_is_named_once(rows: slice, columns: slice, words: str) -> None:
    assert where(found(rows, columns)) == words


def test_a_chance_is_told_with_its_condition() -> None:
    report = VideoReport("a.mp4", 640, 360, 16, [Window(0.0, 0.6, found(slice(0, 6), slice(0, 8)))])
    (line,) = (one for one in mark_lines(report) if "The chance" in one)
    assert "below 1 in 30,000,000, if " in line
    assert "are as likely one way as the other (see docs/verify.md)" in line
