"""The operations of TensorFlow Lite that are known, each as nodes of an ONNX graph."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np

from export.from_tflite.network import Operation, UnsupportedError
from export.from_tflite.onnx_graph import OnnxGraph

_SAME = 0  # of the schema's Padding
_PLANES = {0: 0, 3: 1, 1: 2, 2: 3}  # axis of NHWC -> axis of NCHW

Emit = Callable[[OnnxGraph, Operation], None]


def picture_shape(graph: OnnxGraph, number: int) -> tuple[int, int, int, int]:
    """Return the shape (N, H, W, C) of a tensor.

    Raises:
        UnsupportedError: it does not have four dimensions.
    """
    shape = graph.network.shapes[number]
    if len(shape) != 4:
        raise UnsupportedError(f"tensor {number} has the shape {list(shape)}, expected four dimensions")
    batch, height, width, channels = shape
    return batch, height, width, channels


def _pads(graph: OnnxGraph, operation: Operation, kernel: tuple[int, int], strides: tuple[int, int]) -> list[int]:
    """Return top, left, bottom and right padding as TensorFlow's SAME has it; zeros for VALID."""
    if min(*kernel, *strides) < 1:
        raise ValueError(f"{operation.name} has the kernel {list(kernel)} and the strides {list(strides)}")
    if operation.options.Padding() != _SAME:
        return [0, 0, 0, 0]
    before, after = [], []
    for side, size, stride in zip(picture_shape(graph, operation.inputs[0])[1:3], kernel, strides, strict=True):
        total = max((-(-side // stride) - 1) * stride + size - side, 0)
        before.append(total // 2)
        after.append(total - total // 2)
    return [*before, *after]


def _conv(graph: OnnxGraph, operation: Operation) -> None:
    options, weights = operation.options, graph.value(operation.inputs[1], 4)
    is_depthwise = operation.name == "DEPTHWISE_CONV_2D"
    if options.DilationHFactor() != 1 or options.DilationWFactor() != 1:
        raise UnsupportedError("dilated convolutions are not supported")
    kernel = weights.shape[1], weights.shape[2]
    planar = weights.transpose(3, 0, 1, 2) if is_depthwise else weights.transpose(0, 3, 1, 2)
    strides = options.StrideH(), options.StrideW()
    inputs = [graph.name(operation.inputs[0]), graph.constant(planar)]
    if len(operation.inputs) > 2 and operation.inputs[2] >= 0:
        inputs.append(graph.constant(graph.value(operation.inputs[2], 1)))
    channels, per_group = picture_shape(graph, operation.inputs[0])[3], 1 if is_depthwise else weights.shape[3]
    if channels < 1 or per_group < 1 or channels % per_group:
        raise ValueError(f"{operation.name} has {channels} channels, and weights for {per_group}")
    groups = channels // per_group
    pads = _pads(graph, operation, kernel, strides)
    graph.add("Conv", inputs, operation.outputs[0], kernel_shape=kernel, strides=strides, pads=pads, group=groups)
    graph.activate(operation.outputs[0], options.FusedActivationFunction())


def _pool(graph: OnnxGraph, operation: Operation) -> None:
    options = operation.options
    kernel, strides = (options.FilterHeight(), options.FilterWidth()), (options.StrideH(), options.StrideW())
    kind = "AveragePool" if operation.name == "AVERAGE_POOL_2D" else "MaxPool"
    pads = _pads(graph, operation, kernel, strides)
    graph.add(
        kind, [graph.name(operation.inputs[0])], operation.outputs[0], kernel_shape=kernel, strides=strides, pads=pads
    )
    graph.activate(operation.outputs[0], options.FusedActivationFunction())


def _mean(graph: OnnxGraph, operation: Operation) -> None:
    axes = sorted(np.atleast_1d(graph.value(operation.inputs[1])).tolist())
    if axes != [1, 2] or len(graph.network.shapes[operation.outputs[0]]) != 4:
        raise UnsupportedError(
            f"a mean over the axes {axes} is not supported, only over height and width, with both kept"
        )
    graph.add("GlobalAveragePool", [graph.name(operation.inputs[0])], operation.outputs[0])


def _resize(graph: OnnxGraph, operation: Operation) -> None:
    _, height, width, channels = picture_shape(graph, operation.outputs[0])
    if min(height, width, channels) < 1:
        raise UnsupportedError(f"an enlargement to {width}x{height} with {channels} channels is not supported")
    how = "half_pixel" if operation.options.HalfPixelCenters() else "asymmetric"
    how = "align_corners" if operation.options.AlignCorners() else how
    sizes = graph.constant(np.array([1, channels, height, width], np.int64))
    inputs = [graph.name(operation.inputs[0]), "", "", sizes]
    graph.add("Resize", inputs, operation.outputs[0], mode="linear", coordinate_transformation_mode=how)


def _transposed_conv(graph: OnnxGraph, operation: Operation) -> None:
    """Add MediaPipe's Convolution2DTransposeBias: its options are padding, stride width and stride height."""
    if len(operation.custom) < 12:
        raise ValueError("a transposed convolution has no strides")
    padding, stride_width, stride_height = struct.unpack("<3i", operation.custom[:12])
    weights = graph.value(operation.inputs[1], 4)  # (output channels, height, width, input channels)
    kernel = weights.shape[1], weights.shape[2]
    if (stride_height, stride_width) != kernel:
        raise UnsupportedError(f"a transposed convolution of {kernel} with other strides ({padding=}) is not supported")
    inputs = [graph.name(operation.inputs[0]), graph.constant(weights.transpose(3, 0, 1, 2))]
    inputs.append(graph.constant(graph.value(operation.inputs[2], 1)))
    graph.add("ConvTranspose", inputs, operation.outputs[0], kernel_shape=kernel, strides=kernel)


def _pairwise(kind: str) -> Emit:
    def emit(graph: OnnxGraph, operation: Operation) -> None:
        rank = len(graph.network.shapes[operation.outputs[0]])
        graph.add(kind, [graph.per_channel(number, rank) for number in operation.inputs], operation.outputs[0])
        graph.activate(operation.outputs[0], operation.options.FusedActivationFunction() if operation.options else 0)

    return emit


def _single(kind: str) -> Emit:
    return lambda graph, operation: graph.add(kind, [graph.name(operation.inputs[0])], operation.outputs[0])


def _concat(graph: OnnxGraph, operation: Operation) -> None:
    picture_shape(graph, operation.outputs[0])
    axis = operation.options.Axis() % 4
    names = [graph.name(number) for number in operation.inputs]
    graph.add("Concat", names, operation.outputs[0], axis=_PLANES[axis])
    graph.activate(operation.outputs[0], operation.options.FusedActivationFunction())


OPERATIONS: dict[str, Emit] = {
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
