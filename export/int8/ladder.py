"""Which layers are quantised: all but the sensitive ones, which stay in float until a bundle's parity passes.

Layers are put into at most `MAX_GROUPS` groups of neighbours. Each group is quantised alone, and its error at the
graph's outputs measured; the groups with the largest squared error for the work that they save leave first. The number
of groups that have to leave is found by bisection: at most `MAX_TRIES` bundles are played.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnx

from export.parity.checks import ParityCheck

MAX_GROUPS = 48
MAX_TRIES = 8  # one with all groups, and a bisection of the rest
RANKING_FEEDS = 3  # sets of inputs with which a group's error is measured

Array = np.ndarray[Any, Any]
Feeds = Mapping[str, Array]
Evaluate = Callable[[onnx.ModelProto, Sequence[Feeds]], list[list[Array]]]  # outputs for each set of inputs
Play = Callable[[Collection[str]], list[ParityCheck]]


class GraphQuantiser(Protocol):
    """What the ladder needs of `export.int8.quantiser.Quantiser`."""

    model: onnx.ModelProto
    work: Mapping[str, int]

    def quantise_plainly(self, layers: Collection[str]) -> onnx.ModelProto:
        """Return the graph with some layers quantised."""


@dataclass(frozen=True)
class Group:
    """Neighbouring layers, and what quantising them alone costs and saves.

    Args:
        layers: their names.
        work: products that they compute.
        error: of the graph's worst output, as a share of its range (root mean square).
    """

    layers: tuple[str, ...]
    work: int
    error: float

    @property
    def price(self) -> float:
        """The squared error for each product."""
        return self.error**2 / max(1, self.work)


@dataclass(frozen=True)
class Try:
    """One bundle that was played: how many groups stayed in float, the quantised layers, and the comparisons."""

    in_float: int
    layers: tuple[str, ...]
    checks: tuple[ParityCheck, ...]

    @property
    def passed(self) -> bool:
        """Whether every engine passed."""
        return all(check.passed for check in self.checks)

    @property
    def worst_db(self) -> float:
        """The PSNR of the worst frame."""
        return min(check.worst for check in self.checks)


def rank_groups(
    quantiser: GraphQuantiser, feeds: Sequence[Feeds], evaluate: Evaluate, advance: Callable[[float], None]
) -> list[Group]:
    """Return the groups of layers, the least expensive first.

    Args:
        quantiser: of the step graph.
        feeds: inputs to measure with, evenly spaced ones are taken.
        evaluate: runs a graph.
        advance: called with the completed share, 0 to 1.
    """
    chosen = [feeds[index] for index in np.linspace(0, len(feeds) - 1, min(RANKING_FEEDS, len(feeds))).astype(int)]
    wanted = evaluate(quantiser.model, chosen)
    names = list(quantiser.work)
    parts = [tuple(part) for part in np.array_split(np.array(names, object), min(MAX_GROUPS, len(names)))]
    groups = []
    for layers in parts:
        found = evaluate(quantiser.quantise_plainly(layers), chosen)
        error = max(
            _error(ours, theirs) for row, other in zip(found, wanted, strict=True) for ours, theirs in zip(row, other, strict=True)
        )
        groups.append(Group(layers, sum(quantiser.work[name] for name in layers), error))
        advance(len(groups) / len(parts))
    return sorted(groups, key=lambda group: group.price)


def climb(groups: Sequence[Group], play: Play, report: Callable[[Try], object]) -> Try | None:
    """Return the try with the most quantised groups that passed; None if none did.

    Args:
        groups: as `rank_groups` returns them.
        play: writes and plays a bundle with these layers quantised, and compares its frames.
        report: called after each try.
    """

    def attempt(in_float: int) -> Try:
        kept = groups[: len(groups) - in_float]
        layers = tuple(name for group in kept for name in group.layers)
        tried = Try(in_float, layers, tuple(play(layers)))
        report(tried)
        return tried

    best = attempt(0)
    if best.passed:
        return best
    found: Try | None = None
    failing, passing = 0, len(groups)  # nothing is quantised in the last one, so it needs no try
    for _ in range(MAX_TRIES - 1):
        if passing - failing <= 1:
            break
        tried = attempt((failing + passing) // 2)
        if tried.passed:
            found, passing = tried, tried.in_float
        else:
            failing = tried.in_float
    return found


def _error(ours: Array, theirs: Array) -> float:
    wanted = theirs.astype(np.float64)
    span = float(wanted.max() - wanted.min()) or 1.0
    return float(np.sqrt(np.mean((ours.astype(np.float64) - wanted) ** 2))) / span
