"""Stores a graph's weights in half the space without changing a value."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MIN_HALVED = 256  # values; smaller constants (grid scales, biases) stay in FP32


def halve_weights(model: onnx.ModelProto) -> None:
    """Store weights that FP16 represents exactly in FP16, each followed by a Cast to FP32."""
    graph = model.graph
    casts = []
    for position, tensor in enumerate(graph.initializer):
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if values.size < MIN_HALVED or not np.array_equal(half.astype(np.float32), values):
            continue
        name = tensor.name
        graph.initializer[position].CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], name=f"{name}.widen", to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
