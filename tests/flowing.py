"""A tiny bundle of schema 2 with the memory `flow`: nothing moves until somebody draws motion.

The flow is 0 and half of it is free wherever the moving mask is 255. With `reads_hints` the condition graph has an
input of the role `hints`: what the mask frees moves by the mean of all arrows, if there are any. The picture is
displaced by flow times freedom times the frame's number times `pace`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from runtime.bundle.reader import write_manifest
from tests.moving import OPSET, _paint
from tests.tiny import GraphBuilder, manifest_json, tensor

WIDTH, HEIGHT = 128, 64  # work size
FPS = 10
PACE = 0.5


def build(folder: Path, *, reads_hints: bool = False, renewal: dict[str, Any] | None = None) -> Path:
    """Write the bundle and return its folder.

    Args:
        folder: where; made if missing.
        reads_hints: whether its condition graph reads hints itself.
        renewal: the manifest's renewal.
    """
    folder.mkdir(parents=True, exist_ok=True)
    condition, condition_part = _condition(reads_hints=reads_hints)
    step, step_part = _step()
    paint, paint_part = _paint()
    for model, part in ((condition, condition_part), (step, step_part), (paint, paint_part)):
        model.opset_import[0].version = OPSET
        onnx.save(model, folder / part["file"])
    shape = {"width": WIDTH, "height": HEIGHT, "condition": condition_part, "step": step_part}
    value = manifest_json({"shapes": [shape], "paint": paint_part}, WIDTH, HEIGHT, str(FPS), renewal)
    motion = {"name": "motion", "description": "speed", "unit": "times", "index": 0}
    seed = {"name": "seed", "description": "the scene", "unit": "number", "target": "seed"}
    value |= {
        "schema": 2,
        "name": "flowing",
        "frame": value["frame"] | {"pace": PACE},
        "controls": [
            motion | {"minimum": 0, "maximum": 2, "default": 1},
            seed | {"minimum": 0, "maximum": 9999, "default": 0},
        ],
    }
    write_manifest(folder, value)
    return folder


def _condition(*, reads_hints: bool) -> tuple[onnx.ModelProto, dict[str, Any]]:
    graph = GraphBuilder()
    rows, columns = HEIGHT // 4, WIDTH // 4
    free = graph.add("Mul", graph.add("Cast", "moving", to=TensorProto.FLOAT), graph.constant(0.5 / 255))
    free = graph.add("Transpose", free, perm=[0, 3, 1, 2])
    free = graph.add("AveragePool", free, kernel_shape=[4, 4], strides=[4, 4])
    light = graph.add("Cast", "image", to=TensorProto.FLOAT)
    mean = graph.add("Mul", graph.add("ReduceMean", light, keepdims=1), graph.constant(0))  # it reads the picture
    still = graph.add("Add", graph.constant(np.zeros((1, 2, rows, columns))), mean)
    inputs = [
        tensor("image", "uint8", (1, HEIGHT, WIDTH, 3), "image"),
        tensor("moving", "uint8", (1, HEIGHT, WIDTH, 1), "moving"),
    ]
    if reads_hints:
        inputs.append(tensor("hints", "float32", (1, 5, rows // 2, columns // 2), "hints"))
        axis = graph.constant([1], np.int64)
        ends = [graph.constant([number], np.int64) for number in (0, 2, 3)]
        whole = graph.add("ReduceSum", "hints", graph.constant([2, 3], np.int64), keepdims=1)  # (1, 5, 1, 1)
        motion, count = (graph.add("Slice", whole, *pair, axis) for pair in (ends[:2], ends[1:]))
        mean = graph.add("Div", motion, graph.add("Max", count, graph.constant(1)))
        still = graph.add("Add", still, mean)
        told = graph.add("Max", graph.constant(0.5), graph.add("Min", count, graph.constant(1)))
        free = graph.add("Mul", graph.add("Mul", free, graph.constant(2)), told)  # the mask holds for arrows, too
    graph.add("Concat", still, free, axis=1, out="flow")
    outputs = [tensor("flow", "float32", (1, 3, rows, columns), "memory")]
    part = {"file": "condition.onnx", "inputs": inputs, "outputs": outputs}
    return graph.to_model(inputs, outputs), part


def _step() -> tuple[onnx.ModelProto, dict[str, Any]]:
    graph = GraphBuilder()
    shape = (1, 3, HEIGHT // 4, WIDTH // 4)
    flow = graph.add("Add", "a_flow", graph.add("Mul", "mix", graph.add("Sub", "b_flow", "a_flow")))
    axis = graph.constant([1], np.int64)
    ends = [graph.constant([number], np.int64) for number in (0, 2, 3)]
    steady, free = (graph.add("Slice", flow, *pair, axis) for pair in (ends[:2], ends[1:]))
    count = graph.add("Reshape", "count", graph.constant([1, 1, 1, 1], np.int64))
    moved = graph.add("Mul", graph.add("Mul", steady, free), count)
    whole = graph.constant(np.ones((1, 1, *shape[2:])))
    graph.add("Concat", moved, moved, whole, axis=1, out="moves")
    graph.add("Add", "count", graph.add("Mul", "control", graph.constant([[PACE]])), out="next_count")
    inputs = [
        tensor("a_flow", "float32", shape, "memory_a", slot="flow"),
        tensor("b_flow", "float32", shape, "memory_b", slot="flow"),
        tensor("mix", "float32", (1,), "mix"),
        tensor("count", "float32", (1, 1), "state", next="next_count"),
        tensor("control", "float32", (1, 1), "control"),
    ]
    outputs = [
        tensor("moves", "float32", (1, 5, *shape[2:]), "moves"),
        tensor("next_count", "float32", (1, 1), "state"),
    ]
    return graph.to_model(inputs, outputs), {"file": "step.onnx", "inputs": inputs, "outputs": outputs}
