"""A tiny bundle whose step graph is a network of convolutions over the live input, built in milliseconds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from export.from_onnx.parity import moving_frames
from export.manifest_entries import write_golden
from runtime import Generator
from runtime.bundle.reader import write_manifest
from runtime.golden import feed_golden
from tests import tiny

WIDTH, HEIGHT, CHANNELS = 48, 32, 16
LAYERS = ["first", "second", "third", "last"]
FRAMES = (1, 4)


def build_step(
    *, spoilt: bool = False, layers: bool = True, controlled: bool = False
) -> tuple[onnx.ModelProto, dict[str, object]]:
    """Build step.onnx and its part of the manifest: four layers, a Relu and a sum between them; then pixels.

    Args:
        spoilt: whether the third layer's values have outliers that leave nothing of the others in 8 bits.
        layers: False for a picture that is the live input.
        controlled: whether a control, "gain", makes the third layer's inputs and outputs up to 301 times as large.
    """
    rng = np.random.default_rng(3)
    graph = tiny.GraphBuilder()
    graph.nodes.append(helper.make_node("Cast", ["live"], ["wide"], name="wide", to=TensorProto.FLOAT))
    picture = graph.add("Transpose", graph.add("Mul", "wide", graph.constant(1 / 255)), perm=[0, 3, 1, 2])

    def layer(name: str, before: str, inputs: int, outputs: int) -> str:
        weight = graph.constant(rng.normal(size=(outputs, inputs, 3, 3)) / np.sqrt(9 * inputs))
        return graph.add("Conv", before, weight, graph.constant(rng.normal(size=outputs) * 0.1), out=name, pads=[1] * 4)

    if not layers:
        graph.add("Identity", picture, out="picture")
        return _finished(graph)
    first = graph.add("Relu", layer("first", picture, 3, CHANNELS))
    second = graph.add("Relu", graph.add("Add", layer("second", first, CHANNELS, CHANNELS), first))
    if spoilt:
        scale = np.ones((1, CHANNELS, 1, 1))
        scale[0, 0] = 1e5
        second = graph.add("Mul", second, graph.constant(scale))
        second = graph.add("Clip", second, graph.constant(-1e9), graph.constant(1e9))
    if controlled:
        control = graph.add("Reshape", "control", graph.constant([1, 1, 1, 1], np.int64))
        gain = graph.add("Add", graph.add("Mul", control, graph.constant(300)), graph.constant(1))
        second = graph.add("Mul", second, gain)
    third = layer("third", second, CHANNELS, CHANNELS)
    if spoilt:
        graph.constants[-2].CopyFrom(_without_channel(graph.constants[-2]))
    if controlled:
        third = graph.add("Div", third, gain)
    third = graph.add("Relu", third)
    graph.add("Sigmoid", layer("last", third, CHANNELS, 3), out="picture")
    return _finished(graph, controlled=controlled)


def _finished(graph: tiny.GraphBuilder, *, controlled: bool = False) -> tuple[onnx.ModelProto, dict[str, object]]:
    """Return the model, with frames of the picture that a convolution scales, and its part of the manifest."""
    scale = graph.constant(255 * np.eye(3).reshape(3, 3, 1, 1))
    pixels = graph.add("Transpose", graph.add("Conv", "picture", scale), perm=[0, 2, 3, 1])
    bounded = graph.add("Clip", graph.add("Round", pixels), graph.constant(0), graph.constant(255))
    graph.add("Cast", bounded, out="rgb", to=TensorProto.UINT8)
    inputs = [tiny.tensor("live", "uint8", (1, HEIGHT, WIDTH, 3), "live")]
    inputs += [tiny.tensor("control", "float32", (1, 1), "control")] if controlled else []
    outputs = [tiny.tensor("rgb", "uint8", (1, HEIGHT, WIDTH, 3), "frame", pixels="rgb")]
    part = {"file": "step.onnx", "inputs": inputs, "outputs": outputs, "picture": "picture"}
    return graph.to_model(inputs, outputs), part


def build(folder: Path, *, spoilt: bool = False, layers: bool = True, controlled: bool = False) -> Path:
    """Write a bundle of that graph, with golden frames of ONNX Runtime in FP32; returns its folder.

    Args:
        folder: where; must not exist.
        spoilt: as of `build_step`.
        layers: False for a picture that is the live input.
        controlled: as of `build_step`.
    """
    folder.mkdir(parents=True)
    step, part = build_step(spoilt=spoilt, layers=layers, controlled=controlled)
    onnx.save(step, folder / "step.onnx")
    gain = {"name": "gain", "description": "of a layer", "unit": "1", "index": 0}
    controls = [gain | {"minimum": 0, "maximum": 1, "default": 0}] if controlled else []
    manifest = tiny.manifest_json({"step": part}, WIDTH, HEIGHT, "30", None) | {"controls": controls}
    write_manifest(folder, manifest)
    live = moving_frames(HEIGHT, WIDTH, 3)
    with Generator.open(folder, engine="onnxruntime", precision="fp32", threads=1) as generator:
        frames = []
        for number in range(max(FRAMES)):
            feed_golden(generator, live, number, is_masked=False)
            frames.append(next(generator).copy())
    entry = write_golden(folder, "original", frames, FRAMES, seed=7, live=live)
    write_manifest(folder, json.loads((folder / "bundle.json").read_text()) | {"golden": [entry]})
    return folder


def _without_channel(weight: onnx.TensorProto) -> onnx.TensorProto:
    """Return a weight that hardly reads the channel of the outliers."""
    values = onnx.numpy_helper.to_array(weight).copy()
    values[:, 0] *= 1e-6
    return onnx.numpy_helper.from_array(values, weight.name)
