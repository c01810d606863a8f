"""Many durations -> the few figures that say how a show would look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Distribution:
    """What a list of durations comes to, in milliseconds; `variation` is the standard deviation over the mean."""

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
        """Summarise durations in milliseconds; percentiles lie between neighbours linearly.

        Raises:
            ValueError: there are none.
        """
        values = np.asarray(durations_ms, np.float64)
        if values.size == 0:
            raise ValueError("there is nothing to summarise: measure at least one frame")
        p50, p90, p95, p99 = np.percentile(values, [50, 90, 95, 99]).tolist()
        mean = float(values.mean())
        variation = float(values.std()) / mean if mean else 0.0
        return cls(float(values.min()), p50, p90, p95, p99, float(values.max()), mean, variation)

    def to_json(self) -> dict[str, float]:
        """Return the milliseconds, rounded to 0.1 microseconds."""
        names = {
            "min": "minimum",
            "p50": "p50",
            "p90": "p90",
            "p95": "p95",
            "p99": "p99",
            "max": "maximum",
            "mean": "mean",
        }
        return {short: round(float(getattr(self, name)), 4) for short, name in names.items()}
