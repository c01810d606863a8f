"""ONNX nodes around an imported model: uint8 frames in, uint8 RGB and I420 frames out (docs/bundle.md).

Legend: H height, W width of a frame, C channels; the batch is 1. The outputs are bit-identical to those of
docs/bundle.md. TensorRT supports uint8 only for inputs and outputs: casts are the first and last nodes of a graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.compose
from onnx import helper, numpy_helper

from export.from_onnx.model import first_line
from runtime.bundle.external_weights import without_external

# Recommendation ITU-R BT.709-6, items 3.2 to 3.4, limited range: Y' = 16 + 219 (0.2126 R' + 0.7152 G' + 0.0722 B').
LUMA = (0.2126, 0.7152, 0.0722)
_MEAN, _DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
# A model's values of black and of white, per channel in the order R, G, B.
RANGES: dict[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]] = {
    "0..1": (np.zeros(3), np.ones(3)),
    "-1..1": (-np.ones(3), np.ones(3)),
    "0..255": (np.zeros(3), np.full(3, 255.0)),
    "-128..127": (np.full(3, -128.0), np.full(3, 127.0)),  # of quantised networks with int8 pictures
    # Most encoders normalise their inputs by the mean and standard deviation of ImageNet.
    "imagenet": (-_MEAN / _DEVIATION, (1 - _MEAN) / _DEVIATION),
}
LAYOUTS = ("nchw", "nhwc")
ORDERS = ("rgb", "bgr")


@dataclass(frozen=True)
class PictureSpec:
    """Format of a model's picture.

    Args:
        shape: of the tensor, four dimensions.
        dtype: NumPy's name of the type.
        layout: "nchw" or "nhwc".
        order: "rgb" or "bgr"; ignored with one channel.
        range: a name of `RANGES`.
        mean, deviation: subtracted from a value of the range, and then divided by; one number or one each of R, G and
            B; () for none.
        channel: the one channel that is the picture, from 0; None for all.
    """

    shape: tuple[int, ...]
    dtype: str
    layout: str
    order: str
    range: str
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    channel: int | None = None

    @property
    def channels(self) -> int:
        """1 or 3."""
        if self.channel is not None:
            return 1
        return self.shape[1] if self.layout == "nchw" else self.shape[3]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return (self.shape[2], self.shape[3]) if self.layout == "nchw" else (self.shape[1], self.shape[2])

    def black_and_white(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the values of black and white, (C,) each, in the order R, G, B."""
        mean, deviation = np.array(self.mean or (0.0,)), np.array(self.deviation or (1.0,))
        black, white = ((end - mean) / deviation for end in RANGES[self.range])
        return (black, white) if self.channels == 3 else (black.mean(keepdims=True), white.mean(keepdims=True))


class GraphFragment:
    """Collects the nodes, constants, inputs and outputs of a graph."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []

    def constant(self, value: npt.ArrayLike, dtype: str = "float32", name: str = "") -> str:
        """Add a constant and return its name."""
        name = name or f"frame/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def add(self, kind: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        out = out or f"frame/{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], name=out, **attributes))
        return out

    def cast(self, tensor: str, dtype: str, out: str = "") -> str:
        """Add a cast to a NumPy type."""
        return self.add("Cast", tensor, out=out, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def add_input(self, name: str, dtype: str, shape: tuple[int, ...]) -> str:
        """Add an input of the graph and return its name."""
        self.inputs.append(_value(name, dtype, shape))
        return name

    def add_output(self, name: str, dtype: str, shape: tuple[int, ...]) -> None:
        """Add an output of the graph."""
        self.outputs.append(_value(name, dtype, shape))

    def embed(self, core: onnx.ModelProto, prefix: str) -> None:
        """Add all nodes of a model, with a prefix before every name; the caller connects its inputs and outputs."""
        inner = onnx.compose.add_prefix(core, prefix).graph
        self.nodes.extend(inner.node)
        self.constants.extend(inner.initializer)

    def to_model(self, name: str, opset: int, ir_version: int) -> onnx.ModelProto:
        """Return the model, checked.

        Raises:
            ValueError: the graph is not valid ONNX.
        """
        graph = helper.make_graph(self.nodes, name, self.inputs, self.outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
        try:
            onnx.checker.check_model(without_external(model))
        except onnx.checker.ValidationError as error:
            raise ValueError(f"the {name} graph is not valid ONNX: {first_line(error)}") from error
        return model


def from_pixels(
    graph: GraphFragment, pixels: str, size: tuple[int, int], picture: PictureSpec, out: str, channels: int = 3
) -> None:
    """Convert uint8 (1, h, w, C) pixels to a model's input format.

    Args:
        graph: the nodes are added here.
        pixels: name of the uint8 tensor.
        size: its (h, w); resized (bilinear) if it differs from the picture's.
        picture: the model's input format.
        out: name of the result.
        channels: C; 3 for RGB, 1 for a mask.
    """
    planes = graph.add("Transpose", graph.cast(pixels, "float32"), perm=[0, 3, 1, 2])  # (1, C, h, w)
    if size != picture.size:
        wanted = graph.constant([1, channels, *picture.size], "int64")
        mode = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        # Rounded to whole levels, like a resized image: quantised models amplify the difference.
        planes = graph.add("Round", graph.add("Resize", planes, "", "", wanted, **mode))
    if picture.channels == 1 and channels == 3:
        weighted = graph.add("Mul", planes, graph.constant(np.reshape(LUMA, (1, 3, 1, 1))))
        planes = graph.add("ReduceSum", weighted, graph.constant([1], "int64"), keepdims=1)
    black, white = picture.black_and_white()
    planes = _from_levels(graph, planes, black, white)
    if picture.channels == 3 and picture.order == "bgr":
        planes = graph.add("Gather", planes, graph.constant([2, 1, 0], "int64"), axis=1)
    if picture.layout == "nhwc":
        planes = graph.add("Transpose", planes, perm=[0, 2, 3, 1])
    if picture.dtype.startswith(("uint", "int")):
        planes = graph.add("Round", planes)
    graph.cast(planes, picture.dtype, out=out)


def to_picture(graph: GraphFragment, tensor: str, picture: PictureSpec, size: tuple[int, int], out: str) -> None:
    """Convert a model's picture to float32 (1, 3, H, W) RGB in [0, 1].

    Args:
        graph: the nodes are added here.
        tensor: name of the model's picture.
        picture: its format.
        size: (H, W) of the frame; a last odd row or column of the picture is cropped.
        out: name of the result.
    """
    planes = graph.cast(tensor, "float32")
    if picture.layout == "nhwc":
        planes = graph.add("Transpose", planes, perm=[0, 3, 1, 2])
    if picture.channel is not None:
        bounds = [graph.constant([value], "int64") for value in (picture.channel, picture.channel + 1, 1)]
        planes = graph.add("Slice", planes, *bounds)
    if size != picture.size:
        bounds = [graph.constant(value, "int64") for value in ([0, 0], list(size), [2, 3])]
        planes = graph.add("Slice", planes, *bounds)
    if picture.channels == 3 and picture.order == "bgr":
        planes = graph.add("Gather", planes, graph.constant([2, 1, 0], "int64"), axis=1)
    black, white = picture.black_and_white()
    planes = _scale(graph, planes, 1 / (white - black), -black / (white - black))
    if picture.channels == 1:
        planes = graph.add("Concat", planes, planes, planes, axis=1)
    graph.add("Clip", planes, graph.constant(0.0), graph.constant(1.0), out=out)


def to_rgb(graph: GraphFragment, picture: str, out: str) -> None:
    """Quantise (1, 3, H, W) in [0, 1] to uint8 (1, H, W, 3), rounding half up."""
    levels = graph.add("Mul", picture, graph.constant(255.0))
    _quantise(graph, graph.add("Transpose", levels, perm=[0, 2, 3, 1]), out)


def to_i420(graph: GraphFragment, picture: str, size: tuple[int, int], out: str) -> None:
    """Quantise (1, 3, H, W) in [0, 1] to planar I420, uint8 (1, H * 3 / 2, W), BT.709 limited range."""
    height, width = size
    axis = graph.constant([1], "int64")
    bounds = [graph.constant([place], "int64") for place in range(4)]
    red, green, blue = (graph.add("Slice", picture, bounds[place], bounds[place + 1], axis) for place in range(3))
    first, second, third = (
        graph.add("Mul", plane, graph.constant(share)) for plane, share in zip((red, green, blue), LUMA, strict=True)
    )
    luma = graph.add("Add", graph.add("Add", first, second), third)  # (1, 1, H, W)
    chroma = [
        graph.add("Div", graph.add("Sub", plane, luma), graph.constant(2 * (1 - share)))
        for plane, share in ((blue, LUMA[2]), (red, LUMA[0]))
    ]
    halved = graph.add(
        "AveragePool", graph.add("Concat", *chroma, axis=1), kernel_shape=[2, 2], strides=[2, 2]
    )  # (1, 2, H / 2, W / 2)
    whole = _scale(graph, luma, np.array([219.0]), np.array([16.0]))
    halved = _scale(graph, halved, np.array([224.0]), np.array([128.0]))
    planes = graph.add("Concat", graph.add("Flatten", whole), graph.add("Flatten", halved), axis=1)
    _quantise(graph, graph.add("Reshape", planes, graph.constant([1, height * 3 // 2, width], "int64")), out)


def _from_levels(
    graph: GraphFragment, planes: str, black: npt.NDArray[np.float64], white: npt.NDArray[np.float64]
) -> str:
    """Convert levels from 0 to 255 to a model's range; a division, so that 0..1 is rounded like `x / 255`."""
    shape = (1, -1, 1, 1)
    if not np.all(white - black == 255):
        planes = graph.add("Div", planes, graph.constant((255 / (white - black)).reshape(shape)))
    return _scale(graph, planes, np.ones(1), black)


def _scale(graph: GraphFragment, planes: str, factor: npt.NDArray[np.float64], offset: npt.NDArray[np.float64]) -> str:
    """Multiply and add per channel; omits factors of 1 and offsets of 0."""
    shape = (1, -1, 1, 1)
    if not np.all(factor == 1):
        planes = graph.add("Mul", planes, graph.constant(factor.reshape(shape)))
    if not np.all(offset == 0):
        planes = graph.add("Add", planes, graph.constant(offset.reshape(shape)))
    return planes


def _quantise(graph: GraphFragment, values: str, out: str) -> None:
    rounded = graph.add("Floor", graph.add("Add", values, graph.constant(0.5)))
    graph.cast(graph.add("Clip", rounded, graph.constant(0.0), graph.constant(255.0)), "uint8", out=out)


def _value(name: str, dtype: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
