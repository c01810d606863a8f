"""A pipeline like SD-turbo with a live input, against diffusers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from export.diffusers.parity import SEED
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
