"""A whole export from a small run: complete and checked, or not there at all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export import assembly, parity
from export.assembly import ExportError, export_run
from runtime import Generator
from runtime.golden import check_golden


@pytest.fixture(scope="module")
def bundle(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundles") / "tiny"
    export_run(tiny_run, out)
    return out


def test_a_bundle_is_complete(bundle: Path) -> None:
    files = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert files == {"bundle.json", "condition.onnx", "step.onnx", "golden/noise.npz", "golden/image.npz"}
    assert [path.name for path in bundle.parent.iterdir()] == ["tiny"], "nothing is left beside it"
    manifest = json.loads((bundle / "bundle.json").read_text())
    assert manifest["provenance"]["data"] == [
        {"name": "made by the tests", "licence": "CC0-1.0", "source": "made by the tests", "clips": 3}
    ]
    assert manifest["provenance"]["training"] == {"stage": "finetune", "iterations": 4, "seed": 0}
    rungs = manifest["verified"]["parity"]
    assert {(rung["engine"], rung["precision"]) for rung in rungs} >= {("onnxruntime", "fp32"), ("openvino", "fp32")}
    assert all(rung["passed"] for rung in rungs)
    loops = [rung for rung in rungs if "closed loop" in rung["run"]]
    assert all(rung["frames"] == 300 for rung in loops)


def test_the_runtime_plays_it_and_matches_the_golden_frames(bundle: Path) -> None:
    results = check_golden(bundle, "onnxruntime", "fp32")
    assert [(result.file, result.frame) for result in results] == [
        (f"golden/{name}.npz", number) for name in ("noise", "image") for number in (1, 10, 100, 300)
    ]
    assert min(result.psnr_db for result in results) >= 60
    with Generator.open(bundle, engine="onnxruntime") as generator:
        frames = [next(generator).copy() for _ in range(3)]
        assert set(generator.controls) == {"motion", "wind_x", "wind_y"}
    assert frames[0].shape == (64, 64, 3)


def test_weights_rest_in_half_precision_and_nothing_is_lost(bundle: Path) -> None:
    for name in ("condition.onnx", "step.onnx"):
        graph = onnx.load(bundle / name).graph
        full = sum(int(np.prod(t.dims)) for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT)
        half = sum(int(np.prod(t.dims)) for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT16)
        assert half > 10 * full or name == "condition.onnx"
        assert half > 100_000


def test_an_existing_bundle_is_not_overwritten_unless_told(tiny_run: Path, bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="exists already: name another --out, or pass --force"):
        export_run(tiny_run, bundle)


@pytest.mark.parametrize("fault", ["a swapped weight", "a gate the wrong way round"])
def test_a_broken_graph_is_never_written(
    fault: str, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damage(model: onnx.ModelProto) -> None:
        if fault == "a swapped weight":
            tensor = max(model.graph.initializer, key=lambda t: int(np.prod(t.dims)))
            values = numpy_helper.to_array(tensor).copy()
            values[[0, 1]] = values[[1, 0]]
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        else:
            node = next(node for node in model.graph.node if node.op_type == "Sigmoid")
            node.op_type = "Tanh"

    written = assembly.write_graphs

    def write_damaged(generator: object, folder: Path) -> None:
        written(generator, folder)  # type: ignore[arg-type]
        model = onnx.load(folder / "step.onnx")
        damage(model)
        onnx.save(model, folder / "step.onnx")

    monkeypatch.setattr(assembly, "write_graphs", write_damaged)
    # One engine is enough to notice.
    monkeypatch.setattr(assembly, "runnable", lambda: [("onnxruntime", "fp32")])
    with pytest.raises(ExportError, match="no bundle was written"):
        export_run(tiny_run, tmp_path / "broken")
    assert list(tmp_path.iterdir()) == []


def test_force_replaces_a_bundle_in_the_end_only(
    tiny_run: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    copy = tmp_path / "tiny"
    shutil.copytree(bundle, copy)
    before = (copy / "bundle.json").read_bytes()

    def fail(*arguments: object) -> parity.Rung:
        raise RuntimeError("the power went")

    monkeypatch.setattr(assembly, "one_step", fail)
    with pytest.raises(RuntimeError, match="the power went"):
        export_run(tiny_run, copy, force=True)
    assert (copy / "bundle.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_gates_point_the_right_way() -> None:
    assert parity.Rung("e", "fp32", "r", 1, 61.0, 70.0, 60.0, "dB").passed
    assert not parity.Rung("e", "fp32", "r", 1, 59.0, 70.0, 60.0, "dB").passed
    assert parity.Rung("e", "fp32", "r", 1, 1e-4, 1e-5, 2e-3, "relative error").passed
    assert not parity.Rung("e", "fp32", "r", 1, 1e-2, 1e-5, 2e-3, "relative error").passed


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["absent", "--out", "b"], "export: no checkpoint in absent: expected finetune.pt or pretrain.pt; train first"),
        (["absent"], "the following arguments are required: --out"),
    ],
)
def test_bad_input_ends_with_one_sentence_and_status_2(arguments: list[str], sentence: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "export", *arguments], capture_output=True, text=True, cwd=tmp_path, timeout=120
    )
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
