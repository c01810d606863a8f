"""The command: a bundle that is complete or absent, parts that are used again, errors in one sentence."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from export.diffusers.components import export_part
from export.diffusers.exporter import DiffusersOptions, export_pipeline
from export.diffusers.parity import ReferenceRun, compare_engines
from export.diffusers.parts import Request, part_hashes, run_child
from export.diffusers.parts_child import do
from export.diffusers.pipeline_folder import read_folder
from runtime.bundle.reader import open_bundle
from runtime.golden import check_golden
from tests.export.diffusers.comparison import Exported, live_frames, reference_of
from tests.export.diffusers.tiny import PROMPT, SIZE

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
    kept = tmp_path / ".tiny.parts"  # as an interrupted export leaves it
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


def test_a_part_without_its_weights_is_exported_again(export_tiny: Callable[..., Exported], tmp_path: Path) -> None:
    exported, kept = export_tiny("turbo"), tmp_path / ".tiny.parts"
    shutil.copytree(exported.bundle.parent / "parts", kept)
    (kept / "unet.weights").unlink()

    def interrupted(request: Request) -> None:
        raise ValueError(f"asked for {request['parts']}")

    with pytest.raises(ValueError, match=r"asked for \['unet'\]\. Exported parts stay in .*\.tiny\.parts: the same"):
        export_pipeline(exported.pipeline, tmp_path / "tiny", OPTIONS, run=interrupted, say=lambda _: None)
    assert kept.is_dir()
    assert not (tmp_path / "tiny").exists()


def test_an_interrupted_part_is_not_used(export_tiny: Callable[..., Exported], tmp_path: Path) -> None:
    exported, kept = export_tiny("turbo"), tmp_path / "parts"
    shutil.copytree(exported.bundle.parent / "parts", kept)
    job = json.dumps({**json.loads(exported.job.to_json()), "folder": str(tmp_path)})  # has no pipeline
    with pytest.raises(ValueError, match="has no model_index"):
        do({"job": job, "out": str(kept), "parts": ["decoder"], "keys": {"decoder": "new"}})
    assert not (kept / "decoder.json").exists()
    assert (kept / "unet.json").exists()


def test_files_of_a_killed_export_are_removed(
    export_tiny: Callable[..., Exported], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = export_tiny("turbo").job
    stale = [tmp_path / ".decoder.weights.123", tmp_path / ".decoder.onnx.123", tmp_path / "decoder.torch" / "old"]
    stale[2].parent.mkdir()
    for file in stale:
        file.touch()

    def refuse(*_: object, **__: object) -> None:
        assert not any(file.exists() for file in stale)
        raise ValueError("no such operator")

    monkeypatch.setattr(torch.onnx, "export", refuse)
    with pytest.raises(ValueError, match="no such operator"):
        export_part(job, "decoder", tmp_path)
    assert not any(tmp_path.iterdir())


def test_what_parts_depend_on(export_tiny: Callable[..., Exported]) -> None:
    exported = export_tiny("turbo")
    folder = read_folder(exported.pipeline)
    hashes = dict.fromkeys(folder.weight_files, "0")
    wide = dataclasses.replace(folder, vae={**folder.vae, "block_out_channels": [8, 8]})
    large = dataclasses.replace(folder, family="lcm")
    found = part_hashes(folder, "unet", hashes)
    assert part_hashes(wide, "unet", hashes) != found, "the size of its latents"
    assert part_hashes(large, "unet", hashes) != found
    assert part_hashes(large, "text_encoder", hashes) != part_hashes(folder, "text_encoder", hashes)
    assert found["text length"] == "77"


def test_the_reference_engine_is_always_compared(export_tiny: Callable[..., Exported]) -> None:
    exported = export_tiny("turbo")
    live = live_frames(1)
    run = ReferenceRun(np.stack(reference_of(exported, live)), live, PROMPT, 0)
    checks = [result.check for result in compare_engines(exported.bundle, run, [("onnxruntime", "fp16")])]
    assert [(check.engine, check.precision) for check in checks if check] == [
        ("onnxruntime", "fp32"),
        ("onnxruntime", "fp16"),
    ]


@pytest.mark.parametrize(
    ("file", "key", "value", "message"),
    [
        ("tokenizer/tokenizer_config.json", "model_max_length", 64, "makes texts of 64 tokens, but text_encoder takes"),
        ("text_encoder/config.json", "vocab_size", 20, "tokens, but text_encoder knows 20"),
    ],
)
def test_a_tokenizer_of_another_encoder(
    pipelines: Callable[[str], Path], tmp_path: Path, file: str, key: str, value: int, message: str
) -> None:
    pipeline = tmp_path / "pipeline"
    shutil.copytree(pipelines("turbo"), pipeline)
    stated = json.loads((pipeline / file).read_text())
    (pipeline / file).write_text(json.dumps({**stated, key: value}))
    with pytest.raises(ValueError, match=message):
        export_pipeline(pipeline, tmp_path / "tiny", OPTIONS, run=_never)


def test_frames_that_differ_are_not_written(export_tiny: Callable[..., Exported], tmp_path: Path) -> None:
    exported = export_tiny("turbo")
    kept = tmp_path / ".tiny.parts"
    shutil.copytree(exported.bundle.parent / "parts", kept)

    def run(request: Request) -> None:
        do(request)
        if "frames" in request:
            with np.load(request["frames"]) as arrays:
                frames = arrays["frames"]
            np.savez(request["frames"], frames=255 - frames)

    with pytest.raises(ValueError, match=r"the gate is 40: no bundle was written; .* Exported parts stay in .*\.parts"):
        export_pipeline(exported.pipeline, tmp_path / "tiny", OPTIONS, run=run, say=lambda _: None)
    assert not (tmp_path / "tiny").exists()
    assert kept.is_dir()


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
