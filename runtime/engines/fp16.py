"""Converts an FP32 graph to mixed FP16, for engines that follow the graph's types (strongly typed TensorRT).

The rule is that of autocast: nodes that multiply by weights compute in FP16, and so do the nodes after them until an
FP32 tensor joins in. So positions, states and pixels stay in FP32: a displacement is the sum of a convolution's output
and a state, a pixel is a weighted mean of FP32 pixels, and a sum of an FP16 and an FP32 tensor is FP32. GridSample,
normalisation, exponentials and sums over many values always stay in FP32. The file stores weights in FP16
(export/onnx_writer.py), so they are not rounded again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from runtime.bundle.external_weights import MappedWeights, is_external, without_external

# Multiply by weights; engines accumulate in FP32. MatMul has rules of its own (`_is_half_product`): table lookups and
# sums of oscillator modes use it, too, and they need full precision.
_WEIGHTED_OPS = frozenset({"Conv", "ConvTranspose", "Gemm"})
MIN_GEMM_VALUES = 2**18  # values; smaller Gemm matrices stay in FP32, as they are cheap and may rotate a state
_MIN_MATMUL_VALUES = 2**16  # values of the weights of a linear layer of transformers; tables are smaller
# Compute in FP16 if all inputs are FP16 or constant: bounded elementwise operations, and copies of values.
_FOLLOWING_OPS = frozenset(
    {
        "Abs", "Add", "AveragePool", "Clip", "Concat", "DepthToSpace", "Expand", "Flatten", "Identity", "LeakyRelu",
        "Max", "MaxPool", "Min", "Mul", "Neg", "PRelu", "Pad", "Relu", "Reshape", "Resize", "Sigmoid", "Slice",
        "SpaceToDepth", "Split", "Squeeze", "Sub", "Tanh", "Tile", "Transpose", "Unsqueeze",
    }
)  # fmt: skip
# Inputs that stay FP32 or integer in every precision: (operator, index).
_UNCONVERTED_INPUTS = frozenset(
    {("Resize", 1), ("Resize", 2)}
    | {(kind, index) for kind in ("Expand", "Pad", "Reshape", "Slice", "Split", "Squeeze", "Tile", "Unsqueeze")
       for index in (1, 2, 3, 4) if (kind, index) != ("Pad", 2)}
)  # fmt: skip
_MAX_FP16 = 65504.0


@dataclass(frozen=True)
class Fp16Share:
    """The share of a graph that computes in FP16.

    Args:
        half: nodes that multiply by weights and compute in FP16.
        full: those that compute in FP32.
    """

    half: int
    full: int

    @property
    def value(self) -> float:
        """The share of FP16, 0 to 1; 0 for a graph without weights."""
        return self.half / max(1, self.half + self.full)


def to_half(model: onnx.ModelProto, weights: Path | None = None) -> onnx.ModelProto:
    """Return a graph that computes in FP16 where possible; inputs and outputs keep their types.

    Args:
        model: a checked model in FP32; not changed.
        weights: the file that its external data name. Its tensors stay as they are: those in FP32 get a Cast, which
            engines compute once.

    Returns:
        A new model with casts between the two precisions.

    Raises:
        EngineError: the weights file cannot be mapped.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    unpack_bytes(result.graph)
    has_external = any(is_external(tensor) for tensor in result.graph.initializer)
    typed = onnx.shape_inference.infer_shapes(without_external(result))
    del result.graph.value_info[:]
    mapped = MappedWeights(weights) if has_external and weights is not None else None
    return _Fp16Conversion(typed, result, mapped).run()


def unpack_bytes(graph: onnx.GraphProto) -> None:
    """Replace signed weights in 8 bits, and the DequantizeLinear behind them, by weights in FP32.

    Blocks of weights with a scale each, zero points, and scales that are not FP32 stay as they are.
    """
    tensors = {tensor.name: tensor for tensor in graph.initializer if not is_external(tensor)}
    kept, unpacked = [], set[str]()
    for node in graph.node:
        values = _unpacked(node, tensors)
        if values is None:
            kept.append(node)
        else:
            graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
            unpacked.update(node.input)
    # Constants may have several readers.
    unread = unpacked - {name for node in kept for name in node.input} - {value.name for value in graph.output}
    tensors_kept = [tensor for tensor in graph.initializer if tensor.name not in unread]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept)
    graph.initializer.extend(tensors_kept)


def _unpacked(node: onnx.NodeProto, tensors: Mapping[str, onnx.TensorProto]) -> npt.NDArray[np.float32] | None:
    """Return what a DequantizeLinear makes of constants; None if it is another node, or one of a kind that stays."""
    if node.op_type != "DequantizeLinear" or len(node.input) != 2 or not tensors.keys() >= set(node.input):
        return None
    steps, scales = (tensors[name] for name in node.input)
    options = {attribute.name: attribute.i for attribute in node.attribute}
    if steps.data_type != TensorProto.INT8 or scales.data_type != TensorProto.FLOAT or options.get("block_size"):
        return None
    values: npt.NDArray[np.float32] = numpy_helper.to_array(steps).astype(np.float32)
    factors: npt.NDArray[np.float32] = numpy_helper.to_array(scales)
    if not factors.ndim:
        values *= factors
        return values
    axis = options.get("axis", 1)  # the default of ONNX
    if factors.ndim != 1 or not -values.ndim <= axis < values.ndim:
        return None
    shape = [1] * values.ndim
    shape[axis] = -1
    values *= factors.reshape(shape)
    return values


def share_of(model: onnx.ModelProto) -> Fp16Share:
    """Count the nodes that read their weights in FP16 and FP32; small matrices do not count."""
    typed = onnx.shape_inference.infer_shapes(without_external(model))
    kinds = _float_types(typed)
    sizes = {
        value.name: math.prod(side.dim_value for side in value.type.tensor_type.shape.dim)
        for value in (*typed.graph.input, *typed.graph.value_info)
    } | {tensor.name: math.prod(tensor.dims) for tensor in typed.graph.initializer}
    found = [
        kinds[node.input[1]]
        for node in model.graph.node
        if node.op_type in _WEIGHTED_OPS and (node.op_type != "Gemm" or sizes.get(node.input[1], 0) >= MIN_GEMM_VALUES)
    ]
    half = sum(kind == TensorProto.FLOAT16 for kind in found)
    return Fp16Share(half, len(found) - half)


class _Fp16Conversion:
    """One pass over the nodes, in their order."""

    def __init__(self, typed: onnx.ModelProto, result: onnx.ModelProto, weights: MappedWeights | None) -> None:
        self.result, self.graph, self.weights = result, result.graph, weights
        self.kinds = _float_types(typed)
        self.tensors = {tensor.name: tensor for tensor in self.graph.initializer}
        # Constants, including FP16 weights that a Cast widens; they take the type of the node that reads them.
        self.widened: dict[str, str] = {}
        self.constants = set(self.tensors)
        for node in self.graph.node:
            if node.op_type == "Constant":
                self.constants.add(node.output[0])
            elif node.op_type == "Cast" and node.input[0] in self.tensors:
                self.constants.add(node.output[0])
                if self.tensors[node.input[0]].data_type == TensorProto.FLOAT16:
                    self.widened[node.output[0]] = node.input[0]
            elif node.op_type == "DequantizeLinear" and self.constants.issuperset(node.input):
                self.constants.add(node.output[0])  # in a weights file: see `unpack_bytes`
        self.half: set[str] = set()  # tensors that are FP16 under their original names
        self.shares: set[str] = set()  # results of Softmax, which are FP32 and in [0, 1]
        self.casts: dict[tuple[str, int], str] = {}
        self.fitting: dict[str, bool] = {}
        self.nodes: list[onnx.NodeProto] = []

    def run(self) -> onnx.ModelProto:
        """Convert, and return the model."""
        outputs = {value.name for value in self.graph.output}
        for node in list(self.graph.node):
            is_half = self._may_be_half(node)
            wanted = TensorProto.FLOAT16 if is_half else TensorProto.FLOAT
            for index, name in enumerate(node.input):
                if name and (node.op_type, index) not in _UNCONVERTED_INPUTS:
                    node.input[index] = self._cast_to(name, wanted)
            self.nodes.append(node)
            if node.op_type == "Softmax":
                self.shares.update(node.output)
            if is_half:
                self._rename(node, outputs)
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        self._drop_unread()
        return self.result

    def _may_be_half(self, node: onnx.NodeProto) -> bool:
        floats = [
            name
            for index, name in enumerate(node.input)
            if name and (node.op_type, index) not in _UNCONVERTED_INPUTS and self.kinds.get(name) == TensorProto.FLOAT
        ]
        if node.domain not in ("", "ai.onnx") or not floats:
            return False
        if node.op_type in _WEIGHTED_OPS:
            is_heavy = node.op_type != "Gemm" or self._size(node.input[1]) >= MIN_GEMM_VALUES
            return is_heavy and node.input[1] in self.constants and all(self._fits(name) for name in floats)
        if node.op_type == "MatMul":
            return self._is_half_product(node)
        made = [name for name in floats if name not in self.constants]
        return (
            node.op_type in _FOLLOWING_OPS
            and bool(made)
            and all(name in self.half for name in made)
            and all(self._fits(name) for name in floats)
        )

    def _is_half_product(self, node: onnx.NodeProto) -> bool:
        """Return whether a MatMul is a large linear layer, or a product of attention: of FP16, or of it and shares."""
        one, other = node.input
        if other in self.constants:
            is_large = self._size(other) >= _MIN_MATMUL_VALUES
            return is_large and one not in self.constants and self._fits(other)
        sides = (one, other)
        return any(name in self.half for name in sides) and all(
            name in self.half or name in self.shares for name in sides
        )

    def _size(self, name: str) -> int:
        tensor = self.tensors.get(self.widened.get(name, name))
        return 0 if tensor is None else math.prod(tensor.dims)

    def _fits(self, name: str) -> bool:
        """Return whether a constant is in the range of FP16; True for other tensors."""
        tensor = self.tensors.get(self.widened.get(name, name))
        if tensor is None or tensor.data_type != TensorProto.FLOAT:
            return True
        if tensor.name not in self.fitting:
            values = self._values(tensor)
            largest = max(values.max(initial=0.0), -values.min(initial=0.0))  # without a copy, as np.abs would make
            self.fitting[tensor.name] = bool(largest <= _MAX_FP16)
        return self.fitting[tensor.name]

    def _values(self, tensor: onnx.TensorProto) -> npt.NDArray[np.float32]:
        if is_external(tensor):
            assert self.weights is not None, "to_half() of a graph with external data, without its weights file"
            return self.weights.array(tensor)
        values: npt.NDArray[np.float32] = numpy_helper.to_array(tensor)
        return values

    def _cast_to(self, name: str, wanted: int) -> str:
        """Return the name of a float tensor in the wanted type, casting it once if necessary."""
        if self.kinds.get(name) != TensorProto.FLOAT or (name in self.half) == (wanted == TensorProto.FLOAT16):
            return name
        if wanted == TensorProto.FLOAT16 and name in self.widened:
            return self.widened[name]
        key = (name, wanted)
        if key not in self.casts:
            self.casts[key] = f"{name}.{'half' if wanted == TensorProto.FLOAT16 else 'full'}.cast"
            if name in self.tensors and not is_external(self.tensors[name]):
                values = numpy_helper.to_array(self.tensors[name]).astype(np.float16)
                self.graph.initializer.append(numpy_helper.from_array(values, self.casts[key]))
            else:
                self.nodes.append(helper.make_node("Cast", [name], [self.casts[key]], name=self.casts[key], to=wanted))
        return self.casts[key]

    def _rename(self, node: onnx.NodeProto, outputs: set[str]) -> None:
        """Mark the outputs of a node as FP16; graph outputs keep their names and types."""
        for index, name in enumerate(node.output):
            if not name or self.kinds.get(name) != TensorProto.FLOAT:
                continue
            if name in outputs:
                inner = f"{name}.inner"
                node.output[index] = inner
                self.nodes.append(helper.make_node("Cast", [inner], [name], name=f"{name}.out", to=TensorProto.FLOAT))
            else:
                self.half.add(name)

    def _drop_unread(self) -> None:
        """Remove constants and casts that are not used any more."""
        read = {name for node in self.graph.node for name in node.input} | {v.name for v in self.graph.output}
        kept = [node for node in self.graph.node if any(name in read for name in node.output)]
        del self.graph.node[:]
        self.graph.node.extend(kept)
        read = {name for node in kept for name in node.input} | {v.name for v in self.graph.output}
        tensors = [tensor for tensor in self.graph.initializer if tensor.name in read]
        del self.graph.initializer[:]
        self.graph.initializer.extend(tensors)


def _float_types(typed: onnx.ModelProto) -> dict[str, int]:
    """Return the known element types of tensors."""
    graph = typed.graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info, *graph.output)}
    return kinds | {tensor.name: tensor.data_type for tensor in graph.initializer}
