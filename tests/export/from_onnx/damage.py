"""Damaged ONNX files of the kinds that older and odder tools write, made from whole ones with a fixed seed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx

from tests.export.from_onnx import foreign

Random = np.random.Generator
Item = TypeVar("Item")
OPERATORS = (
    "Relu",
    "Conv",
    "Reshape",
    "If",
    "Loop",
    "Cast",
    "Concat",
    "Where",
    "QuantizeLinear",
    "Crop",
    "ImageScaler",
)
PLACES = (
    "", "-1", "0", "1", "64", "4096", "1e3", "\uff19", "18446744073709551616", "..", "/", "a" * 5000, "split.onnx",
    "../split.onnx.data", "split.onnx.data", "*/_ORT_MEM_ADDR_/*", "\u202e", "\n", "\0",
)  # fmt: skip
NUMBERS = (-(2**63), -(2**31), -7, -1, 0, 1, 2, 3, 17, 255, 2**31, 2**40)


def whole_models(folder: Path) -> dict[str, tuple[Path, list[str]]]:
    """Return kind -> (a model, the roles that it needs)."""
    fixed = foreign.style(folder / "style.onnx", 11)
    model = onnx.load(fixed)
    for value in (*model.graph.input, *model.graph.output):
        for size, length in zip(value.type.tensor_type.shape.dim, (1, 3, 16, 24), strict=True):
            size.dim_value = length
    onnx.save(model, fixed)
    text = """net (float[1,3,16,24] x, float[1,4] h, float[1] gain) => (float[1,3,16,24] y, float[1,4] h_out) {
      more = Mul (h, decay) h_out = Add (more, step) m = ReduceMean <keepdims = 0> (h_out) a = Mul (x, m)
      b = Add (a, gain) y = Clip (b, low, high)
    }"""
    weights = {
        "decay": np.float32(0.5), "step": np.full((1, 4), 0.3, np.float32), "low": np.float32(0), "high": np.float32(1),
        "h": np.full((1, 4), 0.2, np.float32), "gain": np.float32([0.1]),
    }  # fmt: skip
    split = Path(shutil.copyfile(fixed, folder / "split.onnx"))
    onnx.save(onnx.load(split), split, save_as_external_data=True, location="split.onnx.data", size_threshold=0)
    metadata = {"Image.BitmapPixelFormat": "Bgr8", "Image.NominalPixelRange": "NominalRange_0_255"}
    return {
        "external": (split, []),
        "IR 3": (foreign.as_before_2020(fixed), []),
        "WinML": (foreign.windows_ml(folder / "winml.onnx", metadata), []),
        "QDQ": (foreign.quantised(folder / "int8.onnx"), []),
        "FP16": (foreign.half_super_resolution(folder / "half.onnx", "float16", 16), ["y=frame:0..1"]),
        "states": (foreign.write(folder / "states.onnx", text, weights), ["h=state:h_out", "gain=control", "x=live"]),
    }


def damaged(whole: bytes, random: Random) -> bytes:
    """Return a copy with one to three faults: in its bytes, or in its nodes, weights, tensors and metadata."""
    if random.random() < 0.2:
        data = bytearray(whole)
        for _ in range(int(random.integers(1, 4))):
            data[int(random.integers(len(data)))] = int(random.integers(256))
        return bytes(data[: int(random.integers(len(data)))] if random.random() < 0.3 else data)
    model = onnx.ModelProto.FromString(whole)
    for _ in range(int(random.integers(1, 4))):
        FAULTS[int(random.integers(len(FAULTS)))](model, random)
    return bytes(model.SerializeToString())


def cut(weights: bytes, random: Random) -> bytes:
    """Return the weights of a file of their own, one time in eight without their end."""
    return weights[: int(random.integers(len(weights)))] if random.random() < 0.125 else weights


def _pick(values: list[Item], random: Random) -> Item | None:
    return values[int(random.integers(len(values)))] if values else None


def _drop_node(model: onnx.ModelProto, random: Random) -> None:
    if model.graph.node:
        del model.graph.node[int(random.integers(len(model.graph.node)))]


def _repeat_node(model: onnx.ModelProto, random: Random) -> None:
    if (node := _pick(list(model.graph.node), random)) is not None:
        model.graph.node.append(node)


def _rename_operator(model: onnx.ModelProto, random: Random) -> None:
    if (node := _pick(list(model.graph.node), random)) is not None:
        node.op_type = OPERATORS[int(random.integers(len(OPERATORS)))]


def _rewire(model: onnx.ModelProto, random: Random) -> None:
    names = [name for node in model.graph.node for name in (*node.input, *node.output)] + ["", "nothing"]
    node = _pick([node for node in model.graph.node if node.input], random)
    if node is not None:
        node.input[int(random.integers(len(node.input)))] = names[int(random.integers(len(names)))]


def _change_attribute(model: onnx.ModelProto, random: Random) -> None:
    items = [item for node in model.graph.node for item in node.attribute]
    if (item := _pick(items, random)) is None:
        return
    number = NUMBERS[int(random.integers(len(NUMBERS)))]
    if item.ints:
        item.ints[int(random.integers(len(item.ints)))] = number
    elif item.floats:
        item.floats.pop()
    elif item.type == onnx.AttributeProto.INT:
        item.i = number
    elif item.type == onnx.AttributeProto.FLOAT:
        item.f = float("nan") if random.random() < 0.5 else 1e30
    else:
        item.s = b"nonsense"


def _change_weight(model: onnx.ModelProto, random: Random) -> None:
    if (tensor := _pick(list(model.graph.initializer), random)) is None:
        return
    way = int(random.integers(5))
    if way == 0:
        tensor.raw_data = tensor.raw_data[:-3]
    elif way == 1 and tensor.dims:
        tensor.dims[int(random.integers(len(tensor.dims)))] = NUMBERS[int(random.integers(len(NUMBERS)))]
    elif way == 2:
        tensor.data_type = int(random.integers(0, 25))
    elif way == 3:
        model.graph.initializer.remove(tensor)
    elif len(tensor.raw_data) >= 4:
        number = np.float32(np.nan if random.random() < 0.5 else 1e38)
        tensor.raw_data = number.tobytes() + tensor.raw_data[4:]


def _change_place(model: onnx.ModelProto, random: Random) -> None:
    """Change where external data lie; bytes that are not UTF-8 are written by hand, as protobuf refuses them."""
    tensor = _pick([tensor for tensor in model.graph.initializer if tensor.external_data], random)
    if tensor is None:
        return
    way, entry = int(random.integers(6)), _pick(list(tensor.external_data), random)
    assert entry is not None
    if way < 3:
        entry.value = PLACES[int(random.integers(len(PLACES)))]
    elif way == 3:
        entry.key = PLACES[int(random.integers(len(PLACES)))]
    elif way == 4:
        tensor.external_data.remove(entry)
    else:
        data = tensor.external_data[0].SerializeToString().replace(b"split", b"sp\xff\xfet")
        tensor.ClearField("external_data")
        tensor.MergeFromString(b"\x6a" + bytes([len(data)]) + data)


def _add_sparse(model: onnx.ModelProto, random: Random) -> None:
    values = onnx.TensorProto(data_type=1, dims=[1], name="s", data_location=onnx.TensorProto.EXTERNAL)
    values.external_data.add(key="location", value=PLACES[int(random.integers(len(PLACES)))])
    indices = onnx.numpy_helper.from_array(np.array([0]))
    sparse = onnx.SparseTensorProto(values=values, indices=indices, dims=[4])
    model.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["sparse"], sparse_value=sparse))


def _change_tensor(model: onnx.ModelProto, random: Random) -> None:
    value = _pick([*model.graph.input, *model.graph.output], random)
    if value is None:
        return
    way, sizes = int(random.integers(5)), value.type.tensor_type.shape.dim
    if way == 0 and sizes:
        sizes[int(random.integers(len(sizes)))].dim_value = NUMBERS[int(random.integers(len(NUMBERS)))]
    elif way == 1 and sizes:
        sizes[int(random.integers(len(sizes)))].dim_param = "n"
    elif way == 2 and sizes:
        del sizes[int(random.integers(len(sizes)))]
    elif way == 3:
        value.type.tensor_type.elem_type = int(random.integers(0, 25))
    else:
        value.name = "renamed"


def _change_header(model: onnx.ModelProto, random: Random) -> None:
    way = int(random.integers(4))
    if way == 0:
        model.ir_version = int(random.integers(0, 15))
    elif way == 1 and model.opset_import:
        model.opset_import[0].version = int(random.integers(0, 40))
    elif way == 2:
        del model.opset_import[:]
    else:
        for item in model.metadata_props:
            item.value = "\x1b[2J" if random.random() < 0.5 else ""


def _swap_nodes(model: onnx.ModelProto, random: Random) -> None:
    nodes = list(model.graph.node)
    random.shuffle(nodes)  # type: ignore[arg-type]  # a list of messages
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


FAULTS: tuple[Callable[[onnx.ModelProto, Random], None], ...] = (
    _drop_node, _repeat_node, _rename_operator, _rewire, _change_attribute, _change_weight, _change_tensor,
    _change_header, _swap_nodes, _change_weight, _change_attribute, _change_tensor, _change_place, _add_sparse,
)  # fmt: skip
