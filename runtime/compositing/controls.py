"""The controls of a composite: what there is, and their values, from any thread."""

from __future__ import annotations

import math
import threading
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


class ControlValues:
    """The values of the controls; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values = {spec.name: spec.default for spec in SPECS}

    def copy(self) -> dict[str, float]:
        """Return the values by name."""
        with self._lock:
            return dict(self._values)

    def check(self, name: str, value: float) -> None:
        """Raise ValueError unless there is such a control and the value is in its range."""
        spec = next((spec for spec in SPECS if spec.name == name), None)
        if spec is None:
            raise ValueError(f"there is no control {name}; expected {', '.join(spec.name for spec in SPECS)}")
        if not math.isfinite(value) or not spec.minimum <= value <= spec.maximum:
            raise ValueError(f"{name} must be from {spec.minimum} to {spec.maximum}, got {value}")

    def set(self, name: str, value: float) -> None:
        """Set a value; raises ValueError as `check` does."""
        self.check(name, value)
        with self._lock:
            self._values[name] = float(value)


def edge_of(values: Mapping[str, float]) -> tuple[float, float]:
    """Return feather and threshold; the feather is narrowed so that a matte of 0 is nobody, and one of 1 a person."""
    threshold = values["matte.threshold"]
    return min(values["matte.feather"], 2 * threshold, 2 - 2 * threshold), threshold
