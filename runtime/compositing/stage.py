"""Builds the compositing stage: an ONNX graph that puts a person, cut out by a small matte, over a frame.

In time the matte is smoothed where it hardly changes, and follows at once where it changes much, so that fast hands do
not trail. Two matrices enlarge it bilinearly and move it to its place in the frame, and a ramp makes its edge narrower.
A guided filter was tried, and was no closer to known mattes (docs/log.md). The share of the person holds for blocks of
2 x 2 pixels: luma is blended as four planes of half the size, as enlarging to the whole size costs more than all the
rest. In a lit stage the person gets a tone, and light from behind over the edge (`runtime.compositing.light`).

Legend: H height, W width of a frame; h, w of the matte; y, x height and width of the light.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from runtime.bundle.tensors import TensorSpec
from runtime.compositing.light import blur_matrices, light_size
from runtime.pixels.graph import GraphBuilder, value_info

PREFIX = "composite."
CALM = 0.4  # share of the new matte where it hardly changes
HASTE = 3.0  # how much that share grows per unit of change
CONTROLS = ("feather", "threshold")
OPSET = 17


def composite_inputs(
    width: int, height: int, pixels: str, matte: tuple[int, int], *, is_lit: bool = False
) -> tuple[TensorSpec, ...]:
    """Return the graph's inputs; arguments as of `build_composite_stage`."""
    shape = (1, height, width, 3) if pixels == "rgb" else (1, height * 3 // 2, width)
    small = (1, matte[1], matte[0])
    inputs = (
        TensorSpec(f"{PREFIX}behind", "uint8", shape, "live"),
        TensorSpec(f"{PREFIX}person", "uint8", shape, "live"),
        TensorSpec(f"{PREFIX}matte", "uint8", (*small, 3), "live"),
        TensorSpec(f"{PREFIX}control", "float32", (1, len(CONTROLS)), "control"),
        TensorSpec(f"{PREFIX}rows", "float32", (1, 1, height // 2, matte[1]), "live"),
        TensorSpec(f"{PREFIX}columns", "float32", (1, 1, matte[0], width // 2), "live"),
        TensorSpec(f"{PREFIX}before", "float32", (1, 1, *small[1:]), "state", next=f"{PREFIX}after"),
    )
    if not is_lit:
        return inputs
    wide, high = light_size(matte)
    return (
        *inputs,
        TensorSpec(f"{PREFIX}far", "float32", (1, 3, high, wide), "live"),
        TensorSpec(f"{PREFIX}near", "float32", (1, 3, high, wide), "live"),
        TensorSpec(f"{PREFIX}tone", "float32", (1, 5), "live"),
        TensorSpec(f"{PREFIX}light_rows", "float32", (1, 1, high, matte[1]), "live"),
        TensorSpec(f"{PREFIX}light_columns", "float32", (1, 1, matte[0], wide), "live"),
    )


def composite_outputs(width: int, height: int, pixels: str, matte: tuple[int, int]) -> tuple[TensorSpec, ...]:
    """Return the graph's outputs; arguments as of `build_composite_stage`."""
    frame = composite_inputs(width, height, pixels, matte)[0]
    return (
        TensorSpec(f"{PREFIX}frame", "uint8", frame.shape, "frame", pixels=pixels),
        TensorSpec(f"{PREFIX}after", "float32", (1, 1, matte[1], matte[0]), "state"),
    )


def build_composite_stage(
    width: int, height: int, pixels: str, matte: tuple[int, int], *, is_lit: bool = False
) -> onnx.ModelProto:
    """Build the graph.

    Args:
        width, height: of a frame, even.
        pixels: "rgb" or "i420".
        matte: (width, height) of the matte.
        is_lit: whether the person gets a tone and light.

    Returns:
        A model with the tensors of `composite_inputs` and `composite_outputs`. `behind` and `person` are frames;
        `matte` has 255 in its first channel where the person is; `rows` and `columns` move it to the frame
        (`runtime.compositing.placement.matrices`, of half the frame's size). The controls are: `feather`, the width of
        the edge, 0 (hard) to 1; `threshold`, the matte's value at which the edge lies, 0 to 1. `far`, `near` and
        `tone` are as `runtime.compositing.light.Light.update` returns them; `light_rows` and `light_columns` are as
        `rows` and `columns`, of the size of the light.
    """
    graph = GraphBuilder(PREFIX)
    smooth = _smoothed(graph)
    share = _edge(graph, _product(graph, f"{PREFIX}rows", smooth, f"{PREFIX}columns"))
    lights: Sequence[str | None] = (None, None)
    if is_lit:
        lights = _lights(graph, _light(graph, smooth, blur_matrices(width, height, matte)), width, height, pixels)

    def mix(behind: str, person: str, light: str | None) -> str:
        if light is not None:
            person = graph.add("Add", [graph.add("Mul", [person, _tone(graph, 0, 1)]), light])
        return _rounded(graph, _blend(graph, behind, person, share), is_bounded=light is not None)

    names = [f"{PREFIX}behind", f"{PREFIX}person"]
    if pixels == "rgb":
        behind, person = (_rgb_blocks(graph, name) for name in names)
        whole = graph.add("DepthToSpace", [mix(behind, person, lights[0])], blocksize=2, mode="CRD")
        frame = graph.add("Transpose", [whole], perm=[0, 2, 3, 1])
    else:
        behinds, persons = (_yuv_blocks(graph, name, width, height) for name in names)
        luma, chroma = (mix(*side) for side in zip(behinds, persons, lights, strict=True))
        luma = graph.add("DepthToSpace", [luma], blocksize=2, mode="CRD")
        rows = [graph.add("Reshape", [name, graph.constant(np.array([1, -1], np.int64))]) for name in (luma, chroma)]
        joined = graph.add("Concat", rows, axis=1)
        frame = graph.add("Reshape", [joined, graph.constant(np.array([1, height * 3 // 2, width], np.int64))])
    graph.add("Cast", [frame], output=f"{PREFIX}frame", to=TensorProto.UINT8)
    inputs = [value_info(item) for item in composite_inputs(width, height, pixels, matte, is_lit=is_lit)]
    outputs = [value_info(item) for item in composite_outputs(width, height, pixels, matte)]
    proto = helper.make_graph(graph.nodes, "composite", inputs, outputs, graph.constants)
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def _smoothed(graph: GraphBuilder) -> str:
    """Add the matte, smoothed in time: (1, 1, h, w) in [0, 1]; it is also the next state."""
    whole = graph.add("Transpose", [graph.to_float(f"{PREFIX}matte")], perm=[0, 3, 1, 2])
    new = graph.add("Mul", [graph.slice(whole, 0, 1), graph.number(1 / 255)])
    before = f"{PREFIX}before"
    change = graph.add("Sub", [new, before])
    share = graph.add("Add", [graph.add("Mul", [graph.add("Abs", [change]), graph.number(HASTE)]), graph.number(CALM)])
    share = graph.add("Min", [share, graph.number(1)])
    return graph.add("Add", [before, graph.add("Mul", [share, change])], output=f"{PREFIX}after")


def _edge(graph: GraphBuilder, matte: str) -> str:
    """Add the share of the person: a ramp of `feather` around `threshold`, in [0, 1]."""
    shape = graph.constant(np.array([1, 1, 1, 1], np.int64))
    feather, threshold = (
        graph.add("Reshape", [graph.slice(f"{PREFIX}control", index, index + 1), shape]) for index in range(2)
    )
    width = graph.add("Max", [feather, graph.number(0.02)])
    ramp = graph.add("Div", [graph.add("Sub", [matte, threshold]), width])
    return graph.add("Clip", [graph.add("Add", [ramp, graph.number(0.5)]), graph.number(0), graph.number(1)])


def _rgb_blocks(graph: GraphBuilder, name: str) -> str:
    """Add an RGB frame as (1, 12, H / 2, W / 2): the four pixels of each block, channel by channel."""
    return _blocks(graph, graph.add("Transpose", [graph.to_float(name)], perm=[0, 3, 1, 2]), 3)


def _yuv_blocks(graph: GraphBuilder, name: str, width: int, height: int) -> tuple[str, str]:
    """Add an I420 frame as Y (1, 4, H / 2, W / 2), the four pixels of each block, and U and V (1, 2, H / 2, W / 2)."""
    luma, chroma = graph.i420_planes(name, width, height)
    return _blocks(graph, luma, 1), chroma


def _blocks(graph: GraphBuilder, planes: str, count: int) -> str:
    """Add the four pixels of each block of 2 x 2, plane by plane: (1, 4 * count, H / 2, W / 2)."""
    # A convolution that picks: SpaceToDepth has another order of channels.
    picks = np.zeros((4 * count, 1, 2, 2), np.float32)
    for index in range(4 * count):
        picks[index, 0, index % 4 // 2, index % 2] = 1
    weights = graph.constant(picks)
    return graph.add("Conv", [planes, weights], kernel_shape=[2, 2], strides=[2, 2], group=count)


def _blend(graph: GraphBuilder, behind: str, person: str, share: str) -> str:
    return graph.add("Add", [behind, graph.add("Mul", [share, graph.add("Sub", [person, behind])])])


def _product(graph: GraphBuilder, rows: str, plane: str, columns: str) -> str:
    return graph.add("MatMul", [rows, graph.add("MatMul", [plane, columns])])


def _tone(graph: GraphBuilder, start: int, stop: int) -> str:
    """Add some values of `tone`: (1, stop - start, 1, 1)."""
    shape = graph.constant(np.array([1, stop - start, 1, 1], np.int64))
    return graph.add("Reshape", [graph.slice(f"{PREFIX}tone", start, stop), shape])


def _light(graph: GraphBuilder, matte: str, blur: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]) -> str:
    """Add what is added to the toned person: (1, 3, y, x).

    Over the edge it is the difference between what is behind and the person, both blurred. Half of a blurred straight
    edge is outside the person, where all of the difference is added.
    """
    down, across = (graph.constant(matrix) for matrix in blur)
    share = _edge(graph, _product(graph, f"{PREFIX}light_rows", matte, f"{PREFIX}light_columns"))
    gain, shift, wrap = _tone(graph, 0, 1), _tone(graph, 1, 4), _tone(graph, 4, 5)
    toned = graph.add("Add", [graph.add("Mul", [f"{PREFIX}near", gain]), shift])
    around = _product(graph, down, share, across)
    weighted = _product(graph, down, graph.add("Mul", [toned, share]), across)
    own = graph.add("Div", [weighted, graph.add("Max", [around, graph.number(0.05)])])
    outside = graph.add("Mul", [graph.add("Sub", [graph.number(1), around]), graph.number(2)])
    amount = graph.add("Mul", [graph.add("Min", [outside, graph.number(1)]), wrap])
    change = graph.add("Sub", [_product(graph, down, f"{PREFIX}far", across), own])
    return graph.add("Add", [shift, graph.add("Mul", [amount, change])])


def _lights(graph: GraphBuilder, light: str, width: int, height: int, pixels: str) -> list[str]:
    """Add the light, enlarged: (1, 12, H / 2, W / 2) as of `_rgb_blocks`, or that of luma and that of chroma."""
    sizes = graph.constant(np.array([1, 3, height // 2, width // 2], np.int64))
    how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    light = graph.add("Resize", [light, "", "", sizes], **how)
    if pixels == "i420":
        return [graph.slice(light, 0, 1), graph.slice(light, 1, 3)]
    channels = [graph.slice(light, index, index + 1) for index in range(3)]
    return [graph.add("Concat", [channel for channel in channels for _ in range(4)], axis=1)]


def _rounded(graph: GraphBuilder, name: str, *, is_bounded: bool) -> str:
    rounded = graph.add("Floor", [graph.add("Add", [name, graph.number(0.5)])])
    return graph.add("Clip", [rounded, graph.number(0), graph.number(255)]) if is_bounded else rounded
