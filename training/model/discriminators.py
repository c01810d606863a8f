"""The discriminators: one judges single pictures (and their captions), one judges short clips.

A discriminator is the encoder of pretraining, with its weights or without, and a head on each of its levels. It trains
as a whole.

Legend: B batch, T frames of a clip, C channels, H height, W width.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.model.layers import ResidualBlock, conv
from training.model.trunk import Levels, Trunk, previous_rows

HEAD = 48  # channels
LOUDER = 4.0  # differences between frames, beside the frames themselves


class DiscriminatorOutput(NamedTuple):
    """The output of a discriminator; larger logits are more real."""

    logits: list[Tensor]  # per level (B, N); the last one (B, 1) is for the whole
    features: list[Tensor]  # per level (B, C, h, w), for feature matching
    summary: Tensor  # (B, HEAD), for captions

    def take(self, start: int, stop: int) -> DiscriminatorOutput:
        """Return the verdict on rows `start` to `stop` (exclusive)."""
        return DiscriminatorOutput(
            [part[start:stop] for part in self.logits],
            [part[start:stop] for part in self.features],
            self.summary[start:stop],
        )


class Discriminator(nn.Module):
    """Judges clips of a fixed number of frames at every level of the encoder.

    Args:
        frames: T; 1 for single pictures.
        scale: factor on the encoder's channels.
        depth: residual blocks at each of its levels.
        text_dimensions: of captions' vectors, 0 for none.
    """

    def __init__(self, frames: int, scale: float, depth: int, text_dimensions: int = 0) -> None:
        super().__init__()
        self.frames = frames
        self.trunk = Trunk(scale, depth)
        *fine, coarsest = self.trunk.channels
        self.heads = nn.ModuleList(
            nn.Sequential(conv(frames * width, HEAD), ResidualBlock(HEAD), nn.LeakyReLU(0.2), conv(HEAD, 1))
            for width in fine
        )
        self.whole = nn.Linear(frames * coarsest, HEAD)
        self.from_gap = nn.Linear(1, HEAD)
        self.to_whole = nn.Linear(HEAD, 1)
        # A projection discriminator (Miyato and Koyama 2018, eq. 3): how well the caption fits is an inner product.
        self.from_text = nn.Linear(text_dimensions, HEAD, bias=False) if text_dimensions else None

    def forward(self, clips: Tensor, gap: int = 1) -> DiscriminatorOutput:
        """Judge clips, without their captions.

        Args:
            clips: (B, T, 3, H, W) RGB in [0, 1].
            gap: frames between one frame of a clip and the next.
        """
        batch, count = clips.shape[:2]
        chain = previous_rows(batch, count).to(clips.device) if count > 1 else None
        levels = self.trunk(clips.flatten(0, 1), chain)
        stacked = Levels(*(self._stack(level.unflatten(0, (batch, count))) for level in levels))
        *fine, coarsest = stacked
        logits = [
            head(F.leaky_relu(level, 0.2)).flatten(1).float() for head, level in zip(self.heads, fine, strict=True)
        ]
        log_gap = torch.full((1, 1), math.log(gap), device=clips.device)
        pooled = F.leaky_relu(coarsest, 0.2).mean(dim=(2, 3))
        summary = F.leaky_relu(self.whole(pooled) + self.from_gap(log_gap), 0.2)
        return DiscriminatorOutput([*logits, self.to_whole(summary).float()], list(stacked), summary.float())

    def _stack(self, level: Tensor) -> Tensor:
        """(B, T, C, h, w) -> (B, T * C, h, w): the first frame, then what changes from frame to frame, louder."""
        if level.shape[1] == 1:
            return level[:, 0]
        changes = LOUDER * (level[:, 1:] - level[:, :-1])
        return torch.cat([level[:, :1], changes], dim=1).flatten(1, 2)

    def with_captions(self, verdict: DiscriminatorOutput, texts: Tensor) -> DiscriminatorOutput:
        """Return the verdict on pictures under their captions, (B, D) unit vectors or zeros."""
        if self.from_text is None:
            return verdict
        fit = (verdict.summary * self.from_text(texts).float()).sum(dim=1, keepdim=True) / math.sqrt(HEAD)
        return verdict._replace(logits=[*verdict.logits[:-1], verdict.logits[-1] + fit])


def augment(clips: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Change colour and place of each clip, the same for all its frames (DiffAugment, arXiv 2006.10738).

    Args:
        clips: (B, T, 3, H, W) in [0, 1]; gradients flow through.
        generator: source of randomness.
    """
    batch, _, _, height, width = clips.shape

    def uniform(low: float, high: float) -> Tensor:
        values = torch.rand(batch, 1, 1, 1, 1, generator=generator)
        return (low + (high - low) * values).to(clips.device)

    clips = clips + uniform(-0.2, 0.2)
    grey = clips.mean(dim=2, keepdim=True)
    clips = grey + (clips - grey) * uniform(0.4, 1.6)
    mean = clips.mean(dim=(1, 2, 3, 4), keepdim=True)
    clips = mean + (clips - mean) * uniform(0.7, 1.3)
    reach_y, reach_x = height // 8, width // 8
    padded = F.pad(clips.flatten(0, 1), (reach_x, reach_x, reach_y, reach_y)).reshape(
        batch, -1, 3, height + 2 * reach_y, width + 2 * reach_x
    )
    tops = torch.randint(0, 2 * reach_y + 1, (batch,), generator=generator).tolist()
    lefts = torch.randint(0, 2 * reach_x + 1, (batch,), generator=generator).tolist()
    moved = [
        padded[index, :, :, top : top + height, left : left + width]
        for index, (top, left) in enumerate(zip(tops, lefts, strict=True))
    ]
    return torch.stack(moved)
