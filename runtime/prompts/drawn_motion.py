"""From what the user draws to motion.

A condition graph with an input of the role `hints` gets the drawing as a small picture (`to_raster`) and decides itself
how things move. For other graphs `with_drawn_motion` changes the memory `flow`: an arrow holds for what looks like the
picture under its first third and is connected with it, within a limited reach.

Legend: h, w height and width in cells; a cell is a square of pixels of the work size. N arrows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from runtime.bundle.tensors import HINTS
from runtime.prompts.hints import Hints, Stroke, Vector

MAX_FLOW = 12.0  # pixels of the work size per frame; what the flow of a generator can be
Floats = npt.NDArray[np.float32]

_CORE, _REACH = 0.05, 0.14  # of the longer side: how far from an arrow its motion is whole, and where it ends
_SIMILAR = 0.09  # difference of colour, of black and white, at which a step costs twice as much
_BEHIND = 3.0  # cost of a step behind the beginning of an arrow: motion begins there
_PAINTED = 0.15  # cost of a step where the moving brush was: arrows reach farther there
_SOFT = 1.5  # cells over which the edge of a stroke fades
_FAR = np.float32(1e9)
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))  # and their opposites


def to_raster(hints: Hints, shape: tuple[int, ...], cell: int, steps_per_s: float) -> Floats:
    """Draw hints for a condition graph.

    Args:
        hints: may be empty; the result is then zeros.
        shape: of the input, (1, `HINTS`, h, w).
        cell: side of a cell in pixels of the work size.
        steps_per_s: how often a second things move by their flow: frames per second times the bundle's pace.

    Returns:
        float32 (1, `HINTS`, h, w): x and y of the motion at the beginning of each arrow in pixels of the work size per
        frame, then 1 where an arrow begins, where the still brush was, and where the moving brush was.
    """
    raster = np.zeros(shape, np.float32)
    _, _, height, width = shape
    for vector in hints.vectors:
        row, column = min(int(vector.y * height), height - 1), min(int(vector.x * width), width - 1)
        raster[0, :2, row, column] = _per_step(vector, (height, width), cell, steps_per_s)
        raster[0, 2, row, column] = 1
    for channel, kind in ((3, "still"), (4, "moving")):
        raster[0, channel] = painted(hints.strokes, kind, (height, width), soft=0.0)
    assert shape[1] == HINTS
    return raster


def with_drawn_motion(
    flow: Floats, hints: Hints, picture: npt.NDArray[np.uint8], moving: npt.NDArray[np.uint8], steps_per_s: float
) -> Floats:
    """Return the memory `flow` of a scene with what the user has drawn over it.

    Where an arrow holds, things move as it says and are free to move; its weight falls with the way from the arrow,
    which is longer over a picture of other colours. The moving brush frees, the still brush freezes.

    Args:
        flow: float32 (1, 3, h, w): steady flow x and y in pixels of the work size per frame, and how free to move.
        hints: of the whole frame.
        picture: uint8 (H, W, 3) RGB of the work size, whole multiples of h and w.
        moving: uint8 (H, W), 255 where things may move; what is drawn elsewhere has no effect.
        steps_per_s: as for `to_raster`.

    Returns:
        Like `flow`; `flow` itself if nothing was drawn.
    """
    if not hints:
        return flow
    shape, cell = flow.shape[2:], picture.shape[1] // flow.shape[3]
    brushed = painted(hints.strokes, "moving", shape, soft=_SOFT)
    still = painted(hints.strokes, "still", shape, soft=_SOFT)
    allowed = averaged(moving[..., np.newaxis], shape)[..., 0] / 255
    old, freedom = flow[0, :2], flow[0, 2]
    if hints.vectors:
        weights = _weights(hints.vectors, averaged(picture, shape) * np.float32(1 / 255), brushed, still) * allowed
        share = weights.max(axis=0)
        near = weights**4 + np.float32(1e-12)  # the nearest arrow counts most
        wanted = np.array([_per_step(item, shape, cell, steps_per_s) for item in hints.vectors], np.float32)
        drawn = np.einsum("nhw,nc->chw", near / near.sum(axis=0), wanted)
        moved = share * drawn + (1 - share) * old * freedom  # what is seen: flow times freedom
        freedom = np.maximum(freedom, share)
        old = moved / np.maximum(freedom, np.float32(1e-6))
    freedom = np.maximum(freedom, brushed * allowed)
    return np.concatenate([old, (freedom * (1 - still))[np.newaxis]])[np.newaxis].astype(np.float32)


def frozen(flow: Floats, hints: Hints) -> Floats:
    """Return the memory `flow`, float32 (1, 3, h, w), with no freedom where the still brush was."""
    if not any(stroke.kind == "still" for stroke in hints.strokes):
        return flow
    still = flow.copy()
    still[0, 2] *= 1 - painted(hints.strokes, "still", flow.shape[2:], soft=_SOFT)
    return still


def painted(strokes: Iterable[Stroke], kind: str, shape: tuple[int, ...], *, soft: float) -> Floats:
    """Return where the brush was.

    Args:
        strokes: those of other kinds are left out.
        kind: one of `runtime.prompts.hints.KINDS`.
        shape: (h, w).
        soft: cells over which the edge fades outwards; 0 for a hard edge.

    Returns:
        float32 (h, w), 0 to 1.
    """
    height, width = shape
    result = np.zeros((height, width), np.float32)
    for stroke in strokes:
        if stroke.kind != kind:
            continue
        radius = stroke.radius * width
        points = np.array(stroke.points) * (width, height)
        for start, end in zip(points, points[[*range(1, len(points)), -1]], strict=True):
            low = np.floor(np.minimum(start, end) - radius - soft).astype(int).clip(0, (width, height))
            high = np.ceil(np.maximum(start, end) + radius + soft).astype(int).clip(0, (width, height))
            part = np.s_[low[1] : high[1], low[0] : high[0]]
            x, y = (
                np.arange(low[0], high[0]) + 0.5 - start[0],
                np.arange(low[1], high[1])[:, np.newaxis] + 0.5 - start[1],
            )
            way = end - start
            along = ((x * way[0] + y * way[1]) / max(float(way @ way), 1e-12)).clip(0, 1)
            distance = np.hypot(x - along * way[0], y - along * way[1])
            cover = ((radius + soft - distance) / soft).clip(0, 1) if soft else distance <= radius
            np.maximum(result[part], cover, out=result[part])
        column, row = (points[0]).astype(int).clip(0, (width - 1, height - 1))
        result[row, column] = 1  # however small the brush
    return result


def averaged(picture: npt.NDArray[np.uint8], shape: tuple[int, ...]) -> Floats:
    """Return the mean of each cell: uint8 (H, W, C) -> float32 (h, w, C); H and W are multiples of h and w."""
    height, width = shape
    rows, columns = picture.shape[0] // height, picture.shape[1] // width
    cells = picture.reshape(height, rows, width, columns, -1)
    mean: Floats = cells.mean(axis=(1, 3), dtype=np.float32)
    return mean


def _per_step(vector: Vector, shape: tuple[int, ...], cell: int, steps_per_s: float) -> Floats:
    """Return the motion of an arrow, float32 (2,), in pixels of the work size per frame."""
    motion = np.array([vector.dx * shape[1], vector.dy * shape[0]]) * cell / steps_per_s
    return (motion * min(1.0, MAX_FLOW / max(float(np.abs(motion).max()), 1e-9))).astype(np.float32)


def _weights(vectors: tuple[Vector, ...], picture: Floats, brushed: Floats, still: Floats) -> Floats:
    """Return how much each arrow holds in each cell, float32 (N, h, w), 0 to 1.

    Args:
        vectors: N arrows.
        picture: float32 (h, w, 3), 0 to 1.
        brushed, still: float32 (h, w), where the brushes were.
    """
    shape = picture.shape[:2]
    size = np.array([shape[1], shape[0]])
    places = np.stack(np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5), axis=-1)
    reach = _REACH * max(shape)
    cheapness = 1 - (1 - _PAINTED) * brushed
    falls = np.zeros((len(vectors), *shape), np.float32)
    for number, vector in enumerate(vectors):
        start, way = np.array(vector[:2]) * size, np.array(vector[2:]) * size
        steps = np.linspace(0, 1, max(2, 2 * int(np.abs(way).max()) + 1))[:, np.newaxis]
        cells = (start + steps * way).astype(int).clip(0, size - 1)
        colours = picture[cells[:, 1], cells[:, 0]]
        first = colours[: -(-len(cells) // 3), np.newaxis]
        is_like = ((first - colours) ** 2).mean(axis=2).min(axis=0) <= (2 * _SIMILAR) ** 2
        columns, rows = np.unique(cells[is_like], axis=0).T  # what the arrow crosses on its way does not move
        part = _within(rows, columns, reach, shape)
        if (cheapest := float(cheapness[part].min())) < 1:  # where the moving brush was, ways are longer
            part = _within(rows, columns, reach / cheapest, shape)
        starts = np.full(shape, _FAR)[part]
        starts[rows - part[0].start, columns - part[1].start] = 0
        difference = _difference(picture[part], np.unique(picture[rows, columns], axis=0))
        costs = (1 + difference / _SIMILAR**2) * np.where((places[part] - start) @ way < 0, _BEHIND, 1)
        costs = (costs * cheapness[part] + 1e3 * still[part]).astype(np.float32)
        distances = _distances(costs, starts, reach)
        fall = ((reach - distances) / (reach - _CORE * max(shape))).clip(0, 1)
        falls[number][part] = fall * fall * (3 - 2 * fall)
    return _smoothed(falls)


def _difference(picture: Floats, colours: Floats) -> Floats:
    """Return the mean squared difference of each cell, (h, w, 3), to the closest of some colours, (K, 3): (h, w)."""
    planes = np.ascontiguousarray(picture.transpose(2, 0, 1))
    least, total, square = np.full(planes.shape[1:], _FAR), *np.empty((2, *planes.shape[1:]), np.float32)
    for colour in colours:  # plane by plane, which is faster than a mean over three values
        np.square(np.subtract(planes[0], colour[0], out=total), out=total)
        for plane, value in zip(planes[1:], colour[1:], strict=True):
            total += np.square(np.subtract(plane, value, out=square), out=square)
        np.minimum(least, total, out=least)
    least *= np.float32(1 / 3)
    return least


def _within(
    rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp], reach: float, shape: tuple[int, ...]
) -> tuple[slice, slice]:
    """Return the part of a picture of `shape` that has all of these cells, and what is within reach of them."""
    margin = math.ceil(reach) + 1
    parts = [
        slice(max(0, int(places.min()) - margin), min(size, int(places.max()) + margin + 1))
        for places, size in zip((rows, columns), shape, strict=True)
    ]
    return parts[0], parts[1]


def _distances(costs: Floats, starts: Floats, limit: float) -> Floats:
    """Return the cheapest way from the cells where `starts` is 0 to every cell, all float32 (h, w).

    A step to one of eight neighbours costs its length times the mean of both cells. Ways beyond `limit` may be wrong.
    """
    distances = starts.copy()
    steps = []
    for down, right in _NEIGHBOURS:
        one = np.s_[: -down or None, max(0, -right) : -right if right > 0 else None]
        two = np.s_[down:, max(0, right) : right if right < 0 else None]
        step = np.float32(np.hypot(down, right) / 2) * (costs[one] + costs[two])
        steps += [(distances[one], distances[two], step), (distances[two], distances[one], step)]  # views
    for _ in range(sum(costs.shape)):
        before = distances.copy()
        for here, there, step in steps:
            np.minimum(there, here + step, out=there)
        if np.array_equal(np.minimum(before, limit), np.minimum(distances, limit)):
            break
    return distances


def _smoothed(values: Floats) -> Floats:
    """Return values, float32 (N, h, w), blurred by 1 2 1 in both directions."""
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1)), mode="edge")
    quarter = np.float32(0.25)
    rows = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) * quarter
    blurred: Floats = (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) * quarter
    return blurred
