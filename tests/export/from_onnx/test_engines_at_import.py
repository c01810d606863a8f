"""Engines at the import: graphs that one of them refused, and what is stored about those that cannot run a bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.from_onnx import importer as importing
from export.from_onnx.importer import ImportOptions, import_model
from runtime.engines.table import open_engine
from tests.export.from_onnx import foreign

needs_openvino = pytest.mark.skipif(open_engine("openvino").available() is not None, reason="OpenVINO is missing")


@needs_openvino
@pytest.mark.parametrize("kind", ["float16", "float"])
def test_a_super_resolution_net_with_half_weights_runs_in_openvino(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "available_engines", lambda: [("onnxruntime", "fp32"), ("openvino", "fp32")])
    model = foreign.half_super_resolution(tmp_path / "m.onnx", kind)
    report = import_model(model, tmp_path / "bundle", options=ImportOptions(roles=["y=frame:0..1"]))
    assert report.refusals == ()
    assert [check.engine for check in report.checks] == ["onnxruntime", "openvino"]
    assert all(check.passed for check in report.checks)


def test_pictures_in_int8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "available_engines", lambda: [("onnxruntime", "fp32")])
    report = import_model(foreign.whole_pictures(tmp_path / "q.onnx"), tmp_path / "bundle")
    assert "  x int8 [1, 16, 16, 3] -> live, nhwc, rgb, range -128..127, guessed" in report.lines
    assert "  y int8 [1, 16, 16, 3] -> frame, nhwc, rgb, range -128..127" in report.lines
    assert [check.worst for check in report.checks] == [99.0]


def test_constants_that_quantised_operators_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "available_engines", lambda: [("onnxruntime", "fp32")])
    options = ImportOptions(roles=["y=frame:0..1"])
    report = import_model(foreign.shared_zero_point(tmp_path / "q.onnx"), tmp_path / "bundle", options=options)
    assert all(check.passed for check in report.checks)
