"""Writing weights into a file of their own: values survive, places are aligned, and memory does not grow."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from export import external_weights
from export.commandline import ProgressTable
from export.external_weights import (
    external_bytes,
    load_external,
    read_external,
    save_external,
    weight_bytes,
)
from export.graph_merging import GraphPart, merge_external
from export.int8.bundle_writer import add_int8
from runtime.bundle.external_weights import external_tensors, place_of
from tests.runtime import heavy

SIDE = 40  # values; a matrix has 6400 bytes


def matrix(seed: int, dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(SIDE, SIDE)).astype(dtype)


def product(path: Path, weights: np.ndarray, *, location: str = "", name: str = "w") -> Path:
    """Write y = (x @ w) * 2; with a location, the weights lie there."""
    nodes = [
        helper.make_node("MatMul", ["x", name], ["made"], name="product"),
        helper.make_node("Mul", ["made", "two"], ["y"], name="double"),
    ]
    kind = helper.np_dtype_to_tensor_dtype(weights.dtype)
    values = [helper.make_tensor_value_info(value, kind, [1, SIDE]) for value in ("x", "y")]
    constants = [numpy_helper.from_array(weights, name), numpy_helper.from_array(weights.dtype.type([2]), "two")]
    graph = helper.make_graph(nodes, "product", values[:1], values[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if location:
        onnx.save(model, path, save_as_external_data=True, location=location, size_threshold=0)
    else:
        onnx.save(model, path)
    return path


def run(path: Path, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {session.get_inputs()[0].name: x})[0]
    return found


def x() -> np.ndarray:
    return np.random.default_rng(9).normal(size=(1, SIDE)).astype(np.float32)


def test_a_graph_and_its_weights_are_written_apart(tmp_path: Path) -> None:
    source = product(tmp_path / "in.onnx", matrix(0))
    shares: list[float] = []
    model = onnx.load(source)
    save_external(model, tmp_path / "out.onnx", tmp_path / "out.weights", report=shares.append)
    assert np.array_equal(run(tmp_path / "out.onnx", x()), run(source, x()))
    assert (tmp_path / "out.onnx").stat().st_size < 500
    (tensor,) = external_tensors(onnx.load(tmp_path / "out.onnx", load_external_data=False))
    assert (tensor.name, place_of(tensor)) == ("w", (0, SIDE * SIDE * 4))
    assert [entry.value for entry in tensor.external_data] == ["out.weights", "0", str(SIDE * SIDE * 4)]
    assert shares[-1] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.onnx", "out.onnx", "out.weights"]
    assert weight_bytes(model) == SIDE * SIDE * 4 + 4
    assert external_bytes(model) == SIDE * SIDE * 4
    assert model.ByteSize() < 600, "the model that was given is light afterwards"


def test_external_data_stay_where_they_are_until_they_are_copied(tmp_path: Path) -> None:
    source = product(tmp_path / "in.onnx", matrix(0), location="in.onnx.data")
    model = read_external(source)
    (tensor,) = external_tensors(model)
    assert tensor.name == "w", "the two is small, and was loaded"
    assert {entry.key: entry.value for entry in tensor.external_data}["location"] == str(tmp_path / "in.onnx.data")
    out = tmp_path / "out"
    out.mkdir()
    save_external(model, out / "step.onnx", out / "step.weights")
    assert np.array_equal(run(out / "step.onnx", x()), run(source, x()))
    loaded = read_external(out / "step.onnx")
    load_external(loaded)
    assert np.array_equal(numpy_helper.to_array(next(t for t in loaded.graph.initializer if t.name == "w")), matrix(0))
    assert not external_tensors(loaded)


def test_places_are_aligned_and_shared(tmp_path: Path) -> None:
    """Large tensors begin at pages, others at multiples of 64 bytes; tensors on one place stay on one."""
    model = onnx.ModelProto(ir_version=9)
    model.opset_import.extend([helper.make_opsetid("", 18)])
    sizes = {"a": 300, "b": 1025, "c": 257, "d": 4000}
    for name, count in sizes.items():
        model.graph.initializer.append(numpy_helper.from_array(np.arange(count, dtype=np.float32), name))
    save_external(model, tmp_path / "a.onnx", tmp_path / "a.weights")
    places = {tensor.name: place_of(tensor) for tensor in external_tensors(model)}
    assert places == {"a": (0, 1200), "b": (4096, 4100), "c": (8256, 1028), "d": (12288, 16000)}
    twin = model.graph.initializer.add()
    twin.CopyFrom(model.graph.initializer[3])
    twin.name = "twin"
    save_external(model, tmp_path / "b.onnx", tmp_path / "b.weights")
    places = {tensor.name: place_of(tensor) for tensor in external_tensors(model)}
    assert places["twin"] == places["d"]
    assert (tmp_path / "b.weights").stat().st_size == (tmp_path / "a.weights").stat().st_size


def test_float32_is_halved_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external_weights, "_PIECE", 256)
    weights = matrix(3)
    source = product(tmp_path / "in.onnx", weights, location="in.data")
    model = read_external(source)
    save_external(model, tmp_path / "out.onnx", tmp_path / "out.weights", halve=True)
    stored = np.fromfile(tmp_path / "out.weights", "<f2").reshape(SIDE, SIDE)
    assert np.array_equal(stored, weights.astype(np.float16))
    onnx.checker.check_model(tmp_path / "out.onnx", full_check=True)
    expected = x() @ weights.astype(np.float16).astype(np.float32) * 2
    assert np.allclose(run(tmp_path / "out.onnx", x()), expected, atol=1e-4)


@pytest.mark.parametrize("value", [70000.0, -np.inf, np.nan])
def test_weights_outside_of_float16_are_not_halved(tmp_path: Path, value: float) -> None:
    weights = matrix(3)
    weights[30, 20] = value
    model = read_external(product(tmp_path / "in.onnx", weights))
    save_external(model, tmp_path / "out.onnx", tmp_path / "out.weights", halve=True)
    assert np.array_equal(np.fromfile(tmp_path / "out.weights", "<f4").reshape(SIDE, SIDE), weights, equal_nan=True)


def test_constants_of_nodes_move_too(tmp_path: Path) -> None:
    model = onnx.load(product(tmp_path / "in.onnx", matrix(4)))
    for tensor in list(model.graph.initializer):
        model.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
    del model.graph.initializer[:]
    save_external(model, tmp_path / "out.onnx", tmp_path / "out.weights")
    assert [tensor.name for tensor in external_tensors(model)] == ["w"]
    assert [node.op_type for node in model.graph.node] == ["Constant", "MatMul", "Mul"]
    assert np.array_equal(run(tmp_path / "out.onnx", x()), run(tmp_path / "in.onnx", x()))


def test_inputs_that_are_constants_are_dropped(tmp_path: Path) -> None:
    model = onnx.load(product(tmp_path / "in.onnx", matrix(4)))
    model.ir_version = 3
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [SIDE, SIDE]))
    save_external(model, tmp_path / "out.onnx", tmp_path / "out.weights", halve=True)
    assert [value.name for value in model.graph.input] == ["x"]
    assert model.ir_version == 4
    onnx.checker.check_model(tmp_path / "out.onnx", full_check=True)


def test_other_types_keep_their_bytes(tmp_path: Path) -> None:
    model = onnx.ModelProto(ir_version=10)
    values = np.arange(4000)
    for name, kind in (("int8", TensorProto.INT8), ("bf16", TensorProto.BFLOAT16), ("int4", TensorProto.INT4)):
        model.graph.initializer.append(helper.make_tensor(name, kind, [4000], values % 7))
    before = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    save_external(model, tmp_path / "out.onnx", tmp_path / "out.weights")
    assert [place_of(tensor).length for tensor in external_tensors(model)] == [4000, 8000, 2000]
    loaded = onnx.load(tmp_path / "out.onnx")
    for tensor, expected in zip(loaded.graph.initializer, before, strict=True):
        assert np.array_equal(numpy_helper.to_array(tensor), expected)


def test_memory_does_not_grow_with_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external_weights, "_PIECE", 2**16)
    large = np.zeros((2048, 1024), np.float32)  # 8 MiB
    model = onnx.ModelProto(ir_version=9)
    model.graph.initializer.append(numpy_helper.from_array(large, "w"))
    onnx.save(model, tmp_path / "in.onnx", save_as_external_data=True, location="in.data")
    model.Clear()
    tracemalloc.start()
    try:
        read = read_external(tmp_path / "in.onnx")
        save_external(read, tmp_path / "out.onnx", tmp_path / "out.weights", halve=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "out.weights").stat().st_size == large.nbytes // 2
    assert peak < large.nbytes / 8


# ---- merging


def test_parts_are_joined_with_one_weights_file(tmp_path: Path) -> None:
    first = product(tmp_path / "first.onnx", matrix(0) * 0.1, location="first.data")
    second = product(tmp_path / "second.onnx", matrix(1) * 0.1, location="second.data")
    node = helper.make_node("Add", ["left", "right"], ["sum"])
    values = [helper.make_tensor_value_info(name, 1, [1, SIDE]) for name in ("left", "right", "sum")]
    glue = helper.make_model(
        helper.make_graph([node], "glue", values[:2], values[2:]), opset_imports=[helper.make_opsetid("", 18)]
    )
    merged = merge_external(
        [GraphPart(first, "first/"), GraphPart(second, "second/"), GraphPart(glue, "glue/")],
        tmp_path / "out.onnx",
        tmp_path / "out.weights",
        connections={"second/x": "first/y", "glue/left": "first/y", "glue/right": "second/y"},
        outputs=["glue/sum"],
    )
    assert [value.name for value in merged.graph.input] == ["first/x"]
    assert [value.name for value in merged.graph.output] == ["glue/sum"]
    assert sorted(tensor.name for tensor in external_tensors(merged)) == ["first/w", "second/w"]
    onnx.checker.check_model(tmp_path / "out.onnx", full_check=True)
    middle = run(first, x())
    assert np.allclose(run(tmp_path / "out.onnx", x()), middle + run(second, middle), atol=1e-5)


def test_one_input_can_feed_several_parts(tmp_path: Path) -> None:
    path = product(tmp_path / "one.onnx", matrix(0))
    merged = merge_external(
        [GraphPart(path, "a/"), GraphPart(path, "b/")],
        tmp_path / "out.onnx",
        tmp_path / "out.weights",
        connections={"b/x": "a/x"},
        outputs=["a/y", "b/y"],
    )
    assert [value.name for value in merged.graph.input] == ["a/x"]
    assert np.array_equal(run(tmp_path / "out.onnx", x()), run(path, x()))


@pytest.mark.parametrize(
    ("connections", "outputs", "match"),
    [
        ({"b/x": "b/y"}, ["b/y"], '"b/x" is to be fed by "b/y", which no earlier part makes'),
        ({"b/z": "a/y"}, ["b/y"], 'no part has the tensor "b/z"'),
        ({"b/x": "a/y"}, ["y"], 'no part has the tensor "y"; names have the prefixes'),
    ],
)
def test_unknown_names_are_refused(tmp_path: Path, connections: dict[str, str], outputs: list[str], match: str) -> None:
    path = product(tmp_path / "one.onnx", matrix(0))
    with pytest.raises(ValueError, match=match):
        merge_external(
            [GraphPart(path, "a/"), GraphPart(path, "b/")],
            tmp_path / "out.onnx",
            tmp_path / "out.weights",
            connections=connections,
            outputs=outputs,
        )
    assert not (tmp_path / "out.onnx").exists()


def test_parts_of_other_opsets_are_refused(tmp_path: Path) -> None:
    path = product(tmp_path / "one.onnx", matrix(0))
    newer = onnx.load(path)
    newer.opset_import[0].version = 20
    with pytest.raises(ValueError, match=r"the opsets of the parts differ: \{'': 18\} and \{'': 20\} of b/"):
        merge_external(
            [GraphPart(path, "a/"), GraphPart(newer, "b/")],
            tmp_path / "out.onnx",
            tmp_path / "out.weights",
            connections={},
            outputs=["b/y"],
        )


# ---- errors


def entry(path: Path, key: str, value: str) -> Path:
    """Change an entry of the external data of a file."""
    model = onnx.load(path, load_external_data=False)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "w")
    for item in tensor.external_data:
        if item.key == key:
            item.value = value
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("location", "../in.data", "outside of its folder: copy both into one folder"),
        ("location", "/etc/passwd", "outside of its folder"),
        ("location", "", "outside of its folder"),
        ("location", "lost.data", "lost.data, which does not exist: put it beside the model"),
        ("offset", "many", "which are no numbers"),
        ("offset", "-4096", "6400 bytes from -4096 on"),
        ("offset", "4096", r"it has \d+ bytes, and the shape \[40, 40\] needs 6400"),
        ("length", "12", "12 bytes from 0 on"),
        ("location", "in.data\0", "is not printable UTF-8"),
        ("location", "n" * 300, "which cannot be read: File name too long"),
    ],
)
def test_weights_that_cannot_be_found_are_named(tmp_path: Path, key: str, value: str, match: str) -> None:
    path = entry(product(tmp_path / "in.onnx", matrix(0), location="in.data"), key, value)
    with pytest.raises(ValueError, match=match) as caught:
        read_external(path)
    assert "keeps the weights " in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_location_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = product(tmp_path / "in.onnx", matrix(0), location="in.data")
    path.write_bytes(path.read_bytes().replace(b"in.data", b"in.\xff\xfeta"))
    with pytest.raises(ValueError, match="keeps the weights 'w' in a file, and one of the two names is not printable"):
        read_external(path)


@pytest.mark.parametrize("dims", [[-1], [-40, -40]])
def test_a_negative_size_is_refused(tmp_path: Path, dims: list[int]) -> None:
    path = product(tmp_path / "in.onnx", matrix(0), location="in.data")
    model = onnx.load(path, load_external_data=False)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "w")
    tensor.dims[:] = dims
    del tensor.external_data[1:]
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=r"the shape \[-.* needs"):
        read_external(path)


def sparse_constant() -> onnx.SparseTensorProto:
    """A sparse constant that keeps its values in a file."""
    values = TensorProto(data_type=TensorProto.FLOAT, dims=[1], name="s", data_location=TensorProto.EXTERNAL)
    values.external_data.add(key="location", value="secret.bin")
    return onnx.SparseTensorProto(values=values, indices=numpy_helper.from_array(np.array([0])), dims=[SIDE])


@pytest.mark.parametrize("place", ["graph", "node", "branch", "function"])
def test_sparse_weights_are_refused(tmp_path: Path, place: str) -> None:
    path = product(tmp_path / "in.onnx", matrix(0))
    model = onnx.load(path)
    node = helper.make_node("Constant", [], ["s"], sparse_value=sparse_constant())
    if place == "graph":
        model.graph.sparse_initializer.append(sparse_constant())
    elif place == "node":
        model.graph.node.append(node)
    elif place == "branch":
        model.graph.node.append(
            helper.make_node("If", ["x"], ["b"], then_branch=helper.make_graph([node], "g", [], []))
        )
    else:
        model.functions.add(name="f", domain="own", node=[node])
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=r"in\.onnx has sparse weights: export it with dense weights"):
        read_external(path)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in.onnx").write_bytes(b"no model")
    with pytest.raises(ValueError, match="cannot be read as ONNX"):
        read_external(tmp_path / "in.onnx")


def test_both_files_lie_in_one_folder(tmp_path: Path) -> None:
    model = onnx.load(product(tmp_path / "in.onnx", matrix(0)))
    (tmp_path / "sub").mkdir()
    for weights in (tmp_path / "sub" / "out.weights", tmp_path / "out.onnx"):
        with pytest.raises(ValueError, match="must lie beside"):
            save_external(model, tmp_path / "out.onnx", weights)


def test_a_source_that_ends_too_soon_leaves_nothing_behind(tmp_path: Path) -> None:
    model = read_external(product(tmp_path / "in.onnx", matrix(0), location="in.data"))
    os.truncate(tmp_path / "in.data", 100)
    with pytest.raises(OSError, match="ends within the weights w: it was changed meanwhile"):
        save_external(model, tmp_path / "out.onnx", tmp_path / "out.weights")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.data", "in.onnx"]


def test_int8_of_a_bundle_with_a_weights_file_is_refused(tmp_path: Path) -> None:
    bundle = heavy.move_weights_out(heavy.build(tmp_path / "inline"), tmp_path / "external")
    with pytest.raises(ValueError, match="the weights of its step graph lie in a file of their own"):
        add_int8(bundle, tmp_path / "int8", frames=1, rounds=1, vnni=False, force=False, stages=ProgressTable())
    assert not (tmp_path / "int8").exists()
