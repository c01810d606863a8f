"""The values of controls that no manifest has, e.g. those of a composite or of the sound."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

from runtime.bundle.controls import ControlSpec


class ControlValues:
    """The values of some controls; thread-safe.

    Args:
        specs: the controls; their defaults are the first values.
    """

    def __init__(self, specs: Sequence[ControlSpec]) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self._lock = threading.Lock()
        self._values = {spec.name: spec.default for spec in specs}

    def copy(self) -> dict[str, float]:
        """Return the values by name."""
        with self._lock:
            return dict(self._values)

    def check(self, name: str, value: float) -> None:
        """Raise ValueError unless there is such a control and the value is in its range."""
        spec = self._specs.get(name)
        if spec is None:
            raise ValueError(f"there is no control {name}; expected {', '.join(self._specs)}")
        if not math.isfinite(value) or not spec.minimum <= value <= spec.maximum:
            raise ValueError(f"{name} must be from {spec.minimum} to {spec.maximum}, got {value}")

    def set(self, name: str, value: float) -> None:
        """Set a value; raises ValueError as `check` does."""
        self.check(name, value)
        with self._lock:
            self._values[name] = float(value)
