"""A TensorFlow Lite network as an ONNX model: one subgraph, float activations, pictures in planes (NCHW).

Weights in FP16 become FP32. The operations are those of `export.from_tflite.operations`.
"""

from __future__ import annotations

import struct
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from export.from_tflite.network import Network, UnsupportedError, read_network
from export.from_tflite.onnx_graph import OnnxGraph
from export.from_tflite.operations import OPERATIONS

OPSET = 17
# What damaged numbers and options raise on the way; the checker's errors have no common base class.
_DAMAGE = (
    ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, struct.error,
    onnx.checker.ValidationError, onnx.shape_inference.InferenceError,
)  # fmt: skip


def convert(path: Path) -> onnx.ModelProto:
    """Return a file's network as an ONNX model.

    Raises:
        UnsupportedError: the file has something that is not known here; the message names it.
        ValueError: the file cannot be read, or is damaged.
    """
    network = read_network(path)
    try:
        return to_onnx(network)
    except UnsupportedError:
        raise
    except _DAMAGE as error:
        text = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise ValueError(f"{path} is a TensorFlow Lite file that cannot be read: {text}") from None


def to_onnx(network: Network) -> onnx.ModelProto:
    """Return an ONNX model of a network.

    Raises:
        UnsupportedError: it has an operation that is not known; all of them are named.
    """
    unknown = sorted({operation.name for operation in network.operations} - set(OPERATIONS))
    if unknown:
        what = "operation" if len(unknown) == 1 else "operations"
        raise UnsupportedError(f"the {what} {', '.join(unknown)} {'is' if len(unknown) == 1 else 'are'} not supported")
    graph = OnnxGraph(network)
    for operation in network.operations:
        OPERATIONS[operation.name](graph, operation)
    inputs = [_info(name, network.shapes[number]) for number, name in network.inputs]
    outputs = []
    named = {name for _, name in network.inputs}
    for number, stated in network.outputs:
        name = graph.unique(stated) if stated in named else stated  # the schema lets tensors share a name
        named.add(name)
        graph.nodes.append(helper.make_node("Identity", [graph.names[number]], [name]))
        outputs.append(_info(name, network.shapes[number]))
    proto = helper.make_graph(graph.nodes, "network", inputs, outputs, graph.constants)
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def _info(name: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    planar = (shape[0], shape[3], shape[1], shape[2]) if len(shape) == 4 else shape
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, planar)
