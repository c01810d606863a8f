"""Builds the pixel stage: a small ONNX graph from moves and a picture to a frame of any even size.

Moves are at the network's work size, the picture at the frame's. Two displaced copies of the picture ("phases") are
blended. A displacement holds for a block of 2 x 2 pixels: the picture comes as four copies, each shifted by one pixel
of the block, so that one sample per block gives all four pixels.

Legend: H height, W width of a frame; h, w of the moves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from runtime.bundle.tensors import MOVES, TensorSpec
from runtime.pixels.graph import GraphBuilder

BLOCK = 2  # side of the squares of pixels that move together
PREFIX = "pixel_stage."  # of the names of its tensors


@dataclass(frozen=True)
class PlaneSet:
    """Planes of one size that are sampled together.

    Args:
        name: of the graph's input; see `shape`.
        planes: how many.
        height, width: of the part that is shown, in pixels.
        margin: pixels around it, so that something comes in where the picture moves away from an edge.
    """

    name: str
    planes: int
    height: int
    width: int
    margin: int

    @property
    def rows(self) -> int:
        """Height with the margins."""
        return self.height + 2 * self.margin

    @property
    def columns(self) -> int:
        """Width with the margins."""
        return self.width + 2 * self.margin

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """Shape of the input, float32 (planes, BLOCK, BLOCK, rows, columns); see `shifted_copies`."""
        return self.planes, BLOCK, BLOCK, self.rows, self.columns


def plane_sets(width: int, height: int, pixels: str) -> tuple[PlaneSet, ...]:
    """Return the planes of a frame in "rgb" or "i420"; width and height must be even."""
    margin = max(4, max(width, height) // 64)
    if pixels == "rgb":
        return (PlaneSet(f"{PREFIX}picture", 3, height, width, 2 * margin),)
    return (
        PlaneSet(f"{PREFIX}luma", 1, height, width, 2 * margin),
        PlaneSet(f"{PREFIX}chroma", 2, height // 2, width // 2, margin),
    )


def build_pixel_stage(
    width: int, height: int, pixels: str, work: tuple[int, int], moves: TensorSpec, *, half: bool = False
) -> onnx.GraphProto:
    """Build the graph.

    Args:
        width, height: of the frame, even.
        pixels: "rgb" or "i420".
        work: (width, height) of the picture in whose pixels the moves are given.
        moves: the tensor that holds them, float32 (1, MOVES, h, w).
        half: whether frames have half the detail: a quarter of their pixels is sampled, and enlarged. It takes about
            0.6 of the time.

    Returns:
        A graph with the inputs `moves` and those of `plane_sets`. Its output, PREFIX + `pixels`, is uint8 (1, H, W, 3)
        RGB, or (1, H * 3 / 2, W) I420. Planes hold what the frame holds, 0 to 255.
    """
    graph = GraphBuilder(PREFIX)
    inputs = [helper.make_tensor_value_info(moves.name, TensorProto.FLOAT, moves.shape)]
    planes: list[str] = []
    shape = (1, height, width, 3) if pixels == "rgb" else (1, height * 3 // 2, width)
    for item in plane_sets(width, height, pixels):
        inputs.append(helper.make_tensor_value_info(item.name, TensorProto.FLOAT, item.shape))
        planes.append(_sample(graph, item, moves, work, half=half))
    if pixels == "rgb":
        frame = graph.add("Transpose", planes, perm=[0, 2, 3, 1])
    else:
        flat = [graph.add("Reshape", [name, graph.constant(np.array([1, -1], np.int64))]) for name in planes]
        joined = graph.add("Concat", flat, axis=1)
        frame = graph.add("Reshape", [joined, graph.constant(np.array(shape, np.int64))])
    graph.add("Cast", [frame], output=f"{PREFIX}{pixels}", to=TensorProto.UINT8)
    output = helper.make_tensor_value_info(f"{PREFIX}{pixels}", TensorProto.UINT8, shape)
    return helper.make_graph(graph.nodes, "pixel_stage", inputs, [output], graph.constants)


def _sample(graph: GraphBuilder, item: PlaneSet, moves: TensorSpec, work: tuple[int, int], *, half: bool) -> str:
    """Add the sampling of some planes; returns the blended planes (1, planes, height, width), rounded, as float."""
    rows, columns = -(-item.height // BLOCK), -(-item.width // BLOCK)
    enlarged = moves.name
    if moves.shape[2:] != (rows, columns):
        enlarged = _enlarged(graph, moves.name, [1, MOVES, rows, columns])
    shape = graph.constant(np.array([1, item.planes * BLOCK * BLOCK, item.rows, item.columns], np.int64))
    picture = graph.add("Reshape", [item.name, shape])
    if half:  # the first copy of each plane, sampled between the pixels of a block: their average
        picture = graph.slice(picture, 0, item.planes * BLOCK * BLOCK, step=BLOCK * BLOCK)
    corner = item.margin + (BLOCK / 2 if half else 0.5)
    phases = []
    for first in (0, 2):
        displacement = graph.slice(enlarged, first, first + 2)
        phases.append(_phase(graph, item, picture, displacement, (rows, columns), work, corner))
    share = graph.slice(enlarged, MOVES - 1, MOVES)
    change = graph.add("Mul", [share, graph.add("Sub", phases)])
    blended = graph.add("Add", [phases[1], change])
    if half:
        blended = _doubled(graph, blended, rows, columns)
    rounded = graph.add("Floor", [graph.add("Add", [blended, graph.constant(np.array(0.5, np.float32))])])
    whole = graph.add("DepthToSpace", [rounded], blocksize=BLOCK, mode="CRD")
    if (rows * BLOCK, columns * BLOCK) == (item.height, item.width):
        return whole
    bounds = ([0, 0], [item.height, item.width], [2, 3])
    return graph.add("Slice", [whole, *(graph.constant(np.array(bound, np.int64)) for bound in bounds)])


def _phase(
    graph: GraphBuilder,
    item: PlaneSet,
    picture: str,
    displacement: str,
    size: tuple[int, int],
    work: tuple[int, int],
    corner: float,
) -> str:
    """Add the sampling of one phase at one place of every block; `corner` is that of the first block, in pixels."""
    rows = (BLOCK * np.arange(size[0]) + corner) * (2 / item.rows) - 1
    columns = (BLOCK * np.arange(size[1]) + corner) * (2 / item.columns) - 1
    base = np.stack(np.meshgrid(columns, rows), axis=-1)[np.newaxis].astype(np.float32)
    scale = np.array([2 * item.width / (work[0] * item.columns), 2 * item.height / (work[1] * item.rows)], np.float32)
    placed = graph.add("Transpose", [displacement], perm=[0, 2, 3, 1])
    moved = graph.add("Mul", [placed, graph.constant(scale)])
    grid = graph.add("Sub", [graph.constant(base), moved])
    return graph.add("GridSample", [picture, grid], mode="bilinear", padding_mode="border", align_corners=0)


def _doubled(graph: GraphBuilder, name: str, rows: int, columns: int) -> str:
    """Add a bilinear enlargement by 2, before DepthToSpace: (1, C, rows, columns) -> (1, 4 C, rows, columns).

    As sums of shifted copies: OpenVINO's own takes four times as long.
    """
    pads = graph.constant(np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
    padded = graph.add("Pad", [name, pads], mode="edge")
    near, far = (graph.constant(np.array(weight, np.float32)) for weight in (0.75, 0.25))
    lines = _pairs(graph, padded, 2, rows, near, far)
    cells = [cell for line in lines for cell in _pairs(graph, line, 3, columns, near, far)]
    stacked = [graph.add("Unsqueeze", [cell, graph.constant(np.array([2], np.int64))]) for cell in cells]
    shape = graph.constant(np.array([1, -1, rows, columns], np.int64))
    return graph.add("Reshape", [graph.add("Concat", stacked, axis=2), shape])


def _pairs(graph: GraphBuilder, name: str, axis: int, count: int, near: str, far: str) -> list[str]:
    """Add the two values that each of `count` values becomes along an axis, which is padded by 1."""
    before, here, after = (graph.slice(name, start, start + count, axis=axis) for start in range(3))
    middle = graph.add("Mul", [here, near])
    return [graph.add("Add", [middle, graph.add("Mul", [side, far])]) for side in (before, after)]


def _enlarged(graph: GraphBuilder, name: str, shape: list[int]) -> str:
    how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    return graph.add("Resize", [name, "", "", graph.constant(np.array(shape, np.int64))], **how)
