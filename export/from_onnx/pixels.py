"""Pixels around somebody's graph, in plain ONNX: uint8 frames in, uint8 RGB and I420 frames out (docs/bundle.md).

Legend: H height, W width of a frame, C channels; the batch is 1. The end is that of our own bundles (export/graphs.py)
to the last bit. TensorRT knows uint8 only at the border of a graph: a cast from it comes first, a cast to it last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.compose
from onnx import helper, numpy_helper

# Recommendation ITU-R BT.709-6, items 3.2 to 3.4, limited range: Y' = 16 + 219 (0.2126 R' + 0.7152 G' + 0.0722 B').
LUMA = (0.2126, 0.7152, 0.0722)
_MEAN, _DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
# What a model calls black and what it calls white, per channel in the order R, G, B.
RANGES: dict[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]] = {
    "0..1": (np.zeros(3), np.ones(3)),
    "-1..1": (-np.ones(3), np.ones(3)),
    "0..255": (np.zeros(3), np.full(3, 255.0)),
    # The mean and standard deviation of ImageNet, by which most encoders' inputs are normalised.
    "imagenet": (-_MEAN / _DEVIATION, (1 - _MEAN) / _DEVIATION),
}
LAYOUTS = ("nchw", "nhwc")
ORDERS = ("rgb", "bgr")


@dataclass(frozen=True)
class PictureSpec:
    """How a model writes a picture.

    Args:
        shape: of the tensor, four sizes.
        dtype: NumPy's name of its type.
        layout: "nchw" or "nhwc".
        order: "rgb" or "bgr"; of no account where there is one channel.
        range: a name of `RANGES`.
    """

    shape: tuple[int, ...]
    dtype: str
    layout: str
    order: str
    range: str

    @property
    def channels(self) -> int:
        """1 or 3."""
        return self.shape[1] if self.layout == "nchw" else self.shape[3]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return (self.shape[2], self.shape[3]) if self.layout == "nchw" else (self.shape[1], self.shape[2])

    def black_and_white(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return what the model calls black and white, (C,) each, in R, G, B."""
        black, white = RANGES[self.range]
        return (black, white) if self.channels == 3 else (black.mean(keepdims=True), white.mean(keepdims=True))


class GraphFragment:
    """Nodes, constants, inputs and outputs of a graph that is being built, in order."""

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
        """Add a node with one output and return that output's name."""
        out = out or f"frame/{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], name=out, **attributes))
        return out

    def cast(self, tensor: str, dtype: str, out: str = "") -> str:
        """Add a cast to a type given by NumPy's name."""
        return self.add("Cast", tensor, out=out, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def take(self, name: str, dtype: str, shape: tuple[int, ...]) -> str:
        """Declare an input of the graph and return its name."""
        self.inputs.append(_value(name, dtype, shape))
        return name

    def give(self, name: str, dtype: str, shape: tuple[int, ...]) -> None:
        """Declare an output of the graph."""
        self.outputs.append(_value(name, dtype, shape))

    def embed(self, core: onnx.ModelProto, prefix: str) -> None:
        """Add a whole graph, every name of it after a prefix; what it reads and gives is to be wired by those names."""
        inner = onnx.compose.add_prefix(core, prefix).graph
        self.nodes.extend(inner.node)
        self.constants.extend(inner.initializer)

    def to_model(self, name: str, opset: int, ir_version: int) -> onnx.ModelProto:
        """Return the model, checked.

        Raises:
            ValueError: it is no sound graph.
        """
        graph = helper.make_graph(self.nodes, name, self.inputs, self.outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
        try:
            onnx.checker.check_model(model)
        except onnx.checker.ValidationError as error:
            raise ValueError(f"the {name} graph is not sound ONNX: {str(error).splitlines()[0][:300]}") from error
        return model


def from_pixels(piece: GraphFragment, pixels: str, size: tuple[int, int], picture: PictureSpec, out: str) -> None:
    """Turn uint8 (1, h, w, 3) RGB into what a model takes.

    Args:
        piece: what is added to.
        pixels: name of the tensor.
        size: its (h, w); another one than the picture's is resized, bilinear.
        picture: what the model takes.
        out: name that the result gets.
    """
    planes = piece.add("Transpose", piece.cast(pixels, "float32"), perm=[0, 3, 1, 2])  # (1, 3, h, w)
    if size != picture.size:
        wanted = piece.constant([1, 3, *picture.size], "int64")
        mode = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        # Rounded to whole levels, as a resized picture has them: a quantised model multiplies what is lost beyond.
        planes = piece.add("Round", piece.add("Resize", planes, "", "", wanted, **mode))
    if picture.channels == 1:
        weighted = piece.add("Mul", planes, piece.constant(np.reshape(LUMA, (1, 3, 1, 1))))
        planes = piece.add("ReduceSum", weighted, piece.constant([1], "int64"), keepdims=1)
    black, white = picture.black_and_white()
    planes = _from_levels(piece, planes, black, white)
    if picture.channels == 3 and picture.order == "bgr":
        planes = piece.add("Gather", planes, piece.constant([2, 1, 0], "int64"), axis=1)
    if picture.layout == "nhwc":
        planes = piece.add("Transpose", planes, perm=[0, 2, 3, 1])
    if picture.dtype.startswith("uint") or picture.dtype.startswith("int"):
        planes = piece.add("Round", planes)
    piece.cast(planes, picture.dtype, out=out)


def mask_from_pixels(piece: GraphFragment, mask: str, picture: PictureSpec, out: str) -> None:
    """Turn uint8 (1, h, w, 1), 255 where the live input counts, into what a model with one channel takes."""
    planes = piece.add("Transpose", piece.cast(mask, "float32"), perm=[0, 3, 1, 2])
    planes = _from_levels(piece, planes, *picture.black_and_white())
    if picture.layout == "nhwc":
        planes = piece.add("Transpose", planes, perm=[0, 2, 3, 1])
    piece.cast(planes, picture.dtype, out=out)


def to_picture(piece: GraphFragment, tensor: str, picture: PictureSpec, size: tuple[int, int], out: str) -> None:
    """Turn a model's picture into float32 (1, 3, H, W) RGB in [0, 1].

    Args:
        piece: what is added to.
        tensor: name of the model's picture.
        picture: how it is written.
        size: (H, W) of the frame: at most one row and one column less than the picture's, which are cut off.
        out: name that the result gets.
    """
    planes = piece.cast(tensor, "float32")
    if picture.layout == "nhwc":
        planes = piece.add("Transpose", planes, perm=[0, 3, 1, 2])
    if size != picture.size:
        bounds = [piece.constant(value, "int64") for value in ([0, 0], list(size), [2, 3])]
        planes = piece.add("Slice", planes, *bounds)
    if picture.channels == 3 and picture.order == "bgr":
        planes = piece.add("Gather", planes, piece.constant([2, 1, 0], "int64"), axis=1)
    black, white = picture.black_and_white()
    planes = _scale(piece, planes, 1 / (white - black), -black / (white - black))
    if picture.channels == 1:
        planes = piece.add("Concat", planes, planes, planes, axis=1)
    piece.add("Clip", planes, piece.constant(0.0), piece.constant(1.0), out=out)


def to_rgb(piece: GraphFragment, picture: str, out: str) -> None:
    """Quantise (1, 3, H, W) in [0, 1] to uint8 (1, H, W, 3), rounding half up."""
    levels = piece.add("Mul", picture, piece.constant(255.0))
    _quantise(piece, piece.add("Transpose", levels, perm=[0, 2, 3, 1]), out)


def to_i420(piece: GraphFragment, picture: str, size: tuple[int, int], out: str) -> None:
    """Quantise (1, 3, H, W) in [0, 1] to planar I420, uint8 (1, H * 3 / 2, W), BT.709 limited range."""
    height, width = size
    axis = piece.constant([1], "int64")
    bounds = [piece.constant([place], "int64") for place in range(4)]
    red, green, blue = (piece.add("Slice", picture, bounds[place], bounds[place + 1], axis) for place in range(3))
    parts = (
        piece.add("Mul", plane, piece.constant(share)) for plane, share in zip((red, green, blue), LUMA, strict=True)
    )
    first, second, third = parts
    luma = piece.add("Add", piece.add("Add", first, second), third)  # (1, 1, H, W)
    chroma = [
        piece.add("Div", piece.add("Sub", plane, luma), piece.constant(2 * (1 - share)))
        for plane, share in ((blue, LUMA[2]), (red, LUMA[0]))
    ]
    halved = piece.add(
        "AveragePool", piece.add("Concat", *chroma, axis=1), kernel_shape=[2, 2], strides=[2, 2]
    )  # (1, 2, H / 2, W / 2)
    whole = _scale(piece, luma, np.array([219.0]), np.array([16.0]))
    halved = _scale(piece, halved, np.array([224.0]), np.array([128.0]))
    planes = piece.add("Concat", piece.add("Flatten", whole), piece.add("Flatten", halved), axis=1)
    _quantise(piece, piece.add("Reshape", planes, piece.constant([1, height * 3 // 2, width], "int64")), out)


def _from_levels(
    piece: GraphFragment, planes: str, black: npt.NDArray[np.float64], white: npt.NDArray[np.float64]
) -> str:
    """Turn levels from 0 to 255 into a model's range; divided, so that [0, 1] is rounded as `x / 255` is."""
    shape = (1, -1, 1, 1)
    if not np.all(white - black == 255):
        planes = piece.add("Div", planes, piece.constant((255 / (white - black)).reshape(shape)))
    return _scale(piece, planes, np.ones(1), black)


def _scale(piece: GraphFragment, planes: str, factor: npt.NDArray[np.float64], offset: npt.NDArray[np.float64]) -> str:
    """Multiply and add per channel, leaving out what changes nothing."""
    shape = (1, -1, 1, 1)
    if not np.all(factor == 1):
        planes = piece.add("Mul", planes, piece.constant(factor.reshape(shape)))
    if not np.all(offset == 0):
        planes = piece.add("Add", planes, piece.constant(offset.reshape(shape)))
    return planes


def _quantise(piece: GraphFragment, values: str, out: str) -> None:
    rounded = piece.add("Floor", piece.add("Add", values, piece.constant(0.5)))
    piece.cast(piece.add("Clip", rounded, piece.constant(0.0), piece.constant(255.0)), "uint8", out=out)


def _value(name: str, dtype: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
