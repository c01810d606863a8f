"""A tiny bundle of schema 2, built with onnx.helper in milliseconds: a picture that moves as its controls say.

Controls: `x_a`, `y_a`, `x_b`, `y_b` move the two phases by so many pixels of the work size, `share` is that of the
first. The memory is 1 where the moving mask is 255, so that the moves of what must not move are 0. What is made up is
plain: its red and green are the code's first two values, scaled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from runtime.bundle.reader import write_manifest
from tests.tiny import GraphBuilder, manifest_json, tensor

OPSET = 18
CONTROLS = ("x_a", "y_a", "x_b", "y_b", "share")
SHAPES = ((64, 32), (32, 64))
CODE = 3
PAINTED = (48, 48)


def build(
    folder: Path,
    *,
    frame: tuple[int, int] = (128, 72),
    shapes: tuple[tuple[int, int], ...] = SHAPES,
    paint: bool = True,
    renewal: dict[str, Any] | None = None,
) -> Path:
    """Write the bundle and return its folder.

    Args:
        folder: where; made if missing.
        frame: default (width, height) of the frames.
        shapes: work sizes, (width, height).
        paint: whether it makes pictures up.
        renewal: the manifest's renewal.
    """
    folder.mkdir(parents=True, exist_ok=True)
    graphs: dict[str, Any] = {"shapes": []}
    for width, height in shapes:
        condition, condition_part = _condition(width, height)
        step, step_part = _step(width, height)
        for model, part in ((condition, condition_part), (step, step_part)):
            onnx.save(model, folder / part["file"])
        graphs["shapes"].append({"width": width, "height": height, "condition": condition_part, "step": step_part})
    if paint:
        model, graphs["paint"] = _paint()
        onnx.save(model, folder / "paint.onnx")
    value = manifest_json(graphs, *frame, "30", renewal)
    controls = [
        {"name": name, "description": name, "unit": "pixels", "index": index, "minimum": -64, "maximum": 64}
        for index, name in enumerate(CONTROLS)
    ]
    value |= {"schema": 2, "name": "moving", "controls": [{**item, "default": 0} for item in controls]}
    write_manifest(folder, value)
    return folder


def picture_of(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Return a smooth picture in colour, uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    waves = [
        np.sin(x * rng.uniform(0.05, 0.3) + rng.uniform(0, 6)) + np.cos(y * rng.uniform(0.05, 0.3)) for _ in range(3)
    ]
    return (np.stack(waves, axis=-1) * 50 + 128).round().astype(np.uint8)


def _model(graph: GraphBuilder, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> onnx.ModelProto:
    model = graph.to_model(inputs, outputs)
    model.opset_import[0].version = OPSET
    return model


def _condition(width: int, height: int) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Build the graph: where things may move, and the mean brightness of the picture."""
    graph = GraphBuilder()
    scale = graph.constant(1 / 255)
    freedom = graph.add("Mul", graph.add("Cast", "moving", to=TensorProto.FLOAT), scale)
    small = graph.add(
        "AveragePool", graph.add("Transpose", freedom, perm=[0, 3, 1, 2]), kernel_shape=[4, 4], strides=[4, 4]
    )
    light = graph.add("Mul", graph.add("Cast", "image", to=TensorProto.FLOAT), scale)
    mean = graph.add("ReduceMean", light, graph.constant([1, 2, 3], np.int64), keepdims=0)
    shaped = graph.add("Reshape", mean, graph.constant([1, 1, 1, 1], np.int64))
    nothing = graph.add("Mul", shaped, graph.constant(0))
    graph.add("Add", small, nothing, out="free")
    inputs = [
        tensor("image", "uint8", (1, height, width, 3), "image"),
        tensor("moving", "uint8", (1, height, width, 1), "moving"),
        tensor("clip", "uint8", (1, 2, height, width, 3), "clip"),
        tensor("given", "float32", (1, 1), "given", of=["clip"]),
    ]
    outputs = [tensor("free", "float32", (1, 1, height // 4, width // 4), "memory")]
    file = f"condition-{width}x{height}.onnx"
    return _model(graph, inputs, outputs), {"file": file, "inputs": inputs, "outputs": outputs}


def _step(width: int, height: int) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Build the graph: the controls, wherever things may move; the frame's number is a state."""
    graph = GraphBuilder()
    shape = (1, 1, height // 4, width // 4)
    free = graph.add("Add", "a_free", graph.add("Mul", "mix", graph.add("Sub", "b_free", "a_free")))
    values = graph.add("Reshape", "control", graph.constant([1, len(CONTROLS), 1, 1], np.int64))
    moves = graph.add("Mul", values, free)
    graph.add("Identity", moves, out="moves")
    graph.add("Add", "count", graph.constant([[1]]), out="next_count")
    inputs = [
        tensor("a_free", "float32", shape, "memory_a", slot="free"),
        tensor("b_free", "float32", shape, "memory_b", slot="free"),
        tensor("mix", "float32", (1,), "mix"),
        tensor("count", "float32", (1, 1), "state", next="next_count"),
        tensor("control", "float32", (1, len(CONTROLS)), "control"),
    ]
    outputs = [
        tensor("moves", "float32", (1, 5, *shape[2:]), "moves"),
        tensor("next_count", "float32", (1, 1), "state"),
    ]
    return _model(graph, inputs, outputs), {"file": f"step-{width}x{height}.onnx", "inputs": inputs, "outputs": outputs}


def _paint() -> tuple[onnx.ModelProto, dict[str, Any]]:
    graph = GraphBuilder()
    width, height = PAINTED
    plain = graph.add("Reshape", "code", graph.constant([1, 1, 1, CODE], np.int64))
    level = graph.add("Add", graph.add("Mul", plain, graph.constant(40)), graph.constant(128))
    bounded = graph.add("Clip", level, graph.constant(0), graph.constant(255))
    filled = graph.add("Expand", bounded, graph.constant([1, height, width, CODE], np.int64))
    graph.add("Cast", filled, to=TensorProto.UINT8, out="picture")
    inputs = [tensor("code", "float32", (1, CODE), "noise")]
    outputs = [tensor("picture", "uint8", (1, height, width, 3), "picture")]
    return _model(graph, inputs, outputs), {"file": "paint.onnx", "inputs": inputs, "outputs": outputs}
