"""A small bundle with a live input that leaves a trail: its state is a moving average of the live frames.

frame k = state k = state k-1 + share * (live frame - state k-1), with the control `share`.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto

from runtime.bundle.reader import write_manifest
from tests import tiny

CONTROL = {"name": "share", "description": "of the live frame", "unit": "times", "index": 0}


def build(folder: Path, *, width: int = 32, height: int = 16, fps: str = "30", name: str = "trailing") -> Path:
    """Write the bundle and return its folder; the live input has the frame's size."""
    folder.mkdir(parents=True, exist_ok=True)
    graph = tiny.GraphBuilder()
    planar = graph.add("Transpose", graph.add("Cast", "live", to=TensorProto.FLOAT), perm=[0, 3, 1, 2])
    seen = graph.add("Mul", planar, graph.constant(1 / 255))
    share = graph.add("Reshape", "share", graph.constant([1, 1, 1, 1], "int64"))
    graph.add("Add", "trail", graph.add("Mul", share, graph.add("Sub", seen, "trail")), out="trail_next")
    graph.add("Identity", "trail_next", out="picture")
    tiny._add_pixels(graph, width, height)
    inputs = [
        tiny.tensor("live", "uint8", (1, height, width, 3), "live"),
        tiny.tensor("trail", "float32", (1, 3, height, width), "state", next="trail_next"),
        tiny.tensor("share", "float32", (1, 1), "control"),
    ]
    outputs = [
        tiny.tensor("rgb", "uint8", (1, height, width, 3), "frame", pixels="rgb"),
        tiny.tensor("i420", "uint8", (1, height * 3 // 2, width), "frame", pixels="i420"),
        tiny.tensor("trail_next", "float32", (1, 3, height, width), "state"),
    ]
    onnx.save(graph.to_model(inputs, outputs), folder / "step.onnx")
    step = {"file": "step.onnx", "inputs": inputs, "outputs": outputs, "picture": "picture"}
    value = tiny.manifest_json({"step": step}, width, height, fps, None)
    value |= {"name": name, "controls": [{**CONTROL, "minimum": 0, "maximum": 1, "default": 0.5}]}
    write_manifest(folder, value)
    return folder
