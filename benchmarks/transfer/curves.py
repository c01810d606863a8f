"""Runs in groups -> curves with an interval over seeds, and what may be said of their ends. Arithmetic alone."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

STARTS = ("none", "image", "video")  # in this order in tables and pictures; other names come after them
# Student's t, 97.5 %, by degrees of freedom (any table of it); the last one, a little wide, for all beyond.
T_975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True)
class CurveFigure:
    """One thing that is measured at every snapshot."""

    key: str
    title: str
    better: str  # "lower" or "higher"
    scale: float = 1.0  # of the axis and the tables
    digits: int = 3


FIGURES = (
    CurveFigure("mmd2", "I3D distance to held-out clips (MMD2 x 1000)", "lower", 1000.0, 1),
    CurveFigure("closer", "share of clips closer to the real one than their repeated first frame", "higher", 1.0, 2),
    CurveFigure("flow error", "flow error, held-out", "lower"),
    CurveFigure("sway error", "sway error, held-out", "lower"),
    CurveFigure("code PSNR", "pictures given back from their code (PSNR, dB), held-out", "higher", 1.0, 2),
    CurveFigure("by heart", "how much the critics know by heart", "lower", 1.0, 2),
)
FLOORS = {"flow error": "standing still"}  # of heldout.jsonl: what doing nothing gives

Curve = Mapping[int, float]  # iteration -> value


def group_of(run: Path) -> str:
    """Return the group that a folder's name tells: none, image or video as a word of it, or it without its number."""
    name = run.resolve().name
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word in STARTS]
    if len(set(words)) == 1:
        return words[0]
    return re.sub(r"[-_.]?(seed)?[-_.]?\d+$", "", name) or name


def parse_groups(runs: Sequence[Path], groups: Sequence[str]) -> dict[str, list[Path]]:
    """Return the runs of every group.

    Args:
        runs: whose folder names tell their group.
        groups: "NAME=RUN,RUN,RUN" each.

    Raises:
        ValueError: a group cannot be read, a run is named twice, or there are fewer than two groups.
    """
    found: dict[str, list[Path]] = {}
    for run in runs:
        found.setdefault(group_of(run), []).append(run)
    for text in groups:
        name, equals, rest = text.partition("=")
        named = [Path(part.strip()) for part in rest.split(",") if part.strip()]
        if not equals or not name.strip() or not named:
            raise ValueError(f'--group is "{text}", expected NAME=RUN,RUN,RUN')
        found.setdefault(name.strip(), []).extend(named)
    every = [run.resolve() for runs_of in found.values() for run in runs_of]
    for run in every:
        if every.count(run) > 1:
            raise ValueError(f"{run} is named twice: every run counts once")
    if len(found) < 2:
        raise ValueError(
            f"there is nothing to compare: {len(every)} runs in {len(found)} group{'s' * (len(found) != 1)} "
            f"({', '.join(found) or 'none'}); name runs of two or more groups, or say which is which with --group"
        )
    order = {name: place for place, name in enumerate(STARTS)}
    return {name: found[name] for name in sorted(found, key=lambda name: (order.get(name, len(STARTS)), name))}


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return mean, low and high: Student's t at 95 % over the runs (Student 1908); (mean, nan, nan) for one run."""
    array = np.asarray(values, np.float64)
    mean = float(array.mean())
    if len(array) < 2:
        return mean, math.nan, math.nan
    t = T_975[min(len(array) - 1, len(T_975)) - 1]
    half = t * float(array.std(ddof=1)) / math.sqrt(len(array))
    return mean, mean - half, mean + half


@dataclass(frozen=True)
class CurveLine:
    """One group's curve of one figure; `values[i]` are the runs' at `iterations[i]`."""

    iterations: list[int]
    values: list[list[float]]
    mean: list[float]
    low: list[float]
    high: list[float]

    @classmethod
    def of(cls, curves: Sequence[Curve]) -> CurveLine:
        """Join the runs' curves at the iterations that all of them have: a mean must not change its runs on the way."""
        common = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
        values = [[curve[iteration] for curve in curves] for iteration in common]
        mean, low, high = (list(column) for column in zip(*map(interval, values), strict=True)) if values else ([],) * 3
        return cls(common, values, mean, low, high)

    def to_json(self) -> dict[str, Any]:
        """Return plain data; what is not a number becomes None."""
        bounds = {name: [_finite(value) for value in getattr(self, name)] for name in ("mean", "low", "high")}
        return {"iterations": self.iterations, "values": self.values, **bounds}


def summarise(figure: CurveFigure, lines: Mapping[str, CurveLine]) -> dict[str, Any]:
    """Compare the groups at the last iteration that all of them have.

    Returns:
        `iteration`, `groups` (mean, low, high each), `pairs` (the two, whether their intervals overlap) and `sentence`;
        an iteration of None where there is none.
    """
    common = set.intersection(*(set(line.iterations) for line in lines.values()))
    if not common:
        return {
            "iteration": None,
            "groups": {},
            "pairs": [],
            "sentence": f"{figure.title}: no iteration that all have.",
        }
    last = max(common)
    ends: dict[str, dict[str, float]] = {}
    for name, line in lines.items():
        place = line.iterations.index(last)
        ends[name] = {"mean": line.mean[place], "low": line.low[place], "high": line.high[place]}
    pairs = []
    for one, two in itertools.combinations(ends, 2):
        a, b = ends[one], ends[two]
        bounds = (a["low"], a["high"], b["low"], b["high"])
        overlap = None if any(map(math.isnan, bounds)) else a["low"] <= b["high"] and b["low"] <= a["high"]
        pairs.append({"groups": [one, two], "overlap": overlap})
    plain = {name: {key: _finite(value) for key, value in end.items()} for name, end in ends.items()}
    return {"iteration": last, "groups": plain, "pairs": pairs, "sentence": _sentence(figure, last, ends, pairs)}


def _sentence(
    figure: CurveFigure, last: int, ends: Mapping[str, Mapping[str, float]], pairs: Sequence[Mapping[str, Any]]
) -> str:
    told = ", ".join(f"{name} {text(figure, end)}" for name, end in ends.items())
    head = f"{figure.title}, {figure.better} is better, at iteration {last}: {told}"
    unknown = [pair["groups"] for pair in pairs if pair["overlap"] is None]
    together = [pair["groups"] for pair in pairs if pair["overlap"] is True]
    apart = [pair["groups"] for pair in pairs if pair["overlap"] is False]
    parts = []
    if apart:
        winners = []
        for one, two in apart:
            is_lower = ends[one]["mean"] < ends[two]["mean"]
            winner, loser = (one, two) if is_lower == (figure.better == "lower") else (two, one)
            winners.append(f"{winner} is better than {loser}")
        parts.append(f"{_and(winners)} with intervals that do not overlap")
    if together:
        names = _and(["/".join(pair) for pair in together])
        parts.append(f"the intervals of {names} overlap: no difference is shown")
    if unknown:
        names = _and(["/".join(pair) for pair in unknown])
        parts.append(f"of {names} nothing can be said: one run has no interval")
    return f"{head}: {'; '.join(parts)}."


def text(figure: CurveFigure, end: Mapping[str, float | None]) -> str:
    """Return a mean with its interval, for people."""
    mean, low, high = (end[key] for key in ("mean", "low", "high"))
    assert mean is not None
    bounds = "one run"
    if low is not None and high is not None and not math.isnan(low):
        bounds = f"{low * figure.scale:.{figure.digits}f} to {high * figure.scale:.{figure.digits}f}"
    return f"{mean * figure.scale:.{figure.digits}f} ({bounds})"


def _and(parts: Sequence[str]) -> str:
    return ", ".join(parts[:-1]) + (" and " if len(parts) > 1 else "") + parts[-1]


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
