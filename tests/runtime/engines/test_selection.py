"""Choosing the fastest engine of a bundle: what is measured, what is remembered, and what happens if one fails."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from runtime import EngineError, Generator
from runtime.bundle.reader import open_bundle, write_manifest
from runtime.engines import selection
from runtime.engines import table as engine_table
from runtime.engines.engine import INT8, Array, Program, Session
from runtime.engines.int8 import cpu_name
from runtime.engines.selection import keep_times
from runtime.engines.timing import Candidate
from tests.fakes import FakeEngine, count_frames

BOTH = ("bf16", "fp32")


class Named(FakeEngine):
    """A fake engine with a name that is on the CPU, which may refuse every graph, or fail when it runs."""

    def __init__(
        self, name: str, *, refused: bool = False, failing: bool = False, precisions: Sequence[str] = ("fp32",)
    ) -> None:
        super().__init__(_fail if failing else count_frames)
        self.name, self.is_refused, self._precisions = name, refused, precisions

    def precisions(self) -> Sequence[str]:
        """Return those given."""
        return self._precisions

    def open(self, program: Program, precision: str, threads: int, cache_dir: Path | None) -> Any:
        """Return a fake session, or refuse."""
        if self.is_refused:
            raise EngineError(f"{self.name} refused the graph: no such operator")
        return super().open(program, precision, threads, cache_dir)


def _fail(program: Program, inputs: dict[str, Array], run: int) -> dict[str, Array]:
    raise EngineError("the engine ran out of luck")


def use(monkeypatch: pytest.MonkeyPatch, *engines: Named) -> None:
    by_name = {engine.name: engine for engine in engines}
    monkeypatch.setattr(engine_table, "ENGINES", dict.fromkeys(by_name, "x:y"))
    monkeypatch.setattr(engine_table, "open_engine", by_name.__getitem__)


def answer(monkeypatch: pytest.MonkeyPatch, times: dict[str, float]) -> list[str]:
    """Let every measurement have the results of those that it compares, and return the list of what was measured."""
    measured: list[str] = []

    def compare(label: str, session: Session, others: Sequence[Candidate], **_: object) -> dict[str, float]:
        compared = [label, *(other.label for other in others)]
        measured.extend(compared)
        return {name: ms for name, ms in times.items() if name in compared}

    monkeypatch.setattr(selection, "compare_speeds", compare)
    return measured


def opened_with(bundle: Path, engine: str, cache: Path, precision: str = "auto") -> tuple[str, str]:
    with Generator.open(bundle, engine=engine, precision=precision, cache_dir=cache, threads=1) as generator:
        next(generator)
        return generator.engine, generator.engine_reason


def test_auto_measures_once_and_remembers(live_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Named("openvino"), Named("onnxruntime"))
    measured = answer(monkeypatch, {"openvino fp32": 44.0, "onnxruntime fp32": 21.0})
    for _ in range(2):
        engine, reason = opened_with(live_bundle, "auto", tmp_path / "cache")
        assert engine == "onnxruntime"
        assert "onnxruntime fp32: 21 ms, openvino fp32: 44 ms; measured once on this machine" in reason
    assert measured == ["openvino fp32", "onnxruntime fp32"]
    assert opened_with(live_bundle, "openvino", tmp_path / "cache")[0] == "openvino"
    assert opened_with(live_bundle, "openvino,onnxruntime", tmp_path / "cache")[0] == "openvino"
    assert len(measured) == 2


def test_without_a_cache_nothing_is_measured(
    live_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Named("openvino"), Named("onnxruntime"))
    measured = answer(monkeypatch, {"openvino fp32": 44.0, "onnxruntime fp32": 21.0})
    (tmp_path / "file").write_text("not a folder")
    assert opened_with(live_bundle, "auto", tmp_path / "file")[0] == "openvino"
    assert measured == []


def test_one_engine_alone_and_engines_on_a_gpu_are_not_measured(
    live_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = answer(monkeypatch, {})
    use(monkeypatch, Named("onnxruntime"))
    assert opened_with(live_bundle, "auto", tmp_path / "cache")[0] == "onnxruntime"
    use(monkeypatch, Named("tensorrt"), Named("openvino"), Named("onnxruntime"))
    assert opened_with(live_bundle, "auto", tmp_path / "cache")[0] == "tensorrt"
    assert measured == []


@pytest.mark.parametrize("is_measured", [False, True])
def test_auto_passes_over_an_engine_that_refuses_the_graph(
    is_measured: bool, live_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, {"openvino fp32": 20.0, "onnxruntime fp32": 40.0})
    if is_measured:
        use(monkeypatch, Named("openvino"), Named("onnxruntime"))
        assert opened_with(live_bundle, "auto", tmp_path / "cache")[0] == "openvino"
    use(monkeypatch, Named("openvino", refused=True), Named("onnxruntime"))
    engine, reason = opened_with(live_bundle, "auto", tmp_path / "cache")
    assert engine == "onnxruntime"
    assert "openvino refused the graph: no such operator" in reason
    with pytest.raises(EngineError, match="openvino refused the graph"):
        Generator.open(live_bundle, engine="openvino", cache_dir=tmp_path / "cache")


def test_if_every_engine_refuses_all_reasons_are_given(
    live_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Named("openvino", refused=True), Named("onnxruntime", refused=True))
    with pytest.raises(EngineError, match=r"openvino refused the graph.*; onnxruntime refused the graph"):
        Generator.open(live_bundle, cache_dir=tmp_path / "cache")


ALL = {"openvino bf16": 20.0, "openvino fp32": 30.0, "onnxruntime fp32": 40.0}


def test_times_of_one_precision_do_not_count_for_all(
    live_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Named("openvino", precisions=BOTH), Named("onnxruntime"))
    measured = answer(monkeypatch, ALL)
    assert "openvino in fp32" in opened_with(live_bundle, "auto", tmp_path / "cache", "fp32")[1]
    assert measured == ["openvino fp32", "onnxruntime fp32"]
    for _ in range(2):
        assert "openvino in bf16" in opened_with(live_bundle, "auto", tmp_path / "cache")[1]
    assert measured[2:] == ["openvino bf16", "openvino fp32", "onnxruntime fp32"]
    assert "openvino in fp32" in opened_with(live_bundle, "auto", tmp_path / "cache", "fp32")[1]
    assert len(measured) == 5


def test_times_of_the_graph_in_fp32_do_not_count_for_int_8(
    live_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Named("openvino", precisions=BOTH), Named("onnxruntime"))
    measured = answer(monkeypatch, ALL | {"openvino int8": 10.0})
    opened_with(live_bundle, "auto", tmp_path / "cache")
    folder = shutil.copytree(live_bundle, tmp_path / "quantised")
    value = json.loads((folder / "bundle.json").read_text())
    value["graphs"]["step"]["int8"] = "step-int8.onnx"
    value["verified"]["speed"] = [
        {"engine": "openvino", "precision": precision, "cpu": cpu_name(), "ms": ms}
        for precision, ms in ((INT8, 10.0), ("bf16", 20.0), ("fp32", 30.0))
    ]
    shutil.copyfile(folder / "step.onnx", folder / "step-int8.onnx")
    write_manifest(folder, value)
    assert "openvino in int8" in opened_with(folder, "auto", tmp_path / "cache")[1]
    assert measured[3:] == ["openvino int8", "openvino bf16", "openvino fp32", "onnxruntime fp32"]
    (folder / "step-int8.onnx").write_bytes((folder / "step.onnx").read_bytes() + _doc("another graph"))
    write_manifest(folder, value)
    opened_with(folder, "auto", tmp_path / "cache")
    assert len(measured) == 11, "another graph in int8 is measured again"


def _doc(text: str) -> bytes:
    """Return the field `doc_string` of a model, to append to one."""
    import onnx

    return onnx.ModelProto(doc_string=text).SerializeToString()


@pytest.mark.parametrize("is_kept", [False, True])
def test_large_bundles_are_not_measured_but_times_of_their_import_count(
    is_kept: bool, live_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Named("openvino"), Named("onnxruntime"))
    monkeypatch.setattr(selection, "_MAX_BYTES", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    measured = answer(monkeypatch, {})
    if is_kept:
        keep_times(open_bundle(live_bundle), {"openvino fp32": 44.0, "onnxruntime fp32": 21.0, "onnxruntime fp16": 9.0})
    with Generator.open(live_bundle) as generator:
        assert generator.engine == ("onnxruntime" if is_kept else "openvino")
    assert measured == []


def test_times_that_lack_an_engine_are_not_kept(
    live_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Named("openvino", precisions=BOTH), Named("onnxruntime"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    measured = answer(monkeypatch, ALL)
    keep_times(open_bundle(live_bundle), {"openvino fp32": 30.0, "onnxruntime fp32": 40.0})
    with Generator.open(live_bundle) as generator:
        assert generator.precision == "bf16"
    assert measured == list(ALL)


def test_an_interrupted_measurement_is_made_again(
    live_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = Named("openvino"), Named("onnxruntime")
    use(monkeypatch, *engines)

    def interrupt(*_: object, **__: object) -> dict[str, float]:
        raise KeyboardInterrupt

    monkeypatch.setattr(selection, "compare_speeds", interrupt)
    with pytest.raises(KeyboardInterrupt):
        opened_with(live_bundle, "auto", tmp_path / "cache")
    assert all(session.is_closed for engine in engines for session in engine.sessions)
    answer(monkeypatch, {"openvino fp32": 44.0, "onnxruntime fp32": 21.0})
    assert opened_with(live_bundle, "auto", tmp_path / "cache")[0] == "onnxruntime"


def test_an_engine_that_fails_when_measured_is_replaced(
    live_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = Named("openvino", failing=True)
    use(monkeypatch, failing, Named("onnxruntime"))
    for _ in range(2):
        engine, reason = opened_with(live_bundle, "auto", tmp_path / "cache")
        assert engine == "onnxruntime"
        assert "the engine ran out of luck" in reason
    assert all(session.is_closed for session in failing.sessions)


def test_if_every_engine_fails_when_measured_the_reason_is_given(
    live_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Named("openvino", failing=True), Named("onnxruntime", refused=True))
    with pytest.raises(EngineError, match=r"ran out of luck; onnxruntime refused the graph"):
        opened_with(live_bundle, "auto", tmp_path / "cache")
