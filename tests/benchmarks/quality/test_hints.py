"""The benchmark of motion with hints."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from benchmarks.quality import hints
from training.checkpoint import newest_checkpoint


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    hints.add_arguments(parser)
    return parser.parse_args([*words])


def test_network_and_interpolation_are_scored(tiny_run: Path, footage_cache: Path) -> None:
    chosen = options(str(tiny_run), "--cache", str(footage_cache), "--clips", "8", "--side", "train")
    report = hints.run(chosen)
    scores = {(score["method"], score["vectors"]): score for score in report.result["scores"]}
    ways = ("network", "interpolation", "drawn")
    assert set(scores) == {("network", 0), *((way, n) for way in ways for n in (1, 3, 5, 8))}
    assert all(score["clips"] == 8 for score in scores.values())
    assert scores["interpolation", 8]["cosine"] > scores["network", 0]["cosine"]
    assert report.result["checkpoint"] == {"stage": "finetune", "iteration": 4}
    table = hints.to_markdown(report.result)
    assert "| standing still | | 1 | 1 | |" in table
    assert table.count("| network |") == 5
    file = options(str(newest_checkpoint(tiny_run)), "--cache", str(footage_cache), "--clips", "8", "--side", "train")
    assert hints.run(file).result["scores"] == report.result["scores"]


def test_too_few_clips_are_refused(tiny_run: Path) -> None:
    with pytest.raises(ValueError, match="--clips is 4, expected 8 or more"):
        hints.run(options(str(tiny_run), "--clips", "4"))
