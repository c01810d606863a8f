"""The command: a bundle that is complete or absent, parts that are used again, errors in one sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.diffusers.exporter import DiffusersOptions, export_pipeline
from export.diffusers.parts import Request, run_child
from export.diffusers.parts_child import do
from runtime.bundle.reader import open_bundle
from runtime.golden import check_golden
from tests.export.diffusers.comparison import Exported
from tests.export.diffusers.tiny import SIZE

OPTIONS = DiffusersOptions(size=(SIZE, SIZE), engines=[("onnxruntime", "fp32")])


def test_bundle_is_whole(export_tiny: Callable[..., Exported]) -> None:
    bundle = export_tiny("turbo").bundle
    manifest = open_bundle(bundle).manifest
    assert list(manifest.controls) == ["strength", "seed"]
    assert manifest.renewal is None
    assert manifest.tokens is not None
    assert all(result.psnr_db >= 50 for result in check_golden(bundle, "onnxruntime", "fp32"))
    imported = manifest.provenance["imported"]
    assert {(item["graph"], item["file"]) for item in imported} == {
        ("condition", "text_encoder/model.safetensors"),
        ("step", "unet/diffusion_pytorch_model.safetensors"),
        ("step", "vae/diffusion_pytorch_model.safetensors"),
    }
    assert all(len(item["sha256"]) == 64 for item in imported)
    assert (bundle / "preview.png").stat().st_size > 0


def test_parts_are_used_again(export_tiny: Callable[..., Exported], tmp_path: Path) -> None:
    exported = export_tiny("turbo")
    kept = tmp_path / "tiny.parts"  # as an interrupted export leaves it
    shutil.copytree(exported.bundle.parent / "parts", kept)
    asked, said = list[Request](), list[str]()

    def run(request: Request) -> None:
        asked.append(request)
        do(request)

    export_pipeline(exported.pipeline, tmp_path / "tiny", OPTIONS, run=run, say=said.append)
    assert not any(request.get("parts") for request in asked)
    assert "unet: already exported, reused" in said
    assert not kept.exists()

    changed = json.loads((exported.bundle.parent / "parts" / "unet.json").read_text())
    shutil.copytree(exported.bundle.parent / "parts", kept)
    (kept / "unet.json").write_text(json.dumps({**changed, "key": "of other weights"}))
    asked.clear()
    export_pipeline(exported.pipeline, tmp_path / "other", _with_parts(kept), run=run, say=said.append)
    assert [request["parts"] for request in asked if request.get("parts")] == [["unet"]]


def test_frames_that_differ_are_not_written(export_tiny: Callable[..., Exported], tmp_path: Path) -> None:
    exported = export_tiny("turbo")

    def run(request: Request) -> None:
        do(request)
        if "frames" in request:
            with np.load(request["frames"]) as arrays:
                frames = arrays["frames"]
            np.savez(request["frames"], frames=255 - frames)

    parts = exported.bundle.parent / "parts"
    with pytest.raises(ValueError, match="compared with diffusers, the gate is 40: no bundle was written"):
        export_pipeline(exported.pipeline, tmp_path / "tiny", _with_parts(parts), run=run, say=lambda _: None)
    assert not (tmp_path / "tiny").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "video"}, "--mode must be one of img2img, txt2img"),
        ({"steps": 9}, "--steps must be from 1 to 8, got 9"),
        ({"strength": 0.0}, "--strength must be above 0"),
        ({"guidance": 20.0}, "--guidance must be from 1 to 15"),
        ({"size": (60, 64)}, "multiples of 8 pixels"),
    ],
)
def test_options(pipelines: Callable[[str], Path], tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        export_pipeline(pipelines("turbo"), tmp_path / "tiny", DiffusersOptions(**options), run=_never)
    assert not (tmp_path / "tiny").exists()


def test_the_process_says_what_is_wrong(export_tiny: Callable[..., Exported], tmp_path: Path) -> None:
    job = json.loads(export_tiny("turbo").job.to_json())
    request = {"job": json.dumps({**job, "folder": str(tmp_path)}), "schedule": str(tmp_path / "schedule.npz")}
    with pytest.raises(ValueError, match=r"the process that exports the schedule failed: .* has no model_index\.json"):
        run_child(request)


def _with_parts(parts: Path) -> DiffusersOptions:
    return DiffusersOptions(size=OPTIONS.size, engines=OPTIONS.engines, parts=parts)


def _never(request: Request) -> None:
    raise AssertionError(f"asked for {request}")
