"""Footage of a generator and of the one that it started from."""

from __future__ import annotations

from training.start import joined_footage


def test_clips_of_one_source_count_once() -> None:
    own = [("a.mp4", "MIT", "site"), ("b.mp4", "MIT", "site"), ("mine.mp4", "CC0-1.0", "me")]
    before = [*((f"site {number}", "MIT", "site") for number in range(3)), ("sea 0", "MIT", "sea")]
    found = joined_footage(own, before)
    assert sum(row[2] == "site" for row in found) == 3, "as many as the larger of both numbers"
    assert sum(row[2] == "sea" for row in found) == 1
    assert sum(row[2] == "me" for row in found) == 1


def test_files_with_the_same_name_count_once() -> None:
    rows = [("a.mp4", "MIT", "site"), ("b.mp4", "MIT", "site")]
    assert joined_footage(rows, rows) == rows
    assert joined_footage([], rows) == rows
    assert joined_footage(rows, []) == rows
