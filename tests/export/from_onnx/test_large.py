"""Models whose weights lie in other files, imported as if they were too large to load."""

from __future__ import annotations

import json
import os
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
import pytest

from export.__main__ import main
from export.from_onnx import importer as importing
from export.from_onnx.importer import ImportOptions, ImportReport, import_model
from export.from_onnx.model import read_source
from runtime.bundle.external_weights import external_tensors
from runtime.bundle.reader import open_bundle
from runtime.golden import check_golden
from tests.export.from_onnx import foreign

SIZE = (32, 24)


@pytest.fixture(autouse=True)
def one_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "available_engines", lambda: [("onnxruntime", "fp32")])


def wide(path: Path, opset: int = 18) -> Path:
    """A net with weights of 1728 bytes each."""
    body = """net (float[batch,3,h,w] input) => (float[batch,3,h,w] output) {
      a = Conv <pads = [1,1,1,1]> (input, first)
      b = Relu (a)
      c = Conv <pads = [1,1,1,1]> (b, second)
      output = Sigmoid (c)
    }"""
    weights = {"first": foreign.random(16, 3, 3, 3), "second": foreign.random(3, 16, 3, 3, seed=1)}
    return foreign.write(path, body, weights, opset)


def apart(path: Path, *, one_file: bool = True) -> Path:
    """Rewrite a model with its weights in `PATH.data`, or in a file each."""
    model = onnx.load(path)
    onnx.save(
        model,
        path,
        save_as_external_data=True,
        all_tensors_to_one_file=one_file,
        location=f"{path.name}.data" if one_file else None,
        size_threshold=0,
    )
    return path


def imported(
    model: Path, *roles: str, condition: Path | None = None, inline_bytes: int = 0
) -> tuple[Path, ImportReport]:
    out = model.parent / "bundle"
    options = ImportOptions(roles=roles, size=SIZE, inline_bytes=inline_bytes)
    report = import_model(model, out, condition=condition, options=options)
    assert all(check.passed for check in report.checks)
    assert min(result.psnr_db for result in check_golden(out, "onnxruntime", "fp32")) >= 60
    return out, report


@pytest.mark.parametrize("opset", [9, 12, 18, 22])
@pytest.mark.parametrize("one_file", [True, False])
def test_large_weights_are_never_loaded(opset: int, one_file: bool, tmp_path: Path) -> None:
    model = apart(wide(tmp_path / "net.onnx", opset), one_file=one_file)
    assert len(external_tensors(read_source(model, 0).model)) == 2
    bundle, report = imported(model)
    assert [round(check.worst) for check in report.checks] == [99]
    graph = json.loads((bundle / "bundle.json").read_text())["graphs"]["step"]
    assert (graph["file"], graph["weights"]) == ("step.onnx", "step.weights")
    assert (bundle / "step.weights").stat().st_size == 2 * 1728
    opened = open_bundle(bundle)
    assert [tensor.name for tensor in external_tensors(opened.step)] == ["model/first", "model/second"]
    sources = sorted(path for path in tmp_path.iterdir() if path.is_file() and path != model)
    assert sorted(opened.manifest.provenance["imported"][0]["weights"], key=lambda item: str(item["file"])) == [
        {"file": path.name, "sha256": sha256(path.read_bytes()).hexdigest(), "size_bytes": path.stat().st_size}
        for path in sources
    ]
    assert len(sources) == (1 if one_file else 2)
    assert opened.weights["step.weights"].sha256 == opened.manifest.files["step.weights"].sha256


def test_small_weights_end_up_inside(tmp_path: Path) -> None:
    bundle, _ = imported(apart(wide(tmp_path / "net.onnx")), inline_bytes=10_000)
    assert "weights" not in json.loads((bundle / "bundle.json").read_text())["graphs"]["step"]
    assert not list(bundle.glob("*.weights"))
    assert not external_tensors(open_bundle(bundle).step)


def test_large_weights_inside_a_model_are_moved_out(tmp_path: Path) -> None:
    bundle, _ = imported(wide(tmp_path / "net.onnx"))
    assert open_bundle(bundle).manifest.step.weights == "step.weights"
    assert len(external_tensors(open_bundle(bundle).step)) == 2


def test_two_models_have_a_weights_file_each(tmp_path: Path) -> None:
    first = foreign.write(
        tmp_path / "first.onnx",
        """net (float[1,3,24,32] picture) => (float[1,3] tint) {
          flat = Flatten (picture)
          tint = MatMul (flat, weight)
        }""",
        {"weight": foreign.random(3 * 24 * 32, 3, scale=0.001)},
    )
    step = foreign.write(
        tmp_path / "step.onnx",
        """net (float[1,3,24,32] content, float[1,3] tint) => (float[1,3,24,32] output) {
          seen = Conv <pads = [1,1,1,1]> (content, first)
          planes = Reshape (tint, shape)
          bent = Add (seen, planes)
          made = Conv <pads = [1,1,1,1]> (bent, second)
          output = Sigmoid (made)
        }""",
        {
            "first": foreign.random(3, 3, 12, 12, scale=0.02)[:, :, :3, :3],
            "second": foreign.random(3, 3, 3, 3, seed=1),
            "shape": np.array([1, 3, 1, 1], np.int64),
        },
    )
    bundle, _ = imported(apart(step), "picture=image", condition=apart(first))
    manifest = open_bundle(bundle).manifest
    assert manifest.condition is not None
    assert (manifest.condition.weights, manifest.step.weights) == ("condition.weights", "step.weights")
    assert (bundle / "condition.weights").stat().st_size == 3 * 24 * 32 * 3 * 4


def test_changed_models_run_with_their_weights_where_they_are(tmp_path: Path) -> None:
    """A batch of four is made one: ONNX Runtime runs the changed graph beside the file's weights."""
    model = wide(tmp_path / "net.onnx")
    content = onnx.load(model)
    for value in (*content.graph.input, *content.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(content, model)
    bundle, report = imported(apart(model))
    assert any("batch of 4 is made 1" in line for line in report.lines)
    assert open_bundle(bundle).manifest.step.weights


@pytest.mark.parametrize(
    ("damage", "match"),
    [("lost", "which does not exist: put it beside the model"), ("short", "it has 100 bytes, and the shape")],
)
def test_missing_weights_are_one_line_and_status_2(
    damage: str, match: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = apart(wide(tmp_path / "net.onnx"))
    data = tmp_path / "net.onnx.data"
    if damage == "lost":
        data.unlink()
    else:
        os.truncate(data, 100)
    words = ["from-onnx", str(model), "--out", str(tmp_path / "bundle"), "--size", "32x24"]
    monkeypatch.setattr(sys, "argv", ["export", *words])
    assert main() == 2
    error = capsys.readouterr().err
    assert match in error
    assert error.count("\n") == 1
    assert not (tmp_path / "bundle").exists()
