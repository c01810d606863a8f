"""Time per frame of a person over a show."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from benchmarks.latency import compositing
from runtime.compositing.composite import Composite
from tests.runtime.compositing.test_composite import build_matte


def test_every_part_is_measured_after_the_first_frames_of_its_block(tmp_path: Path) -> None:
    ticks = iter(range(0, 10**9, 1_000_000))
    with Composite.open(build_matte(tmp_path / "matte"), 64, 48, engine="onnxruntime", threads=1) as composite:
        times = compositing.measure(composite, 2, lambda: next(ticks))
    assert list(times) == list(compositing.CASES)
    assert {step: len(values) for step, values in times["wrap"].items()} == {"feed": 14, "matte": 14, "blend": 14}
    assert set(times["tone"]["blend"]) == {1.0}


def test_the_report_has_a_row_for_each_part(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    compositing.add_arguments(parser)
    words = [str(build_matte(tmp_path / "matte")), "--size", "64x48", "--blocks", "1", "--engine", "onnxruntime"]
    report = compositing.run(parser.parse_args(words))
    assert [row[0] for row in report.rows] == list(compositing.CASES)
    assert "| wrap and tone | " in compositing.to_markdown(report.result)
    with pytest.raises(ValueError, match="--blocks is 0, expected 1 or more"):
        compositing.run(parser.parse_args([*words, "--blocks", "0"]))
