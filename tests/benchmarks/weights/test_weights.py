"""The benchmark of large weights, on a small network; its processes are replaced by their results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from benchmarks import __main__ as main
from benchmarks.weights import command, memory_child
from benchmarks.weights import model as large
from benchmarks.weights.memory_child import MemoryPeak
from export.from_onnx import importer
from export.from_onnx.comparison import Refusal
from export.from_onnx.importer import ImportReport
from export.parity.checks import ParityCheck
from tests.runtime import trailing

MEMORY = {"seconds": 3.2, "resident_mb": 2600, "own_mb": 1400}
REFUSAL = {"engine": "openvino", "precision": "bf16", "reason": "no such CPU"}
IMPORTED = {**MEMORY, "parity_db": {"onnxruntime fp32": 99.0}, "refusals": [REFUSAL]}
FRAMES = {**MEMORY, "open_s": 2.0, "first_ms": 70.0, "frame_ms": 50.0}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "_CHANNELS", 16)
    monkeypatch.setattr(large, "_HIDDEN", 32)
    monkeypatch.setattr(large, "_BLOCK_VALUES", 9 * 16**2 + 2 * 16 * 32)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_network_is_as_large_as_asked_and_runs(dtype: str, tmp_path: Path) -> None:
    made = large.write_model(tmp_path / "large.onnx", 200_000, dtype)
    assert made.weight_bytes == (tmp_path / "large.onnx.data").stat().st_size
    assert 200_000 < made.weight_bytes < 600_000, "with the first and the last layer, and gaps"
    onnx.checker.check_model(made.file, full_check=True)
    model = onnx.load(made.file)
    weights = [onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type != onnx.TensorProto.INT64]
    assert {weight.dtype.name for weight in weights} == {dtype}
    assert len({weight.tobytes() for weight in weights}) == len(weights)
    session = onnxruntime.InferenceSession(str(made.file), providers=["CPUExecutionProvider"])
    picture = np.random.default_rng(0).random((1, 3, large.SIDE, large.SIDE)).astype(np.float32)
    (frame,) = session.run(None, {"picture": picture})
    assert frame.shape == picture.shape
    assert frame.std() > 1e-4


def test_memory_is_noted_at_its_peak() -> None:
    with MemoryPeak() as peak:
        before = np.ones(60_000_000, np.uint8)
        del before
        memory = np.ones(30_000_000, np.uint8)
    assert memory[0] == 1
    assert peak.own > 30
    assert peak.resident >= peak.own


def test_the_report_of_an_import_with_a_refusal_is_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = ParityCheck.of_psnr("onnxruntime", "fp32", "the original", [99.0])
    report = ImportReport((), (check,), (Refusal("openvino", "bf16", "no such CPU"),), (1.0,), ())
    monkeypatch.setattr(importer, "import_model", lambda *_, **__: report)
    found = memory_child._import({"model": str(tmp_path / "model.onnx"), "bundle": str(tmp_path / "bundle")})
    assert json.loads(json.dumps(found)) == {
        "parity_db": {"onnxruntime fp32": 99.0},
        "refusals": [{"engine": "openvino", "precision": "bf16", "reason": "no such CPU"}],
    }


def test_frames_are_timed(tmp_path: Path) -> None:
    bundle = trailing.build(tmp_path / "trailing")
    part = {"engine": "onnxruntime", "precision": "fp32", "threads": 1, "frames": 3, "size": [16, 32]}
    found = memory_child._frames({**part, "bundle": str(bundle)})
    assert set(found) == {"open_s", "first_ms", "frame_ms"}
    assert all(value > 0 for value in found.values())


def test_each_part_is_measured_and_the_files_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[dict[str, Any]] = []

    def measure(part: dict[str, Any]) -> dict[str, Any]:
        asked.append(part)
        if part["what"] == "import":
            assert Path(part["model"]).is_file()
            Path(part["bundle"]).mkdir()
            return IMPORTED
        assert not Path(part["bundle"]).with_name("large.onnx.data").exists(), "the disk is free again"
        return FRAMES

    monkeypatch.setattr(command, "_measure", measure)
    words = ["weights", "--gigabytes", "0.0001", "--engine", "onnxruntime", "--threads", "1", "--folder", str(tmp_path)]
    assert main.main(words) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [part.get("precision") for part in asked] == [None, "fp32", "fp16"]
    assert result["engines"]["onnxruntime fp16"] == FRAMES
    assert not list(tmp_path.iterdir())
    assert "| open, onnxruntime fp32 | 1.40 GB | 2.60 GB | 2.0 s, then 50 ms per frame |" in command.to_markdown(result)


@pytest.mark.parametrize("words", [["--gigabytes", "0"], ["--frames", "0"], ["--engine", "fast"]])
def test_wrong_options_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["weights", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1
