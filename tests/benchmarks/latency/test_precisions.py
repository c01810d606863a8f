"""The benchmark of precisions, on a tiny network."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from benchmarks.latency import precisions
from tests.export.int8.convolving import build


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    precisions.add_arguments(parser)
    return parser.parse_args(words)


def test_every_precision_is_timed_and_compared(tmp_path: Path) -> None:
    report = precisions.run(options(str(build(tmp_path / "bundle")), "--rounds", "2"))
    measured = report.result["measured"]
    assert {("openvino", "fp32"), ("onnxruntime", "fp32")} <= {(row["engine"], row["precision"]) for row in measured}
    assert not any(row["precision"] == "int8" for row in measured), "the bundle has no such graph"
    for row in measured:
        assert row["cpu_ms"] > 0
        assert row["worst_db"] >= row["gate_db"]
        if row["precision"] == "fp32":
            assert row["ratio"] == 1.0
    text = precisions.to_markdown(report.result)
    assert text.count("\n") == len(measured) + 2
    assert "| tiny | openvino | fp32 |" in text


@pytest.mark.parametrize(("words", "message"), [(["--rounds", "0"], "--rounds"), (["--threads", "0"], "--threads")])
def test_a_wrong_number_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        precisions.run(options("bundle", *words))
