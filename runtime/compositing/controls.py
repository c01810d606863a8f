"""The controls of a composite."""

from __future__ import annotations

from collections.abc import Mapping

from runtime.bundle.controls import ControlSpec


def _spec(name: str, description: str, unit: str, values: tuple[float, float, float], index: int) -> ControlSpec:
    return ControlSpec(f"matte.{name}", description, unit, *values, "step", index)


# The first ones are the stage's (`runtime.compositing.stage.CONTROLS`). Values: lowest, highest, default.
SPECS = (
    _spec("feather", "width of the person's edge; 0 is hard", "of the matte", (0.0, 1.0, 0.5), 0),
    _spec("threshold", "where the person ends; higher cuts closer", "of the matte", (0.1, 0.9, 0.35), 1),
    _spec("x", "shift of the person to the right", "of the frame's width", (-1.0, 1.0, 0.0), 2),
    _spec("y", "shift of the person downwards", "of the frame's height", (-1.0, 1.0, 0.0), 3),
    _spec("size", "size of the person; the middle of the lower edge stays", "of the input", (0.25, 2.0, 1.0), 4),
    _spec("wrap", "light from behind over the person's edge; 0 is none", "of all", (0.0, 1.0, 0.0), 5),
    _spec("tone", "brightness, contrast and tint from behind; 0 is the person's own", "of the way", (0.0, 1.0, 0.0), 6),
)


def edge_of(values: Mapping[str, float]) -> tuple[float, float]:
    """Return feather and threshold; the feather is narrowed so that a matte of 0 is nobody, and one of 1 a person."""
    threshold = values["matte.threshold"]
    return min(values["matte.feather"], 2 * threshold, 2 - 2 * threshold), threshold
