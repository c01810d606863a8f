"""Which layers are quantised: all but the sensitive ones, which stay in float until a bundle's parity passes.

Layers are put into at most `MAX_GROUPS` groups of neighbours. Each group is quantised alone, and its error at the
graph's outputs measured. A rung of the ladder allows a sum of squared errors, a quarter less than the rung before: the
groups with the smallest squared error for the work that they save are taken first, and those that do not fit are left
out. The first rung that passes is found by bisection: at most `MAX_TRIES` bundles are played.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnx

from export.parity.checks import ParityCheck

MAX_GROUPS = 48
MAX_TRIES = 8  # one with all groups, and a bisection of the rungs
MAX_RUNGS = 64
RUNG = 0.75  # squared error that a rung allows, of the rung before
RANKING_FEEDS = 3  # sets of inputs with which a group's error is measured

Array = np.ndarray[Any, Any]
Feeds = Mapping[str, Array]
Evaluate = Callable[[onnx.ModelProto, Sequence[Feeds]], list[list[Array]]]  # outputs for each set of inputs
Play = Callable[[Collection[str]], list[ParityCheck]]


class GraphQuantiser(Protocol):
    """What the ladder needs of `export.int8.quantiser.Quantiser`."""

    @property
    def model(self) -> onnx.ModelProto:
        """The graph in FP32."""

    @property
    def work(self) -> Mapping[str, int]:
        """Products that each layer computes, in the order of the graph."""

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
    """One bundle that was played: its rung, the quantised layers, and the comparisons."""

    rung: int
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


def ranking_feeds(feeds: Sequence[Feeds]) -> list[Feeds]:
    """Return the few sets of inputs, evenly spaced, with which groups are ranked."""
    return [feeds[index] for index in np.linspace(0, len(feeds) - 1, min(RANKING_FEEDS, len(feeds))).astype(int)]


def rank_groups(
    quantiser: GraphQuantiser, feeds: Sequence[Feeds], evaluate: Evaluate, advance: Callable[[float], None]
) -> list[Group]:
    """Return the groups of layers, the least expensive first.

    Args:
        quantiser: of the step graph.
        feeds: inputs to measure with; `ranking_feeds` are taken.
        evaluate: runs a graph.
        advance: called with the completed share, 0 to 1.
    """
    chosen = ranking_feeds(feeds)
    wanted = evaluate(quantiser.model, chosen)
    names = list(quantiser.work)
    parts = [tuple(part) for part in np.array_split(np.array(names, object), min(MAX_GROUPS, len(names)))]
    groups = []
    for layers in parts:
        found = evaluate(quantiser.quantise_plainly(layers), chosen)
        error = max(
            _error(ours, theirs)
            for row, other in zip(found, wanted, strict=True)
            for ours, theirs in zip(row, other, strict=True)
        )
        groups.append(Group(layers, sum(quantiser.work[name] for name in layers), error))
        advance(len(groups) / len(parts))
    return sorted(groups, key=lambda group: group.price)


def rungs(groups: Sequence[Group]) -> list[tuple[str, ...]]:
    """Return the layers that each rung quantises, all of them on the first one; no two rungs are the same.

    Args:
        groups: as `rank_groups` returns them.
    """
    allowed = sum(group.error**2 for group in groups)
    found: list[tuple[str, ...]] = [tuple(name for group in groups for name in group.layers)]
    for _ in range(MAX_RUNGS - 1):
        allowed *= RUNG
        left, layers = allowed, list[str]()
        for group in groups:
            if group.error**2 <= left:
                left -= group.error**2
                layers += group.layers
        if layers and tuple(layers) != found[-1]:
            found.append(tuple(layers))
    return found


def climb(groups: Sequence[Group], play: Play, report: Callable[[Try], object]) -> Try | None:
    """Return the first rung that passed, of those that were tried; None if none did.

    Args:
        groups: as `rank_groups` returns them.
        play: writes and plays a bundle with these layers quantised, and compares its frames.
        report: called after each try.
    """
    ladder = rungs(groups)
    found: Try | None = None
    failing, passing, rung = -1, len(ladder), 0
    for _ in range(MAX_TRIES):
        tried = Try(rung, ladder[rung], tuple(play(ladder[rung])))
        report(tried)
        if tried.passed:
            found, passing = tried, rung
        else:
            failing = rung
        if passing - failing <= 1:
            break
        rung = (failing + passing) // 2
    return found


def _error(ours: Array, theirs: Array) -> float:
    wanted = theirs.astype(np.float64)
    span = float(wanted.max() - wanted.min()) or 1.0
    return float(np.sqrt(np.mean((ours.astype(np.float64) - wanted) ** 2))) / span
