"""A list of engines: the next one replaces an engine that cannot run here or fails later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime import EngineError, Generator
from runtime.engines.onnxruntime import OnnxRuntimeSession
from runtime.engines.tensorrt import TensorRT
from tests import tiny


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no machine have a GPU."""
    monkeypatch.setattr(TensorRT, "available", lambda engine: f"the engine {engine.name} needs a CUDA device")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A tiny bundle with a state, which renews itself."""
    return tiny.build(tmp_path / "tiny", renewal={"every_frames": 8, "dissolve_frames": 3, "correlation": 0.5})


def frames_of(bundle: Path, engine: str, count: int) -> list[Any]:
    """Return the first frames."""
    with Generator.open(bundle, engine=engine, precision="fp32", threads=1) as generator:
        return [next(generator).copy() for _ in range(count)]


def fail_at(monkeypatch: pytest.MonkeyPatch, run: int, *, reads_too: bool = False) -> None:
    """Let every session of ONNX Runtime fail from its run number `run` on."""
    original_run, original_read = OnnxRuntimeSession.run, OnnxRuntimeSession.read
    runs: dict[int, int] = {}

    def failing(session: OnnxRuntimeSession) -> None:
        runs[id(session)] = runs.get(id(session), 0) + 1
        if runs[id(session)] > run:
            raise EngineError("onnxruntime failed: the device is gone")
        original_run(session)

    def read(session: OnnxRuntimeSession, name: str) -> Any:
        if reads_too and runs.get(id(session), 0) > run:
            raise EngineError("onnxruntime failed: the device is gone")
        return original_read(session, name)

    monkeypatch.setattr(OnnxRuntimeSession, "run", failing)
    monkeypatch.setattr(OnnxRuntimeSession, "read", read)


def test_the_next_engine_is_taken_where_the_first_cannot_run(bundle: Path) -> None:
    with Generator.open(bundle, engine="tensorrt, onnxruntime", threads=1) as generator:
        assert generator.engine == "onnxruntime"
        assert "the engine tensorrt needs" in generator.engine_reason
        next(generator)


@pytest.mark.parametrize(("text", "message"), [
    ("openvina,onnxruntime", 'did you mean "openvino"'),
    ("auto,onnxruntime", '"auto" cannot be part of a list of engines'),
])  # fmt: skip
def test_wrong_names_are_refused(bundle: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Generator.open(bundle, engine=text)


def test_if_no_named_engine_is_available_all_reasons_are_given(bundle: Path) -> None:
    with pytest.raises(EngineError, match=r"the engine tensorrt needs .*; the engine tensorrt-rtx needs"):
        Generator.open(bundle, engine="tensorrt,tensorrt-rtx")


@pytest.mark.parametrize("run", [0, 1, 5, 20])
def test_a_show_goes_on_where_its_engine_failed(bundle: Path, monkeypatch: pytest.MonkeyPatch, run: int) -> None:
    expected = frames_of(bundle, "openvino", 30)
    fail_at(monkeypatch, max(run, 1))  # its scene is made by the session's first run
    told: list[str] = []
    with Generator.open(bundle, engine="onnxruntime,openvino", precision="fp32", threads=1) as generator:
        generator.on_fall_back = told.append
        found = [next(generator).copy() for _ in range(30)]
        assert (generator.engine, generator.precision) == ("openvino", "fp32")
    assert max(int(np.abs(a.astype(int) - b).max()) for a, b in zip(found, expected, strict=True)) <= 1
    (reason,) = told
    assert reason == generator.engine_reason
    assert "openvino fp32 took over from onnxruntime fp32 (onnxruntime failed: the device is gone)" in reason
    assert reason.endswith("continues where it was")


def test_a_lost_state_restarts_and_is_reported(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_at(monkeypatch, 5, reads_too=True)
    with Generator.open(bundle, engine="onnxruntime,openvino", precision="fp32", threads=1, renewal=False) as generator:
        for _ in range(10):
            next(generator)
        assert generator.engine_reason.endswith("restarts because its state is lost")
        assert generator.frame_index == 10


def test_skipping_falls_back_too(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = frames_of(bundle, "openvino", 12)[-1]
    fail_at(monkeypatch, 3)
    with Generator.open(bundle, engine="onnxruntime,openvino", precision="fp32", threads=1) as generator:
        generator.skip(11)
        frame = next(generator)
        assert int(np.abs(frame.astype(int) - expected).max()) <= 1
        assert generator.engine == "openvino"


def test_without_a_fallback_the_failure_is_raised(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_at(monkeypatch, 3)
    with Generator.open(bundle, engine="onnxruntime", threads=1, renewal=False) as generator:
        for _ in range(3):
            next(generator)
        with pytest.raises(EngineError, match="the device is gone; no other engine was named"):
            next(generator)


def test_fallbacks_are_opened_only_when_they_are_needed(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import runtime.engines.selection as selection

    opened: list[str] = []
    original = selection.engine_choices

    def choose(name: str, *rest: Any) -> Any:
        opened.append(name)
        return original(name, *rest)

    monkeypatch.setattr(selection, "engine_choices", choose)
    with Generator.open(bundle, engine="onnxruntime,openvino", threads=1) as generator:
        next(generator)
    assert opened == ["onnxruntime"]
