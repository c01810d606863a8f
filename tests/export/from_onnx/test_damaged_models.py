"""Three hundred damaged models of older and odder tools: each is one clear error, or a bundle that opens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.from_onnx import importer as importing
from export.from_onnx.importer import ImportOptions, import_model
from runtime.bundle.reader import open_bundle
from tests.export.from_onnx.damage import damaged, whole_models

FILES_PER_KIND = 60


@pytest.fixture(autouse=True)
def one_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "available_engines", lambda: [("onnxruntime", "fp32")])


@pytest.mark.parametrize("kind", ["IR 3", "WinML", "QDQ", "FP16", "states"])
def test_a_damaged_model_is_one_clear_error_or_a_bundle(kind: str, tmp_path: Path) -> None:
    whole, roles = whole_models(tmp_path)[kind]
    options = ImportOptions(roles=roles, loop_frames=8, preview=False)
    import_model(whole, tmp_path / "whole", options=options)
    (tmp_path / "out").mkdir()
    num_errors = 0
    for seed in range(FILES_PER_KIND):
        model, out = tmp_path / "damaged.onnx", tmp_path / "out" / f"bundle-{seed}"
        model.write_bytes(damaged(whole.read_bytes(), np.random.default_rng(seed)))
        try:
            import_model(model, out, options=options)
            open_bundle(out)
        except ValueError as error:
            num_errors += 1
            message = str(error)
            assert message.isprintable(), f"seed {seed}"
            assert 20 <= len(message) <= 1500, f"seed {seed}"
            assert not out.exists(), f"seed {seed}"
    bundles = list((tmp_path / "out").iterdir())
    assert len(bundles) + num_errors == FILES_PER_KIND
    assert num_errors > FILES_PER_KIND / 2
