"""Builds the compositing stage: an ONNX graph that puts a person, cut out by a small matte, over a frame.

The matte is refined to the frame's size by a guided filter (He et al. 2013, eq. 5 to 8), which is computed at the
matte's size and enlarged (He and Sun, arXiv 1505.00996). In time it is smoothed where it hardly changes, and follows at
once where it changes much, so that fast hands do not trail. The filter's factor and offset hold for blocks of 2 x 2
pixels: luma is blended as four planes of half the size, as enlarging to the whole size costs more than all the rest.

Legend: H height, W width of a frame; h, w of the matte.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from runtime.bundle.tensors import TensorSpec
from runtime.pixels.graph import GraphBuilder

PREFIX = "composite."
RADIUS = 4  # of the guided filter's windows, in pixels of the matte
EPSILON = 1e-3  # of the guided filter: contrasts below its root (8 levels of 255) count as noise
CALM = 0.4  # share of the new matte where it hardly changes
HASTE = 3.0  # how much that share grows per unit of change
CONTROLS = ("feather", "threshold")
OPSET = 17

_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)  # BT.709-6, item 3.2


def composite_inputs(width: int, height: int, pixels: str, matte: tuple[int, int]) -> tuple[TensorSpec, ...]:
    """Return the graph's inputs; `matte` is (width, height)."""
    shape = (1, height, width, 3) if pixels == "rgb" else (1, height * 3 // 2, width)
    small = (1, matte[1], matte[0])
    return (
        TensorSpec(f"{PREFIX}behind", "uint8", shape, "live"),
        TensorSpec(f"{PREFIX}person", "uint8", shape, "live"),
        TensorSpec(f"{PREFIX}guide", "uint8", (*small, 3), "live"),
        TensorSpec(f"{PREFIX}matte", "uint8", (*small, 3), "live"),
        TensorSpec(f"{PREFIX}control", "float32", (1, len(CONTROLS)), "control"),
        TensorSpec(f"{PREFIX}before", "float32", (1, 1, *small[1:]), "state", next=f"{PREFIX}after"),
    )


def composite_outputs(width: int, height: int, pixels: str, matte: tuple[int, int]) -> tuple[TensorSpec, ...]:
    """Return the graph's outputs; `matte` is (width, height)."""
    inputs = composite_inputs(width, height, pixels, matte)
    return (
        TensorSpec(f"{PREFIX}frame", "uint8", inputs[0].shape, "frame", pixels=pixels),
        TensorSpec(f"{PREFIX}after", "float32", inputs[-1].shape, "state"),
    )


def build_composite_stage(width: int, height: int, pixels: str, matte: tuple[int, int]) -> onnx.ModelProto:
    """Build the graph.

    Args:
        width, height: of a frame, even.
        pixels: "rgb" or "i420".
        matte: (width, height) of the matte and of its guide.

    Returns:
        A model with the tensors of `composite_inputs` and `composite_outputs`. `behind` and `person` are frames;
        `guide` is the person's frame at the matte's size, RGB; `matte` has 255 in its first channel where the person
        is. The controls are: `feather`, the width of the edge, 0 (hard) to 1; `threshold`, the matte's value at which
        the edge lies, 0 to 1.
    """
    graph = GraphBuilder(PREFIX)
    alpha = _smoothed(graph)
    coefficients = _guided(graph, alpha, matte)
    sizes = graph.constant(np.array([1, 2, height // 2, width // 2], np.int64))
    how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    large = graph.add("Resize", [coefficients, "", "", sizes], **how)
    scale, offset = graph.slice(large, 0, 1), graph.slice(large, 1, 2)
    names = [f"{PREFIX}behind", f"{PREFIX}person"]
    if pixels == "rgb":
        behind, person = (_rgb_blocks(graph, name) for name in names)
        weights = graph.constant(np.kron(_LUMA, np.eye(4, dtype=np.float32)).reshape(4, 12, 1, 1) / 255)
        luma = graph.add("Conv", [person, weights], kernel_shape=[1, 1])  # of each pixel of a block
        edge = _edge(graph, luma, scale, offset)
        blended = _blend(graph, behind, person, graph.add("Concat", [edge] * 3, axis=1))
        whole = graph.add("DepthToSpace", [_rounded(graph, blended)], blocksize=2, mode="CRD")
        frame = graph.add("Transpose", [whole], perm=[0, 2, 3, 1])
    else:
        behind_planes, person_planes = (_yuv_blocks(graph, name, width, height) for name in names)
        luma = graph.add("Mul", [graph.add("Sub", [person_planes[0], graph.number(16)]), graph.number(1 / 219)])
        edge = _edge(graph, luma, scale, offset)
        shares = [edge, graph.add("ReduceMean", [edge], axes=[1], keepdims=1)]
        parts = []
        for behind, person, share in zip(behind_planes, person_planes, shares, strict=True):
            parts.append(_rounded(graph, _blend(graph, behind, person, share)))
        parts[0] = graph.add("DepthToSpace", [parts[0]], blocksize=2, mode="CRD")
        rows = [graph.add("Reshape", [name, graph.constant(np.array([1, -1], np.int64))]) for name in parts]
        joined = graph.add("Concat", rows, axis=1)
        frame = graph.add("Reshape", [joined, graph.constant(np.array([1, height * 3 // 2, width], np.int64))])
    graph.add("Cast", [frame], output=f"{PREFIX}frame", to=TensorProto.UINT8)
    inputs = [_info(item) for item in composite_inputs(width, height, pixels, matte)]
    outputs = [_info(item) for item in composite_outputs(width, height, pixels, matte)]
    proto = helper.make_graph(graph.nodes, "composite", inputs, outputs, graph.constants)
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def _info(item: TensorSpec) -> onnx.ValueInfoProto:
    kind = TensorProto.UINT8 if item.dtype == "uint8" else TensorProto.FLOAT
    return helper.make_tensor_value_info(item.name, kind, item.shape)


def _float(graph: GraphBuilder, name: str) -> str:
    return graph.add("Cast", [name], to=TensorProto.FLOAT)


def _smoothed(graph: GraphBuilder) -> str:
    """Add the matte, smoothed in time: (1, 1, h, w) in [0, 1]; it is also the next state."""
    whole = graph.add("Transpose", [_float(graph, f"{PREFIX}matte")], perm=[0, 3, 1, 2])
    first = graph.slice(whole, 0, 1)
    new = graph.add("Mul", [first, graph.number(1 / 255)])
    before = f"{PREFIX}before"
    change = graph.add("Sub", [new, before])
    share = graph.add("Mul", [graph.add("Abs", [change]), graph.number(HASTE)])
    share = graph.add("Add", [share, graph.number(CALM)])
    share = graph.add("Min", [share, graph.number(1.0)])
    return graph.add("Add", [before, graph.add("Mul", [share, change])], output=f"{PREFIX}after")


def _guided(graph: GraphBuilder, alpha: str, matte: tuple[int, int]) -> str:
    """Add the guided filter at the matte's size: (1, 2, h, w), the factor of the guide's luma and the offset."""
    planes = graph.add("Transpose", [_float(graph, f"{PREFIX}guide")], perm=[0, 3, 1, 2])
    weights = graph.constant((_LUMA / 255).reshape(1, 3, 1, 1))
    guide = graph.add("Conv", [planes, weights], kernel_shape=[1, 1])
    products = [graph.add("Mul", [guide, alpha]), graph.add("Mul", [guide, guide])]
    means = _box(graph, graph.add("Concat", [guide, alpha, *products], axis=1), matte)
    mean_guide, mean_alpha, mean_both, mean_square = (graph.slice(means, index, index + 1) for index in range(4))
    variance = graph.add("Sub", [mean_square, graph.add("Mul", [mean_guide, mean_guide])])
    covariance = graph.add("Sub", [mean_both, graph.add("Mul", [mean_guide, mean_alpha])])
    epsilon = graph.number(EPSILON)
    scale = graph.add("Div", [covariance, graph.add("Add", [variance, epsilon])])
    offset = graph.add("Sub", [mean_alpha, graph.add("Mul", [scale, mean_guide])])
    return _box(graph, graph.add("Concat", [scale, offset], axis=1), matte)


def _box(graph: GraphBuilder, name: str, matte: tuple[int, int]) -> str:
    """Add the mean over windows that end at the edges."""
    side = 2 * min(RADIUS, (min(matte) - 1) // 2) + 1
    pads = [side // 2] * 4
    return graph.add("AveragePool", [name], kernel_shape=[side, side], strides=[1, 1], pads=pads, count_include_pad=0)


def _rgb_blocks(graph: GraphBuilder, name: str) -> str:
    """Add an RGB frame as (1, 12, H / 2, W / 2): the four pixels of each block, channel by channel."""
    planes = graph.add("Transpose", [_float(graph, name)], perm=[0, 3, 1, 2])
    return _blocks(graph, planes, 3)


def _yuv_blocks(graph: GraphBuilder, name: str, width: int, height: int) -> tuple[str, str]:
    """Add an I420 frame as Y (1, 4, H / 2, W / 2), the four pixels of each block, and U and V (1, 2, H / 2, W / 2)."""
    flat = graph.add("Reshape", [_float(graph, name), graph.constant(np.array([1, -1], np.int64))])
    size = width * height
    luma = graph.add("Reshape", [graph.slice(flat, 0, size), graph.constant(np.array([1, 1, height, width], np.int64))])
    shape = graph.constant(np.array([1, 2, height // 2, width // 2], np.int64))
    chroma = graph.add("Reshape", [graph.slice(flat, size, size * 3 // 2), shape])
    return _blocks(graph, luma, 1), chroma


def _blocks(graph: GraphBuilder, planes: str, count: int) -> str:
    """Add the four pixels of each block of 2 x 2, plane by plane: (1, 4 * count, H / 2, W / 2)."""
    # A convolution that picks: SpaceToDepth has another order of channels, and OpenVINO is slower at it.
    picks = np.zeros((4 * count, 1, 2, 2), np.float32)
    for index in range(4 * count):
        picks[index, 0, index % 4 // 2, index % 2] = 1
    weights = graph.constant(picks)
    return graph.add("Conv", [planes, weights], kernel_shape=[2, 2], strides=[2, 2], group=count)


def _edge(graph: GraphBuilder, luma: str, scale: str, offset: str) -> str:
    """Add the share of the person at each pixel: a ramp of `feather` around `threshold`, in [0, 1]."""
    shape = graph.constant(np.array([1, 1, 1, 1], np.int64))
    feather, threshold = (
        graph.add("Reshape", [graph.slice(f"{PREFIX}control", index, index + 1), shape]) for index in range(2)
    )
    slope = graph.add("Div", [graph.number(1), graph.add("Max", [feather, graph.number(0.02)])])
    # In the half-size planes: slope * (scale * luma + offset - threshold) + 1/2.
    steep = graph.add("Mul", [scale, slope])
    middle = graph.add("Mul", [graph.add("Sub", [offset, threshold]), slope])
    middle = graph.add("Add", [middle, graph.number(0.5)])
    ramp = graph.add("Add", [graph.add("Mul", [luma, steep]), middle])
    return graph.add("Clip", [ramp, graph.number(0), graph.number(1)])


def _blend(graph: GraphBuilder, behind: str, person: str, share: str) -> str:
    return graph.add("Add", [behind, graph.add("Mul", [share, graph.add("Sub", [person, behind])])])


def _rounded(graph: GraphBuilder, name: str) -> str:
    return graph.add("Floor", [graph.add("Add", [name, graph.number(0.5)])])
