"""How large the tensors of a graph become: told from shapes alone, before an engine folds or allocates any of them.

A few bytes of constants can ask for terabytes (an Expand, a Tile, a Resize with a giant size), and engines compute what
hangs on constants alone while they load. Here nothing larger than a shape is ever computed.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from runtime.errors import BundleError

MAX_TENSOR_BYTES = 2**30
_MAX_FOLDED_BYTES, _MAX_GROWTH = 2**28, 32  # of all that constants alone make, beside 32 times the file
_MAX_KNOWN = 128  # values of a list that may be a shape
_MAX_COMPUTED = 2048  # nodes that compute sizes
MAX_DIMENSIONS = 16  # of a tensor; engines know 8
# What makes much out of little: the size of their results must be known. Of other nodes it may depend on the values.
_AMPLIFIERS = {"AffineGrid", "BlackmanWindow", "Col2Im", "ConstantOfShape", "ConvTranspose", "DFT", "Expand"}
_AMPLIFIERS |= {"EyeLike", "HammingWindow", "HannWindow", "MaxUnpool", "MelWeightMatrix", "OneHot", "Pad"}
_AMPLIFIERS |= {"Range", "Resize", "STFT", "Tile", "Upsample"}
# What sizes are computed with, where ONNX's own inference does not follow the values.
_ARITHMETIC = {"Abs", "Add", "Cast", "Ceil", "Concat", "Constant", "ConstantOfShape", "Div", "Equal", "Expand"}
_ARITHMETIC |= {"Floor", "Gather", "Identity", "Max", "Min", "Mod", "Mul", "Neg", "Pow", "Range", "ReduceMax"}
_ARITHMETIC |= {"ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Round", "Shape", "Size", "Slice", "Split"}
_ARITHMETIC |= {"Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where"}
# What only moves values: as many come out as went in.
_MOVERS = {"Cast", "DepthToSpace", "Flatten", "Identity", "Reshape", "SpaceToDepth", "Squeeze", "Transpose"}
_MOVERS |= {"Unsqueeze"}
# Bits of a value. Types that no engine here knows are missing: their tensors are refused.
_BITS = {"UINT8": 8, "INT8": 8, "BOOL": 8, "UINT16": 16, "INT16": 16, "FLOAT16": 16, "BFLOAT16": 16, "FLOAT": 32}
_BITS |= {"INT32": 32, "UINT32": 32, "INT64": 64, "UINT64": 64, "DOUBLE": 64, "COMPLEX64": 64, "COMPLEX128": 128}
_BITS |= {"FLOAT8E4M3FN": 8, "FLOAT8E4M3FNUZ": 8, "FLOAT8E5M2": 8, "FLOAT8E5M2FNUZ": 8, "INT4": 4, "UINT4": 4}
_BITS |= {"FLOAT4E2M1": 4, "FLOAT8E8M0": 8, "INT2": 2, "UINT2": 2}
_TypeAndShape = tuple[int, tuple[int, ...] | None]  # an unknown size is -1, an unknown rank None


def check_constants(model: onnx.ModelProto, file: str) -> None:
    """Check that every constant of a graph holds as many values as its shape says.

    Args:
        model: the graph, without data in other files.
        file: its name, for messages.

    Raises:
        BundleError: one holds more or fewer, is of no type of numbers, or stands there twice.
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


def check_sizes(model: onnx.ModelProto, file: str, size_bytes: int) -> None:
    """Check a graph by ONNX's own rules, and that none of its tensors, and no sum of constants, is gigantic.

    Args:
        model: the graph, whose constants passed `check_constants`; left as it is.
        file: its name, for messages.
        size_bytes: of the file: what constants alone make may be 32 times as large, and 256 MiB more.

    Raises:
        BundleError: the graph breaks ONNX's rules, states a type or shape that it does not have, has a tensor of more
            than 1 GiB or of more than 16 dimensions, or one whose size cannot be told.
    """
    try:
        onnx.checker.check_model(_without_weights(model))
    except Exception as error:  # its errors share no base class but Exception
        raise _broken_rule(file, error) from error
    sizes = _Inference(model, file).run()
    _check_stated(model, sizes, file)
    _check_nodes(model, sizes, file, _MAX_FOLDED_BYTES + _MAX_GROWTH * size_bytes)


def _broken_rule(file: str, error: Exception) -> BundleError:
    reason = " ".join(str(error).split())[:300]
    return BundleError(f"{file} breaks the rules of ONNX: {reason}; export the bundle again")


def _check_constant(tensor: onnx.TensorProto, where: str) -> None:
    if len(tensor.dims) > MAX_DIMENSIONS:  # before they are multiplied
        raise BundleError(f"{where} has {len(tensor.dims)} dimensions, at most {MAX_DIMENSIONS} are read")
    if _name(tensor.data_type).upper() not in _BITS or min(tensor.dims, default=0) < 0 or tensor.HasField("segment"):
        raise BundleError(f"{where} has no type of numbers, or a negative size; export the bundle again")
    wanted = _bytes(tensor.data_type, tuple(tensor.dims))
    if tensor.HasField("raw_data"):
        held = len(tensor.raw_data)
    else:
        # One entry a value, two of a complex one; of values smaller than a byte, one entry a byte.
        values = len(getattr(tensor, helper.tensor_dtype_to_field(tensor.data_type)))
        is_complex = tensor.data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128)
        held = values * max(1, _bytes(tensor.data_type, ())) // (2 if is_complex else 1)
    if held != wanted:
        raise BundleError(f"{where} holds {held} bytes, its shape {tuple(tensor.dims)} needs {wanted}; export it again")


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a graph with inputs in place of its large constants, and without the shapes that it states of results."""
    light = onnx.ModelProto()
    light.ir_version = max(model.ir_version, 4)  # from 4 on a constant need not be an input, too
    light.opset_import.extend(model.opset_import)
    graph = light.graph
    graph.name = model.graph.name or "graph"
    graph.node.extend(model.graph.node)
    constants = {tensor.name for tensor in model.graph.initializer}
    graph.input.extend(value for value in model.graph.input if value.name not in constants)
    for tensor in model.graph.initializer:
        if prod(tensor.dims) <= _MAX_KNOWN:
            graph.initializer.append(tensor)
        else:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    for value in model.graph.output:
        sizes = [None] * len(value.type.tensor_type.shape.dim)
        graph.output.append(helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, sizes))
    return light


def _stated(kind: onnx.TypeProto) -> _TypeAndShape:
    tensor = kind.tensor_type
    if not tensor.HasField("shape"):
        return tensor.elem_type, None
    # A size of 0 is stored like one that is missing; the second look tells them apart.
    shape = [size.dim_value or (0 if size.HasField("dim_value") else -1) for size in tensor.shape.dim]
    return tensor.elem_type, tuple(shape)


def _shape(name: str, sizes: dict[str, _TypeAndShape]) -> tuple[int, ...] | None:
    """Return a tensor's shape, or None if any of it is unknown."""
    _, shape = sizes.get(name, (0, None))
    return None if shape is None or -1 in shape else shape


class _Inference:
    """Types and shapes of all tensors of a graph, one node after the other, each by ONNX's own inference.

    ONNX's inference of a whole graph takes exponential time and memory for some small graphs: a chain of Gather nodes
    can double the number of dimensions at every node, a chain of Concat nodes the number of values that it follows.
    Here every result is checked before the next node reads it, so the time is linear in the size of the graph.
    """

    def __init__(self, model: onnx.ModelProto, file: str) -> None:
        self._file, self._nodes = file, model.graph.node
        self._empty = onnx.ModelProto(ir_version=max(model.ir_version, 4))  # from 4 on constants need not be inputs
        self._empty.opset_import.extend(model.opset_import)
        self._empty.graph.name = "node"
        self._types: dict[str, onnx.TypeProto] = {}
        self._sizes: dict[str, _TypeAndShape] = {}
        self._values: dict[str, TensorProto] = {}  # small constants, and what was computed from them
        for value in model.graph.input:
            self._note(value.name, value.type, "the input")
        for tensor in model.graph.initializer:
            self._note(tensor.name, helper.make_tensor_type_proto(tensor.data_type, tensor.dims), "the constant")
            if len(tensor.dims) < 2 and prod(tensor.dims) <= _MAX_KNOWN:
                self._values[tensor.name] = tensor
        self._makers: dict[str, int] = {}  # number of the node, for tensors that may be computed
        self._tried: set[int] = set()

    def run(self) -> dict[str, _TypeAndShape]:
        """Return the type and shape of every tensor.

        Raises:
            BundleError: a node breaks ONNX's rules, or a result has too many dimensions or a size that cannot be told.
        """
        for index, node in enumerate(self._nodes):
            names = [name for name in node.output if name]
            self._infer(node)
            if any(_shape(name, self._sizes) is None for name in names) and self._compute(node.input):
                self._infer(node)
            shapes = [_shape(name, self._sizes) for name in names]
            if node.op_type in _AMPLIFIERS and None in shapes:
                raise BundleError(
                    f'{self._file}: how large the result of the node "{node.name}" ({node.op_type}) becomes cannot be '
                    "told before it runs; make its sizes constants"
                )
            if node.op_type in _ARITHMETIC and all(shape is not None and prod(shape) <= _MAX_KNOWN for shape in shapes):
                self._makers.update((name, index) for name in names)
        return self._sizes

    def _note(self, name: str, kind: onnx.TypeProto, what: str) -> None:
        if len(kind.tensor_type.shape.dim) > MAX_DIMENSIONS:
            raise BundleError(
                f'{self._file}: {what} "{name}" has {len(kind.tensor_type.shape.dim)} dimensions, at most '
                f"{MAX_DIMENSIONS} are read"
            )
        self._types[name], self._sizes[name] = kind, _stated(kind)

    def _infer(self, node: onnx.NodeProto) -> None:
        """Note the types of a node's results."""
        model = self._alone(node)
        try:
            inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
        except Exception as error:  # its errors share no base class but Exception
            raise _broken_rule(self._file, error) from error
        for value in inferred.graph.output:
            for size in value.type.tensor_type.shape.dim:
                if size.dim_param:
                    size.ClearField("dim_param")  # a name that was made up for this node alone
            self._note(value.name, value.type, f"the result of a node {node.op_type},")

    def _alone(self, node: onnx.NodeProto) -> onnx.ModelProto:
        """Return a model of one node."""
        model = onnx.ModelProto()
        model.CopyFrom(self._empty)
        graph = model.graph
        graph.node.append(node)
        for name in set(node.input):
            if name in self._values:
                graph.initializer.append(self._values[name])
            elif name:
                graph.input.add(name=name).type.CopyFrom(self._types[name])
        for name in node.output:
            if name:
                graph.output.add(name=name)
        return model

    def _compute(self, names: Iterable[str]) -> bool:
        """Compute tensors from constants and shapes, where that is possible; tell whether any of them was.

        Raises:
            BundleError: too many nodes would have to be computed.
        """
        unknown = [name for name in names if name and name not in self._values]
        waiting, wanted = list(unknown), []
        while waiting:
            index = self._makers.get(waiting.pop())
            if index is not None and index not in self._tried:
                self._tried.add(index)
                wanted.append(index)
                waiting.extend(self._nodes[index].input)
        if len(self._tried) > _MAX_COMPUTED:
            raise BundleError(
                f"{self._file} computes the sizes of its tensors with more than {_MAX_COMPUTED} nodes; make them "
                "constants"
            )
        for index in sorted(wanted):
            self._evaluate(self._nodes[index])
        return any(name in self._values for name in unknown)

    def _evaluate(self, node: onnx.NodeProto) -> None:
        """Compute a node's results if everything that it reads is known."""
        from onnx.reference import ReferenceEvaluator  # slow to import and hardly ever needed

        feeds: dict[str, Any] = {}
        for name in filter(None, node.input):
            if node.op_type in ("Shape", "Size") and (shape := _shape(name, self._sizes)) is not None:
                feeds[name] = np.broadcast_to(np.uint8(0), shape)
            elif name not in self._values:
                return
        try:
            with np.errstate(all="ignore"):
                results = ReferenceEvaluator(self._alone(node)).run(None, feeds)
        except Exception:  # noqa: BLE001 - it stays unknown, and an engine may know better
            return
        for name, result in zip(filter(None, node.output), results, strict=True):
            value = numpy_helper.from_array(np.asarray(result), name)
            if (value.data_type, tuple(value.dims)) == self._sizes[name]:
                self._values[name] = value


def _check_stated(model: onnx.ModelProto, sizes: dict[str, _TypeAndShape], file: str) -> None:
    """Check what a graph says of its own results against what they are."""
    for value in (*model.graph.value_info, *model.graph.output):
        kind, shape = _stated(value.type)
        true_kind, true_shape = sizes.get(value.name, (kind, shape))
        is_same = shape is None or true_shape is None or len(shape) == len(true_shape)
        if is_same and shape is not None and true_shape is not None:
            is_same = all(-1 in pair or pair[0] == pair[1] for pair in zip(shape, true_shape, strict=True))
        if not is_same or kind != true_kind:
            raise BundleError(
                f'{file} says that "{value.name}" is {_name(kind)} {shape}, but it is {_name(true_kind)} {true_shape}; '
                "export the bundle again"
            )


def _check_nodes(model: onnx.ModelProto, sizes: dict[str, _TypeAndShape], file: str, max_folded: int) -> None:
    """Check the size of every input and result, and of all together that hang on constants alone."""
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
            f"{file}: what its constants alone make takes {folded} bytes, at most {max_folded} are read: "
            "store smaller constants"
        )


def _check_size(name: str, sizes: dict[str, _TypeAndShape], what: str) -> int:
    """Return a tensor's size in bytes, 0 if it depends on values."""
    kind, shape = sizes.get(name, (TensorProto.FLOAT, None))[0], _shape(name, sizes)
    if shape is None:
        return 0
    if min(shape, default=0) < 0 or (size := _bytes(kind, shape)) > MAX_TENSOR_BYTES:
        raise BundleError(
            f'{what} "{name}" has the shape {_short(shape)}, but at most {MAX_TENSOR_BYTES} bytes are read; '
            "make it smaller"
        )
    return size


def _check_moved(node: onnx.NodeProto, sizes: dict[str, _TypeAndShape], file: str) -> None:
    before, after = (_shape(names[0], sizes) for names in (node.input, node.output))
    if before is None or after is None or prod(before) == prod(after):
        return
    raise BundleError(
        f'{file}: the node "{node.name}" ({node.op_type}) makes {_short(after)} out of {_short(before)}; the number of '
        "values must stay the same"
    )


def _bytes(kind: int, shape: Iterable[int]) -> int:
    """Return what values of a type take, in bytes; of an unknown type as of float32."""
    return (prod(shape) * _BITS.get(_name(kind).upper(), 32) + 7) // 8


def _short(shape: tuple[int, ...]) -> str:
    return str(shape) if len(shape) <= 8 else f"{shape[:8]} and {len(shape) - 8} sizes more"


def _name(kind: int) -> str:
    try:
        return str(TensorProto.DataType.Name(kind)).lower()
    except ValueError:
        return f"of the unknown type {kind}"
