"""A small bundle that takes an image, a clip, a text and a seed, with every kind of control.

What it shows: a given picture as it is, else the last frame of a clip, else one colour made from code and text; on top
of that a level that adds up noise, the scene's own brightness and the control "gain", so that every input leaves its
mark on the state.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from runtime.bundle.reader import write_manifest
from tests.tiny import GraphBuilder, tensor

WIDTH, HEIGHT, FRAMES = 32, 16, 3
CODE, DIMENSIONS, NOISE = 6, 8, 4
WORDS = ("[UNK]", "café", "calm", "cloud", "sea", "storm", "the")
RENEWAL = {"every_frames": 12, "dissolve_frames": 4, "correlation": 0.6}
CONTROLS = (
    {"name": "gain", "index": 0, "minimum": 0, "maximum": 2, "default": 1},
    {"name": "drift", "target": "renewal", "minimum": 0, "maximum": 4, "default": 1},
    {"name": "seed", "target": "seed", "minimum": 0, "maximum": 9999, "default": 0},
)
TEXT = {
    "tokenizer": "text/tokenizer.json",
    "vectors": "text/vectors.npy",
    "scales": "text/scales.npy",
    "licence": "CC0-1.0",
    "source": "made by the tests",
}


def build_condition() -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Build condition.onnx and its part of the manifest."""
    rng = np.random.default_rng(3)
    graph = GraphBuilder()
    scale = graph.constant(1 / 255)
    image, past, mask = (
        graph.add("Mul", graph.add("Cast", name, to=TensorProto.FLOAT), scale) for name in ("image", "past", "mask")
    )
    from_code = graph.add("MatMul", "code", graph.constant(rng.normal(size=(CODE, 3))))
    from_words = graph.add("MatMul", "words", graph.constant(2 * rng.normal(size=(DIMENSIONS, 3))))
    colour = graph.add("Sigmoid", graph.add("Add", from_code, from_words))
    made = graph.add("Reshape", colour, graph.constant([1, 1, 1, 3], np.int64))
    last = graph.add("Gather", past, graph.constant(FRAMES - 1, np.int64), axis=1)  # (1, H, W, 3)
    has_clip = graph.add("Slice", "flags", *(graph.constant([number], np.int64) for number in (1, 2, 1)))
    has_clip = graph.add("Reshape", has_clip, graph.constant([1, 1, 1, 1], np.int64))
    base = graph.add("Add", made, graph.add("Mul", has_clip, graph.add("Sub", last, made)))
    kept = graph.add("Add", base, graph.add("Mul", mask, graph.add("Sub", image, base)))
    graph.add("Transpose", kept, perm=[0, 3, 1, 2], out="scene")
    inputs = [
        tensor("image", "uint8", (1, HEIGHT, WIDTH, 3), "image"),
        tensor("past", "uint8", (1, FRAMES, HEIGHT, WIDTH, 3), "clip"),
        tensor("words", "float32", (1, DIMENSIONS), "text"),
        tensor("mask", "uint8", (1, HEIGHT, WIDTH, 1), "mask", of="image"),
        tensor("flags", "float32", (1, 3), "given", of=["image", "past", "words"]),
        tensor("code", "float32", (1, CODE), "noise"),
    ]
    outputs = [tensor("scene", "float32", (1, 3, HEIGHT, WIDTH), "memory")]
    return graph.to_model(inputs, outputs), {"file": "condition.onnx", "inputs": inputs, "outputs": outputs}


def build_step() -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Build step.onnx and its part of the manifest."""
    graph = GraphBuilder()
    scene = graph.add("Add", "a_scene", graph.add("Mul", "mix", graph.add("Sub", "b_scene", "a_scene")))
    drive = graph.add("ReduceMean", "noise", graph.constant([1], np.int64), keepdims=1)  # (1, 1)
    mean = graph.add("ReduceMean", scene, graph.constant([1, 2, 3], np.int64), keepdims=0)
    mean = graph.add("Reshape", mean, graph.constant([1, 1], np.int64))
    pushed = graph.add("Add", graph.add("Mul", drive, graph.constant(0.02)), graph.add("Mul", mean, "gain"))
    kept = graph.add("Mul", "level", graph.constant(0.9))
    graph.add("Add", kept, graph.add("Mul", pushed, graph.constant(0.01)), out="level_next")
    level = graph.add("Reshape", "level_next", graph.constant([1, 1, 1, 1], np.int64))
    graph.add("Clip", graph.add("Add", scene, level), graph.constant(0), graph.constant(1), out="picture")
    rgb = graph.add("Round", graph.add("Mul", "picture", graph.constant(255)))
    graph.add("Transpose", graph.add("Cast", rgb, to=TensorProto.UINT8), perm=[0, 2, 3, 1], out="rgb")
    grey = graph.add("ReduceMean", "picture", graph.constant([1], np.int64), keepdims=0)  # (1, H, W)
    luma = graph.add("Add", graph.add("Mul", grey, graph.constant(219)), graph.constant(16))
    chroma = graph.constant(np.full((1, HEIGHT // 2, WIDTH), 128))
    planes = graph.add("Round", graph.add("Concat", luma, chroma, axis=1))
    graph.add("Cast", planes, to=TensorProto.UINT8, out="i420")
    inputs = [
        tensor("a_scene", "float32", (1, 3, HEIGHT, WIDTH), "memory_a", slot="scene"),
        tensor("b_scene", "float32", (1, 3, HEIGHT, WIDTH), "memory_b", slot="scene"),
        tensor("mix", "float32", (1,), "mix"),
        tensor("level", "float32", (1, 1), "state", next="level_next"),
        tensor("noise", "float32", (1, NOISE), "noise"),
        tensor("gain", "float32", (1, 1), "control"),
    ]
    outputs = [
        tensor("rgb", "uint8", (1, HEIGHT, WIDTH, 3), "frame", pixels="rgb"),
        tensor("i420", "uint8", (1, HEIGHT * 3 // 2, WIDTH), "frame", pixels="i420"),
        tensor("level_next", "float32", (1, 1), "state"),
    ]
    part = {"file": "step.onnx", "inputs": inputs, "outputs": outputs, "picture": "picture"}
    return graph.to_model(inputs, outputs), part


def to_tokenizer() -> str:
    """Return a tokenizer of WORDS, as JSON."""
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return str(tokenizer.to_str())


def write_text(folder: Path) -> None:
    """Write the three files of the text encoder."""
    (folder / "text").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(4)
    (folder / TEXT["tokenizer"]).write_text(to_tokenizer(), encoding="utf-8")
    np.save(folder / TEXT["vectors"], rng.integers(-127, 128, (len(WORDS), DIMENSIONS)).astype(np.int8))
    np.save(folder / TEXT["scales"], rng.uniform(0.001, 0.02, len(WORDS)).astype(np.float32))


def build(folder: Path, *, renewal: dict[str, Any] | None = None) -> Path:
    """Write the bundle, whose scenes renew themselves as `renewal` says (None: every 12 frames, over 4); return it."""
    write_text(folder)
    graphs = {}
    for name, (model, part) in {"step": build_step(), "condition": build_condition()}.items():
        onnx.save(model, folder / f"{name}.onnx")
        graphs[name] = part
    texts = {"description": "for the tests", "unit": "times"}
    value = {
        "schema": 1,
        "name": "prompted",
        "description": "A colour that listens, for tests.",
        "frame": {"width": WIDTH, "height": HEIGHT, "fps": "30", "colour": "bt709"},
        "graphs": graphs,
        "controls": [texts | control for control in CONTROLS],
        "renewal": renewal or RENEWAL,
        "text": TEXT,
        "golden": [],
        "provenance": {"data": [], "config_sha256": "", "commit": "", "software": {}, "training": {}, "created": ""},
        "verified": {},
    }
    write_manifest(folder, value)
    return folder


def change(folder: Path, **parts: Any) -> None:
    """Change parts of the manifest and update all hashes."""
    write_manifest(folder, json.loads((folder / "bundle.json").read_text()) | parts)
