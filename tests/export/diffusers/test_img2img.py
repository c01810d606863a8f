"""A pipeline like SD-turbo with a live input, against diffusers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from export.diffusers.exporter import seed_noise
from export.diffusers.loading import quiet
from export.diffusers.parity import SEED
from export.diffusers.reference import ReferencePipeline, given_noise
from runtime import Generator
from tests.export.diffusers.comparison import (
    Exported,
    bundle_frames,
    live_frames,
    reference_of,
    worst_db,
)
from tests.export.diffusers.tiny import PROMPT


def test_frames_are_those_of_diffusers(export_tiny: Callable[..., Exported]) -> None:
    exported, live = export_tiny("turbo"), live_frames(50)
    theirs = reference_of(exported, live)
    ours = bundle_frames(exported.bundle, 50, live)
    assert worst_db(ours, theirs) >= 50
    assert worst_db(bundle_frames(exported.bundle, 50, live, precision="fp16"), theirs) >= 30
    assert worst_db(ours[:-1], ours[1:]) < 40, "the frames follow the live input"


def test_strength_is_that_of_diffusers(export_tiny: Callable[..., Exported]) -> None:
    exported, live = export_tiny("turbo"), live_frames(3)
    strong = bundle_frames(exported.bundle, 3, live, strength=0.9)
    assert worst_db(strong, reference_of(exported, live, strength=0.9)) >= 50
    assert worst_db(strong, reference_of(exported, live)) < 40


@pytest.mark.parametrize("strength", [0.5, 0.25])
def test_strength_is_the_own_one_of_the_pipeline(export_tiny: Callable[..., Exported], strength: float) -> None:
    exported, live = export_tiny("turbo"), live_frames(1)
    reference = ReferencePipeline(exported.job)
    noise = torch.from_numpy(seed_noise(reference.noise_shape))
    with quiet(), torch.no_grad(), given_noise(reference.pipeline, [noise]):
        made = reference.pipeline(
            prompt=PROMPT,
            image=live.astype(np.float32) / 255,
            num_inference_steps=round(1 / strength),
            strength=strength,
            guidance_scale=0.0,
            output_type="np",
        ).images
    theirs = [np.floor(picture * 255 + 0.5).astype(np.uint8) for picture in made]
    assert worst_db(bundle_frames(exported.bundle, 1, live, strength=strength), theirs) >= 50


def test_strengths_that_diffusers_cannot_take(export_tiny: Callable[..., Exported]) -> None:
    live, parts = live_frames(2), {}
    for scheduler in ("euler-ancestral", "ddim"):
        exported = export_tiny("turbo", scheduler=scheduler, steps=2, strength=0.7, **parts)
        parts = {"parts": exported.bundle.parent / "parts"}
        for strength in (0.7, 0.9, 0.5):
            ours = bundle_frames(exported.bundle, 2, live, strength=strength)[1:]
            assert worst_db(ours, reference_of(exported, live[:1], strength=strength)) >= 50


def test_words_and_seed_change_frames(export_tiny: Callable[..., Exported]) -> None:
    exported, live = export_tiny("turbo"), live_frames(1)
    with Generator.open(exported.bundle, engine="onnxruntime", precision="fp32") as generator:
        made = {}
        for text, seed in ((PROMPT, SEED), ("a storm", SEED), (PROMPT, SEED + 1)):
            generator.condition(text=text, seed=seed)
            generator.feed_live(live[0])
            made[text, seed] = next(generator).astype(int)
    first = made[PROMPT, SEED]
    assert np.abs(made["a storm", SEED] - first).mean() > 0.5
    assert np.abs(made[PROMPT, SEED + 1] - first).mean() > 2


def test_cross_fade_keeps_equal_noise(export_tiny: Callable[..., Exported]) -> None:
    exported, live = export_tiny("turbo"), live_frames(1)
    with Generator.open(exported.bundle, engine="onnxruntime", precision="fp32") as generator:
        generator.condition(text=PROMPT, seed=SEED)
        generator.feed_live(live[0])
        before = next(generator).copy()
        generator.condition(text=PROMPT, seed=SEED, dissolve_s=0.2)
        during = [next(generator).copy() for _ in range(6)]
    assert worst_db(during, [before] * 6) >= 60


def test_weights_in_fp16(export_tiny: Callable[..., Exported]) -> None:
    exported, full = export_tiny("turbo", precision="fp16"), export_tiny("turbo")
    live = live_frames(3)
    assert worst_db(bundle_frames(exported.bundle, 3, live), reference_of(full, live)) >= 30
    size, full_size = ((item.bundle / "step.onnx").stat().st_size for item in (exported, full))
    assert size < 0.75 * full_size
