"""`python -m export from-tflite MODEL.tflite --out MODEL.onnx`: a TensorFlow Lite network as ONNX, to be imported.

Pictures are in planes (NCHW) in the ONNX graph. Weights in FP16 become FP32. One subgraph, float activations; the
operations are those of `_OPERATIONS`, among them MediaPipe's transposed convolution with a bias.
"""

from __future__ import annotations

import argparse
import struct
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from training.atomic_file import written

OPSET = 17
_SAME = 0  # of the schema's Padding
_TYPES = {0: np.float32, 1: np.float16, 2: np.int32}  # of the schema's TensorType
_ACTIVATIONS = {0: "", 1: "Relu", 3: "Relu6"}  # of the schema's ActivationFunctionType


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    command = argparse.ArgumentParser(
        prog="python -m export from-tflite", description="Convert a TensorFlow Lite network to ONNX, for from-onnx."
    )
    command.add_argument("model", type=Path, metavar="MODEL.tflite", help="the network")
    command.add_argument("--out", type=Path, required=True, metavar="FILE.onnx", help="file to write")
    return command


def run(argv: Sequence[str]) -> Path:
    """Convert a file and return the ONNX file.

    Raises:
        ValueError: the package tflite is missing, or the file cannot be read or converted.
    """
    arguments = parser().parse_args(argv)
    out: Path = arguments.out
    model = convert(arguments.model)
    with written(out) as partial:
        partial.write_bytes(model.SerializeToString())
    return out


class Operation(NamedTuple):
    """One operation of the network.

    Args:
        name: of the schema, or of a custom operation.
        inputs, outputs: numbers of tensors; -1 for a missing input.
        options: the schema's object of options, or None.
        custom: bytes of a custom operation's options.
    """

    name: str
    inputs: list[int]
    outputs: list[int]
    options: Any
    custom: bytes


class Network(NamedTuple):
    """A TensorFlow Lite network as plain data.

    Args:
        shapes: of every tensor, NHWC.
        constants: by number of the tensor; FP16 is widened.
        inputs, outputs: of the network, (number, name).
        operations: in order.
    """

    shapes: list[tuple[int, ...]]
    constants: dict[int, npt.NDArray[Any]]
    inputs: list[tuple[int, str]]
    outputs: list[tuple[int, str]]
    operations: list[Operation]


def convert(path: Path) -> onnx.ModelProto:
    """Return a network as an ONNX model.

    Raises:
        ValueError: see `run`.
    """
    return to_onnx(read_network(path))


def read_network(path: Path) -> Network:
    """Read a file with the package tflite.

    Raises:
        ValueError: the package is missing, or the file is no network of one subgraph.
    """
    try:
        schema = import_module("tflite")
    except ImportError:
        raise ValueError("from-tflite needs the package tflite: pip install tflite") from None
    try:
        data = path.read_bytes()
        if data[4:8] != b"TFL3":
            raise ValueError("it does not begin as one")
        model = schema.Model.GetRootAsModel(data, 0)
        if model.SubgraphsLength() != 1:
            raise ValueError(f"it has {model.SubgraphsLength()} subgraphs, expected one")
        return _read_graph(schema, model)
    except (OSError, ValueError, struct.error, IndexError, TypeError) as error:
        raise ValueError(f"{path} is no TensorFlow Lite file that can be read: {error}") from None


def to_onnx(network: Network) -> onnx.ModelProto:
    """Return an ONNX model of a network.

    Raises:
        ValueError: it has an operation that is not supported.
    """
    graph = _Graph(network)
    for operation in network.operations:
        emit = _OPERATIONS.get(operation.name)
        if emit is None:
            raise ValueError(f"the operation {operation.name} is not supported, only {', '.join(_OPERATIONS)}")
        emit(graph, operation)
    inputs = [_info(name, network.shapes[number]) for number, name in network.inputs]
    outputs = []
    for number, name in network.outputs:
        graph.nodes.append(helper.make_node("Identity", [graph.names[number]], [name]))
        outputs.append(_info(name, network.shapes[number]))
    proto = helper.make_graph(graph.nodes, "network", inputs, outputs, graph.constants)
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


class _Graph:
    """The ONNX graph that is being built; `names` has the value of each tensor, in planes if it has four dimensions."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.names: dict[int, str] = dict(network.inputs)

    def constant(self, array: npt.NDArray[Any]) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def value(self, number: int) -> npt.NDArray[Any]:
        """Return a constant tensor as it is stored."""
        if number not in self.network.constants:
            raise ValueError(f"tensor {number} must be constant")
        return self.network.constants[number]

    def name(self, number: int) -> str:
        """Return the name of a tensor; a constant is added in planes."""
        if number not in self.names:
            array = self.value(number)
            self.names[number] = self.constant(array.transpose(0, 3, 1, 2) if array.ndim == 4 else array)
        return self.names[number]

    def per_channel(self, number: int, rank: int) -> str:
        """Return the name of a tensor; a constant vector beside pictures belongs to their channels."""
        if rank == 4 and number in self.network.constants and self.value(number).ndim == 1:
            return self.constant(self.value(number).reshape(1, -1, 1, 1))
        return self.name(number)

    def add(self, kind: str, inputs: list[str], output: int, **attributes: Any) -> None:
        name = f"t{output}" if output not in self.names else f"t{output}.{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        self.names[output] = name

    def activate(self, output: int, activation: int) -> None:
        if activation not in _ACTIVATIONS:
            raise ValueError(f"the activation {activation} is not supported")
        kind = _ACTIVATIONS[activation]
        if kind == "Relu6":
            bounds = [self.constant(np.array(bound, np.float32)) for bound in (0, 6)]
            self.add("Clip", [self.names[output], *bounds], output)
        elif kind:
            self.add(kind, [self.names[output]], output)


def _read_graph(schema: Any, model: Any) -> Network:
    graph = model.Subgraphs(0)
    shapes, constants = [], {}
    for number in range(graph.TensorsLength()):
        tensor = graph.Tensors(number)
        shape = tuple(int(tensor.Shape(axis)) for axis in range(tensor.ShapeLength()))
        shapes.append(shape)
        buffer = model.Buffers(tensor.Buffer())
        if buffer.DataLength():
            kind = _TYPES.get(tensor.Type())
            if kind is None:
                raise ValueError(f"tensor {number} has the type {tensor.Type()}, expected float32, float16 or int32")
            array = np.frombuffer(buffer.DataAsNumpy().tobytes(), kind).reshape(shape)
            constants[number] = array.astype(np.float32) if kind is np.float16 else array
    names = {value: key for key, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    operations = []
    for index in range(graph.OperatorsLength()):
        item = graph.Operators(index)
        code = model.OperatorCodes(item.OpcodeIndex())
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = names.get(number, f"number {number}")
        inputs = [int(item.Inputs(k)) for k in range(item.InputsLength())]
        outputs = [int(item.Outputs(k)) for k in range(item.OutputsLength())]
        custom = b""
        if name == "CUSTOM":
            name = code.CustomCode().decode()
            custom = bytes(item.CustomOptionsAsNumpy()) if item.CustomOptionsLength() else b""
        if name == "DEQUANTIZE" and inputs[0] in constants:
            constants[outputs[0]] = constants[inputs[0]]
            continue
        operations.append(Operation(name, inputs, outputs, _options(schema, name, item), custom))
    ends = []
    for numbers in (graph.InputsAsNumpy(), graph.OutputsAsNumpy()):
        ends.append([(int(number), graph.Tensors(int(number)).Name().decode()) for number in numbers])
    return Network(shapes, constants, ends[0], ends[1], operations)


def _options(schema: Any, name: str, item: Any) -> Any:
    """Return the options of an operation; None if it has none of its own."""
    kinds = {
        "CONV_2D": "Conv2DOptions",
        "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
        "AVERAGE_POOL_2D": "Pool2DOptions",
        "MAX_POOL_2D": "Pool2DOptions",
        "RESIZE_BILINEAR": "ResizeBilinearOptions",
        "ADD": "AddOptions",
        "MUL": "MulOptions",
        "CONCATENATION": "ConcatenationOptions",
    }
    table = item.BuiltinOptions()
    if name not in kinds or table is None:
        return None
    options = getattr(schema, kinds[name])()
    options.Init(table.Bytes, table.Pos)
    return options


def _info(name: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    planar = (shape[0], shape[3], shape[1], shape[2]) if len(shape) == 4 else shape
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, planar)


def _pads(graph: _Graph, operation: Operation, kernel: tuple[int, int], strides: tuple[int, int]) -> list[int]:
    """Return top, left, bottom and right padding as TensorFlow's SAME has it; zeros for VALID."""
    if operation.options.Padding() != _SAME:
        return [0, 0, 0, 0]
    before, after = [], []
    for side, size, stride in zip(graph.network.shapes[operation.inputs[0]][1:3], kernel, strides, strict=True):
        total = max((-(-side // stride) - 1) * stride + size - side, 0)
        before.append(total // 2)
        after.append(total - total // 2)
    return [*before, *after]


def _conv(graph: _Graph, operation: Operation) -> None:
    options, weights = operation.options, graph.value(operation.inputs[1])
    is_depthwise = operation.name == "DEPTHWISE_CONV_2D"
    if options.DilationHFactor() != 1 or options.DilationWFactor() != 1:
        raise ValueError("dilated convolutions are not supported")
    kernel = weights.shape[1], weights.shape[2]
    planar = weights.transpose(3, 0, 1, 2) if is_depthwise else weights.transpose(0, 3, 1, 2)
    strides = options.StrideH(), options.StrideW()
    inputs = [graph.name(operation.inputs[0]), graph.constant(planar)]
    if len(operation.inputs) > 2 and operation.inputs[2] >= 0:
        inputs.append(graph.constant(graph.value(operation.inputs[2])))
    groups = graph.network.shapes[operation.inputs[0]][3] if is_depthwise else 1
    pads = _pads(graph, operation, kernel, strides)
    graph.add("Conv", inputs, operation.outputs[0], kernel_shape=kernel, strides=strides, pads=pads, group=groups)
    graph.activate(operation.outputs[0], options.FusedActivationFunction())


def _pool(graph: _Graph, operation: Operation) -> None:
    options = operation.options
    kernel, strides = (options.FilterHeight(), options.FilterWidth()), (options.StrideH(), options.StrideW())
    kind = "AveragePool" if operation.name == "AVERAGE_POOL_2D" else "MaxPool"
    pads = _pads(graph, operation, kernel, strides)
    graph.add(
        kind, [graph.name(operation.inputs[0])], operation.outputs[0], kernel_shape=kernel, strides=strides, pads=pads
    )
    graph.activate(operation.outputs[0], options.FusedActivationFunction())


def _mean(graph: _Graph, operation: Operation) -> None:
    axes = sorted(np.atleast_1d(graph.value(operation.inputs[1])).tolist())
    if axes != [1, 2] or len(graph.network.shapes[operation.outputs[0]]) != 4:
        raise ValueError(f"a mean over the axes {axes} is not supported, only over height and width, with both kept")
    graph.add("GlobalAveragePool", [graph.name(operation.inputs[0])], operation.outputs[0])


def _resize(graph: _Graph, operation: Operation) -> None:
    _, height, width, channels = graph.network.shapes[operation.outputs[0]]
    how = "half_pixel" if operation.options.HalfPixelCenters() else "asymmetric"
    how = "align_corners" if operation.options.AlignCorners() else how
    sizes = graph.constant(np.array([1, channels, height, width], np.int64))
    inputs = [graph.name(operation.inputs[0]), "", "", sizes]
    graph.add("Resize", inputs, operation.outputs[0], mode="linear", coordinate_transformation_mode=how)


def _transposed_conv(graph: _Graph, operation: Operation) -> None:
    """Add MediaPipe's Convolution2DTransposeBias: its options are padding, stride width and stride height."""
    if len(operation.custom) < 12:
        raise ValueError("a transposed convolution has no strides")
    padding, stride_width, stride_height = struct.unpack("<3i", operation.custom[:12])
    weights = graph.value(operation.inputs[1])  # (output channels, height, width, input channels)
    kernel = weights.shape[1], weights.shape[2]
    if (stride_height, stride_width) != kernel:
        raise ValueError(f"a transposed convolution of {kernel} with other strides ({padding=}) is not supported")
    inputs = [graph.name(operation.inputs[0]), graph.constant(weights.transpose(3, 0, 1, 2))]
    inputs.append(graph.constant(graph.value(operation.inputs[2])))
    graph.add("ConvTranspose", inputs, operation.outputs[0], kernel_shape=kernel, strides=kernel)


def _pairwise(kind: str) -> Callable[[_Graph, Operation], None]:
    def emit(graph: _Graph, operation: Operation) -> None:
        rank = len(graph.network.shapes[operation.outputs[0]])
        graph.add(kind, [graph.per_channel(number, rank) for number in operation.inputs], operation.outputs[0])
        graph.activate(operation.outputs[0], operation.options.FusedActivationFunction() if operation.options else 0)

    return emit


def _single(kind: str) -> Callable[[_Graph, Operation], None]:
    return lambda graph, operation: graph.add(kind, [graph.name(operation.inputs[0])], operation.outputs[0])


def _concat(graph: _Graph, operation: Operation) -> None:
    axis = operation.options.Axis() % 4
    names = [graph.name(number) for number in operation.inputs]
    graph.add("Concat", names, operation.outputs[0], axis={0: 0, 3: 1, 1: 2, 2: 3}[axis])
    graph.activate(operation.outputs[0], operation.options.FusedActivationFunction())


_OPERATIONS: dict[str, Callable[[_Graph, Operation], None]] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _conv,
    "Convolution2DTransposeBias": _transposed_conv,
    "AVERAGE_POOL_2D": _pool,
    "MAX_POOL_2D": _pool,
    "MEAN": _mean,
    "RESIZE_BILINEAR": _resize,
    "ADD": _pairwise("Add"),
    "MUL": _pairwise("Mul"),
    "CONCATENATION": _concat,
    "RELU": _single("Relu"),
    "LOGISTIC": _single("Sigmoid"),
    "HARD_SWISH": _single("HardSwish"),
}
