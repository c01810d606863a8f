"""`python -m export check`: golden frames on every engine of this machine, without PyTorch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export import check as check_command
from export.__main__ import main
from runtime.bundle.manifest import Manifest
from runtime.bundle.reader import open_bundle, write_manifest
from runtime.golden import check_golden
from tests import tiny


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A tiny bundle whose golden frames are ONNX Runtime's own."""
    from runtime import Generator

    folder = tiny.build(tmp_path / "bundle", width=24, height=16)
    with Generator.open(folder, engine="onnxruntime", precision="fp32", seed=5, threads=1) as generator:
        frames = np.stack([next(generator).copy() for _ in range(4)])
    (folder / "golden").mkdir()
    np.savez(folder / "golden" / "noise.npz", frames=frames[[0, 3]], indices=np.array([1, 4], np.int32))
    entry = {"file": "golden/noise.npz", "seed": 5, "image": False, "frames": [1, 4]}
    write_manifest(folder, json.loads((folder / "bundle.json").read_text()) | {"golden": [entry]})
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Run the command line and return its status."""
    monkeypatch.setattr(sys, "argv", ["export", "check", *map(str, words)])
    return main()


def spoil(folder: Path) -> None:
    """Reverse the motion of a bundle, and update its hashes."""
    model = onnx.load(folder / "step.onnx")
    tensor = next(
        t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT and list(t.dims) == [1, 2, 1, 1]
    )
    tensor.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(tensor), tensor.name))
    onnx.save(model, folder / "step.onnx")
    write_manifest(folder, Manifest.to_json(open_manifest(folder)))


def open_manifest(folder: Path) -> Manifest:
    return Manifest.parse(json.loads((folder / "bundle.json").read_text()))


def test_every_engine_is_compared(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, bundle) == 0
    said = capsys.readouterr().out
    for word in ("onnxruntime", "openvino", "fp32", "fp16", "noise, frames 1, 4", "every engine passed"):
        assert word in said
    assert "not run: the engine tensorrt" in said


def test_a_bundle_that_makes_other_frames_fails_with_status_1(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(bundle)
    open_bundle(bundle)  # valid, but with other frames
    assert run(monkeypatch, bundle, "--engine", "onnxruntime", "--precision", "fp32") == 1
    said = capsys.readouterr().out
    assert "FAILED: do not use" in said


def test_json_for_scripts(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figures.json"
    assert run(monkeypatch, bundle, "--engine", "onnxruntime", "--json", "-") == 0
    printed = json.loads(capsys.readouterr().out)
    assert run(monkeypatch, bundle, "--engine", "onnxruntime", "--json", file) == 0
    written: dict[str, Any] = json.loads(file.read_text())
    assert written == printed
    assert written["passed"] is True
    assert [(check["engine"], check["precision"]) for check in written["parity"]] == [
        ("onnxruntime", "fp32"), ("onnxruntime", "fp16"),
    ]  # fmt: skip
    worst = min(result.psnr_db for result in check_golden(bundle, "onnxruntime", "fp32"))
    assert written["parity"][0]["worst"] == pytest.approx(min(worst, 99.0))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--engine", "tensor"], 'there is no engine "tensor"'),
        (["--engine", "onnxruntime", "--precision", "fp8"], 'there is no precision "fp8"'),
        (["--precision", "fp8"], 'there is no precision "fp8"'),
        (["--engine", "onnxruntime", "--precision", "bf16"], "onnxruntime cannot run in bf16 on this machine"),
    ],
)
def test_bad_options_are_one_line(
    words: list[str], sentence: str, bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, bundle, *words) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


def test_no_golden_frames_no_bundle_and_a_damaged_one(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tiny.build(tmp_path / "bare", width=24, height=16)
    assert run(monkeypatch, bare) == 2
    assert "has no golden frames" in capsys.readouterr().err
    assert run(monkeypatch, tmp_path / "absent") == 2
    assert "is no folder" in capsys.readouterr().err
    data = bytearray((bundle / "step.onnx").read_bytes())
    data[200] ^= 1
    (bundle / "step.onnx").write_bytes(data)
    assert run(monkeypatch, bundle) == 2
    assert "is damaged or was changed" in capsys.readouterr().err


def test_it_needs_no_pytorch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; sys.argv = ['export', 'check', '--help']\n"
        "import export.check, export.__main__\n"
        "assert not any(name.startswith(('torch.', 'lightning')) for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    assert "golden frames" in check_command.parser().format_help()
