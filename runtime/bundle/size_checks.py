"""Checks the sizes of all tensors of a graph from their shapes, before an engine folds or allocates any of them.

A few bytes of constants can request terabytes (an Expand, Tile or Resize with a huge size), and engines compute nodes
that depend on constants only while they load a graph. These checks never compute anything larger than a shape.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import onnx
from onnx import TensorProto, helper

from runtime.bundle.external_weights import is_external, place_of
from runtime.bundle.graph_inference import MAX_DIMENSIONS, TypeAndShape, broken_rule, infer, known_shape, stated
from runtime.errors import BundleError

_MAX_TENSOR_BYTES = 2**30
_MAX_FOLDED_BYTES = 2**28  # of all results that depend on constants only, plus
_MAX_GROWTH_FACTOR = 32  # times the size of the file, plus
_MAX_WEIGHTS_FACTOR = 8  # times the size of the weights file: a cast, and a copy of its result
# Operators that keep the number of values.
_MOVERS = {"Cast", "DepthToSpace", "Flatten", "Identity", "Reshape", "SpaceToDepth", "Squeeze", "Transpose"}
_MOVERS |= {"Unsqueeze"}
# Bits per value. Types that no engine supports are missing: their tensors are refused.
_BITS = {"UINT8": 8, "INT8": 8, "BOOL": 8, "UINT16": 16, "INT16": 16, "FLOAT16": 16, "BFLOAT16": 16, "FLOAT": 32}
_BITS |= {"INT32": 32, "UINT32": 32, "INT64": 64, "UINT64": 64, "DOUBLE": 64, "COMPLEX64": 64, "COMPLEX128": 128}
_BITS |= {"FLOAT8E4M3FN": 8, "FLOAT8E4M3FNUZ": 8, "FLOAT8E5M2": 8, "FLOAT8E5M2FNUZ": 8, "INT4": 4, "UINT4": 4}
_BITS |= {"FLOAT4E2M1": 4, "FLOAT8E8M0": 8, "INT2": 2, "UINT2": 2}


def check_constants(model: onnx.ModelProto, file: str) -> None:
    """Check that every constant of a graph has as many values as its shape says.

    Args:
        model: the graph, which passed `check_external`.
        file: its name, for messages.

    Raises:
        BundleError: a constant has more or fewer values, is not numeric, or appears twice.
    """
    names: set[str] = set()
    for tensor in model.graph.initializer:
        if tensor.name in names or not tensor.name:
            raise BundleError(f'{file} has two constants "{tensor.name}", or one without a name; export it again')
        names.add(tensor.name)
        _check_constant(tensor, f'{file}: the constant "{tensor.name}"')
    for node in model.graph.node:
        for attribute in node.attribute:
            for tensor in [*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors]:
                _check_constant(tensor, f'{file}: the constant in the node "{node.name}" ({node.op_type})')


def check_sizes(model: onnx.ModelProto, file: str, size_bytes: int, weights_bytes: int = 0) -> None:
    """Check a graph by ONNX's rules, and the sizes of its tensors and of the results of its constants.

    Args:
        model: the graph, whose constants passed `check_constants`; not changed.
        file: its name, for messages.
        size_bytes: of the file; results that depend on constants only may take 32 times as much plus 256 MiB,
        weights_bytes: plus 8 times the size of the weights file.

    Raises:
        BundleError: the graph breaks ONNX's rules, states a wrong type or shape, or has a tensor with more than 1 GiB,
            more than 16 dimensions or an unknown size.
    """
    try:
        onnx.checker.check_model(_without_weights(model))
    except Exception as error:  # its errors share no base class but Exception
        raise broken_rule(file, error) from error
    sizes = infer(model, file)
    _check_stated(model, sizes, file)
    folded = _MAX_FOLDED_BYTES + _MAX_GROWTH_FACTOR * size_bytes + _MAX_WEIGHTS_FACTOR * weights_bytes
    _check_nodes(model, sizes, file, folded)


def _check_constant(tensor: onnx.TensorProto, where: str) -> None:
    if len(tensor.dims) > MAX_DIMENSIONS:  # checked before they are multiplied
        raise BundleError(f"{where} has {len(tensor.dims)} dimensions, at most {MAX_DIMENSIONS} are read")
    if _name(tensor.data_type).upper() not in _BITS or min(tensor.dims, default=0) < 0 or tensor.HasField("segment"):
        raise BundleError(f"{where} is not numeric, or has a negative size; export the bundle again")
    wanted = size_of(tensor.data_type, tuple(tensor.dims))
    if is_external(tensor):
        held = place_of(tensor).length
    elif tensor.HasField("raw_data"):
        held = len(tensor.raw_data)
    else:
        # One entry per value, two per complex value; for values smaller than a byte, one entry per byte.
        values = len(getattr(tensor, helper.tensor_dtype_to_field(tensor.data_type)))
        is_complex = tensor.data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128)
        held = values * max(1, size_of(tensor.data_type, ())) // (2 if is_complex else 1)
    if held != wanted:
        raise BundleError(f"{where} holds {held} bytes, its shape {tuple(tensor.dims)} needs {wanted}; export it again")


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a graph with inputs in place of its constants, and without the shapes of its results."""
    light = onnx.ModelProto()
    light.ir_version = max(model.ir_version, 4)
    light.opset_import.extend(model.opset_import)
    graph = light.graph
    graph.name = model.graph.name or "graph"
    graph.node.extend(model.graph.node)
    constants = {tensor.name for tensor in model.graph.initializer}
    graph.input.extend(value for value in model.graph.input if value.name not in constants)
    for tensor in model.graph.initializer:
        graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    for value in model.graph.output:
        sizes = [None] * len(value.type.tensor_type.shape.dim)
        graph.output.append(helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, sizes))
    return light


def _check_stated(model: onnx.ModelProto, sizes: dict[str, TypeAndShape], file: str) -> None:
    """Check the stated types and shapes of a graph's results against the inferred ones."""
    for value in (*model.graph.value_info, *model.graph.output):
        kind, shape = stated(value.type)
        true_kind, true_shape = sizes.get(value.name, (kind, shape))
        is_same = shape is None or true_shape is None or len(shape) == len(true_shape)
        if is_same and shape is not None and true_shape is not None:
            is_same = all(-1 in pair or pair[0] == pair[1] for pair in zip(shape, true_shape, strict=True))
        if not is_same or kind != true_kind:
            raise BundleError(
                f'{file} says that "{value.name}" is {_name(kind)} {shape}, but it is {_name(true_kind)} {true_shape}; '
                "export the bundle again"
            )


def _check_nodes(model: onnx.ModelProto, sizes: dict[str, TypeAndShape], file: str, max_folded: int) -> None:
    """Check the size of each input and result, and the total of results that depend on constants only."""
    for value in model.graph.input:
        _check_size(value.name, sizes, f"{file}: the input")
    constants = {tensor.name for tensor in model.graph.initializer} | {""}
    folded = 0
    for node in model.graph.node:
        total = 0
        for name in filter(None, node.output):
            total += _check_size(name, sizes, f"{file}: the result of a node {node.op_type},")
        if node.op_type in _MOVERS:
            _check_moved(node, sizes, file)
        if constants.issuperset(node.input):
            constants.update(node.output)
            folded += total
    if folded > max_folded:
        raise BundleError(
            f"{file}: results that depend on constants only take {folded} bytes, at most {max_folded} are read: "
            "store smaller constants"
        )


def _check_size(name: str, sizes: dict[str, TypeAndShape], what: str) -> int:
    """Return a tensor's size in bytes; 0 if it is unknown."""
    kind, shape = sizes.get(name, (TensorProto.FLOAT, None))[0], known_shape(name, sizes)
    if shape is None:
        return 0
    if min(shape, default=0) < 0 or (size := size_of(kind, shape)) > _MAX_TENSOR_BYTES:
        raise BundleError(
            f'{what} "{name}" has the shape {_short(shape)}, but at most {_MAX_TENSOR_BYTES} bytes are read; '
            "make it smaller"
        )
    return size


def _check_moved(node: onnx.NodeProto, sizes: dict[str, TypeAndShape], file: str) -> None:
    before, after = (known_shape(names[0], sizes) for names in (node.input, node.output))
    if before is None or after is None or prod(before) == prod(after):
        return
    raise BundleError(
        f'{file}: the node "{node.name}" ({node.op_type}) makes {_short(after)} out of {_short(before)}; the number of '
        "values must stay the same"
    )


def size_of(kind: int, shape: Iterable[int]) -> int:
    """Return the size in bytes of a tensor of a type of ONNX; an unknown one counts as float32."""
    return (prod(shape) * _BITS.get(_name(kind).upper(), 32) + 7) // 8


def _short(shape: tuple[int, ...]) -> str:
    return str(shape) if len(shape) <= 8 else f"{shape[:8]} and {len(shape) - 8} sizes more"


def _name(kind: int) -> str:
    try:
        return str(TensorProto.DataType.Name(kind)).lower()
    except ValueError:
        return f"of the unknown type {kind}"
