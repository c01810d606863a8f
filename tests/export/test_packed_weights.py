"""Weights in a half or a quarter of the space: the same values, whatever engine reads them."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.packed_weights import as_bytes, pack_weights, to_bytes
from runtime.engines.fp16 import share_of, to_half


def model_of(weights: np.ndarray) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "conv",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, weights.shape[1], 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, len(weights), 6, 6])],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def made_by(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    made = session.run(None, {"x": x})[0]
    assert isinstance(made, np.ndarray)
    return made


@pytest.mark.parametrize(("kind", "share"), [("bytes", 0.32), ("half", 0.55), ("full", 1.01)])
def test_a_packed_graph_is_smaller_and_the_same(kind: str, share: float) -> None:
    random = np.random.default_rng(0)
    weights = random.standard_normal((32, 16, 3, 3)).astype(np.float32)
    weights[5] = 0
    rounded = {"bytes": to_bytes(weights), "half": weights.astype(np.float16).astype(np.float32), "full": weights}[kind]
    model, packed = model_of(rounded), model_of(rounded)
    pack_weights(packed, in_bytes=True)
    assert packed.ByteSize() < share * model.ByteSize()
    x = random.standard_normal((1, 16, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(made_by(packed, x), made_by(model, x), atol=1e-4)


def test_eight_bits_are_found_again_and_near() -> None:
    weights = np.random.default_rng(1).standard_normal((64, 96, 3, 3)).astype(np.float32)
    rounded = to_bytes(weights)
    found = as_bytes(rounded)
    assert found is not None
    steps, scales = found
    assert steps.dtype == np.int8
    assert np.array_equal(steps.astype(np.float32) * scales, rounded)
    assert np.array_equal(to_bytes(rounded), rounded)
    assert 20 * np.log10(weights.std() / (rounded - weights).std()) > 38
    assert as_bytes(weights) is None


def test_an_fp16_graph_has_the_weights_in_fp16() -> None:
    model = model_of(to_bytes(np.random.default_rng(2).standard_normal((32, 16, 3, 3)).astype(np.float32)))
    packed = model_of(numpy_helper.to_array(model.graph.initializer[0]))
    pack_weights(packed, in_bytes=True)
    assert share_of(to_half(packed)).value == 1
    assert {tensor.data_type for tensor in to_half(packed).graph.initializer} == {TensorProto.FLOAT16}
    assert made_by(to_half(packed), np.ones((1, 16, 8, 8), np.float32)) == pytest.approx(
        made_by(model, np.ones((1, 16, 8, 8), np.float32)), abs=0.1
    )
