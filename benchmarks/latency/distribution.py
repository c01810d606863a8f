"""Percentiles of many durations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def percentiles(durations_ms: Sequence[float]) -> dict[str, float]:
    """Return min, p50, p90, p95, p99, max and mean of durations in milliseconds, rounded to 0.1 microseconds.

    Raises:
        ValueError: there are none.
    """
    values = np.asarray(durations_ms, np.float64)
    if values.size == 0:
        raise ValueError("no durations to summarise: measure at least one frame")
    names = ("min", "p50", "p90", "p95", "p99", "max")
    found = dict(zip(names, np.percentile(values, [0, 50, 90, 95, 99, 100]).tolist(), strict=True))
    return {name: round(value, 4) for name, value in {**found, "mean": float(values.mean())}.items()}
