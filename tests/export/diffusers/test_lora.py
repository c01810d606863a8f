"""LoRA weights, fused at the export, against diffusers, which applies them beside the weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from export.diffusers.loading import quiet
from export.diffusers.reference import ReferencePipeline
from tests.export.diffusers.comparison import (
    Exported,
    bundle_frames,
    live_frames,
    reference_of,
    worst_db,
)
from tests.export.diffusers.tiny import write_lora

SCALE = 0.7


def test_fused_weights_are_those_of_diffusers(
    export_tiny: Callable[..., Exported], pipelines: Callable[[str], Path], tmp_path: Path
) -> None:
    file = write_lora(tmp_path, pipelines("turbo"))
    exported, live = export_tiny("turbo", lora=((file, SCALE),)), live_frames(50)
    reference = ReferencePipeline(dataclasses.replace(exported.job, lora=()))
    plain = reference_of(exported, live[:3], reference)
    with quiet():
        reference.pipeline.load_lora_weights(file.parent, weight_name=file.name, adapter_name="style")
        reference.pipeline.set_adapters("style", SCALE)
    theirs = reference_of(exported, live, reference)
    ours = bundle_frames(exported.bundle, 50, live)
    assert worst_db(ours, theirs) >= 50
    assert worst_db(bundle_frames(exported.bundle, 50, live, precision="fp16"), theirs) >= 30
    assert worst_db(ours[:3], plain) < 45, "the LoRA changes frames"
