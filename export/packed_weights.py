"""Stores a graph's weights in a half or a quarter of the space without changing a value."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from runtime.bundle.external_weights import is_external

MIN_PACKED = 256  # values; smaller constants (grid scales, biases) stay in FP32
LEVELS = 127  # of a signed byte on each side of 0

Floats = npt.NDArray[np.float32]


def pack_weights(model: onnx.ModelProto, *, in_bytes: bool = False, kept: Collection[str] = ()) -> None:
    """Store weights in FP16, or in 8 bits with a scale per output channel, if that represents them exactly.

    Args:
        model: changed in place; weights in another file stay as they are (`export.external_weights` halves these).
        in_bytes: whether 8 bits are tried; `training.bundle` reads weights back in FP16 and FP32 alone.
        kept: constants that stay as they are.

    A Cast to FP32 or a DequantizeLinear follows each; engines compute them once. TensorRT takes bytes in no other way.
    """
    graph = model.graph
    unpacking: list[NodeProto] = []
    tensors = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or is_external(tensor):
            tensors.append(tensor)
            continue
        values = numpy_helper.to_array(tensor)
        if values.size < MIN_PACKED or tensor.name in kept:
            tensors.append(tensor)
            continue
        name = tensor.name
        if in_bytes and (found := as_bytes(values)) is not None:
            steps, scales = found
            tensors += [
                numpy_helper.from_array(steps, f"{name}.byte"),
                numpy_helper.from_array(scales.reshape(-1), f"{name}.scale"),
            ]
            inputs = [f"{name}.byte", f"{name}.scale"]
            unpacking.append(helper.make_node("DequantizeLinear", inputs, [name], name=f"{name}.widen", axis=0))
            continue
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), values):
            tensors.append(tensor)
            continue
        tensors.append(numpy_helper.from_array(half, f"{name}.half"))
        unpacking.append(helper.make_node("Cast", [f"{name}.half"], [name], name=f"{name}.widen", to=TensorProto.FLOAT))
    nodes = [*unpacking, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(tensors)
    graph.node.extend(nodes)
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""


def to_bytes(weights: Floats) -> Floats:
    """Round weights (C, ...) to 255 steps for each output channel; `as_bytes` represents the result exactly.

    The scales have the precision of FP16, so that step times scale is exact in FP32.
    """
    scales: Floats = (_largest(weights) / LEVELS).astype(np.float16).astype(np.float32)
    scales[scales == 0] = 1
    rounded: Floats = np.rint(weights / scales).clip(-LEVELS, LEVELS).astype(np.float32) * scales
    return rounded


def as_bytes(weights: Floats) -> tuple[npt.NDArray[np.int8], Floats] | None:
    """Return steps, int8 of the weights' shape, and scales (C, 1, ...), whose product they are; None without such."""
    if weights.ndim < 2:
        return None
    scales: Floats = _largest(weights) / np.float32(LEVELS)
    scales[scales == 0] = 1
    steps = np.rint(weights / scales)
    if np.abs(steps).max() > LEVELS or not np.array_equal(steps.astype(np.float32) * scales, weights):
        return None
    return steps.astype(np.int8), scales


def _largest(weights: Floats) -> Floats:
    largest: Floats = np.abs(weights).max(axis=tuple(range(1, weights.ndim)), keepdims=True)
    return largest
