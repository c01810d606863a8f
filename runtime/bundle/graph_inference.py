"""Infers the types and shapes of all tensors of a graph, and the values of tensors that hold sizes.

ONNX's inference of a whole graph takes exponential time and memory for some small graphs: each node in a chain of
Gather nodes can double the number of dimensions, each node in a chain of Concat nodes the number of known values. So
inference runs for one node at a time, and each result is checked before the next node uses it. The time is linear in
the size of the graph.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from runtime.bundle.external_weights import is_external
from runtime.errors import BundleError

MAX_DIMENSIONS = 16  # of a tensor; engines support 8
_MAX_KNOWN_VALUES = 128  # values of a list that may hold a shape
_MAX_COMPUTED_NODES = 2048  # nodes that compute sizes
# Operators with small inputs and large results: the shapes of their results must be known.
_AMPLIFIERS = {"AffineGrid", "BlackmanWindow", "Col2Im", "ConstantOfShape", "ConvTranspose", "DFT", "Expand"}
_AMPLIFIERS |= {"EyeLike", "HammingWindow", "HannWindow", "MaxUnpool", "MelWeightMatrix", "OneHot", "Pad"}
_AMPLIFIERS |= {"Range", "Resize", "STFT", "Tile", "Upsample"}
# Operators whose last input holds the shape of the result.
_SHAPED = {"ConstantOfShape", "Expand", "Reshape", "Tile"}
# Operators that compute sizes, whose values ONNX's inference does not always follow.
_ARITHMETIC = {"Abs", "Add", "Cast", "Ceil", "Concat", "Constant", "ConstantOfShape", "Div", "Equal", "Expand"}
_ARITHMETIC |= {"Floor", "Gather", "Identity", "Max", "Min", "Mod", "Mul", "Neg", "Pow", "Range", "ReduceMax"}
_ARITHMETIC |= {"ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Round", "Shape", "Size", "Slice", "Split"}
_ARITHMETIC |= {"Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where"}
TypeAndShape = tuple[int, tuple[int, ...] | None]  # an unknown size is -1, an unknown rank None


def infer(model: onnx.ModelProto, file: str) -> dict[str, TypeAndShape]:
    """Return the type and shape of every tensor of a graph.

    Args:
        model: the graph, whose nodes are in order; not changed.
        file: its name, for messages.

    Raises:
        BundleError: a node breaks ONNX's rules, or a tensor has too many dimensions or an unknown size.
    """
    return _Inference(model, file).run()


def broken_rule(file: str, error: Exception) -> BundleError:
    """Return the exception for a graph that ONNX refuses."""
    reason = " ".join(str(error).split())[:300]
    return BundleError(f"{file} breaks the rules of ONNX: {reason}; export the bundle again")


def stated(kind: onnx.TypeProto) -> TypeAndShape:
    """Return the element type and shape of a type; unknown sizes are -1."""
    tensor = kind.tensor_type
    if not tensor.HasField("shape"):
        return tensor.elem_type, None
    # Protobuf returns 0 for a missing size, too.
    shape = [size.dim_value or (0 if size.HasField("dim_value") else -1) for size in tensor.shape.dim]
    return tensor.elem_type, tuple(shape)


def known_shape(name: str, sizes: dict[str, TypeAndShape]) -> tuple[int, ...] | None:
    """Return a tensor's shape, or None if it is not fully known."""
    _, shape = sizes.get(name, (0, None))
    return None if shape is None or -1 in shape else shape


class _Inference:
    """One pass over the nodes of a graph; see `infer`."""

    def __init__(self, model: onnx.ModelProto, file: str) -> None:
        self._file, self._nodes = file, model.graph.node
        self._empty = onnx.ModelProto(ir_version=max(model.ir_version, 4))  # from 4 on, constants need not be inputs
        self._empty.opset_import.extend(model.opset_import)
        self._empty.graph.name = "node"
        self._types: dict[str, onnx.TypeProto] = {}
        self._sizes: dict[str, TypeAndShape] = {}
        self._values: dict[str, TensorProto] = {}  # small constants, and values computed from them
        for value in model.graph.input:
            self._note(value.name, value.type, "the input")
        for tensor in model.graph.initializer:
            self._note(tensor.name, helper.make_tensor_type_proto(tensor.data_type, tensor.dims), "the constant")
            if len(tensor.dims) < 2 and prod(tensor.dims) <= _MAX_KNOWN_VALUES and not is_external(tensor):
                self._values[tensor.name] = tensor
        self._makers: dict[str, int] = {}  # tensor that may be computed -> index of its node
        self._tried: set[int] = set()

    def run(self) -> dict[str, TypeAndShape]:
        for index, node in enumerate(self._nodes):
            names = [name for name in node.output if name]
            self._infer(node)
            if any(known_shape(name, self._sizes) is None for name in names) and self._compute(node.input):
                self._infer(node)
            shapes = [known_shape(name, self._sizes) for name in names]
            if node.op_type in _AMPLIFIERS and None in shapes:
                raise BundleError(
                    f'{self._file}: the size of the result of the node "{node.name}" ({node.op_type}) is not '
                    "known before it runs; make its sizes constants"
                )
            if node.op_type in _ARITHMETIC and all(
                shape is not None and prod(shape) <= _MAX_KNOWN_VALUES for shape in shapes
            ):
                self._makers.update((name, index) for name in names)
        return self._sizes

    def _note(self, name: str, kind: onnx.TypeProto, what: str) -> None:
        self._check_dimensions(len(kind.tensor_type.shape.dim), name, what)
        self._types[name], self._sizes[name] = kind, stated(kind)

    def _infer(self, node: onnx.NodeProto) -> None:
        """Infer the types of a node's results."""
        result = f"the result of a node {node.op_type},"
        if node.op_type in _SHAPED and node.input:  # the last input has one value per dimension
            _, shape = self._sizes.get(node.input[-1], (0, None))
            self._check_dimensions(shape[0] if shape else 0, node.output[0], result)
        model = self._alone(node)
        try:
            inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
        except Exception as error:  # its errors share no base class but Exception
            raise broken_rule(self._file, error) from error
        for value in inferred.graph.output:
            for size in value.type.tensor_type.shape.dim:
                if size.dim_param:
                    size.ClearField("dim_param")  # a name that is generated for this node only
            self._note(value.name, value.type, result)

    def _check_dimensions(self, count: int, name: str, what: str) -> None:
        if count > MAX_DIMENSIONS:
            raise BundleError(
                f'{self._file}: {what} "{name}" has {count} dimensions, at most {MAX_DIMENSIONS} are read'
            )

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
        """Compute tensors from constants and shapes if possible; return whether any was computed.

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
        if len(self._tried) > _MAX_COMPUTED_NODES:
            raise BundleError(
                f"{self._file} computes the sizes of its tensors with more than {_MAX_COMPUTED_NODES} nodes; make them "
                "constants"
            )
        for index in sorted(wanted):
            self._evaluate(self._nodes[index])
        return any(name in self._values for name in unknown)

    def _evaluate(self, node: onnx.NodeProto) -> None:
        """Compute a node's results if all its inputs are known."""
        from onnx.reference import ReferenceEvaluator  # slow to import and rarely needed

        feeds: dict[str, Any] = {}
        for name in filter(None, node.input):
            if node.op_type in ("Shape", "Size") and (shape := known_shape(name, self._sizes)) is not None:
                feeds[name] = np.broadcast_to(np.uint8(0), shape)
            elif name not in self._values:
                return
        try:
            with np.errstate(all="ignore"):
                results = ReferenceEvaluator(self._alone(node)).run(None, feeds)
        except Exception:  # noqa: BLE001 - the values stay unknown
            return
        for name, result in zip(filter(None, node.output), results, strict=True):
            value = numpy_helper.from_array(np.asarray(result), name)
            if (value.data_type, tuple(value.dims)) == self._sizes[name]:
                self._values[name] = value
