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
