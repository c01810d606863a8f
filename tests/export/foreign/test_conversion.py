"""Models of TensorFlow on their way to a bundle. tf2onnx is a program of the same options, except in the last test."""

from __future__ import annotations

import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from export.__main__ import main
from export.foreign.conversion import onnx_file
from export.foreign.tf2onnx_run import run_tf2onnx
from tests.export.from_onnx import foreign
from tests.export.tflite_files import PRELU, tflite_file

KERNEL = np.random.default_rng(0).normal(size=(3, 3, 3, 3)).astype(np.float32)
STAND_IN = """#!{python}
import json, shutil, sys
from pathlib import Path
options = dict(zip(sys.argv[3::2], sys.argv[4::2]))
Path({log!r}).write_text(json.dumps([options.get("--opset"), sys.argv[3], sys.argv[4]]))
print("- INFO - Using tensorflow=2.21.0, onnx=1.23.2, tf2onnx=1.17.0/None", file=sys.stderr)
{act}
"""
WRITES = 'shutil.copy({model!r}, options["--output"])'


def stand_in(folder: Path, act: str) -> str:
    """Write a program that is called like a Python with tf2onnx, notes its options in log.json, and then acts."""
    path = folder / "python"
    path.write_text(STAND_IN.format(python=sys.executable, log=str(folder / "log.json"), act=act))
    path.chmod(0o700)
    return str(path)


def saved_model(folder: Path) -> Path:
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"\x08\x01\x12\x03abc")
    return folder


@pytest.fixture
def converter(tmp_path: Path) -> str:
    """A converter that writes a small style network for whatever it is given."""
    tools = tmp_path / "tools"
    tools.mkdir()
    return stand_in(tools, WRITES.format(model=str(foreign.style(tools / "style.onnx"))))


def test_a_saved_model_becomes_a_bundle_in_one_command(
    converter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = saved_model(tmp_path / "saved"), tmp_path / "bundle"
    words = ["from-onnx", str(folder), "--out", str(out), "--size", "32x24", "--python", converter]
    monkeypatch.setattr(sys, "argv", ["export", *words, "--source", "a shelf"])
    assert main() == 0
    assert json.loads((tmp_path / "tools" / "log.json").read_text()) == ["18", "--saved-model", str(folder)]
    note = "saved, by tf2onnx 1.17.0 with TensorFlow 2.21.0"
    assert f"converted: {note}\n" in capsys.readouterr().out
    imported = json.loads((out / "bundle.json").read_text())["provenance"]["imported"][0]
    assert (imported["file"], imported["source"]) == ("saved.onnx", f"a shelf; {note}")


def test_our_own_reader_is_asked_first(tmp_path: Path, converter: str) -> None:
    pytest.importorskip("tflite")
    path = tmp_path / "net.tflite"
    path.write_bytes(tflite_file(KERNEL))
    with onnx_file(path, converter) as found:
        assert found.path.name == "net.onnx"
        assert found.note.startswith("net.tflite (SHA-256 ")
        assert found.note.endswith("), by export.from_tflite")
    assert not found.path.exists()
    assert not (tmp_path / "tools" / "log.json").exists()


def test_tf2onnx_converts_what_our_reader_does_not_know(tmp_path: Path, converter: str) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(tflite_file(KERNEL, last=PRELU))
    with onnx_file(path, converter) as found:
        assert "by tf2onnx 1.17.0 with TensorFlow 2.21.0; our own reader: the " in found.note
    assert json.loads((tmp_path / "tools" / "log.json").read_text())[1:] == ["--tflite", str(path)]


def test_errors_of_the_import_name_the_original(tmp_path: Path, converter: str) -> None:
    folder = saved_model(tmp_path / "saved")
    with pytest.raises(ValueError, match=f"{folder} has no frame"), onnx_file(folder, converter) as found:
        raise ValueError(f"{found.path} has no frame")


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        ("sys.exit('log line\\nValueError: make_sure failure: no such signature')", "no such signature"),
        ("sys.exit(3)", "Using tensorflow=2.21.0"),
        ("pass", "tf2onnx cannot convert"),
        ("sys.exit(\"ModuleNotFoundError: No module named 'tf2onnx'\")", "lacks tf2onnx: install tf2onnx and tensor"),
    ],
)
def test_a_failed_conversion_is_one_sentence(act: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        run_tf2onnx("--saved-model", tmp_path / "saved", tmp_path / "a.onnx", stand_in(tmp_path, act))
    assert "\n" not in str(caught.value)


def test_a_python_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--python /no/python cannot be run: No such file"):
        run_tf2onnx("--saved-model", tmp_path / "saved", tmp_path / "a.onnx", "/no/python")


@pytest.mark.skipif(find_spec("tf2onnx") is not None, reason="tf2onnx is installed")
def test_without_tf2onnx_the_extra_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match=r"tf2onnx.* not installed: pip install 'everframe\[tensorflow\]'"),
        onnx_file(saved_model(tmp_path / "saved")),
    ):
        pass
    path = tmp_path / "net.tflite"
    path.write_bytes(tflite_file(KERNEL, last=PRELU))
    with (
        pytest.raises(
            ValueError, match=r"cannot be converted without tf2onnx.*: pip install 'everframe\[tensorflow\]'"
        ),
        onnx_file(path),
    ):
        pass


@pytest.mark.parametrize("content", [b"no network", b"\x89HDF\r\n\x1a\n"])
def test_from_tflite_refuses_other_files(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.tflite"
    path.write_bytes(content)
    monkeypatch.setattr(sys, "argv", ["export", "from-tflite", str(path), "--out", str(tmp_path / "a.onnx")])
    assert main() == 2
    assert "a.tflite is no TensorFlow Lite file" in capsys.readouterr().err
    assert [item.name for item in tmp_path.iterdir()] == ["a.tflite"]


@pytest.mark.skipif(
    find_spec("tf2onnx") is None or find_spec("tensorflow") is None,
    reason="needs the extra tensorflow, which is no part of dev",
)
def test_the_real_converter(tmp_path: Path) -> None:
    """The same network through TensorFlow's converter and through our reader."""
    pytest.importorskip("tflite")
    import onnxruntime

    path = tmp_path / "net.tflite"
    path.write_bytes(tflite_file(KERNEL))
    said = run_tf2onnx("--tflite", path, tmp_path / "theirs.onnx")
    assert said.startswith("tf2onnx 1.")
    with onnx_file(path) as ours:
        shutil.copy(ours.path, tmp_path / "ours.onnx")
    picture = np.random.default_rng(1).normal(size=(1, 8, 6, 3)).astype(np.float32)
    found = []
    for name, value in (("theirs", picture), ("ours", np.ascontiguousarray(picture.transpose(0, 3, 1, 2)))):
        session = onnxruntime.InferenceSession(tmp_path / f"{name}.onnx", providers=["CPUExecutionProvider"])
        found.append(session.run(None, {session.get_inputs()[0].name: value})[0])
    np.testing.assert_allclose(found[0], found[1].transpose(0, 2, 3, 1), atol=1e-6)
