"""A tiny but complete bundle, built with onnx.helper in milliseconds, for every test that needs frames.

What it shows: a smooth picture, made from the content code or given, that an oscillator sways; in the top left corner a
square of 8 x 8 pixels whose value is the frame's number modulo 256, from which tests can read frames' order.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from runtime.bundle.reader import write_manifest

CODE, NOISE, MODES = 6, 4, 2
DAMPING, ANGLE = 0.95, 0.4
_ONNX = {
    name: getattr(TensorProto, name.replace("float32", "float").upper())
    for name in ("float32", "float16", "uint8", "int32", "int64")
}


class GraphBuilder:
    """Collects nodes and constants of one small graph."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """Add a constant and return its name."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def add(self, kind: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        """Add a node with one output and return that output's name."""
        out = out or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], name=out, **attributes))
        return out

    def to_model(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> onnx.ModelProto:
        """Return the model; inputs and outputs are the manifest's tensors."""
        sides = [
            [helper.make_tensor_value_info(item["name"], _ONNX[item["dtype"]], item["shape"]) for item in side]
            for side in (inputs, outputs)
        ]
        graph = helper.make_graph(self.nodes, "tiny", *sides, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def tensor(name: str, dtype: str, shape: tuple[int, ...], role: str, **extra: Any) -> dict[str, Any]:
    """Return a tensor as the manifest writes it."""
    return {"name": name, "dtype": dtype, "shape": list(shape), "role": role, **extra}


def build_condition(width: int, height: int) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Build condition.onnx and its part of the manifest: image, mask, given and code -> picture and style."""
    rng = np.random.default_rng(1)
    graph = GraphBuilder()
    scale = graph.constant(1 / 255)
    image = graph.add("Mul", graph.add("Cast", "image", to=TensorProto.FLOAT), scale)
    mask = graph.add("Mul", graph.add("Cast", "image_mask", to=TensorProto.FLOAT), scale)
    flat = graph.add("MatMul", "code", graph.constant(rng.normal(size=(CODE, 3 * 4 * 4))))
    small = graph.add("Sigmoid", graph.add("Reshape", flat, graph.constant([1, 3, 4, 4], np.int64)))
    size = graph.constant([1, 3, height, width], np.int64)
    large = graph.add("Resize", small, "", "", size, mode="linear", coordinate_transformation_mode="half_pixel")
    made = graph.add("Transpose", large, perm=[0, 2, 3, 1])
    kept = graph.add("Add", made, graph.add("Mul", mask, graph.add("Sub", image, made)))
    graph.add("Transpose", kept, perm=[0, 3, 1, 2], out="picture_slot")
    style = graph.add("MatMul", "code", graph.constant(rng.normal(size=(CODE, 3)) * 0.02))
    both = graph.add("Add", style, graph.add("MatMul", "flags", graph.constant([[0.0, 0.0, 0.0]])))
    graph.add("Reshape", both, graph.constant([1, 3, 1, 1], np.int64), out="style_slot")
    inputs = [
        tensor("image", "uint8", (1, height, width, 3), "image"),
        tensor("image_mask", "uint8", (1, height, width, 1), "mask", of="image"),
        tensor("flags", "float32", (1, 1), "given", of=["image"]),
        tensor("code", "float32", (1, CODE), "noise"),
    ]
    outputs = [
        tensor("picture_slot", "float32", (1, 3, height, width), "memory"),
        tensor("style_slot", "float32", (1, 3, 1, 1), "memory"),
    ]
    return graph.to_model(inputs, outputs), {"file": "condition.onnx", "inputs": inputs, "outputs": outputs}


def build_step(width: int, height: int, *, memories: bool, live: bool) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Build step.onnx and its part of the manifest.

    Args:
        width: of the frame.
        height: of the frame.
        memories: whether there are memories to play, else a fixed picture.
        live: whether a live frame shows wherever its mask is 255, and a watermark input stands beside it.
    """
    graph = GraphBuilder()
    inputs: list[dict[str, Any]] = []
    if memories:
        slots = {"picture_slot": (1, 3, height, width), "style_slot": (1, 3, 1, 1)}
        for side in "ab":
            for slot, shape in slots.items():
                inputs.append(tensor(f"{side}_{slot}", "float32", shape, f"memory_{side}", slot=slot))
        inputs.append(tensor("mix", "float32", (1,), "mix"))
        base, style = (
            graph.add("Add", f"a_{slot}", graph.add("Mul", "mix", graph.add("Sub", f"b_{slot}", f"a_{slot}")))
            for slot in slots
        )
    else:
        base = graph.constant(np.random.default_rng(2).uniform(size=(1, 3, height, width)))
        style = graph.constant(np.zeros((1, 3, 1, 1)))
    inputs += [
        tensor("wave", "float32", (1, 2, MODES), "state", next="wave_next"),
        tensor("clock", "float32", (1, 1), "state", next="clock_next"),
        tensor("noise", "float32", (1, NOISE), "noise"),
        tensor("control", "float32", (1, 2), "control"),
    ]
    shift = _add_states(graph)
    picture = graph.add("Add", _add_warp(graph, base, shift, width, height), style)
    if live:
        inputs += [
            tensor("live", "uint8", (1, height, width, 3), "live"),
            tensor("live_mask", "uint8", (1, height, width, 1), "mask"),
            tensor("payload", "float32", (1, 8), "watermark"),
        ]
        scale = graph.constant(1 / 255)
        seen, where = (
            graph.add("Mul", graph.add("Transpose", graph.add("Cast", name, to=1), perm=[0, 3, 1, 2]), scale)
            for name in ("live", "live_mask")
        )
        picture = graph.add("Add", picture, graph.add("Mul", where, graph.add("Sub", seen, picture)))
    square = np.zeros((1, 1, height, width))
    square[..., :8, :8] = 1
    level = graph.add("Mul", "clock", graph.constant([[[[1 / 255]]]]))  # (1, 1, 1, 1)
    difference = graph.add("Mul", graph.add("Sub", level, picture), graph.constant(square))
    marked = graph.add("Add", picture, difference)
    graph.add("Clip", marked, graph.constant(0), graph.constant(1), out="picture")
    _add_pixels(graph, width, height)
    outputs = [
        tensor("rgb", "uint8", (1, height, width, 3), "frame", pixels="rgb"),
        tensor("i420", "uint8", (1, height * 3 // 2, width), "frame", pixels="i420"),
        tensor("wave_next", "float32", (1, 2, MODES), "state"),
        tensor("clock_next", "float32", (1, 1), "state"),
    ]
    part = {"file": "step.onnx", "inputs": inputs, "outputs": outputs, "picture": "picture"}
    return graph.to_model(inputs, outputs), part


def build(
    folder: Path,
    *,
    width: int = 64,
    height: int = 48,
    fps: str = "30",
    memories: bool = True,
    live: bool = False,
    renewal: dict[str, Any] | None = None,
) -> Path:
    """Write a tiny bundle.

    Args:
        folder: where; made if missing.
        width: of the frame, even, from 16.
        height: of the frame, even, from 16.
        fps: as the manifest writes it.
        memories: whether it has a condition graph.
        live: whether it has a live, a mask and a watermark input.
        renewal: the manifest's renewal.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    step, step_part = build_step(width, height, memories=memories, live=live)
    onnx.save(step, folder / "step.onnx")
    graphs = {"step": step_part}
    if memories:
        condition, condition_part = build_condition(width, height)
        onnx.save(condition, folder / "condition.onnx")
        graphs["condition"] = condition_part
    write_manifest(folder, manifest_json(graphs, width, height, fps, renewal))
    return folder


def manifest_json(
    graphs: dict[str, Any], width: int, height: int, fps: str, renewal: dict[str, Any] | None
) -> dict[str, Any]:
    """Return a manifest without its hashes."""
    controls = [
        {"name": "sway", "description": "how far it sways", "unit": "pixels", "index": 0},
        {"name": "drift", "description": "where it leans", "unit": "pixels", "index": 1},
    ]
    ranges = [{"minimum": 0, "maximum": 4, "default": 1.5}, {"minimum": -8.0, "maximum": 8.0, "default": 0}]
    return {
        "schema": 1,
        "name": "tiny",
        "description": "A picture that sways, for tests.",
        "frame": {"width": width, "height": height, "fps": fps, "colour": "bt709"},
        "graphs": graphs,
        "controls": [{**control, **limits} for control, limits in zip(controls, ranges, strict=True)],
        "renewal": renewal,
        "text": None,
        "golden": [],
        "files": {},
        "provenance": {"data": [], "config_sha256": "", "commit": "", "software": {}, "training": {}, "created": ""},
        "verified": {},
        "sha256": "",
    }


def _add_states(graph: GraphBuilder) -> str:
    """Add a damped oscillator per mode, driven by noise, and the clock; return the shift in pixels, (1, 2, 1, 1)."""
    first, second = graph.constant([0], np.int64), graph.constant([1], np.int64)
    end, axis = graph.constant([2], np.int64), graph.constant([1], np.int64)
    real = graph.add("Slice", "wave", first, second, axis)  # (1, 1, MODES)
    imaginary = graph.add("Slice", "wave", second, end, axis)
    cosine, sine = graph.constant(DAMPING * np.cos(ANGLE)), graph.constant(DAMPING * np.sin(ANGLE))
    turned_real = graph.add("Sub", graph.add("Mul", real, cosine), graph.add("Mul", imaginary, sine))
    turned_imaginary = graph.add("Add", graph.add("Mul", real, sine), graph.add("Mul", imaginary, cosine))
    turned = graph.add("Concat", turned_real, turned_imaginary, axis=1)
    drive = graph.add("Reshape", "noise", graph.constant([1, 2, MODES], np.int64))
    driven = graph.add("Add", turned, graph.add("Mul", drive, graph.constant(0.3)))
    graph.add("Clip", driven, graph.constant(-8), graph.constant(8), out="wave_next")
    # The frame's number: 0 in the first frame, back to 0 after 255.
    later = graph.add("Add", "clock", graph.constant([[1]]))
    graph.add("Mod", later, graph.constant([[256]]), fmod=1, out="clock_next")
    sum_axis = graph.constant([2], np.int64)
    total = graph.add("ReduceSum", "wave_next", sum_axis, keepdims=0)  # (1, 2): one value for x, one for y
    sway = graph.add("Slice", "control", first, second, axis)
    drift = graph.add("Slice", "control", second, end, axis)
    shift = graph.add("Add", graph.add("Mul", total, sway), drift)
    return graph.add("Reshape", shift, graph.constant([1, 2, 1, 1], np.int64))


def _add_warp(graph: GraphBuilder, base: str, shift: str, width: int, height: int) -> str:
    """Sample the picture shifted by some pixels, and smooth it with a 3 x 3 convolution."""
    columns, rows = (2 * np.arange(size) + 1.0 for size in (width, height))
    grid = np.stack(np.meshgrid(columns / width - 1, rows / height - 1), axis=-1)[np.newaxis]
    pixels = graph.add("Mul", shift, graph.constant(np.array([2 / width, 2 / height]).reshape(1, 2, 1, 1)))
    moved = graph.add("Add", graph.add("Transpose", pixels, perm=[0, 2, 3, 1]), graph.constant(grid))
    warped = graph.add("GridSample", base, moved, mode="linear", padding_mode="border", align_corners=0)
    kernel = np.einsum("oi,hw->oihw", np.eye(3), np.outer([0.25, 0.5, 0.25], [0.25, 0.5, 0.25]))
    return graph.add("Conv", warped, graph.constant(kernel), pads=[1, 1, 1, 1])


def _add_pixels(graph: GraphBuilder, width: int, height: int) -> None:
    """Add both frame outputs after `picture`: RGB, and I420 in BT.709 limited range."""

    def to_uint8(values: str) -> str:
        bounded = graph.add("Clip", graph.add("Round", values), graph.constant(0), graph.constant(255))
        return graph.add("Cast", bounded, to=TensorProto.UINT8)

    rgb = to_uint8(graph.add("Mul", "picture", graph.constant(255)))
    graph.add("Transpose", rgb, perm=[0, 2, 3, 1], out="rgb")
    luma = np.array([0.2126, 0.7152, 0.0722])
    blue, red = (np.eye(3)[2] - luma) / 1.8556, (np.eye(3)[0] - luma) / 1.5748
    y = graph.add("Conv", "picture", graph.constant(219 * luma.reshape(1, 3, 1, 1)), graph.constant([16]))
    weights = 224 * np.stack([blue, red]).reshape(2, 3, 1, 1)
    chroma = graph.add("Conv", "picture", graph.constant(weights), graph.constant([128, 128]))
    halved = graph.add("AveragePool", chroma, kernel_shape=[2, 2], strides=[2, 2])
    planes = [graph.add("Reshape", part, graph.constant([1, -1], np.int64)) for part in (y, halved)]
    frame = graph.add("Concat", *planes, axis=1)
    size = graph.constant([1, height * 3 // 2, width], np.int64)
    graph.add("Reshape", to_uint8(frame), size, out="i420")
