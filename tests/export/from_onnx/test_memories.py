"""Outputs of a first model that fill inputs of other names, or of another type, in the second."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from export.from_onnx import importer as importing
from export.from_onnx.importer import ImportOptions, import_model
from runtime import Generator
from runtime.bundle.reader import open_bundle
from runtime.noise import CODES, normals
from tests.export.from_onnx import foreign

SHAPE = {"shape": np.array([1, 3, 1, 1], np.int64), "axes": np.array([1], np.int64)}


@pytest.fixture(autouse=True)
def one_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "available_engines", lambda: [("onnxruntime", "fp32")])


def models(folder: Path, hidden: str = "float[b,t,3] states", second: str = "") -> list[Path]:
    """Write a first model with two outputs, and a step whose input has another name."""
    first = """net (float[1,4] z) => (float[1,2,3] last, float[1,3] pooled) {
      flat = MatMul (z, weight) last = Reshape (flat, rows) pooled = ReduceMean <keepdims = 0> (last, axes)
    }"""
    name = hidden.split()[-1]
    wide = f"wide = Cast <to = 1> ({name}) " if hidden.startswith("float16") else f"wide = Identity ({name}) "
    more = f"{wide} mean = ReduceMean <keepdims = 0> (wide, axes)"
    inputs = f"float[1,3,16,24] x, {hidden}" + (f", {second}" if second else "")
    added = f" level = Add (mean, {second.split()[-1]})" if second else " level = Identity (mean)"
    step = f"""net ({inputs}) => (float[1,3,16,24] y) {{
      {more}{added} planes = Reshape (level, shape) toned = Add (x, planes) y = Sigmoid (toned)
    }}"""
    weights = {"weight": foreign.random(4, 6, scale=2), "rows": np.array([1, 2, 3]), "axes": SHAPE["axes"]}
    return [
        foreign.write(folder / "step.onnx", step, SHAPE),
        foreign.write(folder / "first.onnx", first, weights),
    ]


def take(paths: list[Path], *roles: str) -> tuple[Path, str]:
    out = paths[0].parent / "bundle"
    report = import_model(paths[0], out, condition=paths[1], options=ImportOptions(roles=["z=latent", *roles]))
    return out, "\n".join(report.lines)


def slots(bundle: Path) -> dict[str, Any]:
    condition = open_bundle(bundle).manifest.condition
    assert condition is not None
    return {item.name: (item.dtype, item.shape) for item in condition.outputs}


def test_the_only_output_that_fits_is_the_memory(tmp_path: Path) -> None:
    bundle, lines = take(models(tmp_path))
    assert "states float32 [1, 2, 3] -> memory, last of the first model, guessed" in lines
    assert slots(bundle) == {"states": ("float32", (1, 2, 3))}
    with Generator.open(bundle, engine="onnxruntime") as generator:
        generator.condition(seed=3)
        first = next(generator).copy()
        generator.condition(seed=4)
        assert not np.array_equal(next(generator), first)


def test_memories_that_are_named(tmp_path: Path) -> None:
    bundle, lines = take(models(tmp_path, second="float[1,3] extra"), "states=memory:last", "extra=memory:pooled")
    assert "extra float32 [1, 3] -> memory, pooled of the first model\n" in lines
    assert slots(bundle) == {"states": ("float32", (1, 2, 3)), "extra": ("float32", (1, 3))}


def test_one_output_may_fill_two_inputs(tmp_path: Path) -> None:
    paths = models(tmp_path, second="float[b,t,3] again")
    step = onnx.load(paths[0])
    nodes = [node for node in step.graph.node if node.op_type != "Add" or "again" not in node.input]
    nodes.insert(2, helper.make_node("ReduceMean", ["again", "axes"], ["more"], keepdims=0))
    nodes.insert(3, helper.make_node("Add", ["mean", "more"], ["level"]))
    del step.graph.node[:]
    step.graph.node.extend(nodes)
    onnx.save(step, paths[0])
    with pytest.raises(
        ValueError, match=r"\"states\" .* and .*|are ambiguous: pass .*memory:OUTPUT \(of the first model\)"
    ):
        take(paths)
    bundle, _ = take(paths, "states=memory:last", "again=memory:last")
    assert slots(bundle) == dict.fromkeys(("states", "again"), ("float32", (1, 2, 3)))


def test_a_memory_of_another_type_is_cast(tmp_path: Path) -> None:
    paths = models(tmp_path, "float16[1,2,3] states")
    bundle, _ = take(paths, "states=memory:last")
    assert slots(bundle) == {"states": ("float16", (1, 2, 3))}
    first, step = (onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]) for path in paths[::-1])
    condition = open_bundle(bundle).manifest.condition
    assert condition is not None
    with Generator.open(bundle, engine="onnxruntime", renewal=False) as generator:
        generator.feed_live(np.full((16, 24, 3), 100, np.uint8))
        generator.condition(seed=3)
        scene = generator.scene
        assert scene is not None
        code = normals(3, CODES, 0, 4)[np.newaxis]
        last = first.run(["last"], {"z": code})[0].astype(np.float16)
        assert np.array_equal(scene.tensors["states"], last)
        picture = np.full((1, 3, 16, 24), 100 / 255, np.float32)
        (wanted,) = step.run(None, {"x": picture, "states": last})
        assert np.abs(next(generator) - wanted[0].transpose(1, 2, 0) * 255).max() < 0.51


@pytest.mark.parametrize(
    ("roles", "sentence"),
    [
        (
            ["states=memory:lost"],
            'the memory "lost" is not an output of the first model (did you mean "last"?); name it',
        ),
        (["states=memory"], 'the memory "states" is not an output of the first model'),
        (["states=memory:pooled"], "cannot have the shape [1, 3] of the first model's output"),
    ],
)
def test_wrong_names_are_refused(roles: list[str], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        take(models(tmp_path), *roles)
