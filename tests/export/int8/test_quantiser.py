"""What the quantiser changes of a step graph, and what it leaves in float."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from export.int8.evaluation import evaluate
from export.int8.quantiser import Quantiser
from export.packed_weights import pack_weights
from tests.export.int8.convolving import HEIGHT, LAYERS, WIDTH, build_step


@pytest.fixture
def feeds() -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [{"live": rng.integers(0, 256, (1, HEIGHT, WIDTH, 3), dtype=np.uint8)} for _ in range(3)]


@pytest.fixture
def quantiser(feeds: list[dict[str, np.ndarray]], tmp_path: Path) -> Quantiser:
    return Quantiser(build_step()[0], feeds, tmp_path, "picture")


def count(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def test_layers_are_those_before_the_picture_with_their_products(quantiser: Quantiser) -> None:
    assert list(quantiser.work) == LAYERS, "the convolutions of the pixel stage are none of them"
    assert quantiser.work["second"] == 16 * 16 * 9 * WIDTH * HEIGHT


def test_frames_change_a_little_and_names_and_types_stay(
    quantiser: Quantiser, feeds: list[dict[str, np.ndarray]]
) -> None:
    plain, model = build_step()[0], quantiser.quantise(LAYERS)
    onnx.checker.check_model(model)
    assert [value.name for value in model.graph.output] == ["rgb"]
    assert any("picture" in node.output for node in model.graph.node)
    wanted, found = evaluate(plain, feeds), evaluate(model, feeds)
    difference = np.abs(found[0][0].astype(int) - wanted[0][0].astype(int))
    assert 0 < difference.max() <= 16


@pytest.mark.parametrize(("vnni", "most"), [(False, 64), (True, 128)])
def test_weights_use_seven_bits_or_eight(
    feeds: list[dict[str, np.ndarray]], tmp_path: Path, vnni: bool, most: int
) -> None:
    quantiser = Quantiser(build_step()[0], feeds, tmp_path, "picture", vnni=vnni)
    largest = [
        np.abs(numpy_helper.to_array(tensor).astype(int)).max()
        for tensor in quantiser.quantise(LAYERS).graph.initializer
        if tensor.data_type == TensorProto.INT8 and len(tensor.dims) == 4
    ]
    assert len(largest) == len(LAYERS)
    assert max(largest) <= most
    assert min(largest) >= most - 4


def test_only_what_a_quantised_layer_reads_is_rounded(quantiser: Quantiser) -> None:
    model = quantiser.quantise(["second"])
    assert count(model)["QuantizeLinear"] == 1, "its input; its output goes to layers in float"
    assert count(model)["Relu"] == 3
    assert count(quantiser.quantise(LAYERS))["Relu"] < 3, "unsigned bytes stand for a Relu between layers"


def test_packed_weights_are_unpacked_and_the_others_packed_again(
    feeds: list[dict[str, np.ndarray]], tmp_path: Path
) -> None:
    model = build_step()[0]
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 4:
            values = numpy_helper.to_array(tensor).astype(np.float16).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    pack_weights(model)
    assert any(tensor.data_type == TensorProto.FLOAT16 for tensor in model.graph.initializer)
    found = Quantiser(model, feeds, tmp_path, "picture")
    assert list(found.work) == LAYERS
    assert not any(tensor.data_type == TensorProto.FLOAT16 for tensor in found.model.graph.initializer)
    kinds = Counter(tensor.data_type for tensor in found.quantise(["second"]).graph.initializer if len(tensor.dims) > 1)
    assert kinds[TensorProto.INT8] == 1
    assert kinds[TensorProto.FLOAT16] == 3


def test_inputs_are_not_kept(tmp_path: Path) -> None:
    """Those of many frames take gigabytes."""
    live = np.zeros((1, HEIGHT, WIDTH, 3), np.uint8)
    kept = weakref.ref(live)
    quantiser = Quantiser(build_step()[0], [{"live": live}], tmp_path, "picture")
    del live
    gc.collect()
    assert kept() is None
    assert count(quantiser.quantise(LAYERS))["QuantizeLinear"] > 0, "the ranges are known"


def test_a_graph_without_layers_is_refused(feeds: list[dict[str, np.ndarray]], tmp_path: Path) -> None:
    model = build_step()[0]
    with pytest.raises(ValueError, match="no weights to quantise: no Conv or ConvTranspose"):
        Quantiser(model, feeds, tmp_path, "live")
