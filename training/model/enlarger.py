"""The enlarger: makes the pictures that the painter has made four times as large, once per scene.

Legend: B batch, C channels, h height, w width of the small picture.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.model.layers import conv, repeat_subpixels

FACTOR = 4


class Enlarger(nn.Module):
    """Plain convolutions at the small size, one pixel shuffle, and a bilinear enlargement beside them.

    The layout of Real-ESRGAN's compact network (arXiv 2107.10833, section 4, "tiny" models), narrower.

    Args:
        channels: C.
        layers: convolutions between the first and the last.
    """

    def __init__(self, channels: int = 32, layers: int = 10) -> None:
        super().__init__()
        self.first = conv(3, channels)
        self.body = nn.ModuleList(conv(channels, channels) for _ in range(layers))
        self.last = conv(channels, 3 * FACTOR**2)
        with torch.no_grad():
            self.last.weight.mul_(0.1)
            self.last.bias.zero_()
        repeat_subpixels(self.last, FACTOR)

    @property
    def reach(self) -> int:
        """How many small pixels away a pixel may change another one."""
        return len(self.body) + 2

    def forward(self, picture: Tensor) -> Tensor:
        """Return (B, 3, FACTOR h, FACTOR w) for (B, 3, h, w), both RGB in [0, 1] but for small overshoots."""
        x = self.first(2 * picture - 1)
        for layer in self.body:
            x = x + layer(F.leaky_relu(x, 0.2))
        detail = F.pixel_shuffle(self.last(F.leaky_relu(x, 0.2)), FACTOR)
        smooth = F.interpolate(picture, scale_factor=float(FACTOR), mode="bilinear", align_corners=False)
        return smooth + detail

    def whole(self, picture: Tensor) -> Tensor:
        """Return `forward` of a whole picture: its edges are repeated, so that they have no rim; in [0, 1]."""
        margin = self.reach
        large = self(F.pad(picture, (margin, margin, margin, margin), mode="replicate"))
        inner = slice(margin * FACTOR, -margin * FACTOR)
        return large[:, :, inner, inner].clamp(0.0, 1.0)
