"""The causal video encoder that every pretraining task, the conditioner and the recogniser of content codes share.

A 2-D network with causal temporal shift (TSM, arXiv 1811.08383, section 3.2, the one-directional form): in every
residual block an eighth of the channels comes from the frame before. The shift has no weights, so a still picture is a
clip that stands still, and the generator uses the pretrained weights as they are.

Legend: N frames of one or many clips, C channels, H height, W width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.model.layers import ResidualBlock, conv

CHANNELS = (32, 48, 64, 96, 96)  # at 1/2, 1/4, 1/8, 1/16 and 1/32 of the size
SHIFTED = 8  # one channel in so many comes from the frame before


class Levels(NamedTuple):
    """What the encoder knows about each frame, from fine to coarse."""

    x4: Tensor  # (N, C4, H/4, W/4)
    x8: Tensor  # (N, C8, H/8, W/8)
    x16: Tensor  # (N, C16, H/16, W/16)
    x32: Tensor  # (N, C32, H/32, W/32)

    def rows(self, start: int, stop: int) -> Levels:
        """Return the levels of frames `start` to `stop` (exclusive)."""
        return Levels(*(level[start:stop] for level in self))


def causal_shift(x: Tensor, previous: Tensor | None) -> Tensor:
    """Take the first eighth of the channels from the frame before.

    Args:
        x: (N, C, H, W).
        previous: (N,) for each frame the row of the frame before it, its own row where there is none; None: no frame
            has one, which changes nothing.
    """
    if previous is None:
        return x
    count = x.shape[1] // SHIFTED
    return torch.cat([x[previous, :count], x[:, count:]], dim=1)


def previous_rows(clips: int, frames: int) -> Tensor:
    """Return `previous` for clips laid one after another, (clips * frames,) int64."""
    rows = torch.arange(clips * frames)
    return torch.where(rows % frames == 0, rows, rows - 1)


class CausalBlock(ResidualBlock):
    """Residual block whose first convolution also sees the frame before; the way past it stays untouched."""

    def forward(self, x: Tensor, previous: Tensor | None = None) -> Tensor:
        """Return a tensor of the shape of x (N, C, H, W)."""
        hidden = self.first(F.leaky_relu(causal_shift(x, previous), 0.2))
        return x + self.second(F.leaky_relu(hidden, 0.2))


class Trunk(nn.Module):
    """Frames -> levels.

    Args:
        scale: factor on all channels; 10 makes a hundred times the parameters.
        depth: residual blocks at each of the four levels.
    """

    def __init__(self, scale: float = 1.0, depth: int = 1) -> None:
        super().__init__()
        stem, *channels = (max(8, 8 * round(width * scale / 8)) for width in CHANNELS)
        self.channels = tuple(channels)
        self.stem = conv(12, stem)  # 1/2
        self.downs = nn.ModuleList(
            conv(before, after, stride=2) for before, after in zip((stem, *channels), channels, strict=False)
        )
        self.blocks = nn.ModuleList(nn.ModuleList(CausalBlock(width) for _ in range(depth)) for width in channels)

    def forward(self, picture: Tensor, previous: Tensor | None = None, beside: Tensor | None = None) -> Levels:
        """Return the levels of frames.

        Args:
            picture: (N, 3, H, W) in [0, 1].
            previous: as in `causal_shift`.
            beside: (N, C, H/2, W/2) added behind the first layer: what else is known of the frames; None for nothing.
        """
        x = self.stem(F.pixel_unshuffle(2 * picture - 1, 2))
        if beside is not None:
            x = x + beside
        levels = []
        for down, blocks in zip(self.downs, self.blocks, strict=True):
            x = down(F.leaky_relu(x, 0.2))
            for block in blocks:
                x = block(x, previous)
            levels.append(x)
        return Levels(*levels)
