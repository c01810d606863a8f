"""`python -m export int8`, end to end on a tiny network of convolutions."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from export.__main__ import main
from export.commandline import ProgressTable
from export.engines import build_engines, plan_engines
from export.int8 import command, recording
from runtime import Generator
from runtime.bundle.reader import open_bundle, read_manifest, write_manifest
from runtime.engines.cpu import Cpu, read_cpu
from runtime.engines.int8 import is_quantised
from runtime.golden import check_golden
from tests.export.int8.convolving import LAYERS, build

DB = 30.0  # gate of INT8


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("int8") / "source")


@pytest.fixture(scope="module")
def quantised(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle with its graph in INT8, made by the command."""
    out = tmp_path_factory.mktemp("int8") / "quantised"
    assert command.run([str(source), "--out", str(out), "--frames", "6", "--rounds", "1"]) == out
    return out


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Run the command line of the export and return its status."""
    monkeypatch.setattr(sys, "argv", ["export", *map(str, words)])
    return main()


def test_the_bundle_has_both_graphs_and_what_was_measured(source: Path, quantised: Path) -> None:
    bundle = open_bundle(quantised)
    assert bundle.int8 is not None
    assert is_quantised(bundle.int8.step)
    assert not is_quantised(bundle.step)
    assert (quantised / "step.onnx").read_bytes() == (source / "step.onnx").read_bytes()
    verified = bundle.manifest.verified
    assert verified["int8"]["layers"] == len(LAYERS)
    assert verified["int8"]["quantised"] + len(verified["int8"]["in_float"]) == len(LAYERS)
    assert verified["int8"]["weight_bits"] == 7
    assert {entry["precision"] for entry in verified["speed"]} >= {"fp32", "int8"}
    compared = {(check["engine"], check["precision"]) for check in verified["parity"]}
    assert {("openvino", "fp32"), ("onnxruntime", "fp32")} <= compared, "precisions that nobody had compared"
    int8 = [check for check in verified["parity"] if check["precision"] == "int8"]
    assert {check["engine"] for check in int8} == {"openvino", "onnxruntime"}
    assert all(check["passed"] and check["gate"] == DB for check in int8)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_frames_in_int8_differ_from_fp32_and_pass(quantised: Path, engine: str) -> None:
    found = [result.psnr_db for result in check_golden(quantised, engine, "int8")]
    assert all(DB <= value < 70 for value in found), "rounded to 8 bits, and close"
    assert all(result.psnr_db > 70 for result in check_golden(quantised, engine, "fp32"))


def test_generator_plays_it_as_asked_and_auto_only_where_it_was_faster(
    quantised: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(quantised, tmp_path / "bundle")
    value = json.loads((folder / "bundle.json").read_text())
    for ms, wanted in ((1.0, "int8"), (9.0, "fp32")):
        for entry in value["verified"]["speed"]:
            entry["ms"] = ms if entry["precision"] == "int8" else 5.0
        write_manifest(folder, value)
        with Generator.open(folder, engine="onnxruntime", threads=1) as generator:
            assert generator.precision == wanted
            next(generator)
    with Generator.open(folder, engine="onnxruntime", precision="int8", threads=1) as generator:
        assert generator.precision == "int8"
    monkeypatch.setattr("runtime.engines.int8.cpu_name", lambda: "another CPU")
    value["verified"]["speed"] = [entry | {"ms": 1.0} for entry in value["verified"]["speed"]]
    write_manifest(folder, value)
    with Generator.open(folder, engine="onnxruntime", threads=1) as generator:
        assert generator.precision == "fp32"


def db_without_vnni(bundle: Path, cache: Path) -> float:
    """Return the worst golden frame of OpenVINO limited to AVX2, whose products of bytes are added in 16 bits."""
    program = (
        "import sys; from runtime.golden import check_golden; "
        "print(min(r.psnr_db for r in check_golden(sys.argv[1], 'openvino', 'int8', cache_dir=sys.argv[2])))"
    )
    words = [sys.executable, "-c", program, str(bundle), str(cache)]
    made = subprocess.run(
        words, env=os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}, capture_output=True, text=True, check=True, timeout=120
    )
    return float(made.stdout)


@pytest.mark.skipif("avx2" not in read_cpu().flags, reason="the library's switch needs x86 with AVX2, on Linux")
def test_a_cpu_without_vnni_makes_the_same_frames(quantised: Path, tmp_path: Path) -> None:
    here = min(result.psnr_db for result in check_golden(quantised, "openvino", "int8"))
    assert db_without_vnni(quantised, tmp_path) == pytest.approx(here, abs=0.5)


@pytest.mark.skipif("avx2" not in read_cpu().flags or not read_cpu().has_vnni, reason="the CPU has no VNNI")
def test_weights_of_8_bits_would_overflow_without_vnni(source: Path, tmp_path: Path) -> None:
    """So the switch does limit OpenVINO, and the test above sees what 7 bits are for."""
    out = tmp_path / "eight"
    command.run([str(source), "--out", str(out), "--frames", "6", "--rounds", "1", "--vnni"])
    assert read_manifest(out).verified["int8"]["weight_bits"] == 8
    here = min(result.psnr_db for result in check_golden(out, "openvino", "int8"))
    assert db_without_vnni(out, tmp_path / "cache") < here - 1


def test_check_compares_int_8_too(
    quantised: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "check", quantised, "--engine", "onnxruntime", "--json", "-") == 0
    parity = json.loads(capsys.readouterr().out)["parity"]
    assert {check["precision"] for check in parity} == {"fp32", "fp16", "int8"}


def test_a_layer_with_outliers_stays_in_float(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = build(tmp_path / "spoilt", spoilt=True), tmp_path / "out"
    command.run([str(source), "--out", str(out), "--frames", "4", "--rounds", "1"])
    assert read_manifest(out).verified["int8"]["in_float"] == ["third"]
    printed = capsys.readouterr().out
    assert "4 of 4 layers in INT8" in printed
    assert "failed" in printed


def test_tensorrt_rtx_builds_engines_from_it(quantised: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed", exc_type=ImportError)
    shutil.copytree(quantised, tmp_path / "rtx")
    entries = build_engines(tmp_path / "rtx", plan_engines(["tensorrt-rtx"], []), ["int8"], ProgressTable())
    assert [(entry["graph"], entry["precision"]) for entry in entries] == [("step, rgb", "int8")]
    assert all(entry["size_bytes"] > 0 for entry in entries)


def test_bad_input_is_one_sentence(
    source: Path, quantised: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = shutil.copytree(source, tmp_path / "plain")
    shutil.copyfile(quantised / "step-int8.onnx", plain / "step.onnx")
    write_manifest(plain, json.loads((plain / "bundle.json").read_text()))
    silent = shutil.copytree(source, tmp_path / "silent")
    shutil.rmtree(silent / "golden")
    write_manifest(silent, json.loads((silent / "bundle.json").read_text()) | {"golden": []})
    cases = [
        ([quantised, "--out", tmp_path / "out"], "has a graph in int8 already"),
        ([plain, "--out", tmp_path / "out"], "is quantised already"),
        ([silent, "--out", tmp_path / "out"], "has no golden frames to compare with"),
        ([source, "--out", tmp_path / "out", "--frames", "0"], "--frames must be from 1 to 4096"),
        ([source, "--out", tmp_path / "out", "--rounds", "0"], "--rounds must be from 1"),
        ([source, "--out", source], "already exists"),
        ([tmp_path, "--out", tmp_path / "out"], "is no bundle"),
    ]
    for words, message in cases:
        assert run(monkeypatch, "int8", *words) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
        assert not (tmp_path / "out").exists()


def test_weights_of_8_bits_need_a_cpu_to_compare_them_on(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for flags, why in (
        ({"avx2"}, "this one has none: leave it out"),
        (set[str](), "and only Linux tells whether this"),
    ):
        monkeypatch.setattr(command, "read_cpu", lambda flags=flags: Cpu("a CPU", frozenset(flags), "x86_64"))
        assert run(monkeypatch, "int8", source, "--out", tmp_path / "out", "--vnni") == 2
        assert f"--vnni needs a CPU with VNNI to compare the frames on, {why}" in capsys.readouterr().err


def test_a_bundle_without_layers_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = build(tmp_path / "bundle", layers=False)
    assert run(monkeypatch, "int8", folder, "--out", tmp_path / "out") == 2
    assert f"{folder} cannot be quantised: its step graph has no weights" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_frames_whose_inputs_need_too_much_memory_are_refused_at_once(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The live input of a frame has 32 x 48 x 3 bytes."""
    monkeypatch.setattr(recording, "MAX_BYTES", 5 * 32 * 48 * 3 + 1)
    assert run(monkeypatch, "int8", source, "--out", tmp_path / "out", "--frames", "6") == 2
    assert "the inputs of 6 frames need more than" in (error := capsys.readouterr().err)
    assert "calibrate with --frames 5 or less" in error
    assert not (tmp_path / "out").exists()
    bundle = open_bundle(source)
    size = (bundle.manifest.frame.width, bundle.manifest.frame.height)
    assert len(recording.record_feeds(bundle, 5, bundle.manifest.step, size, lambda _share: None)) == 5
    monkeypatch.setattr(recording, "MAX_BYTES", 1)
    assert len(recording.record_feeds(bundle, 1, bundle.manifest.step, size, lambda _share: None)) == 1
