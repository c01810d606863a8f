"""Finds the places at which a clip can jump without being noticed.

Video textures (Schoedl, Szeliski, Salesin and Essa, SIGGRAPH 2000): two moments look alike if several consecutive
frames do, and a jump is as good as its own cost and the best jumps that can follow it. Here a jump is a short dissolve,
so costs are compared over its whole length.

Legend: N frames, D values of a frame's description.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
LENGTH_S = 0.3  # of a jump's dissolve
LEAST_S = 1.5  # between the two sides of a jump: shorter ones repeat visibly
MOST = 40  # jumps of a clip
LIMIT = 1.7  # cost up to which a jump counts as unseen, in ordinary steps
WAY_LIMIT = 4.5  # the like, of a long dissolve without which a part of the clip would never be seen again
WAY_S = 1.0  # its length
WAYS_FROM_S = 4.0  # length of a clip from which on they are made: shorter ones repeat anyhow
_HOME, _LATE = 0.25, 0.8  # shares of a clip: from the last part, the first one must be reached
_FUTURE = 0.9  # weight of the jumps that can follow, for each jump


@dataclass(frozen=True)
class Jump:
    """A dissolve from one moment of a clip to another.

    Args:
        source, target: frames at which the two sides begin.
        length: frames of the dissolve.
        cost: how much the sides differ, in ordinary steps from frame to frame.
        future: the cost, and that of the best jumps that can follow, each weighted less than the one before.
    """

    source: int
    target: int
    length: int
    cost: float
    future: float = 0.0


def distances(descriptions: Floats) -> Floats:
    """Return the root mean squared differences of descriptions (N, D), float32 (N, N)."""
    flat = descriptions.reshape(len(descriptions), -1).astype(np.float64)
    products = flat @ flat.T
    squares = np.diag(products)
    found = np.sqrt(np.maximum(squares[:, None] + squares - 2 * products, 0) / flat.shape[1])
    return found.astype(np.float32)


def ordinary_step(distance: Floats) -> float:
    """Return the 95th percentile of the distances between consecutive frames, above 0."""
    return max(1e-6, float(np.percentile(np.diag(distance, 1), 95)))


def find_jumps(distance: Floats, fps: float, *, limit: float = LIMIT) -> tuple[Jump, ...]:
    """Find the jumps of a clip.

    Args:
        distance: float32 (N, N) of all frames, from `distances`.
        fps: frames per second of the clip.
        limit: the highest cost.

    Returns:
        At most `MOST` jumps by which the clip can play on for ever, and the long dissolves that it needs to be seen as
        a whole, sorted by source; empty if there are no jumps.
    """
    length = jump_length(len(distance), fps)
    cost = _windowed(distance, length) / ordinary_step(distance)
    least = min(round(LEAST_S * fps), len(distance) // 3)
    rows, columns = np.indices(cost.shape)
    cost[np.abs(rows - columns) < least] = np.inf
    found = [Jump(int(i), int(j), length, float(cost[i, j])) for i, j in _minima(cost)]
    apart = max(3, length // 2)
    good = [jump for jump in found if jump.cost <= limit]
    kept = _without_dead_ends(_spread(good, apart, MOST))
    if kept and len(distance) >= WAYS_FROM_S * fps:
        kept = _without_traps(_with_ways_back(kept, distance, fps))
    return _with_future(kept)


def find_dissolve(distance: Floats, fps: float, seconds: float = 1.0) -> Jump:
    """Return the best long dissolve from the end of a clip to its beginning, for a clip without jumps.

    Args:
        distance: as for `find_jumps`.
        fps: frames per second of the clip.
        seconds: its length; at most a third of the clip.
    """
    count = len(distance)
    length = max(2, min(round(seconds * fps), count // 3))
    cost = _windowed(distance, length) / ordinary_step(distance)
    ends = len(cost)
    late, early = max(ends - 1 - count // 8, 2 * ends // 3), max(1, count // 8)
    part = cost[late:, :early]
    row, column = np.unravel_index(int(part.argmin()), part.shape)
    jump = Jump(late + int(row), int(column), length, float(part[row, column]))
    return replace(jump, future=jump.cost)


def jump_length(count: int, fps: float) -> int:
    """Return the frames of a jump's dissolve in a clip of `count` frames."""
    return max(2, min(round(LENGTH_S * fps), count // 6))


def _windowed(distance: Floats, length: int) -> Floats:
    """Return the mean distance over the frames of a dissolve that begins at each pair of frames."""
    size = len(distance) - length
    total = np.zeros((size, size), np.float32)
    for shift in range(length + 1):
        total += distance[shift : shift + size, shift : shift + size]
    return total / np.float32(length + 1)


def _minima(cost: Floats) -> npt.NDArray[np.intp]:
    """Return the pairs (K, 2) whose cost is the least in their neighbourhood."""
    padded = np.pad(cost, 2, constant_values=np.inf)
    size = len(cost)
    around = np.min(
        [padded[y : y + size, x : x + size] for y in range(5) for x in range(5) if (y, x) != (2, 2)], axis=0
    )
    return np.argwhere(np.isfinite(cost) & (cost <= around))


def _spread(jumps: list[Jump], apart: int, most: int) -> list[Jump]:
    """Return the best jumps, at most `most`, no two of which have both sides close together.

    Half of the places are for jumps back, without which nothing is endless. Those that cost the same are taken from all
    over the clip.
    """
    kept: list[Jump] = []
    counts = {True: 0, False: 0}
    for jump in sorted(
        jumps, key=lambda jump: (round(jump.cost, 2), (7919 * jump.source + 104729 * jump.target) % 1009)
    ):
        is_back = jump.target < jump.source
        is_new = all(
            abs(jump.source - other.source) >= apart or abs(jump.target - other.target) >= apart for other in kept
        )
        if is_new and counts[is_back] < most // 2:
            kept.append(jump)
            counts[is_back] += 1
    return kept


def _without_dead_ends(jumps: list[Jump]) -> list[Jump]:
    """Return the jumps after which another jump can always be reached; none if there is no jump back."""
    while jumps:
        last = max(jump.source for jump in jumps)
        alive = [jump for jump in jumps if jump.target + jump.length < last]
        if len(alive) == len(jumps):
            break
        jumps = alive
    return jumps if any(jump.target < jump.source for jump in jumps) else []


def earliest(jumps: Sequence[Jump], place: int) -> int:
    """Return the first frame that can be reached from a place by playing on and jumping."""
    reached = place
    while True:
        first = min((jump.target + jump.length for jump in jumps if jump.source > reached), default=reached)
        if first >= reached:
            return reached
        reached = first


def _with_ways_back(jumps: list[Jump], distance: Floats, fps: float) -> list[Jump]:
    """Return jumps and the long dissolves by which the beginning can be reached from everywhere, also from the end.

    Without them, a clip could play two seconds of it again and again, and never its end.
    """
    length = max(2, min(round(WAY_S * fps), len(distance) // 4))
    cost = _windowed(distance, length) / ordinary_step(distance)
    found, home = list(jumps), max(round(_HOME * len(distance)), length + len(distance) // 8)
    for place in sorted({round(_LATE * len(cost)), *(jump.target + jump.length for jump in jumps)}, reverse=True):
        reached = earliest(found, place)
        columns = [column for column in range(len(cost)) if earliest(found, column + length) <= home]
        first = min(reached + round(WAY_S * fps / 2), (reached + len(cost)) // 2) + 1  # not too soon after a jump
        if reached <= home or first >= len(cost) or not columns:
            continue
        wanted = cost[first:, columns] * (1 + np.array(columns) / len(cost))  # rather far back
        row, number = np.unravel_index(int(wanted.argmin()), wanted.shape)
        source, target = first + int(row), columns[int(number)]
        if cost[source, target] <= WAY_LIMIT:
            found.append(Jump(source, target, length, float(cost[source, target])))
    return found


def _without_traps(jumps: list[Jump]) -> list[Jump]:
    """Return the jumps after which everything can be reached that could be reached before them."""
    while jumps:
        first = min(jump.target + jump.length for jump in jumps)
        free = [jump for jump in jumps if earliest(jumps, jump.target + jump.length) <= first]
        if len(free) == len(jumps):
            break
        jumps = _without_dead_ends(free)
    return jumps


def _with_future(jumps: list[Jump]) -> tuple[Jump, ...]:
    """Return the jumps, sorted by source, with the costs of the best ones that can follow (Schoedl et al., eq. 2)."""
    jumps = sorted(jumps, key=lambda jump: (jump.source, jump.target))
    own = np.array([jump.cost**2 for jump in jumps])
    total = own.copy()
    ends = [jump.target + jump.length for jump in jumps]
    first = [next(k for k, other in enumerate(jumps) if other.source > end) for end in ends]
    for _ in range(60 if jumps else 0):
        best = np.minimum.accumulate(total[::-1])[::-1]  # of the jumps from each one on
        total = own + _FUTURE * best[first]
    return tuple(replace(jump, future=float(value)) for jump, value in zip(jumps, total, strict=True))
