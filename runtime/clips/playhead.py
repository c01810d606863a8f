"""Where a clip is playing: it runs on, and jumps now and then to a moment that looks alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy
from typing import NamedTuple

from runtime.clips.jumps import Jump

_REST_S = 1.0  # after a jump, until another one is as likely as ever
_MAX_STEP = 3.0  # frames at once
_FORGET_S = 12.0  # after which what was seen may well be seen again; 1.5 times as long as the clip if that is more
_AHEAD_S = 2.0  # of what follows a place that count
_BIN_S = 0.5  # in which it is known when something was seen
_WORST = 4.0  # logarithm of the least weight of a costly jump: if all others are stale, it is made
_STALE = 0.02  # weight of a jump to what was seen just now
_PLACE = (
    "_head", "_played", "_made", "_seen", "_position", "_since", "_jump", "_progress", "_faded", "_is_new"
)  # fmt: skip


class Moment(NamedTuple):
    """What is shown: one place of the clip, or two during a jump.

    Args:
        position: frame that plays, with a fraction.
        other: frame that is faded to; None outside of a jump.
        share: of the other one, 0 to 1.
        jump: number of the jump; -1 outside of one.
    """

    position: float
    other: float | None = None
    share: float = 0.0
    jump: int = -1


class Playhead:
    """The place in one clip; deterministic for the same steps and draws.

    Args:
        jumps: of the clip, sorted by source, and the last source must be reachable from every target. Empty if they are
            not known yet: see `learn`.
        fps: frames per second of the clip.
        head: frames that are played before any jump; at most the last source.
    """

    def __init__(self, jumps: Sequence[Jump], fps: float, head: int = 0) -> None:
        self._fps, self._head = fps, head
        self._bin, self._num_ahead = max(1.0, _BIN_S * fps), max(1, round(_AHEAD_S / _BIN_S))
        self._rest = _REST_S * fps
        self._played = 0.0  # frames
        self._made: dict[int, float] = {}  # number of a jump -> when it was made last, in frames played
        self._seen: dict[int, float] = {}  # number of a bin of frames -> when it was seen last, in frames played
        self._position, self._since = 0.0, 0.0  # the frame, and frames since the last jump
        self._jump, self._progress, self._faded = -1, 0.0, 0.0
        self._is_new = True
        self._jumps: tuple[Jump, ...] = ()
        if jumps:
            self.learn(jumps)

    @property
    def place(self) -> dict[str, object]:
        """Where it is, as plain values that belong to the caller."""
        return {name: copy(getattr(self, name)) for name in _PLACE}

    def go_to(self, place: Mapping[str, object]) -> None:
        """Go on from a place of a playhead in the same clip.

        Raises:
            ValueError: the place has other values.
        """
        if place.keys() != set(_PLACE):
            raise ValueError(f"a place in a clip has {', '.join(_PLACE)}; got {', '.join(place)}")
        for name in _PLACE:
            setattr(self, name, copy(place[name]))

    @property
    def needs_jumps(self) -> bool:
        """Whether the next step may end beyond the head, so that the jumps have to be known."""
        return not self._jumps and self._position + _MAX_STEP >= self._head

    def learn(self, jumps: Sequence[Jump]) -> None:
        """Set the jumps; what is played does not depend on when that is, if it is before `needs_jumps`."""
        self._jumps = tuple(jumps)
        self._last = max(jump.source for jump in jumps)
        back = [number for number, jump in enumerate(jumps) if jump.target < jump.source]
        self._best_back = min(back, key=lambda number: self._jumps[number].future)
        costs = sorted(jump.future for jump in jumps)
        self._least, self._spread = costs[0], max(1e-6, costs[len(costs) // 2] - costs[0])
        self._forget = max(_FORGET_S * self._fps, 1.5 * self._last)

    def advance(self, step: float, draw: float, variety: float) -> Moment:
        """Go on by one frame of the show.

        Args:
            step: frames of the clip, at least 0; the first call stays at frame 0.
            draw: uniform in [0, 1).
            variety: how readily it jumps: 0 repeats the best loop, 1 takes most jumps.
        """
        step = min(max(step, 0.0), _MAX_STEP)
        if self._is_new:
            self._is_new = False
            return Moment(0.0)
        self._played += step
        if self._jump >= 0:
            self._progress += step
            self._faded += max(step, 1.0)  # two moments are never frozen over each other
            jump = self._jumps[self._jump]
            if self._faded >= jump.length:
                self._position = jump.target + self._progress
                self._jump, self._since = -1, 0.0
        else:
            before = self._position
            self._position += step
            self._since += step
            number = self._choose(before, draw, variety)
            if number >= 0:
                self._jump, self._progress = number, self._position - self._jumps[number].source
                self._made[number], self._faded = self._played, self._progress
        if self._jump < 0:
            self._seen[int(self._position / self._bin)] = self._played
            return Moment(self._position)
        jump = self._jumps[self._jump]
        share = min(1.0, self._faded / jump.length)
        return Moment(
            jump.source + self._progress,
            jump.target + self._progress,
            share * share * (3 - 2 * share),  # smooth at both ends
            self._jump,
        )

    def _choose(self, before: float, draw: float, variety: float) -> int:
        """Return the jump to make now; -1 for none."""
        if self._position < self._head:
            return -1
        self._head = 0
        here = [number for number, jump in enumerate(self._jumps) if before < jump.source <= self._position]
        if self._position >= self._last and not here:  # beyond the last source, e.g. after a large step
            here = [number for number, jump in enumerate(self._jumps) if jump.source == self._last]
        if not here:
            return -1
        must = self._position >= self._last
        if variety <= 0:
            return self._best_back if self._best_back in here else here[0] if must else -1
        weights = [self._weight(number, variety) for number in here]
        ahead = [number for number, jump in enumerate(self._jumps) if jump.source > self._position]
        best = max([*weights, *(self._weight(number, variety) for number in ahead)])
        rested = min(1.0, self._since / self._rest)
        landing = self._landing(here[weights.index(max(weights))])
        newer = math.sqrt(min(1.0, self._freshness(landing) / self._freshness(self._position)))  # than what comes next
        chance = 1.0 if must else min(1.0, variety * rested * newer * max(weights) / best)
        if draw >= chance:
            return -1
        scaled = draw / chance * sum(weights)
        for number, weight in zip(here, weights, strict=True):
            scaled -= weight
            if scaled < 0:
                return number
        return here[-1]

    def _weight(self, number: int, variety: float) -> float:
        """Return how much a jump is wanted: by its cost, and by when it was made last, so that no loop repeats.

        What it leads to counts as well: what was not seen for long is wanted.
        """
        width = (0.2 + 2 * variety) * self._spread
        made = self._made.get(number)
        fresh = 1.0 if made is None else max(_STALE, min(1.0, (self._played - made) / self._forget) ** 2)
        cost = min(_WORST, (self._jumps[number].future - self._least) / width)
        return math.exp(-cost) * fresh * math.sqrt(self._freshness(self._landing(number)))

    def _landing(self, number: int) -> float:
        return float(self._jumps[number].target + self._jumps[number].length)

    def _freshness(self, place: float) -> float:
        """Return from `_STALE` to 1 how long ago it was that what follows a place was seen."""
        first, end = int(place / self._bin), int(self._last / self._bin) + 1
        ahead = [self._seen.get(number) for number in range(first, max(first + 1, min(first + self._num_ahead, end)))]
        ages = [1.0 if seen is None else min(1.0, (self._played - seen) / self._forget) for seen in ahead]
        return max(_STALE, sum(age * age for age in ages) / len(ages))
