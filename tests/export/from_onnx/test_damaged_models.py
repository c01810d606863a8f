"""Hundreds of damaged models, of odd tools and with external data: each is one clear error, or a bundle that opens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.external_weights import INLINE_BYTES
from export.from_onnx import importer as importing
from export.from_onnx.importer import ImportOptions, import_model
from runtime.bundle.reader import open_bundle
from tests.damaged_files import damaged_count, damaged_seed
from tests.export.from_onnx.damage import cut, damaged, whole_models

FILES_PER_KIND = damaged_count(60)
FIRST_SEED = damaged_seed(0)


@pytest.fixture(autouse=True)
def one_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "available_engines", lambda: [("onnxruntime", "fp32")])


@pytest.mark.parametrize("kind", ["external", "IR 3", "WinML", "QDQ", "FP16", "states"])
def test_a_damaged_model_is_one_clear_error_or_a_bundle(kind: str, tmp_path: Path) -> None:
    whole, roles = whole_models(tmp_path)[kind]
    weights_file = whole.with_name(f"{whole.name}.data")
    weights = weights_file.read_bytes() if weights_file.exists() else b""
    options = ImportOptions(roles=roles, loop_frames=8, preview=False, inline_bytes=0 if weights else INLINE_BYTES)
    import_model(whole, tmp_path / "whole", options=options)
    (tmp_path / "out").mkdir()
    num_errors = 0
    for seed in range(FIRST_SEED, FIRST_SEED + FILES_PER_KIND):
        model, out = tmp_path / "damaged.onnx", tmp_path / "out" / f"bundle-{seed}"
        random = np.random.default_rng(seed)
        model.write_bytes(damaged(whole.read_bytes(), random))
        if weights:
            weights_file.write_bytes(cut(weights, random))
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
    print(f"{kind}: {num_errors} of {FILES_PER_KIND} refused")
    assert len(bundles) + num_errors == FILES_PER_KIND
    assert num_errors > FILES_PER_KIND / 2
