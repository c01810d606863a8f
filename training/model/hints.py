"""Motion hints: sparse motion vectors and two brushes that a user draws on a picture.

Sparse vectors and a brush control the flow of a picture in Mahapatra and Kulkarni, Controllable Animation of Fluid
Elements (CVPR 2022), who spread the vectors with Gaussians before the network sees them. Here the vectors are spread
by normalised convolution (Knutsson and Westin, CVPR 1993) at several scales, and the network corrects the result.
Without hints every term of this file is exactly zero: a generator moves as if it had never learned about hints.

Legend: B batch, C channels, h, w height and width of the work size / 8. Motion is in pixels of the work size per frame.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.model.layers import conv, resize

CHANNELS = 5  # of hints: motion x and y, 1 where a vector is given, 1 under the still brush, 1 under the moving brush
SIDES = (15, 7, 3)  # sides of the box blurs in cells, each applied twice; before them comes the mean of all vectors
PREVIOUS = 0.1  # weight of the coarser scale's motion beside a vector of weight 1 in the same cell
MAPS = CHANNELS + 2 + len(SIDES)
SLOWEST = 0.05  # pixels per frame; maps show motion as a share of the fastest vector's, or of this
TRUST = 2.0  # logit with which the spread vectors replace the network's own flow before training


class HintMaps(NamedTuple):
    """What hints say about every cell."""

    maps: Tensor  # (B, MAPS, h, w): the hints, the spread motion, and how near vectors are at every scale
    dense: Tensor  # (B, 2, h, w): the spread motion, zeros without a vector
    brushes: Tensor  # (B, 2, h, w) in [0, 1]: the still and the moving brush
    has_hint: Tensor  # (B, 1, 1, 1): 1 if there is any vector or stroke
    has_vector: Tensor  # (B, 1, 1, 1): 1 if there is any vector
    speed: Tensor  # (B, 1, 1, 1): the largest motion in x or y of a vector, pixels per frame


def spread(hints: Tensor) -> tuple[Tensor, Tensor]:
    """Spread sparse vectors over the picture, from coarse to fine; no weight is learned.

    At each scale the blurred vectors are divided by the blurred mask of where they are, and the result of the coarser
    scale fills what is far from every vector. In its own cell a vector stays as it is.

    Args:
        hints: (B, `CHANNELS`, h, w) float32.

    Returns:
        Motion (B, 2, h, w), zeros if there is no vector; nearness (B, len(`SIDES`), h, w) in [0, 1] at each scale, 1 in
        a vector's cell.
    """
    given = hints[:, 2:3]
    weighted = torch.cat([hints[:, :2] * given, given], dim=1)  # (B, 3, h, w)
    # Sums and not means: a mean over all cells of one vector would be rounded to nothing in FP16.
    total = weighted.sum(dim=(2, 3), keepdim=True)
    motion = total[:, :2] / total[:, 2:].clamp(min=1.0)
    nearness = []
    for side in SIDES:
        near = weighted
        for _ in range(2):
            near = side * F.avg_pool2d(near, side, 1, side // 2)  # after both: 1 in the cell of a single vector
        motion = (near[:, :2] + PREVIOUS * motion) / (near[:, 2:] + PREVIOUS)
        nearness.append(near[:, 2:].clamp(max=1.0))
    motion = motion + given * (hints[:, :2] - motion)
    return motion, torch.cat(nearness, dim=1)


def hint_maps(hints: Tensor) -> HintMaps:
    """Return what hints (B, `CHANNELS`, h, w) say about every cell, in FP32 whatever the autocast."""
    with torch.autocast(hints.device.type, enabled=False):
        hints = hints.float()
        dense, nearness = spread(hints)
        given = hints[:, 2:3]
        vectors = hints[:, :2] * given
        # Speeds are relative, so that what is learned from slow footage holds for fast vectors.
        speed = vectors.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=SLOWEST)
        maps = torch.cat([vectors / speed, hints[:, 2:], dense / speed, nearness], dim=1)
        has_hint = hints[:, 2:].amax(dim=(1, 2, 3), keepdim=True).clamp(0.0, 1.0)
        has_vector = given.amax(dim=(1, 2, 3), keepdim=True).clamp(0.0, 1.0)
        return HintMaps(maps, dense, hints[:, 3:5], has_hint, has_vector, speed)


class HintReader(nn.Module):
    """The layers that read hints. Their last convolutions start at zero, so that training starts from what was learned.

    Args:
        channels8: of the encoder's features at 1/8.
        motion8: channels of the motion's features at 1/8.
        motion4: the like at 1/4.
    """

    def __init__(self, channels8: int, motion8: int, motion4: int) -> None:
        super().__init__()
        self.first8 = conv(channels8 + MAPS, motion8)
        self.second8 = conv(motion8, motion8)
        self.to4 = conv(MAPS, motion4)
        self.gate = conv(motion4 + MAPS, 1)
        self.correction = conv(motion4 + MAPS, 2)
        for layer in (self.second8, self.to4, self.gate, self.correction):
            nn.init.zeros_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            assert self.gate.bias is not None
            self.gate.bias.fill_(TRUST)

    def at8(self, features: Tensor, told: HintMaps) -> Tensor:
        """Return what hints add to the motion's features at 1/8, for the encoder's features (B, C, h, w)."""
        seen = torch.cat([features, told.maps.to(features.dtype)], dim=1)
        hidden = F.leaky_relu(self.first8(seen), 0.2)
        return self.second8(hidden) * told.has_hint

    def at4(self, told: HintMaps, height: int, width: int) -> Tensor:
        """Return what hints add to the motion's features at 1/4, (B, C, height, width)."""
        return self.to4(resize(told.maps, height, width)) * told.has_hint

    def moved(self, flow: Tensor, free: Tensor, features: Tensor, told: HintMaps) -> tuple[Tensor, Tensor]:
        """Return the flow and the freedom to move with hints.

        The brushes act on the freedom directly and not through a layer alone: a stroke is an order, and what is
        learned from strokes over real footage never contradicts the picture, as a user may.

        Args:
            flow: (B, 2, H/4, W/4), the network's own, pixels per frame.
            free: (B, 1, H/4, W/4) in [0, 1], the network's own.
            features: (B, C, H/4, W/4), the motion's features.
            told: of the hints.
        """
        height, width = flow.shape[2:]
        maps = resize(told.maps, height, width)
        seen = torch.cat([features, maps.to(features.dtype)], dim=1)
        trust = torch.sigmoid(self.gate(seen).float())
        spread_motion = resize(told.dense, height, width) + told.speed * torch.tanh(self.correction(seen).float())
        flow = flow + told.has_vector * trust * (spread_motion - flow)
        still, moving = resize(told.brushes, height, width).split(1, dim=1)
        free = (free + moving * (1 - free)) * (1 - still)
        return flow, free
