"""The benchmark of chains."""

from __future__ import annotations

import json

import pytest

from benchmarks import __main__ as command
from benchmarks.latency.chain import ChainMeasurement
from tests import tiny
from tests.runtime import trailing


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("bundles")
    return [str(tiny.build(folder / "tiny")), str(trailing.build(folder / "trailing"))]


def test_the_overhead_is_the_median_of_the_frames() -> None:
    measurement = ChainMeasurement([11.0, 22.0, 60.0], [(4.0, 6.0), (15.0, 5.0), (10.0, 10.0)])
    assert measurement.overhead == pytest.approx(0.1)


def test_the_result_has_every_link(bundles: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["chain", *bundles, "--engine", "onnxruntime", "--threads", "1", "--frames", "5", "--warmup", "1"]
    assert command.main(words) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert [(link["name"], link["width"], link["height"]) for link in result["links"]] == [
        ("tiny", 64, 48),
        ("trailing", 32, 16),
    ]
    assert all(link["bare_ms"] > 0 and link["ms"] > 0 for link in result["links"])
    assert result["ms"]["p50"] > 0
    assert (result["engine"], result["pixels"], result["frames"]) == ("onnxruntime", "rgb", 5)
    assert "bare runs" in captured.err


def test_one_bundle_and_no_frames_are_refused(bundles: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for words, sentence in (
        (["chain", bundles[0]], "a chain needs at least two bundles"),
        (["chain", *bundles, "--frames", "0"], "--frames and --warmup must be at least 1, got 0 and 30"),
    ):
        assert command.main(words) == 2
        assert sentence in capsys.readouterr().err
