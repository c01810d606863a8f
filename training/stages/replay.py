"""A replay buffer of rollouts: discriminators see frame 10,000 at the cost of frame 10.

An entry is a rollout: the clip that it started from and the state that it has reached. Every time it is drawn, its
state is advanced, a few frames are rendered and judged, and it goes back with a higher age.

Legend: B batch, N entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from training.model.generator import StepState


class ReplayedRollout(NamedTuple):
    """What a rollout started from; every tensor has no batch dimension."""

    frames: Tensor  # (T, 3, H, W) uint8: its clip
    flow: Tensor  # (2, H/4, W/4)
    sway: Tensor  # (1, H/4, W/4)
    caption: str
    gap: int  # frames between the frames of the clip that are judged


@dataclass
class ReplayEntry:
    """A rollout and its state; `state` has a batch of 1."""

    rollout: ReplayedRollout
    state: StepState
    age: int  # frames


class AgedStates:
    """The buffer.

    Args:
        size: entries at most; the oldest entry is replaced, and one that is too old leaves.
        max_age: frames after which a rollout ends.
    """

    def __init__(self, size: int, max_age: int) -> None:
        self.size, self.max_age = size, max_age
        self.entries: list[ReplayEntry] = []

    def __len__(self) -> int:
        return len(self.entries)

    def draw(self, count: int, layout: tuple[int, ...]) -> list[ReplayEntry]:
        """Take out up to `count` entries at random whose clips have the layout (T, 3, H, W, gap)."""
        fitting = [entry for entry in self.entries if (*entry.rollout.frames.shape, entry.rollout.gap) == layout]
        order = torch.randperm(len(fitting))[:count].tolist()
        drawn = [fitting[index] for index in order]
        self.entries = [entry for entry in self.entries if not any(entry is other for other in drawn)]
        return drawn

    def put(self, entry: ReplayEntry) -> None:
        """Put an entry in, unless it is too old or its state is not finite."""
        if entry.age > self.max_age or not all(bool(torch.isfinite(part).all()) for part in entry.state):
            return
        self.entries.append(entry)
        if len(self.entries) > self.size:
            self.entries.pop(0)

    def mean_age(self) -> float:
        """Return the mean age of the entries in frames; 0 if there are none."""
        return sum(entry.age for entry in self.entries) / max(1, len(self.entries))

    def state_dict(self) -> dict[str, Any]:
        """Return plain data for a checkpoint."""
        return {
            "entries": [
                {"show": tuple(entry.rollout), "state": tuple(entry.state), "age": entry.age} for entry in self.entries
            ]
        }

    def load_state_dict(self, content: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.entries = [
            ReplayEntry(ReplayedRollout(*item["show"]), StepState(*item["state"]), int(item["age"]))
            for item in content["entries"]
        ]
