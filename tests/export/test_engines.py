"""The engines that an export builds, and the share of FP16 that it requires."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from export.__main__ import main, parser
from export.engines import EngineRequest, plan_engines, require_fp16_share
from runtime import EngineError
from runtime.engines import cuda, tensorrt_builder
from runtime.engines.fp16 import Fp16Share

needs_builder = pytest.mark.skipif(
    tensorrt_builder.why_not_installed("tensorrt-rtx") is not None, reason="TensorRT-RTX is not installed"
)


@needs_builder
def test_by_default_every_possible_engine_is_built() -> None:
    assert EngineRequest("tensorrt-rtx", "portable") in plan_engines(None, [])
    assert plan_engines([], []) == []
    assert plan_engines(["tensorrt-rtx"], ["sm86", "SM120"]) == [
        EngineRequest("tensorrt-rtx", "sm86"), EngineRequest("tensorrt-rtx", "sm120"),
    ]  # fmt: skip


def test_a_named_engine_that_cannot_be_built_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_builder, "why_not_installed", lambda flavour: None)
    monkeypatch.setattr(cuda, "why_no_device", lambda: "this machine has no CUDA device")
    with pytest.raises(
        EngineError, match="tensorrt builds only for the GPU of this machine: this machine has no CUDA device"
    ):
        plan_engines(["tensorrt"], [])
    monkeypatch.setattr(tensorrt_builder, "why_not_installed", lambda flavour: f"no {flavour}")
    assert plan_engines(None, []) == []
    with pytest.raises(EngineError, match="no tensorrt-rtx"):
        plan_engines(["tensorrt-rtx"], [])
    with pytest.raises(ValueError, match="add --engine tensorrt-rtx"):
        plan_engines(None, ["sm89"])


def test_too_little_in_half_precision_is_an_error() -> None:
    require_fp16_share(Fp16Share(19, 1), "the step graph")
    with pytest.raises(
        ValueError, match=r"only 9 of 13 layers of the step graph .* in FP16 \(69%, expected at least 95%"
    ):
        require_fp16_share(Fp16Share(9, 4), "the step graph")
    with pytest.raises(ValueError, match="only 0 of 0 layers"):
        require_fp16_share(Fp16Share(0, 0), "the step graph")


def test_ctrl_c_is_one_line_and_status_130(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from export import bundle_writer as assembly

    def pressed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(assembly, "write_graphs", pressed)
    monkeypatch.setattr(sys, "argv", ["export", str(tiny_run), "--out", str(tmp_path / "out"), "--engine", "none"])
    assert main() == 130
    assert capsys.readouterr().err == "export: stopped; nothing was written\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--size", "big"], "--size must be WxH in pixels, e.g. 640x360, got 'big'"),
        (["--size", "101x64"], "the frame size is 101x64: width and height must be even"),
        (["--work", "100x64"], "--work must be WxH,... in multiples of 32 from 64 up, got '100x64'"),
        (["--precision", "fp8"], "--precision must be fp32, fp16 or both (fp32,fp16), got 'fp8'"),
        (["--precision", ""], "--precision must be fp32, fp16 or both (fp32,fp16), got ''"),
        (["--engine", "onnx"], 'there is no engine "onnx" to build'),
        (["--engine", "none,tensorrt"], "--engine must be \"none\" or names of engines, got 'none,tensorrt'"),
        (["--engine", "none", "--target", "sm89"], "add --engine tensorrt-rtx"),
    ],
)
def test_bad_options_are_one_line_and_nothing_is_written(
    words: list[str], sentence: str, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["export", str(tiny_run), "--out", str(tmp_path / "out"), *words])
    assert main() == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_help_has_an_example_of_every_option() -> None:
    text = parser().format_help()
    for word in ("--work 320x320", "--engine tensorrt-rtx --target sm86,sm89,sm120", "--engine none", "exit status"):
        assert word in text
