"""A small bundle that takes texts as tokens, for two encoders: one like CLIP's, and one like T5's with a mask.

What it shows: one colour. Each encoder gathers a row of its table for every token and takes their mean, over all tokens
(CLIP) or over the real ones (T5). The colour is the sum of both means, and of the code's if it takes a seed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from runtime.bundle.reader import write_manifest
from tests.made_tokenizers import clip_tokenizer, t5_tokenizer
from tests.tiny import GraphBuilder, tensor

WIDTH, HEIGHT, CODE = 32, 16, 4
CLIP_LENGTH, T5_LENGTH = 8, 12
BEGIN, END = 527, 528  # CLIP's tokens around a text; it is filled up with the latter
ROWS = 600  # of the tables
FILES = {"text/clip.json": clip_tokenizer, "text/t5.json": t5_tokenizer}
TEXT: dict[str, Any] = {
    "tokenizers": [
        {"name": "clip", "file": "text/clip.json", "length": CLIP_LENGTH, "pad_id": END},
        {"name": "t5", "file": "text/t5.json", "length": T5_LENGTH, "pad_id": 0},
    ],
    "licence": "CC0-1.0",
    "source": "made by the tests",
}


def tables() -> tuple[np.ndarray, np.ndarray]:
    """Return the tables of CLIP and T5, float32 (ROWS, 3)."""
    rng = np.random.default_rng(8)
    clip, t5 = (2 * rng.normal(size=(ROWS, 3)).astype(np.float32) for _ in range(2))
    return clip, t5


def build_condition(*, seeds: bool) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Build condition.onnx and its part of the manifest; `seeds`: whether it takes a seed."""
    graph = GraphBuilder()
    clip, t5 = (graph.constant(table) for table in tables())
    axis = graph.constant([1], np.int64)
    total = graph.add("ReduceMean", graph.add("Gather", clip, "ids"), axis, keepdims=0)  # (1, 3)
    real = graph.add("Unsqueeze", graph.add("Cast", "is_real", to=TensorProto.FLOAT), graph.constant([2], np.int64))
    kept = graph.add("ReduceSum", graph.add("Mul", graph.add("Gather", t5, "t5_ids"), real), axis, keepdims=0)
    other = graph.add("Div", kept, graph.add("ReduceSum", real, axis, keepdims=0))
    total = graph.add("Add", total, other)
    if seeds:
        weights = graph.constant(np.random.default_rng(9).normal(size=(CODE, 3)))
        total = graph.add("Add", total, graph.add("MatMul", "code", weights))
    shape = graph.constant([1, 3, 1, 1], np.int64)
    graph.add("Reshape", graph.add("Sigmoid", total), shape, out="colour")
    inputs = [
        tensor("ids", "int64", (1, CLIP_LENGTH), "tokens", tokenizer="clip"),
        tensor("t5_ids", "int32", (1, T5_LENGTH), "tokens", tokenizer="t5"),
        tensor("is_real", "int32", (1, T5_LENGTH), "token_mask", of="t5_ids"),
        *([tensor("code", "float32", (1, CODE), "noise")] if seeds else []),
    ]
    outputs = [tensor("colour", "float32", (1, 3, 1, 1), "memory")]
    return graph.to_model(inputs, outputs), {"file": "condition.onnx", "inputs": inputs, "outputs": outputs}


def build_step() -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Build step.onnx and its part of the manifest."""
    graph = GraphBuilder()
    colour = graph.add("Add", "a_colour", graph.add("Mul", "mix", graph.add("Sub", "b_colour", "a_colour")))
    graph.add("Expand", colour, graph.constant([1, 3, HEIGHT, WIDTH], np.int64), out="picture")
    rgb = graph.add("Round", graph.add("Mul", "picture", graph.constant(255)))
    graph.add("Transpose", graph.add("Cast", rgb, to=TensorProto.UINT8), perm=[0, 2, 3, 1], out="rgb")
    grey = graph.add("ReduceMean", "picture", graph.constant([1], np.int64), keepdims=0)  # (1, H, W)
    luma = graph.add("Add", graph.add("Mul", grey, graph.constant(219)), graph.constant(16))
    planes = graph.add("Concat", luma, graph.constant(np.full((1, HEIGHT // 2, WIDTH), 128)), axis=1)
    graph.add("Cast", graph.add("Round", planes), to=TensorProto.UINT8, out="i420")
    inputs = [
        tensor("a_colour", "float32", (1, 3, 1, 1), "memory_a", slot="colour"),
        tensor("b_colour", "float32", (1, 3, 1, 1), "memory_b", slot="colour"),
        tensor("mix", "float32", (1,), "mix"),
    ]
    outputs = [
        tensor("rgb", "uint8", (1, HEIGHT, WIDTH, 3), "frame", pixels="rgb"),
        tensor("i420", "uint8", (1, HEIGHT * 3 // 2, WIDTH), "frame", pixels="i420"),
    ]
    part = {"file": "step.onnx", "inputs": inputs, "outputs": outputs, "picture": "picture"}
    return graph.to_model(inputs, outputs), part


def build(folder: Path, *, seeds: bool = True, **parts: Any) -> Path:
    """Write the bundle and return its folder.

    Args:
        folder: is made.
        seeds: whether it takes a seed; if not, scenes do not renew themselves.
        parts: of the manifest, instead of the usual ones.
    """
    (folder / "text").mkdir(parents=True)
    for name, make in FILES.items():
        (folder / name).write_text(make(), encoding="utf-8")
    graphs = {}
    for name, (model, part) in {"step": build_step(), "condition": build_condition(seeds=seeds)}.items():
        onnx.save(model, folder / f"{name}.onnx")
        graphs[name] = part
    value = {
        "schema": 1,
        "name": "worded",
        "description": "A colour that reads, for tests.",
        "frame": {"width": WIDTH, "height": HEIGHT, "fps": "30", "colour": "bt709"},
        "graphs": graphs,
        "controls": [],
        "renewal": {"every_frames": 12, "dissolve_frames": 4, "correlation": 0.6} if seeds else None,
        "text": TEXT,
        "golden": [],
        "provenance": {"data": [], "config_sha256": "", "commit": "", "software": {}, "training": {}, "created": ""},
        "verified": {},
    }
    write_manifest(folder, value | parts)
    return folder


def wanted_colour(clip_ids: list[int], t5_ids: list[int]) -> np.ndarray:
    """Return the colour, float32 (3,) in 0..1, of a bundle without seeds, computed by hand.

    Args:
        clip_ids: all tokens that the first encoder gets, with padding.
        t5_ids: the real tokens of the second.
    """
    clip, t5 = tables()
    total = clip[clip_ids].mean(0) + t5[t5_ids].mean(0)
    colour: np.ndarray = 1 / (1 + np.exp(-total))
    return colour
