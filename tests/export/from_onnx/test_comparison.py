"""The comparison with the original: how many frames, what is accepted, what is stored, and what is said meanwhile."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.__main__ import main
from export.from_onnx import acceptance, comparison
from export.from_onnx import importer as importing
from export.from_onnx.importer import ImportOptions, import_model
from export.from_onnx.model import read_source
from export.from_onnx.parity import OriginalLoop
from export.from_onnx.plan import make_plan
from export.from_onnx.progress import ProgressLines
from export.parity.checks import ParityCheck
from runtime import EngineError, Generator
from runtime.bundle.reader import open_bundle
from runtime.engines import selection
from runtime.engines import table as engine_table
from runtime.engines.onnxruntime import OnnxRuntime
from runtime.engines.table import failed_pairs, open_engine
from tests.export.from_onnx import foreign
from tests.fakes import FakeClock

ORT = ("onnxruntime", "fp32")
HALF = ("onnxruntime", "fp16")


@pytest.fixture(autouse=True)
def engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "available_engines", lambda: [ORT, HALF])


def recurrent(path: Path, count: int = 2) -> Path:
    return foreign.many_states(path, count)


STATES = ImportOptions(roles=["h_*=state:h_*_out"])


def test_the_reference_makes_every_frame_and_other_engines_settle_earlier(tmp_path: Path) -> None:
    report = import_model(recurrent(tmp_path / "m.onnx"), tmp_path / "bundle", options=STATES)
    assert [(check.precision, check.frames, check.passed) for check in report.checks] == [
        ("fp32", 300, True),
        ("fp16", 48, True),
    ]


@pytest.mark.parametrize(
    ("values", "is_settled"),
    [([99.0] * 47, False), ([99.0] * 48, True), ([10.0] * 7, False), ([99.0] * 7 + [10.0], True)],
)
def test_when_an_engine_needs_no_more_frames(values: list[float], is_settled: bool) -> None:
    assert comparison._Settled(60)(values) == is_settled


def test_errors_that_accumulate_are_followed_to_the_end() -> None:
    settled = comparison._Settled(35)
    values = [90 - 0.15 * number for number in range(300)]
    assert not any(settled(values[:count]) for count in range(1, 301))


def test_an_original_that_fails_on_the_way_is_an_error(tmp_path: Path) -> None:
    text = """net (float[1,3,16,16] x, float[1,1] h) => (float[1,3,16,16] y, float[1,1] k) {
      k = Add (h, one) left = Sub (twenty, h) root = Sqrt (left) part = Mul (root, little)
      flat = Reshape (part, shape) y = Mul (x, flat)
    }"""
    weights = {"one": np.float32(1), "twenty": np.float32(20.5), "little": np.float32(0.2), "shape": np.array([1])}
    model = foreign.write(tmp_path / "m.onnx", text, weights)
    with pytest.raises(ValueError, match='the frame "y" has values that are not finite'):
        import_model(model, tmp_path / "out" / "bundle", options=ImportOptions(roles=["h=state:k"]))
    assert list((tmp_path / "out").iterdir()) == []


def test_frames_of_the_original_end_with_its_error(tmp_path: Path) -> None:
    plan = make_plan(read_source(recurrent(tmp_path / "m.onnx")), None, roles=STATES.roles)
    loop = OriginalLoop(plan)
    loop.make(3)
    loop.stop()
    loop.make(9)
    assert len(loop.run.frames) == 3

    def fail(*_: object) -> Any:
        raise ValueError("out of luck")

    plan.step.original.run = fail  # type: ignore[method-assign]
    other = OriginalLoop(plan)
    with pytest.raises(ValueError, match="out of luck"):
        other.make(1)
    with pytest.raises(ValueError, match="out of luck"):
        list(other.frames(1))


def test_an_engine_that_refuses_is_stored_and_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Generator.open

    def refuse(path: Path, *, precision: str = "auto", **rest: Any) -> Generator:
        if precision == "fp16":
            raise EngineError("onnxruntime refused the graph: no such operator")
        return original(path, precision=precision, **rest)

    monkeypatch.setattr(comparison.Generator, "open", refuse)
    report = import_model(foreign.gan(tmp_path / "gan.onnx"), tmp_path / "bundle")
    assert [str(refusal) for refusal in report.refusals] == [
        "onnxruntime in fp16: onnxruntime refused the graph: no such operator"
    ]
    verified = open_bundle(tmp_path / "bundle").manifest.verified
    assert [(item["engine"], item["precision"]) for item in verified["refusals"]] == [HALF]
    assert failed_pairs(verified) == {HALF: "could not run this bundle at the import"}
    assert "accepted" not in verified


def test_times_of_the_import_are_kept_for_auto(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(engine_table, "ENGINES", {name: engine_table.ENGINES[name] for name in ("openvino", ORT[0])})
    pairs = [(name, precision) for name in (ORT[0], "openvino") for precision in open_engine(name).precisions()]
    monkeypatch.setattr(importing, "available_engines", lambda: pairs)
    monkeypatch.setattr(selection, "compare_speeds", None)  # nothing is left to measure
    import_model(foreign.gan(tmp_path / "gan.onnx"), tmp_path / "bundle")
    with Generator.open(tmp_path / "bundle") as generator:
        assert "openvino fp32: " in generator.engine_reason
        assert "onnxruntime fp32: " in generator.engine_reason


def change_frames(monkeypatch: pytest.MonkeyPatch, *, also_plain: bool = False) -> None:
    """Let frames of bundles differ from the original's, as on a CPU that computes in int8 otherwise."""
    original = comparison.psnr_db
    monkeypatch.setattr(comparison, "psnr_db", lambda *frames: min(45.0, original(*frames)))
    if not also_plain:
        compare = acceptance.compare_plain

        def plain(*arguments: Any) -> ParityCheck:
            monkeypatch.setattr(comparison, "psnr_db", original)
            return compare(*arguments)

        monkeypatch.setattr(acceptance, "compare_plain", plain)


def test_a_net_in_int8_is_compared_with_and_without_optimisations(tmp_path: Path) -> None:
    model = foreign.quantised(tmp_path / "m.onnx")
    report = import_model(model, tmp_path / "bundle")
    assert report.checks[0].passed
    plan = make_plan(read_source(model), None)
    assert acceptance.is_quantised(plan)
    assert acceptance.compare_plain(tmp_path / "bundle", plan).passed
    assert not acceptance.is_quantised(make_plan(read_source(foreign.gan(tmp_path / "gan.onnx")), None))


def test_a_difference_in_int8_is_named_and_can_be_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change_frames(monkeypatch)
    model = foreign.quantised(tmp_path / "m.onnx")
    with pytest.raises(
        ValueError, match=r"45 dB in onnxruntime .* without the optimisations .* 99 dB, so the differ.*"
    ):
        import_model(model, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
    change_frames(monkeypatch)
    report = import_model(model, tmp_path / "bundle", options=ImportOptions(accept_parity=True))
    assert "which was accepted" in report.notes[0]
    verified = open_bundle(tmp_path / "bundle").manifest.verified
    assert verified["accepted"] is True
    assert verified["parity"][0]["worst"] == 45
    assert failed_pairs(verified).keys() == {ORT}
    with Generator.open(tmp_path / "bundle", engine="onnxruntime", precision="fp32") as generator:
        next(generator)
    with Generator.open(tmp_path / "bundle") as generator:
        assert (generator.engine, generator.precision) != ORT


@pytest.mark.parametrize("kind", ["int8", "float"])
def test_a_difference_of_the_conversion_stays_an_error(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_frames(monkeypatch, also_plain=True)
    model = foreign.quantised(tmp_path / "m.onnx") if kind == "int8" else foreign.gan(tmp_path / "m.onnx")
    why = "they have 45 dB; look" if kind == "int8" else "if its opset is old"
    with pytest.raises(ValueError, match=f"no bundle was written; .*{why}.*--accept-parity"):
        import_model(model, tmp_path / "bundle")


def test_the_command_prints_what_was_accepted_and_how_to_stream_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importing, "available_engines", lambda: [ORT])
    change_frames(monkeypatch)
    words = ["export", "from-onnx", str(foreign.quantised(tmp_path / "m.onnx")), "--out", str(tmp_path / "bundle")]
    monkeypatch.setattr(sys, "argv", words)
    assert main() == 2
    assert "--accept-parity" in capsys.readouterr().err
    change_frames(monkeypatch)
    monkeypatch.setattr(sys, "argv", [*words, "--accept-parity"])
    assert main() == 0
    said = capsys.readouterr().out
    assert "note: the bundle's frames have 45 dB in onnxruntime" in said
    assert "stream it with --engine onnxruntime --precision fp32" in said
    assert json.loads((tmp_path / "bundle" / "bundle.json").read_text())["verified"]["accepted"] is True


def test_onnxruntime_without_optimisations_keeps_the_graph(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    import_model(foreign.quantised(tmp_path / "m.onnx"), bundle)
    from runtime.engines.opening import open_sessions

    frames = []
    for engine in (OnnxRuntime(is_optimised=False), open_engine("onnxruntime")):
        step, _ = open_sessions(open_bundle(bundle), engine, "fp32", pixels="rgb", threads=1, cache_dir=None)
        step.write("x", np.full((1, 16, 24, 3), 99, np.uint8))
        step.run()
        frames.append(step.read("rgb").astype(int))
        step.close()
    assert np.abs(frames[0] - frames[1]).max() <= 1  # one level of the frame


def test_progress_is_one_line_every_two_seconds() -> None:
    clock, said = FakeClock(), list[str]()
    lines = ProgressLines(said.append, clock.now)
    count = lines.counter("openvino bf16", 300)
    count(0)
    clock.advance(1.9)
    count(3)
    assert said == []
    clock.advance(0.2)
    count(5)
    lines.counter("the original", 8)(4)
    clock.advance(2)
    lines.counter("the original", 8)(7)
    assert said == ["openvino bf16: 5 of 300 frames", "the original: 7 of 8 frames"]
