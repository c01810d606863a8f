"""A small bundle with layers, and the same bundle with its weights in files of their own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from export.external_weights import read_external, save_external
from runtime.bundle.reader import write_manifest
from tests import tiny

WIDTH, HEIGHT, FEATURES = 32, 16, 8


def build(folder: Path) -> Path:
    """Write a bundle with a live input, a prompt's image, a state, convolutions, a Gemm and a MatMul.

    Its frames are moving averages of the live frames after two convolutions, tinted by the prompt.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    graph = tiny.GraphBuilder()
    planar = graph.add("Transpose", graph.add("Cast", "live", to=TensorProto.FLOAT), perm=[0, 3, 1, 2])
    seen = graph.add("Mul", planar, graph.constant(1 / 255))
    first = graph.constant(rng.normal(size=(FEATURES, 3, 3, 3)) * 0.3)
    features = graph.add("Relu", graph.add("Conv", seen, first, pads=[1, 1, 1, 1]))
    tint = graph.add("Add", "tint_a", graph.add("Mul", "mix", graph.add("Sub", "tint_b", "tint_a")))
    tinted = graph.add("Add", features, graph.add("Reshape", tint, graph.constant([1, FEATURES, 1, 1], np.int64)))
    second = graph.constant(rng.normal(size=(3, FEATURES, 3, 3)) * 0.2)
    made = graph.add("Sigmoid", graph.add("Conv", tinted, second, pads=[1, 1, 1, 1]))
    rows = graph.add("MatMul", made, graph.constant(np.eye(WIDTH) * 0.9))
    graph.add("Add", graph.add("Mul", "trail", graph.constant(0.5)), graph.add("Mul", rows, graph.constant(0.5)),
              out="trail_next")  # fmt: skip
    graph.add("Identity", "trail_next", out="picture")
    levels = graph.add("Mul", graph.add("Transpose", "picture", perm=[0, 2, 3, 1]), graph.constant(255))
    rounded = graph.add("Floor", graph.add("Add", levels, graph.constant(0.5)))
    whole = graph.add("Clip", rounded, graph.constant(0), graph.constant(255))
    graph.add("Cast", whole, to=TensorProto.UINT8, out="rgb")
    inputs = [
        tiny.tensor("live", "uint8", (1, HEIGHT, WIDTH, 3), "live"),
        tiny.tensor("trail", "float32", (1, 3, HEIGHT, WIDTH), "state", next="trail_next"),
        tiny.tensor("tint_a", "float32", (1, FEATURES), "memory_a", slot="tint"),
        tiny.tensor("tint_b", "float32", (1, FEATURES), "memory_b", slot="tint"),
        tiny.tensor("mix", "float32", (1,), "mix"),
    ]
    outputs = [
        tiny.tensor("rgb", "uint8", (1, HEIGHT, WIDTH, 3), "frame", pixels="rgb"),
        tiny.tensor("trail_next", "float32", (1, 3, HEIGHT, WIDTH), "state"),
    ]
    onnx.save(graph.to_model(inputs, outputs), folder / "step.onnx")
    step = {"file": "step.onnx", "inputs": inputs, "outputs": outputs, "picture": "picture"}
    graph = tiny.GraphBuilder()
    flat = graph.add("Flatten", graph.add("Cast", "image", to=TensorProto.FLOAT))
    weights = graph.constant(rng.normal(size=(HEIGHT * WIDTH * 3, FEATURES)) * 1e-4)
    graph.add("Gemm", flat, weights, graph.constant(rng.normal(size=FEATURES) * 0.1), out="tint")
    image = [tiny.tensor("image", "uint8", (1, HEIGHT, WIDTH, 3), "image")]
    memory = [tiny.tensor("tint", "float32", (1, FEATURES), "memory")]
    onnx.save(graph.to_model(image, memory), folder / "condition.onnx")
    condition = {"file": "condition.onnx", "inputs": image, "outputs": memory}
    value = tiny.manifest_json({"step": step, "condition": condition}, WIDTH, HEIGHT, "30", None)
    write_manifest(folder, value | {"name": "heavy", "controls": []})
    return folder


def move_weights_out(bundle: Path, out: Path, *, least_bytes: int = 64, halve: bool = False) -> Path:
    """Copy a bundle of schema 1, with the weights of each graph in a file of their own; return the copy."""
    shutil.copytree(bundle, out)
    value = json.loads((out / "bundle.json").read_text())
    for name, graph in value["graphs"].items():
        model = read_external(out / graph["file"])
        graph["weights"] = f"{name}.weights"
        save_external(model, out / graph["file"], out / graph["weights"], least_bytes=least_bytes, halve=halve)
    write_manifest(out, value)
    return out
