"""Pipelines and bundles that several tests use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from export.diffusers.exporter import DiffusersOptions, export_pipeline, make_job
from export.diffusers.parts_child import do
from export.diffusers.pipeline_folder import read_folder
from tests.export.diffusers.comparison import Exported
from tests.export.diffusers.tiny import PROMPT, SIZE, write_pipeline


@pytest.fixture(scope="session")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that returns the folder of a kind of pipeline."""
    root, made = tmp_path_factory.mktemp("pipelines"), dict[str, Path]()

    def pipeline(kind: str) -> Path:
        if kind not in made:
            made[kind] = write_pipeline(root / kind, kind)
        return made[kind]

    return pipeline


@pytest.fixture(scope="session")
def export_tiny(tmp_path_factory: pytest.TempPathFactory, pipelines: Callable[[str], Path]) -> Callable[..., Exported]:
    """Return a function that exports a kind of pipeline in this process; its options are `DiffusersOptions`."""
    made: dict[str, Exported] = {}

    def exported(kind: str, **options: Any) -> Exported:
        key = f"{kind} {sorted(options.items())}"
        if key not in made:
            pipeline, folder = pipelines(kind), tmp_path_factory.mktemp("bundle")
            options = {"parts": folder / "parts", **options}
            chosen = DiffusersOptions(size=(SIZE, SIZE), prompt=PROMPT, engines=[("onnxruntime", "fp32")], **options)
            export_pipeline(pipeline, folder / "tiny", chosen, run=do, say=lambda _: None)
            source = read_folder(pipeline, vae=chosen.vae, lora=chosen.lora, scheduler=chosen.scheduler)
            made[key] = Exported(folder / "tiny", pipeline, make_job(pipeline, source, chosen))
        return made[key]

    return exported
