"""A pipeline like SDXL-turbo: two text encoders, pooled embeddings, two steps of ancestral Euler; against diffusers."""

from __future__ import annotations

from collections.abc import Callable

from tests.export.diffusers.comparison import (
    Exported,
    bundle_frames,
    live_frames,
    reference_of,
    worst_db,
)


def test_two_encoders_are_those_of_diffusers(export_tiny: Callable[..., Exported]) -> None:
    exported, live = export_tiny("sdxl", steps=2), live_frames(51)
    theirs = reference_of(exported, live[:50])
    assert worst_db(bundle_frames(exported.bundle, 51, live)[1:], theirs) >= 50
    assert worst_db(bundle_frames(exported.bundle, 51, live, precision="fp16")[1:], theirs) >= 30
