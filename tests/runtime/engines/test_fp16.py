"""FP16 graphs: which nodes compute in FP16, and the effect on frames."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from runtime.engines.fp16 import Fp16Share, share_of, to_half, unpack_bytes

RANDOM = np.random.default_rng(0)


def make_graph(nodes: list[onnx.NodeProto], **constants: np.ndarray) -> onnx.ModelProto:
    """Return a model with float inputs x (1, 4, 8, 8) and s (1, 4, 8, 8), and the outputs y and z."""
    shape = [1, 4, 8, 8]
    graph = helper.make_graph(
        nodes, "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "s")],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("y", "z")],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def weights() -> np.ndarray:
    return RANDOM.standard_normal((4, 4, 3, 3)).astype(np.float16).astype(np.float32) / 4


def types_of(model: onnx.ModelProto) -> dict[str, str]:
    """Return "FLOAT" or "FLOAT16" for every tensor that a node makes."""
    typed = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*typed.value_info, *typed.output)}
    return {name: TensorProto.DataType.Name(kind) for name, kind in kinds.items()}


def run(model: onnx.ModelProto) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    random = np.random.default_rng(1)
    return session.run(None, {name: random.standard_normal((1, 4, 8, 8)).astype(np.float32) for name in ("x", "s")})


@pytest.fixture
def mixed() -> onnx.ModelProto:
    """Convolutions, nodes after them, and a sum with a state."""
    node = helper.make_node
    return make_graph(
        [
            node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
            node("LeakyRelu", ["c1"], ["r1"], alpha=0.2),
            node("Mul", ["r1", "two"], ["m1"]),
            node("Cast", ["w2.half"], ["w2"], to=TensorProto.FLOAT),
            node("Conv", ["m1", "w2"], ["y"], pads=[1, 1, 1, 1]),
            node("Tanh", ["c1"], ["t1"]),
            node("Add", ["t1", "s"], ["moved"]),
            node("Exp", ["c1"], ["e1"]),
            node("Add", ["moved", "e1"], ["z"]),
        ],
        w1=weights(), b1=RANDOM.standard_normal(4).astype(np.float32), two=np.array(2.0, np.float32),
        **{"w2.half": weights().astype(np.float16)},
    )  # fmt: skip


def test_weighted_nodes_and_their_followers_are_fp16_and_states_are_not(mixed: onnx.ModelProto) -> None:
    half = to_half(mixed)
    onnx.checker.check_model(half, full_check=True)
    kinds = types_of(half)
    assert {name: kinds[name] for name in ("c1", "r1", "m1", "t1")} == dict.fromkeys(
        ("c1", "r1", "m1", "t1"), "FLOAT16"
    )
    assert {name: kinds[name] for name in ("moved", "e1", "y", "z")} == dict.fromkeys(
        ("moved", "e1", "y", "z"), "FLOAT"
    )
    assert share_of(mixed) == Fp16Share(0, 2)
    assert share_of(half) == Fp16Share(2, 0)
    assert share_of(half).value == 1.0
    for ours, theirs in zip(run(half), run(mixed), strict=True):
        assert 0 < np.abs(ours - theirs).max() < 2e-2 * np.abs(theirs).max()


def test_the_model_that_was_given_stays_as_it_was(mixed: onnx.ModelProto) -> None:
    before = mixed.SerializeToString()
    to_half(mixed)
    assert mixed.SerializeToString() == before


def test_weights_at_rest_in_half_are_read_as_they_are(mixed: onnx.ModelProto) -> None:
    half = to_half(mixed)
    assert "w2" not in {name for node in half.graph.node for name in node.output}, "nothing widens them any more"
    stored = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    assert stored["w2.half"] == TensorProto.FLOAT16
    assert "w1" not in stored, "and what was FP32 is not kept beside its half"


def test_a_table_and_modes_weighed_by_a_state_stay_in_full() -> None:
    node = helper.make_node
    model = make_graph(
        [
            node("Conv", ["x", "w"], ["modes"], pads=[1, 1, 1, 1]),
            node("MatMul", ["modes", "table"], ["looked_up"]),
            node("MatMul", ["s", "looked_up"], ["y"]),
            node("Identity", ["s"], ["z"]),
        ],
        w=weights(), table=RANDOM.standard_normal((8, 8)).astype(np.float32),
    )  # fmt: skip
    kinds = types_of(to_half(model))
    assert (kinds["modes"], kinds["looked_up"], kinds["y"]) == ("FLOAT16", "FLOAT", "FLOAT")


def test_a_constant_beyond_the_range_of_half_keeps_its_node_in_full() -> None:
    node = helper.make_node
    model = make_graph(
        [
            node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
            node("Mul", ["c", "huge"], ["y"]),
            node("Mul", ["c", "small"], ["inner"]),
            node("Neg", ["inner"], ["z"]),
        ],
        w=weights(), huge=np.array(1e5, np.float32), small=np.array(0.5, np.float32),
    )  # fmt: skip
    half = to_half(model)
    kinds = types_of(half)
    assert (kinds["y"], kinds["inner"]) == ("FLOAT", "FLOAT16")
    assert all(np.isfinite(value).all() for value in run(half))


def test_sizes_and_scales_keep_their_types() -> None:
    node = helper.make_node
    model = make_graph(
        [
            node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
            node("Resize", ["c", "", "scales"], ["large"], mode="nearest"),
            node("AveragePool", ["large"], ["small"], kernel_shape=[2, 2], strides=[2, 2]),
            node("Reshape", ["small", "shape"], ["y"]),
            node("Identity", ["s"], ["z"]),
        ],
        w=weights(), scales=np.array([1, 1, 2, 2], np.float32), shape=np.array([1, 4, 8, 8], np.int64),
    )  # fmt: skip
    half = to_half(model)
    onnx.checker.check_model(half, full_check=True)
    assert types_of(half)["large"] == "FLOAT16"
    assert run(half)[0].shape == (1, 4, 8, 8)


def test_a_graph_without_weights_is_left_alone() -> None:
    node = helper.make_node
    model = make_graph([node("Add", ["x", "s"], ["y"]), node("Sub", ["x", "s"], ["z"])])
    assert to_half(model).graph.node == model.graph.node
    assert share_of(model).value == 0.0


def test_large_linear_layers_and_attention_are_fp16_and_tables_are_not() -> None:
    node = helper.make_node
    layers = {name: (RANDOM.standard_normal((256, 256)) / 16).astype(np.float32) for name in ("wq", "wk", "wv")}
    model = make_graph(
        [
            node("Reshape", ["x", "row"], ["r"]),
            *(node("MatMul", ["r", f"w{name}"], [f"{name}0"]) for name in "qkv"),
            node("Reshape", ["q0", "heads"], ["q"]),
            node("Reshape", ["k0", "heads"], ["k1"]),
            node("Transpose", ["k1"], ["k"], perm=[0, 2, 1]),
            node("Reshape", ["v0", "heads"], ["v"]),
            node("MatMul", ["q", "k"], ["scores"]),
            node("Softmax", ["scores"], ["shares"]),
            node("MatMul", ["shares", "v"], ["mixed"]),
            node("Reshape", ["mixed", "picture"], ["y"]),
            node("MatMul", ["s", "table"], ["looked"]),
            node("Softmax", ["looked"], ["weighed"]),
            node("MatMul", ["weighed", "s"], ["z"]),
        ],
        row=np.array([1, 1, 256]), heads=np.array([1, 8, 32]), picture=np.array([1, 4, 8, 8]),
        table=RANDOM.standard_normal((8, 8)).astype(np.float32), **layers,
    )  # fmt: skip
    half = to_half(model)
    onnx.checker.check_model(half, full_check=True)
    kinds = types_of(half)
    assert {kinds[name] for name in ("q0", "k0", "v0", "scores", "mixed")} == {"FLOAT16"}
    assert {kinds[name] for name in ("shares", "looked", "weighed", "z", "y")} == {"FLOAT"}
    for ours, theirs in zip(run(half), run(model), strict=True):
        assert np.abs(ours - theirs).max() < 5e-3 * np.abs(theirs).max()


@pytest.mark.parametrize("axis", [0, 1, -1, None])
def test_weights_in_bytes_are_scaled_along_their_axis(axis: int | None) -> None:
    """The weights are a square, so that a wrong axis is no error but wrong values. None is ONNX's default, 1."""
    options = {} if axis is None else {"axis": axis}
    sides = 3 if axis == -1 else 4
    model = make_graph(
        [
            helper.make_node("DequantizeLinear", ["bytes", "scales"], ["w"], **options),
            helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1]),
            helper.make_node("Identity", ["s"], ["z"]),
        ],
        bytes=RANDOM.integers(-127, 128, (4, 4, 3, 3)).astype(np.int8),
        scales=np.linspace(0.001, 0.02, sides, dtype=np.float32),
    )
    wanted = run(model)
    unpack_bytes(model.graph)
    assert [node.op_type for node in model.graph.node] == ["Conv", "Identity"]
    assert [tensor.name for tensor in model.graph.initializer] == ["w"]
    for ours, theirs in zip(run(model), wanted, strict=True):
        assert np.allclose(ours, theirs, atol=1e-4)


def test_constants_of_several_weights_in_bytes_are_kept_while_they_are_read() -> None:
    model = make_graph(
        [
            helper.make_node("DequantizeLinear", ["one", "scales"], ["w1"], axis=0),
            helper.make_node("DequantizeLinear", ["two", "scales"], ["w2"], axis=0),
            helper.make_node("Conv", ["x", "w1", "scales"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("Conv", ["c", "w2"], ["y"], pads=[1, 1, 1, 1]),
            helper.make_node("Identity", ["s"], ["z"]),
        ],
        one=RANDOM.integers(-127, 128, (4, 4, 3, 3)).astype(np.int8),
        two=RANDOM.integers(-127, 128, (4, 4, 3, 3)).astype(np.int8),
        scales=np.linspace(0.001, 0.02, 4, dtype=np.float32),
    )
    wanted = run(model)
    half = to_half(model)
    unpack_bytes(model.graph)
    assert {tensor.name for tensor in model.graph.initializer} == {"scales", "w1", "w2"}
    assert np.allclose(run(model)[0], wanted[0], atol=1e-3)
    assert np.allclose(run(half)[0], wanted[0], atol=0.02 * np.abs(wanted[0]).max())


def test_bytes_with_a_zero_point_or_scales_in_fp16_stay() -> None:
    """Their values would be others, or of another type."""
    nodes = [
        helper.make_node("DequantizeLinear", ["bytes", "scale", "zero"], ["w"]),
        helper.make_node("DequantizeLinear", ["bytes", "small"], ["narrow"]),
        helper.make_node("Cast", ["narrow"], ["wide"], to=TensorProto.FLOAT),
    ]
    constants = [
        numpy_helper.from_array(np.full((2, 2), 3, np.int8), "bytes"),
        numpy_helper.from_array(np.array(0.5, np.float32), "scale"),
        numpy_helper.from_array(np.array(1, np.int8), "zero"),
        numpy_helper.from_array(np.array(0.5, np.float16), "small"),
    ]
    graph = helper.make_graph(nodes, "graph", [], [], constants)
    unpack_bytes(graph)
    assert list(graph.node) == nodes
    assert list(graph.initializer) == constants
