"""The interface of a pretraining task and its inputs.

A task returns views (frames for the shared encoder), gets their levels and computes a loss from them. The views of all
tasks go through the encoder in one pass.

Legend: B clips of this process, G clips of the global batch, T frames of a clip, N frames of views, H height, W width.
"""

from __future__ import annotations

import dataclasses
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.config import Config
from training.data.footage import Batch
from training.data.words import WordVectors
from training.model.generator import VideoGenerator
from training.model.perceptual import PerceptualDistance
from training.model.trunk import Levels, previous_rows


class Clips(NamedTuple):
    """One batch on the device that trains."""

    frames: Tensor  # (B, T, 3, H, W) RGB in [0, 1]; the first is the clip's first frame
    flow: Tensor  # (B, 2, H/4, W/4): mean optical flow over the horizon, pixels per frame
    offsets: list[int]  # of the T frames, counted from the first
    captions: list[str]
    labels: list[str]
    names: list[str]
    sway: Tensor  # (B, 1, H/4, W/4): swing about the mean motion over the horizon, root mean square, pixels

    @classmethod
    def of(cls, batch: Batch, offsets: Sequence[int], device: torch.device | str = "cpu") -> Clips:
        """Return a batch of the loader as floats on a device."""
        frames = batch.frames.to(device, non_blocking=True).float() / 255.0
        flow = batch.flow.to(device, non_blocking=True)
        sway = batch.sway.to(device, non_blocking=True)
        return cls(frames, flow, list(offsets), batch.captions, batch.labels, batch.names, sway)


class Draw:
    """Random numbers for the rows of this process, independent of the number of processes.

    Every process draws the numbers of the whole global batch and takes its rows, so the loss curve of N processes is
    that of one.

    Args:
        key: seed of the stream; equal keys give equal numbers.
        total: G.
        first: number of this process's first row in the global batch.
        count: B.
        device: of the result; numbers are always drawn on the CPU.
    """

    def __init__(
        self, key: tuple[object, ...], total: int, first: int, count: int, device: torch.device | str = "cpu"
    ) -> None:
        self.key, self.total, self.rows, self.device = key, total, slice(first, first + count), device
        self.generator = torch.Generator().manual_seed(zlib.crc32(repr(key).encode()))

    @property
    def count(self) -> int:
        """Return B."""
        return self.rows.stop - self.rows.start

    def fork(self, name: str) -> Draw:
        """Return a separate stream for a task, so that tasks do not affect each other's numbers."""
        return Draw((*self.key, name), self.total, self.rows.start, self.count, self.device)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Return (B, *shape) float32 in [low, high)."""
        return (low + (high - low) * self._cut(torch.rand(self.total, *shape, generator=self.generator))).float()

    def normal(self, *shape: int) -> Tensor:
        """Return (B, *shape) float32, standard normal."""
        return self._cut(torch.randn(self.total, *shape, generator=self.generator))

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Return (B, *shape) int64 from `low` to `high` (exclusive)."""
        return self._cut(torch.randint(low, high, (self.total, *shape), generator=self.generator))

    def permutations(self, length: int) -> Tensor:
        """Return (B, length) int64, each row a permutation."""
        return self._cut(torch.rand(self.total, length, generator=self.generator).argsort(dim=1))

    def _cut(self, numbers: Tensor) -> Tensor:
        return numbers[self.rows].to(self.device)


@dataclass
class Views:
    """Frames that a task needs encoded, and the targets of its loss."""

    frames: Tensor  # (N, 3, H, W) in [0, 1]
    previous: Tensor  # (N,) the row of the frame before, its own row if there is none
    truth: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def clips(cls, frames: Tensor, **truth: Tensor) -> Views:
        """Return views of clips (B, T, 3, H, W), frame after frame."""
        return cls(frames.flatten(0, 1), previous_rows(*frames.shape[:2]).to(frames.device), truth)

    @classmethod
    def pictures(cls, frames: Tensor, **truth: Tensor) -> Views:
        """Return views of independent pictures (N, 3, H, W)."""
        return cls(frames, torch.arange(len(frames), device=frames.device), truth)

    @classmethod
    def joined(cls, parts: Sequence[Views]) -> Views:
        """Return the concatenated frames of several views, without targets."""
        starts = np.cumsum([0, *(len(part.frames) for part in parts)])
        previous = [part.previous + int(start) for part, start in zip(parts, starts, strict=False)]
        return cls(torch.cat([part.frames for part in parts]), torch.cat(previous))


@dataclass(frozen=True)
class TaskMeasure:
    """One measure on held-out footage, with chance and a trivial baseline to compare it with."""

    task: str
    name: str
    value: float
    better: str  # "higher" or "lower"
    chance: float | None = None
    baseline: float | None = None
    baseline_name: str = ""
    unit: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return dataclasses.asdict(self)


class HeldOutClips(NamedTuple):
    """One batch of held-out clips with a task's views."""

    clips: Clips
    views: Views
    levels: Levels
    draw: Draw


class TaskEvaluation:
    """Held-out clips and the encoder to evaluate on them.

    Args:
        generator: has the encoder; in evaluation mode.
        batches: held-out clips.
        seed: of the draws; equal seeds give equal views.
    """

    def __init__(self, generator: VideoGenerator, batches: Sequence[Clips], seed: int) -> None:
        self.generator, self.batches, self.seed = generator, batches, seed

    def by(self, generator: VideoGenerator) -> TaskEvaluation:
        """Return the same evaluation of another encoder."""
        return TaskEvaluation(generator, self.batches, self.seed)

    def batches_of(self, task: PretrainingTask) -> Iterator[HeldOutClips]:
        """Yield every batch with the task's views and their levels."""
        for number, clips in enumerate(self.batches):
            count = len(clips.frames)
            draw = Draw((self.seed, "held out", number, task.name), count, 0, count, clips.frames.device)
            views = task.views(clips, draw)
            yield HeldOutClips(clips, views, self.generator.condition.encoder.trunk(views.frames, views.previous), draw)


class PretrainingTask(nn.Module, ABC):
    """One way to learn from video without labels: one file and one line in `training.tasks.table.TASKS`."""

    name: str  # its key in TASKS and in the configuration's [pretrain] section
    weight: float  # of its loss, if the configuration does not say; 0: off
    needs_generator = False  # True: the loss trains the whole generator and not only the encoder

    @classmethod
    def create(cls, config: Config, perceptual: PerceptualDistance | None, words: WordVectors | None) -> Self:
        """Return the task of a run; override it if the constructor takes more than the configuration.

        Args:
            config: of the run, for the size of frames that is trained on.
            perceptual: LPIPS, if the user gave its weights.
            words: word vectors, if the user gave them.

        Raises:
            ValueError: the task needs something that was not given.
        """
        del perceptual, words
        return cls(config)

    @abstractmethod
    def views(self, clips: Clips, draw: Draw) -> Views:
        """Return the frames for the shared encoder."""

    @abstractmethod
    def loss(
        self, generator: VideoGenerator, levels: Levels, views: Views, clips: Clips, draw: Draw
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss, a mean over clips, and metrics to log."""

    @abstractmethod
    def measure(self, held: TaskEvaluation) -> list[TaskMeasure]:
        """Return the task's measures on held-out footage, with chance and a trivial baseline."""

    def pictures(self, held: TaskEvaluation) -> dict[str, tuple[np.ndarray, str]]:
        """Return pictures of held-out clips: name -> (uint8 RGB (h, w, 3), caption)."""
        del held
        return {}


def recoloured(frames: Tensor, draw: Draw) -> Tensor:
    """Change brightness, contrast and saturation of a clip (B, T, 3, H, W), the same way in all its frames."""
    spread = (frames.shape[0], 1, 1, 1, 1)
    brightness = draw.uniform(low=-0.15, high=0.15).reshape(spread)
    contrast = draw.uniform(low=0.7, high=1.3).reshape(spread)
    saturation = draw.uniform(low=0.5, high=1.5).reshape(spread)
    grey = frames.mean(dim=2, keepdim=True)
    frames = grey + saturation * (frames - grey)
    mean = grey.mean(dim=(1, 3, 4), keepdim=True)
    return (mean + contrast * (frames - mean) + brightness).clamp(0.0, 1.0)


def mirrored(frames: Tensor, draw: Draw) -> Tensor:
    """Mirror half of the clips (B, T, 3, H, W) left to right."""
    return torch.where(draw.uniform().reshape(-1, 1, 1, 1, 1) < 0.5, frames.flip(-1), frames)


def jittered(frames: Tensor, pixels: int, draw: Draw) -> Tensor:
    """Shift every frame separately by up to `pixels` in x and y; borders repeat the edge.

    Args:
        frames: (B, T, 3, H, W).
        pixels: largest shift; 0: none.
        draw: of the task.
    """
    if pixels == 0:
        return frames
    batch, length, _, height, width = frames.shape
    padded = F.pad(frames.flatten(0, 1), (pixels,) * 4, mode="replicate")
    moves = draw.integers(0, 2 * pixels + 1, length, 2).flatten(0, 1).tolist()
    cut = [picture[:, y : y + height, x : x + width] for picture, (x, y) in zip(padded, moves, strict=True)]
    return torch.stack(cut).unflatten(0, (batch, length))
