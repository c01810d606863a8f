"""Graphs of a few bytes that would keep a checker busy for minutes, fill the memory, or end the process."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from runtime import BundleError
from runtime.bundle.graph_checks import MAX_NODES, parse_graph
from runtime.bundle.graph_inference import infer
from runtime.bundle.tensors import GraphSpec, TensorSpec

SHAPE = (1, 3, 4, 4)
GRAPH = GraphSpec(
    "small.onnx", (TensorSpec("x", "float32", SHAPE, "live"),), (TensorSpec("y", "float32", SHAPE, "state"),)
)


def parse(nodes: Sequence[NodeProto], constants: dict[str, Any] | None = None, opset: int = 18) -> None:
    """Check a graph of these nodes beside one that makes "y" from "x"."""
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in "xy"]
    graph = helper.make_graph([*nodes, node("Relu", "x", "y")], "small", values[:1], values[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    parse_graph(model.SerializeToString(), GRAPH)


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> NodeProto:
    """Return a node whose tensors are listed with spaces between them."""
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


def chain(kind: str, inputs: str, count: int, **attributes: Any) -> list[NodeProto]:
    """Return nodes that each read the one before for "@", the first one "start"."""
    names = ["start", *(f"made_{number}" for number in range(count))]
    return [node(kind, inputs.replace("@", before), after, **attributes) for before, after in pairwise(names)]


@pytest.mark.parametrize(
    ("nodes", "constants", "message"),
    [
        (chain("Gather", "@ @", 60), {"start": np.zeros((1, 1), np.int64)}, "has 17 dimensions, at most 16"),
        (chain("Unsqueeze", "@ axis", 9000), {"start": np.zeros(1), "axis": [0]}, "has 17 dimensions, at most 16"),
        (chain("Concat", "@ @", 40, axis=0), {"start": [1]}, "has the shape"),
        ([node("Expand", "x count", "z")], {"count": np.ones(10**5, np.int64)}, "has 100000 dimensions"),
        ([node("ConstantOfShape", "count", "z")], {"count": np.ones(17, np.int64)}, "has 17 dimensions"),
        ([node("Identity", "x", f"z{number}") for number in range(MAX_NODES)], {}, "has 12001 nodes, at most 12000"),
        (
            [node("Sum", "x " * 140_000, "z")],
            {},
            "has 1400.. tensors, attributes and references",
        ),
        ([node("Split", "x", "z1 z2", axis=1, num_outputs=1)], {}, '"num_outputs" of the node "" .Split. is 1'),
        (
            [node("GatherND", "x places", "z", batch_dims=-1)],
            {"places": np.zeros((1, 1), np.int64)},
            '"batch_dims" of the node "" .GatherND. is -1',
        ),
    ],
    ids=["ranks", "axes", "values", "sizes", "rank", "nodes", "references", "split", "batch"],
)
def test_a_graph_that_grows_faster_than_its_file_is_refused(
    nodes: list[NodeProto], constants: dict[str, Any], message: str
) -> None:
    with pytest.raises(BundleError, match=rf"small\.onnx.*{message}"):
        parse(nodes, constants)


def test_a_constant_of_a_million_dimensions_is_refused_before_they_are_multiplied() -> None:
    model = onnx.ModelProto()
    constant = model.graph.initializer.add(name="c", data_type=TensorProto.FLOAT)
    constant.dims.extend([2**62] * 10**6)
    model.graph.node.append(node("Relu", "c", "y"))
    with pytest.raises(BundleError, match=r'the constant "c" has 1000000 dimensions, at most 16 are read'):
        parse_graph(model.SerializeToString(), GRAPH)


def growing(count: int) -> list[NodeProto]:
    """Return Expands whose sizes depend on values that ONNX's inference does not follow."""
    nodes, before = [], "start"
    for number in range(count):
        nodes.append(node("Pow", f"{before} one", f"power_{number}"))
        nodes.append(node("Expand", f"one power_{number}", f"size_{number}"))
        before = f"size_{number}"
    return nodes


def test_each_node_is_inferred_and_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    original = onnx.shape_inference.infer_shapes

    def counting(model: onnx.ModelProto, **options: Any) -> onnx.ModelProto:
        calls.append(len(model.graph.node))
        return original(model, **options)

    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", counting)
    for count in (10, 20):
        calls.clear()
        parse(growing(count), {"start": [1], "one": [1]})
        assert set(calls) == {1}
        assert len(calls) == 3 * count + 1, "twice for an Expand, once for everything else"
    with pytest.raises(BundleError, match="computes the sizes of its tensors with more than 2048 nodes"):
        parse(growing(1100), {"start": [1], "one": [1]})


def test_sizes_are_followed_through_shapes_and_arithmetic() -> None:
    nodes = [
        node("Shape", "x", "shape"),
        node("Gather", "shape last", "side"),
        node("Pow", "side one", "same"),
        node("Mul", "same two", "wide"),
        node("Concat", "one same wide", "wanted", axis=0),
        node("ConstantOfShape", "wanted", "zeros"),
        node("NonZero", "zeros", "places"),
    ]
    constants = {"last": [3], "one": [1], "two": [2]}
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)]
    graph = helper.make_graph(nodes, "g", values, [], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    sizes = infer(model, "g")
    assert sizes["zeros"] == (TensorProto.FLOAT, (1, 4, 8))
    assert sizes["places"] == (TensorProto.INT64, (3, -1)), "how many there are hangs on the values"
