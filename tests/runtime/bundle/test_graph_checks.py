"""ONNX graphs that lie: each is refused before an engine sees it, though its hash fits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from runtime import BundleError, Manifest
from runtime.bundle.graph_checks import parse_graph
from runtime.bundle.pruning import prune


@pytest.fixture(scope="module")
def manifest(bundle: Path) -> Manifest:
    """The tiny bundle's manifest."""
    return Manifest.parse(json.loads((bundle / "bundle.json").read_text()))


@pytest.fixture
def model(bundle: Path) -> onnx.ModelProto:
    """The tiny bundle's step graph, to be changed."""
    return onnx.load(bundle / "step.onnx")


def node_making(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    """Return the node that makes a tensor."""
    return next(node for node in model.graph.node if name in node.output)


def sparse_in_a_file() -> onnx.SparseTensorProto:
    """Return a sparse constant that keeps its values in a file of the current folder."""
    values = TensorProto(data_type=TensorProto.FLOAT, dims=[1], name="s", data_location=TensorProto.EXTERNAL)
    values.external_data.add(key="location", value="secret.bin")
    return onnx.SparseTensorProto(values=values, indices=numpy_helper.from_array(np.array([0])), dims=[4])


def rename_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = "a_pictrue_slot"
    for node in model.graph.node:
        node.input[:] = ["a_pictrue_slot" if name == "a_picture_slot" else name for name in node.input]


def change_shape(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 47


def make_dynamic(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"


def change_type(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE


def invent_type(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = 4711


def drop_output(model: onnx.ModelProto) -> None:
    del model.graph.output[0]


def use_external_data(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def hide_external_data(model: onnx.ModelProto) -> None:
    tensor = numpy_helper.from_array(np.zeros(1, np.float32))
    tensor.data_location = TensorProto.EXTERNAL
    model.graph.node.insert(0, helper.make_node("Constant", [], ["hidden"], value=tensor))


def hide_sparse_data(model: onnx.ModelProto) -> None:
    model.graph.node.insert(0, helper.make_node("Constant", [], ["hidden"], sparse_value=sparse_in_a_file()))


def list_sparse_data(model: onnx.ModelProto) -> None:
    node = helper.make_node("Identity", ["mix"], ["aside"], name="aside")
    node.attribute.add(name="all", type=onnx.AttributeProto.SPARSE_TENSORS, sparse_tensors=[sparse_in_a_file()])
    model.graph.node.append(node)


def branch(model: onnx.ModelProto) -> None:
    empty = helper.make_graph([], "branch", [], [])
    model.graph.node.append(helper.make_node("If", ["mix"], ["x"], then_branch=empty, else_branch=empty))


def use_private_operator(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Anything", ["mix"], ["x"], domain="com.example"))


def use_function(model: onnx.ModelProto) -> None:
    nodes = [helper.make_node("Identity", ["a"], ["b"])]
    model.functions.append(helper.make_function("local", "F", ["a"], ["b"], nodes, []))


def read_nothing(model: onnx.ModelProto) -> None:
    model.graph.node[3].input[0] = "nobody"


def swap_order(model: onnx.ModelProto) -> None:
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))


def make_twice(model: onnx.ModelProto) -> None:
    model.graph.node.append(model.graph.node[0])


def lose_picture(model: onnx.ModelProto) -> None:
    node_making(model, "picture").output[0] = "pictrue"
    for node in model.graph.node:
        node.input[:] = ["pictrue" if name == "picture" else name for name in node.input]


def bypass_picture(model: onnx.ModelProto) -> None:
    source = node_making(model, "picture").input[0]
    for node in model.graph.node:
        if node_making(model, "picture") != node:
            node.input[:] = [source if name == "picture" else name for name in node.input]


def mix_after_picture(model: onnx.ModelProto) -> None:
    maker = node_making(model, "rgb")
    cast = node_making(model, maker.input[0])
    cast.input[0], late = "late", helper.make_node("Mul", [cast.input[0], "mix"], ["late"])
    model.graph.node.insert(list(model.graph.node).index(cast), late)


def feed_picture_back(model: onnx.ModelProto) -> None:
    maker = node_making(model, "clock_next")
    model.graph.node.remove(maker)
    model.graph.node.append(helper.make_node("ReduceMean", ["picture"], ["clock_next"], axes=[1, 2, 3], keepdims=0))


def colour_the_terminal(model: onnx.ModelProto) -> None:
    model.graph.node[0].name = "\x1b[31mnode"


def turn_the_text_around(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].name += "\u202e"


def misshape_picture(model: onnx.ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, 48, 63]))


LIES: list[tuple[Callable[[onnx.ModelProto], None], str]] = [
    (rename_input, "inputs are .*a_pictrue_slot.*, but the manifest says"),
    (change_shape, r"is float .1, 3, 47, 64., but the manifest says float32 .1, 3, 48, 64"),
    (make_dynamic, r"is float .-1, 3, 48, 64., but"),
    (change_type, "is double .1, 3, 48, 64., but"),
    (invent_type, "is of the unknown type 4711"),
    (drop_output, "outputs are .*, but the manifest says"),
    (use_external_data, "keeps the tensor .* in another file"),
    (hide_external_data, "in another file"),
    (hide_sparse_data, r'the node "" \(Constant\) has a sparse constant; only dense ones are expected'),
    (list_sparse_data, r'the node "aside" \(Identity\) has a sparse constant'),
    (branch, "has control flow .a If node"),
    (use_private_operator, r"uses the operator com\.example\.Anything"),
    (use_function, "has local functions"),
    (read_nothing, 'reads "nobody", which nothing makes'),
    (swap_order, "which nothing makes before"),
    (make_twice, "is made twice"),
    (lose_picture, 'has no tensor "picture"'),
    (bypass_picture, 'must be computed from the picture "picture" and nothing else'),
    (mix_after_picture, 'must be computed from the picture "picture" and nothing else'),
    (feed_picture_back, "a state depends on the picture"),
    (colour_the_terminal, r"it holds a name with characters that are not printable, '\\x1b\[31mnode'"),
    (turn_the_text_around, r"a name with characters that are not printable, '.*\\u202e'"),
    (misshape_picture, r'the picture "picture" must be \(1, 3, 48, 64\), got \(1, 3, 48, 63\)'),
]


@pytest.mark.parametrize(("lie", "message"), LIES, ids=[lie.__name__ for lie, _ in LIES])
def test_every_lie_is_refused(
    manifest: Manifest, model: onnx.ModelProto, lie: Callable[[onnx.ModelProto], None], message: str
) -> None:
    lie(model)
    with pytest.raises(BundleError, match=message):
        parse_graph(model.SerializeToString(), manifest.step)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x08", b"not a graph", bytes(100)])
def test_an_invalid_graph_is_refused(manifest: Manifest, data: bytes) -> None:
    with pytest.raises(BundleError, match=r"step\.onnx is not an ONNX file"):
        parse_graph(data, manifest.step)


def test_damaged_graphs_are_refused_or_still_true(manifest: Manifest, model: onnx.ModelProto) -> None:
    data = model.SerializeToString()
    rng = np.random.default_rng(3)
    for _ in range(150):
        damaged = bytearray(data)
        damaged[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        try:
            parsed = parse_graph(bytes(damaged), manifest.step)
        except BundleError:
            continue
        assert {value.name for value in parsed.graph.input} == {tensor.name for tensor in manifest.step.inputs}


def test_the_picture_may_be_an_output_of_the_file(manifest: Manifest, model: onnx.ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, 48, 64]))
    parsed = parse_graph(model.SerializeToString(), manifest.step)
    pruned = onnx.ModelProto.FromString(prune(parsed, ["rgb", "wave_next", "clock_next"]))
    assert [value.name for value in pruned.graph.output] == ["rgb", "wave_next", "clock_next"]


def test_pruning_drops_the_other_pixels_and_nothing_else(manifest: Manifest, model: onnx.ModelProto) -> None:
    parsed = parse_graph(model.SerializeToString(), manifest.step)
    pruned = onnx.ModelProto.FromString(prune(parsed, ["rgb", "wave_next", "clock_next"]))
    onnx.checker.check_model(pruned)
    assert [value.name for value in pruned.graph.input] == [tensor.name for tensor in manifest.step.inputs]
    kinds = {node.op_type for node in pruned.graph.node}
    assert "AveragePool" not in kinds  # the chroma of I420
    assert "GridSample" in kinds
    used = {name for node in pruned.graph.node for name in node.input}
    assert {tensor.name for tensor in pruned.graph.initializer} <= used
    assert parsed == model
