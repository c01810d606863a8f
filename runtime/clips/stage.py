"""Builds the clip stage: a small ONNX graph that displaces two frames of a clip and blends them to one.

As in the pixel stage, a displacement holds for a block of 2 x 2 pixels. The frames change every time, so that no
shifted copies of them are made: each pixel of the blocks is sampled by itself, from the plane as it is. At 1280 x 720
that took 10 ms where copies made in the graph took 12 and one large grid 15 (two AVX-512 cores, OpenVINO FP32).

Legend: H height, W width of a frame; h, w of the moves.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from runtime.bundle.tensors import MOVES, TensorSpec
from runtime.pixels.graph import GraphBuilder, value_info

PREFIX = "clip_stage."
OPSET = 17
_BLOCK = 2


def clip_inputs(width: int, height: int, pixels: str, moves: tuple[int, int]) -> tuple[TensorSpec, ...]:
    """Return the graph's inputs; arguments as of `build_clip_stage`."""
    shape = (1, height, width, 3) if pixels == "rgb" else (1, height * 3 // 2, width)
    return (
        TensorSpec(f"{PREFIX}first", "uint8", shape, "live"),
        TensorSpec(f"{PREFIX}second", "uint8", shape, "live"),
        TensorSpec(f"{PREFIX}moves", "float32", (1, MOVES, moves[1], moves[0]), "live"),
    )


def clip_output(width: int, height: int, pixels: str) -> TensorSpec:
    """Return the graph's output; arguments as of `build_clip_stage`."""
    shape = clip_inputs(width, height, pixels, (1, 1))[0].shape
    return TensorSpec(f"{PREFIX}frame", "uint8", shape, "frame", pixels=pixels)


def build_clip_stage(width: int, height: int, pixels: str, moves: tuple[int, int], reduction: float) -> onnx.ModelProto:
    """Build the graph.

    Args:
        width, height: of the frames, even.
        pixels: "rgb" or "i420".
        moves: (width, height) of the moves.
        reduction: the moves are in pixels of a frame that is so many times as large as they are.

    Returns:
        A model with the tensors of `clip_inputs` and `clip_output`. `first` and `second` are frames; `moves` has x and
        y of both frames' displacements, and the share of the first, 0 to 1.
    """
    graph = GraphBuilder(PREFIX)
    half = height // _BLOCK, width // _BLOCK
    enlarged = f"{PREFIX}moves"
    if (moves[1], moves[0]) != half:
        shape = graph.constant(np.array([1, MOVES, *half], np.int64))
        how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        enlarged = graph.add("Resize", [enlarged, "", "", shape], **how)
    share = graph.slice(enlarged, MOVES - 1, MOVES)
    scale = graph.constant(np.array([2 / (moves[0] * reduction), 2 / (moves[1] * reduction)], np.float32))
    sides = []
    for name, start in (("first", 0), ("second", 2)):
        placed = graph.add("Transpose", [graph.slice(enlarged, start, start + 2)], perm=[0, 2, 3, 1])
        sides.append((f"{PREFIX}{name}", graph.add("Mul", [placed, scale])))
    if pixels == "rgb":
        planes = []
        for name, moved in sides:
            whole = graph.add("Transpose", [graph.to_float(name)], perm=[0, 3, 1, 2])
            planes.append(_sampled(graph, whole, moved, half, _BLOCK))
        made = graph.add("DepthToSpace", [_mixed(graph, planes, share)], blocksize=_BLOCK, mode="DCR")
        frame = graph.add("Transpose", [made], perm=[0, 2, 3, 1])
    else:
        lumas, chromas = [], []
        for name, moved in sides:
            luma, chroma = graph.i420_planes(name, width, height)
            lumas.append(_sampled(graph, luma, moved, half, _BLOCK))
            chromas.append(_sampled(graph, chroma, moved, half, 1))
        luma = graph.add("DepthToSpace", [_mixed(graph, lumas, share)], blocksize=_BLOCK, mode="DCR")
        flat = [
            graph.add("Reshape", [name, graph.constant(np.array([1, -1], np.int64))])
            for name in (luma, _mixed(graph, chromas, share))
        ]
        joined = graph.add("Concat", flat, axis=1)
        frame = graph.add("Reshape", [joined, graph.constant(np.array([1, height * 3 // 2, width], np.int64))])
    graph.add("Cast", [frame], output=f"{PREFIX}frame", to=TensorProto.UINT8)
    inputs = [value_info(item) for item in clip_inputs(width, height, pixels, moves)]
    proto = helper.make_graph(
        graph.nodes, "clip", inputs, [value_info(clip_output(width, height, pixels))], graph.constants
    )
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def _sampled(graph: GraphBuilder, planes: str, moved: str, cells: tuple[int, int], block: int) -> str:
    """Add planes sampled at every pixel of the blocks: (1, block * block * planes, rows, columns), pixel by pixel."""
    rows, columns = cells
    parts = []
    for y in range(block):
        for x in range(block):
            down = (block * np.arange(rows) + y + 0.5) * (2 / (rows * block)) - 1
            across = (block * np.arange(columns) + x + 0.5) * (2 / (columns * block)) - 1
            base = np.stack(np.meshgrid(across, down), axis=-1)[np.newaxis].astype(np.float32)
            grid = graph.add("Sub", [graph.constant(base), moved])
            parts.append(
                graph.add("GridSample", [planes, grid], mode="bilinear", padding_mode="border", align_corners=0)
            )
    return graph.add("Concat", parts, axis=1) if len(parts) > 1 else parts[0]


def _mixed(graph: GraphBuilder, sides: list[str], share: str) -> str:
    """Add `second + share * (first - second)`, rounded."""
    change = graph.add("Mul", [share, graph.add("Sub", sides)])
    blended = graph.add("Add", [graph.add("Add", [sides[1], change]), graph.number(0.5)])
    return graph.add("Floor", [blended])
