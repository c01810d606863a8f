"""A latent consistency model with four steps as a stream batch, against diffusers."""

from __future__ import annotations

from collections.abc import Callable

from tests.export.diffusers.comparison import (
    Exported,
    bundle_frames,
    live_frames,
    reference_of,
    worst_db,
)

DELAY = 3  # frames that four steps take


def test_four_steps_are_those_of_diffusers(export_tiny: Callable[..., Exported]) -> None:
    exported, live = export_tiny("lcm", steps=4), live_frames(50 + DELAY)
    theirs = reference_of(exported, live[:50])
    ours = bundle_frames(exported.bundle, 50 + DELAY, live)[DELAY:]
    assert worst_db(ours, theirs) >= 50
    half = bundle_frames(exported.bundle, 50 + DELAY, live, precision="fp16")[DELAY:]
    assert worst_db(half, theirs) >= 30
    assert worst_db(ours[1:], theirs[:-1]) < 40, "each frame is that of its own live picture"


def test_guidance_and_strength(export_tiny: Callable[..., Exported]) -> None:
    exported, live = export_tiny("lcm", steps=4), live_frames(2 + DELAY)
    changed = bundle_frames(exported.bundle, 2 + DELAY, live, guidance=3.0, strength=0.8)[DELAY:]
    assert worst_db(changed, reference_of(exported, live[:2], guidance=3.0, strength=0.8)) >= 50
    assert worst_db(changed, reference_of(exported, live[:2], guidance=8.0, strength=0.8)) < 50
