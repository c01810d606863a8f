"""Bundles of earlier versions give the same frames as then; see tests/fixtures/bundles/README.md."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtime import Generator
from runtime.golden import check_golden, psnr_db

FOLDER = Path(__file__).parents[1] / "fixtures" / "bundles"
CONTROLS = {
    "release-0.1.0": {"drift": 2.0},
    "2026-11-prompts": {"gain": 1.5, "drift": 1.5},
    "2026-11-live": {"drift": 2.0},
}
GOLDEN = {
    "release-0.1.0": ["noise", "image"],
    "2026-11-prompts": ["noise", "image", "clip", "both", "text"],
    "2026-11-live": ["live"],
}
GATE_DB = 60.0  # rounding differs from processor to processor


def test_every_frozen_bundle_is_tested() -> None:
    assert {path.name for path in FOLDER.iterdir() if path.is_dir()} == set(CONTROLS) == set(GOLDEN)


@pytest.mark.parametrize("name", CONTROLS)
def test_frames_of_a_frozen_bundle_are_unchanged(name: str) -> None:
    with np.load(FOLDER / f"{name}.npz") as stored:
        frames = stored["frames"]
    assert len(frames) == 10
    assert np.any(frames[0] != frames[9])
    with Generator.open(FOLDER / name, engine="onnxruntime", precision="fp32", seed=5, threads=1) as generator:
        for control, value in CONTROLS[name].items():
            generator.set_control(control, value)
        for number, wanted in enumerate(frames, 1):
            assert psnr_db(next(generator), wanted) >= GATE_DB, f"frame {number}"


@pytest.mark.parametrize("name", GOLDEN)
def test_every_prompt_gives_the_same_frames(name: str) -> None:
    results = check_golden(FOLDER / name, "onnxruntime", "fp32")
    expected = [(f"golden/{run}.npz", frame) for run in GOLDEN[name] for frame in (1, 10)]
    assert [(result.file, result.frame) for result in results] == expected
    assert min(result.psnr_db for result in results) >= GATE_DB
