"""A tiny bundle that says what may move: whatever is more red than 128 of 255."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from runtime.bundle.reader import write_manifest
from tests.tiny import GraphBuilder, _add_pixels, manifest_json, tensor

SIDE = 32


def build(folder: Path) -> Path:
    """Write the bundle and return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    graph = GraphBuilder()
    ends = [graph.constant([number], np.int64) for number in (0, 1, 3)]
    red = graph.add("Slice", graph.add("Cast", "seen", to=TensorProto.FLOAT), *ends)
    is_red = graph.add("Cast", graph.add("Greater", red, graph.constant(128)), to=TensorProto.FLOAT)
    planes = graph.add("Transpose", is_red, perm=[0, 3, 1, 2])
    graph.add("Expand", planes, graph.constant([1, 3, SIDE, SIDE], np.int64), out="picture")
    _add_pixels(graph, SIDE, SIDE)
    inputs = [tensor("seen", "uint8", (1, SIDE, SIDE, 3), "live")]
    outputs = [
        tensor("rgb", "uint8", (1, SIDE, SIDE, 3), "frame", pixels="rgb"),
        tensor("i420", "uint8", (1, SIDE * 3 // 2, SIDE), "frame", pixels="i420"),
    ]
    model = graph.to_model(inputs, outputs)
    onnx.save(model, folder / "step.onnx")
    part = {"file": "step.onnx", "inputs": inputs, "outputs": outputs, "picture": "picture"}
    value = manifest_json({"step": part}, SIDE, SIDE, "30", None)
    write_manifest(folder, value | {"name": "reddish", "controls": []})
    return folder
