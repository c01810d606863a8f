"""Cost against pixels: counting, fitting, finding sizes, and one real run of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks import __main__ as command
from benchmarks.latency.scale import count_flop, exponent, find_sizes, measure, to_markdown
from tests import moving, tiny
from tests.tiny import GraphBuilder, tensor


def test_operations_of_convolutions_and_products_are_counted() -> None:
    graph = GraphBuilder()
    graph.add("Conv", "x", graph.constant(np.zeros((8, 3, 3, 3))), pads=[1, 1, 1, 1], out="y")
    graph.add("MatMul", "v", graph.constant(np.zeros((5, 7))), out="w")
    inputs = [tensor("x", "float32", (1, 3, 10, 20), "live"), tensor("v", "float32", (2, 5), "noise")]
    outputs = [tensor("y", "float32", (1, 8, 10, 20), "frame"), tensor("w", "float32", (2, 7), "frame")]
    model = graph.to_model(inputs, outputs)
    assert count_flop(model.SerializeToString()) == 2 * (8 * 10 * 20) * 27 + 2 * (2 * 7) * 5


def test_the_exponent_is_that_of_the_line() -> None:
    rows = [{"width": side, "height": side, "ms": {"p50": 0.003 * side**1.8}} for side in (128, 256, 512)]
    assert exponent(rows) == pytest.approx(0.9)
    assert exponent(rows[:1]) is None


def test_a_bundle_of_any_size_is_measured_at_each(tmp_path: Path) -> None:
    fixed, free = tiny.build(tmp_path / "tiny"), moving.build(tmp_path / "moving")
    wanted = [(fixed, ""), (free, "64x32"), (free, "128x72")]
    assert find_sizes([fixed, free], "64x32,128x72") == wanted
    with pytest.raises(ValueError, match="width and height must be even"):
        find_sizes([free], "65x32")
    row = measure(free, "64x32", 1, 20)
    assert (row["width"], row["height"]) == (64, 32)


def test_bundles_are_measured_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = tiny.build(tmp_path / "small", width=64, height=48)
    large = tiny.build(tmp_path / "large", width=128, height=96)
    plot = tmp_path / "a.png"
    arguments = ["scale", str(large), str(small), "--frames", "20", "--threads", "1", "--plot", str(plot)]
    assert command.main(arguments) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert [(row["width"], row["height"]) for row in result["sizes"]] == [(64, 48), (128, 96)]
    assert result["sizes"][0]["gflop"] <= result["sizes"][1]["gflop"]
    assert to_markdown(result).count("\n| ") == 2
    with Image.open(plot) as picture:
        assert picture.width >= 800
