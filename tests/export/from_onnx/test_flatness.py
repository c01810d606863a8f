"""Frames of one colour, and frames after Tanh: what the import finds out about a model's defaults and range."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.from_onnx import importer as importing
from export.from_onnx.importer import ImportOptions, ImportReport, import_model
from runtime.bundle.reader import open_bundle
from tests.export.from_onnx import foreign


@pytest.fixture(autouse=True)
def one_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "available_engines", lambda: [("onnxruntime", "fp32")])


def imported(model: Path, *roles: str) -> tuple[ImportReport, dict[str, float]]:
    report = import_model(model, model.parent / "bundle", options=ImportOptions(roles=roles))
    controls = open_bundle(model.parent / "bundle").manifest.controls
    return report, {name: control.default for name, control in controls.items()}


def gained(path: Path) -> Path:
    """A net that multiplies its picture by a number: black at 0."""
    return foreign.write(path, "net (float[1,3,16,24] x, float[1] gain) => (float[1,3,16,24] y) { y = Mul (x, gain) }")


def styled(path: Path) -> Path:
    """A net that divides by the sum of three style weights, so that none may be all zeros; only the first is shown."""
    text = """net (float[1,3,16,24] x, float[3] style) => (float[1,3,16,24] y) {
      sum = ReduceSum <keepdims = 0> (style) more = Add (sum, little) shares = Div (style, more)
      first = Gather (shares, zero) y = Mul (x, first)
    }"""
    return foreign.write(path, text, {"little": np.float32(1e-6), "zero": np.int64(0)})


def test_a_control_that_makes_a_flat_frame_at_zero_starts_at_the_middle(tmp_path: Path) -> None:
    report, defaults = imported(gained(tmp_path / "m.onnx"), "x=live", "gain=control:@0..1.5", "y=frame:0..1")
    assert defaults == {"gain": 0.75}
    (note,) = report.notes
    assert "starts at 0.75; choose its default with --role gain=control:0.75@0..1.5" in note


def test_of_several_values_the_first_one_alone_is_tried_first(tmp_path: Path) -> None:
    report, defaults = imported(styled(tmp_path / "m.onnx"), "x=live", "style=control", "y=frame:0..1")
    assert defaults == {"style_0": 1, "style_1": 0, "style_2": 0}
    assert "starts at 1 and then 0; choose its default with --role style=control:1,0@0..1" in report.notes[0]


def test_given_defaults_are_kept_and_the_flat_frame_is_reported(tmp_path: Path) -> None:
    report, defaults = imported(gained(tmp_path / "m.onnx"), "x=live", "gain=control:0@0..2", "y=frame:0..1")
    assert defaults == {"gain": 0}
    assert report.notes == (
        "the frame is flat: its standard deviation is 0 of 255 levels; give other defaults, e.g. "
        "--role gain=control:1@0..2",
    )


def test_a_flat_frame_without_controls_is_reported(tmp_path: Path) -> None:
    text = "net (float[1,3,16,24] x) => (float[1,3,16,24] y) { y = Mul (x, little) }"
    model = foreign.write(tmp_path / "m.onnx", text, {"little": np.float32(1e-3)})
    report, _ = imported(model, "y=frame:0..1")
    assert "the frame is flat" in report.notes[0]
    assert "check the roles and the ranges" in report.notes[0]


def test_defaults_lie_between_limits_that_leave_out_zero(tmp_path: Path) -> None:
    report, defaults = imported(gained(tmp_path / "m.onnx"), "x=live", "gain=control:@0.5..2", "y=frame:0..1")
    assert (defaults, report.notes) == ({"gain": 0.5}, ())


def ending(path: Path, offset: float) -> Path:
    text = "net (float[1,3,16,24] x) => (float[1,3,16,24] y) { a = Sub (x, half) b = Add (a, more) y = Tanh (b) }"
    return foreign.write(path, text, {"half": np.float32(0.5), "more": np.float32(offset)})


def test_the_range_of_a_frame_after_tanh_is_printed_as_assumed(tmp_path: Path) -> None:
    report, _ = imported(ending(tmp_path / "m.onnx", 0))
    assert "  y float32 [1, 3, 16, 24] -> frame, nchw, rgb, range -1..1, assumed, as it ends in Tanh" in report.lines


def test_a_frame_after_tanh_that_is_never_below_zero_is_an_error(tmp_path: Path) -> None:
    model = ending(tmp_path / "m.onnx", 0.5)
    with pytest.raises(ValueError, match=r"never below 0, which may not be the range -1..1 .* --role y=frame:0..1"):
        imported(model)
    assert {path.name for path in tmp_path.iterdir()} == {"m.onnx"}
    imported(model, "y=frame:0..1")
    report = import_model(model, tmp_path / "other", options=ImportOptions(roles=["y=frame:-1..1"]))
    assert not any("as it ends in" in line for line in report.lines)
