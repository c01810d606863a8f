"""Percentiles of many durations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Distribution:
    """Figures of many durations in milliseconds; `variation` is the standard deviation over the mean."""

    minimum: float
    p50: float
    p90: float
    p95: float
    p99: float
    maximum: float
    mean: float
    variation: float

    @classmethod
    def of(cls, durations_ms: Sequence[float]) -> Distribution:
        """Summarise durations in milliseconds; percentiles are interpolated linearly.

        Raises:
            ValueError: there are none.
        """
        values = np.asarray(durations_ms, np.float64)
        if values.size == 0:
            raise ValueError("no durations to summarise: measure at least one frame")
        p50, p90, p95, p99 = np.percentile(values, [50, 90, 95, 99]).tolist()
        mean = float(values.mean())
        variation = float(values.std()) / mean if mean else 0.0
        return cls(float(values.min()), p50, p90, p95, p99, float(values.max()), mean, variation)

    def to_json(self) -> dict[str, float]:
        """Return the milliseconds, rounded to 0.1 microseconds."""
        names = {"min": "minimum", "max": "maximum"}
        keys = ("min", "p50", "p90", "p95", "p99", "max", "mean")
        return {key: round(float(getattr(self, names.get(key, key))), 4) for key in keys}
