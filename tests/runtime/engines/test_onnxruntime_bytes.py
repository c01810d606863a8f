"""ONNX Runtime with weights in bytes: those that are only stored so, and those that are multiplied as bytes."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from runtime.engines.onnxruntime import open_session

SIZE = 16


def network(*, is_quantised: bool, has_zero: bool) -> bytes:
    """Return y = relu(conv(x)) whose weights are int8 with a scale for each of 32 channels."""
    random = np.random.default_rng(0)
    weights = random.integers(-127, 128, (32, 3, 3, 3)).astype(np.int8)
    scales = (random.random(32) / 500 + 0.001).astype(np.float32)
    constants = [numpy_helper.from_array(weights, "w8"), numpy_helper.from_array(scales, "scales")]
    constants += [numpy_helper.from_array(np.zeros(32, np.int8), "zeros")]
    constants += [numpy_helper.from_array(np.array(1 / 255, np.float32), "step")]
    constants += [numpy_helper.from_array(np.array(0, np.uint8), "none")]
    inputs = ["w8", "scales", "zeros"] if has_zero else ["w8", "scales"]
    nodes = [helper.make_node("DequantizeLinear", inputs, ["w"], axis=0)]
    source = "x"
    if is_quantised:
        nodes.append(helper.make_node("QuantizeLinear", ["x", "step", "none"], ["x8"]))
        nodes.append(helper.make_node("DequantizeLinear", ["x8", "step", "none"], ["xq"]))
        source = "xq"
    nodes.append(helper.make_node("Conv", [source, "w"], ["c"], pads=[1, 1, 1, 1]))
    nodes.append(helper.make_node("Relu", ["c"], ["y"]))
    kinds = {"x": [1, 3, SIZE, SIZE], "y": [1, 32, SIZE, SIZE]}
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in kinds.items()]
    graph = helper.make_graph(nodes, "net", values[:1], values[1:], constants)
    opset = [helper.make_opsetid("", 18)]
    data: bytes = helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()
    return data


@pytest.mark.parametrize("is_quantised", [False, True])
@pytest.mark.parametrize("has_zero", [False, True])
def test_graphs_with_bytes_run_as_they_are_written(is_quantised: bool, has_zero: bool) -> None:
    model = network(is_quantised=is_quantised, has_zero=has_zero)
    picture = np.random.default_rng(1).random((1, 3, SIZE, SIZE)).astype(np.float32)
    made = open_session(model, 1).run(None, {"x": picture})[0]
    plain = open_session(model, 1, is_optimised=False).run(None, {"x": picture})[0]
    assert np.abs(made - plain).max() < 0.02 * plain.max()
