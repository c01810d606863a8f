"""What a server adds to a frame, measured with the stand-in."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from benchmarks.latency import server
from export.triton.repository import RepositoryOptions, write_repository
from tests import moving
from tests.triton_server import TritonServer


def measure(bundle: Path, engine: str, *extra: str) -> server.BenchmarkReport:
    """Run the benchmark."""
    parser = argparse.ArgumentParser()
    server.add_arguments(parser)
    return server.run(parser.parse_args([str(bundle), "--engine", engine, *extra]))


@pytest.mark.live
def test_what_the_server_computes_is_not_counted(tmp_path: Path) -> None:
    bundle = moving.build(tmp_path / "moving")
    write_repository(bundle, tmp_path / "models", RepositoryOptions(pixels=("rgb",)))
    with TritonServer(tmp_path / "models") as triton:
        report = measure(bundle, f"grpc://{triton.url}", "--pixels", "rgb", "--frames", "20")
        step = triton.models["moving-step-rgb"]
        assert step.num_computed == 2 * (server.WARM_UP + 20) + 1 + 1, "one was ahead, and one ended the sequence"
        assert not step.sequences
    for way in ("one at a time", "one ahead"):
        part = report.result[way]
        assert part["server_ms"] > 0
        assert part["overhead_ms"] == pytest.approx(part["ms"]["p50"] - part["server_ms"], abs=2e-3)
    assert [row[0] for row in report.rows] == ["one at a time", "one ahead"]


def test_an_engine_of_this_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--engine must be the address of a server"):
        measure(tmp_path, "onnxruntime")
