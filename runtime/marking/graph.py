"""Adds the mark to the end of a graph that makes frames.

    frame = Floor(Clip(values + plane * strength, 0, 255) + 0.5)

The strength holds for cells of 8 x 8 pixels: less in dark and in flat cells, where a pattern is seen sooner. It is
found from a sixteenth of the pixels: all of them would cost more than the rest. An edge between flat areas is no
texture, so a single difference counts little.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from runtime.bundle.tensors import TensorSpec
from runtime.errors import BundleError
from runtime.marking.plane import PLANE, PREFIX, frame_size, plane_input
from runtime.pixels.graph import GraphBuilder, value_info

CELL = 8  # pixels; the side of an area of one strength
_STEP = 4  # pixels between samples
_LIMIT = 12.0  # levels: the most that one difference counts
FLAT, GAIN = 0.45, 0.05  # strength, in levels, of a flat cell, and added per level of the mean difference
DARK, SHADE = 0.5, 1 / 128  # share of the strength in black cells, and added per level of brightness, up to 1
_GREEN = 1  # the channel that stands for brightness in "rgb"


def with_mark(model: onnx.ModelProto, frame: TensorSpec) -> onnx.ModelProto:
    """Return a graph whose frames carry the mark.

    Args:
        model: makes frames; not changed.
        frame: the frame output that is to be marked, uint8 (1, H, W, 3) "rgb" or (1, H * 3 / 2, W) "i420", with H and W
            of at least `CELL`.

    Returns:
        A model with one more input, `plane_input(frame)`: zeros leave every frame as it is.

    Raises:
        BundleError: the model already has a tensor of such a name.
    """
    marked = onnx.ModelProto()
    marked.CopyFrom(model)
    names = [name for node in marked.graph.node for name in (node.name, *node.output)]
    names += [item.name for item in (*marked.graph.input, *marked.graph.initializer)]
    if any(name.startswith(PREFIX) for name in names):
        raise BundleError(f"the step graph has a tensor whose name begins with {PREFIX}, which the runtime uses itself")
    graph = GraphBuilder(PREFIX)
    last = next(node for node in marked.graph.node if frame.name in node.output)
    is_read = any(frame.name in node.input for node in marked.graph.node)
    if last.op_type == "Cast" and not is_read:  # as all of ours end
        values = last.input[0]
        marked.graph.node.remove(last)
    else:
        unmarked = f"{PREFIX}before"
        for node in marked.graph.node:
            for names_of in (node.input, node.output):
                for index, name in enumerate(names_of):
                    if name == frame.name:
                        names_of[index] = unmarked
        values = graph.to_float(unmarked)
    changed = graph.add("Add", [values, graph.add("Mul", [PLANE, _strength(graph, values, frame)])])
    bounded = graph.add("Clip", [changed, graph.number(0), graph.number(255)])
    rounded = graph.add("Floor", [graph.add("Add", [bounded, graph.number(0.5)])])
    graph.add("Cast", [rounded], output=frame.name, to=TensorProto.UINT8)
    marked.graph.node.extend(graph.nodes)
    marked.graph.initializer.extend(graph.constants)
    marked.graph.input.append(value_info(plane_input(frame)))
    return marked


def mark_frame(picture: npt.NDArray[np.uint8], plane: npt.NDArray[np.float32], pixels: str) -> npt.NDArray[np.uint8]:
    """Return a frame with the mark, as the graph makes it; for frames that no engine makes.

    Args:
        picture: uint8 (H, W, 3) "rgb" or (H * 3 / 2, W) "i420".
        plane: float32 (1, ...) of its shape, from `runtime.marking.plane.make_plane`.
        pixels: "rgb" or "i420".
    """
    values = picture.astype(np.float32)
    luma = values[..., _GREEN] if pixels == "rgb" else values[: len(values) * 2 // 3]
    rows, columns = (side // CELL for side in luma.shape)
    luma = luma[: rows * CELL, : columns * CELL]
    here = luma[::_STEP, ::_STEP]
    across, down = luma[::_STEP, _STEP // 2 :: _STEP], luma[_STEP // 2 :: _STEP, ::_STEP]
    change = np.minimum(np.abs(here - across), _LIMIT) + np.minimum(np.abs(here - down), _LIMIT)
    texture, light = (
        one.reshape(rows, CELL // _STEP, columns, CELL // _STEP).mean(axis=(1, 3), dtype=np.float32)
        for one in (change, here)
    )
    cells = (FLAT + GAIN * texture) * np.minimum(DARK + SHADE * light, 1)
    places = _places(values.shape[0], rows), _places(values.shape[1], columns)
    strength = cells[np.ix_(*places)].astype(np.float32)
    change = plane[0] * (strength[..., np.newaxis] if pixels == "rgb" else strength)
    marked: npt.NDArray[np.uint8] = np.floor(np.clip(values + change, 0, 255) + np.float32(0.5)).astype(np.uint8)
    return marked


def _strength(graph: GraphBuilder, values: str, frame: TensorSpec) -> str:
    """Add the strength of every pixel: of the frame's shape, or one that broadcasts to it."""
    width, height = frame_size(frame)
    rows, columns = height // CELL, width // CELL
    here = _samples(graph, values, frame, 0, 0)
    limit = graph.number(_LIMIT)
    parts = []
    for down, across in ((0, _STEP // 2), (_STEP // 2, 0)):
        other = _samples(graph, values, frame, down, across)
        parts.append(graph.add("Min", [graph.add("Abs", [graph.add("Sub", [here, other])]), limit]))
    texture = _cells(graph, graph.add("Add", parts))
    light = _cells(graph, here)
    texture = graph.add("Add", [graph.add("Mul", [texture, graph.number(GAIN)]), graph.number(FLAT)])
    light = graph.add("Add", [graph.add("Mul", [light, graph.number(SHADE)]), graph.number(DARK)])
    cells = graph.add("Mul", [texture, graph.add("Min", [light, graph.number(1)])])  # (1, 1, rows, columns)
    lines, is_rgb = frame.shape[1], frame.pixels == "rgb"
    places = np.repeat(_places(width, columns), 3 if is_rgb else 1)
    wide = graph.add("Gather", [cells, graph.constant(places)], axis=3)
    whole = graph.add("Gather", [wide, graph.constant(_places(lines, rows))], axis=2)
    return graph.add("Reshape", [whole, graph.constant(np.array(frame.shape, np.int64))])


def _samples(graph: GraphBuilder, values: str, frame: TensorSpec, down: int, across: int) -> str:
    """Add a sixteenth of the brightness, from (down, across) on: (1, 1, 2 * rows, 2 * columns)."""
    width, height = frame_size(frame)
    rows, columns = height // CELL * CELL, width // CELL * CELL
    starts, ends, axes, steps = [down, across], [rows, columns], [1, 2], [_STEP, _STEP]
    if frame.pixels == "rgb":
        starts, ends, axes, steps = [*starts, _GREEN], [*ends, _GREEN + 1], [*axes, 3], [*steps, 1]
    bounds = [graph.constant(np.array(bound, np.int64)) for bound in (starts, ends, axes, steps)]
    shape = graph.constant(np.array([1, 1, rows // _STEP, columns // _STEP], np.int64))
    return graph.add("Reshape", [graph.add("Slice", [values, *bounds]), shape])


def _cells(graph: GraphBuilder, name: str) -> str:
    side = CELL // _STEP
    return graph.add("AveragePool", [name], kernel_shape=[side, side], strides=[side, side])


def _places(count: int, cells: int) -> npt.NDArray[np.int64]:
    """Return the cell of each row or column; those after the last cell, and chroma, belong to the last one."""
    return np.minimum(np.arange(count) // CELL, cells - 1)
