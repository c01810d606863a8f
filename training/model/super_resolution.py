"""Live video at twice the size: what the last frame has shown is brought along and seen by the next one.

The layout of frame-recurrent super-resolution (Sajjadi et al., arXiv 1801.04590): the last large frame is moved onto
the present one and read beside it. What is different: only brightness passes through the network, at half the size of
the small frame. The motion comes from Lucas and Kanade's equations, which have no weights (`ObservedFlow`). What was
brought along counts only where the last small frame, moved the same way, looks like the present one.

Legend: B batch, h height, w width of the small frame, both multiples of `MULTIPLE` inside the network.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.model.layers import PlanarWarp, conv
from training.model.motion import ObservedFlow

FACTOR = 2
MULTIPLE = 8  # frames of other sizes are continued at their right and lower edge
FRAMES = 16  # pixels of a large frame for each place of the network: 4 x 4
DOUBT = 12.0  # how fast trust falls with the difference of brightness: to a third at a tenth of the range
WINDOW = 9  # side of the areas in which it is asked whether motion explains a change
LEAST_GAIN = 0.003  # of brightness: what following the flow has to gain there
LUMA = (0.2126, 0.7152, 0.0722)  # BT.709
CONTROLS = ("strength", "sharpness", "memory")


class LiveState(NamedTuple):
    """What is carried from frame to frame; zeros at the start."""

    small: Tensor  # (B, 1, h, w) brightness of the last small frame, in [0, 1]
    large: Tensor  # (B, 1, 2h, 2w) brightness of the last large frame, in [0, 1]


class SuperResolver(nn.Module):
    """Small frames -> frames of twice the size.

    Args:
        height: of the small frames in pixels.
        width: the like.
        channels: of the convolutions.
        layers: convolutions between the first and the last.
        remembers: whether the last frame is used; False for a comparison.
    """

    cubic: Tensor
    luma: Tensor

    def __init__(self, height: int, width: int, channels: int = 32, layers: int = 4, *, remembers: bool = True) -> None:
        super().__init__()
        self.height, self.width, self.remembers = height, width, remembers
        self.padded = tuple(-(-side // MULTIPLE) * MULTIPLE for side in (height, width))
        tall, wide = self.padded
        self.observed = ObservedFlow(tall, wide)
        self.warp = PlanarWarp(tall, wide, tall, wide)
        self.warp_large = PlanarWarp(FACTOR * tall, FACTOR * wide, tall, wide)
        self.first = conv(4 + FRAMES + 4, channels)
        self.body = nn.ModuleList(conv(channels, channels) for _ in range(layers))
        self.last = conv(channels, FRAMES + 4)  # new detail, and how much of what was brought along stays
        with torch.no_grad():
            self.last.weight.mul_(0.1)
            assert self.last.bias is not None
            self.last.bias.zero_()
        self.register_buffer("cubic", cubic_kernels(), persistent=False)
        self.register_buffer("luma", torch.tensor(LUMA).reshape(1, 3, 1, 1), persistent=False)

    def initial_state(self, batch: int, device: torch.device | str = "cpu") -> LiveState:
        """Return the state before the first frame: zeros, as the bundle's contract says."""
        tall, wide = self.padded
        return LiveState(
            torch.zeros(batch, 1, tall, wide, device=device),
            torch.zeros(batch, 1, FACTOR * tall, FACTOR * wide, device=device),
        )

    def forward(self, frame: Tensor, state: LiveState, controls: Tensor) -> tuple[Tensor, LiveState]:
        """Return the large frame and the next state.

        Args:
            frame: (B, 3, h, w) RGB in [0, 1].
            state: of the frame before.
            controls: (B, 3): strength (share of what the network adds), sharpness (how much more of the detail that a
                small frame cannot have), memory (share of what was brought along).

        Returns:
            (B, 3, 2h, 2w) RGB in [0, 1], and the state.
        """
        tall, wide = self.padded
        if (tall, wide) != (self.height, self.width):
            frame = F.pad(frame, (0, wide - self.width, 0, tall - self.height), mode="replicate")
        strength, sharpness, memory = (part[:, :, None, None] for part in controls.split(1, dim=1))
        small = (frame * self.luma).sum(dim=1, keepdim=True)
        smooth = self.enlarged(small)
        brought = self.brought(small, smooth, state, memory) if self.remembers else None
        detail = self.detail(small, brought)
        fine = detail - F.interpolate(F.avg_pool2d(detail, FACTOR), scale_factor=float(FACTOR), mode="nearest")
        shown = smooth + strength * (detail + sharpness * fine)
        colour = F.interpolate(frame - small, scale_factor=float(FACTOR), mode="bilinear", align_corners=False)
        picture = (shown + colour)[:, :, : FACTOR * self.height, : FACTOR * self.width]
        return picture.clamp(0.0, 1.0), LiveState(small, (smooth + detail).clamp(0.0, 1.0))

    def enlarged(self, small: Tensor) -> Tensor:
        """Return (B, 1, 2h, 2w), enlarged bicubically, for (B, 1, h, w)."""
        return F.pixel_shuffle(F.conv2d(F.pad(small, (2, 2, 2, 2), mode="replicate"), self.cubic), FACTOR)

    def brought(self, small: Tensor, smooth: Tensor, state: LiveState, memory: Tensor) -> Tensor:
        """Return what is brought along, (B, 20, h/2, w/2): the last frame's detail, and the trust in it, in [0, 1].

        Args:
            small: (B, 1, h, w), brightness.
            smooth: (B, 1, 2h, 2w), the same enlarged.
            state: of the frame before.
            memory: (B, 1, 1, 1).
        """
        flow = self.observed(torch.stack([state.small, small], dim=1))[:, :2]
        flow = F.interpolate(flow, size=small.shape[-2:], mode="bilinear")
        flow = flow * self.pays(state.small, small, flow)
        moved = self.warp(state.small, flow)
        alike = torch.exp(-DOUBT * (moved - small).abs())
        has_past = (state.small.amax(dim=(2, 3), keepdim=True) > 0).to(small.dtype)  # zeros: there was no frame
        trust = memory * has_past * -F.max_pool2d(-alike, 3, 1, 1)  # the least of the neighbours'
        large = self.warp_large(state.large, F.interpolate(flow, scale_factor=float(FACTOR), mode="nearest"))
        detail = (large - smooth) * F.interpolate(trust, scale_factor=float(FACTOR), mode="nearest")
        return torch.cat([F.pixel_unshuffle(detail, 4), F.pixel_unshuffle(trust, 2)], dim=1)

    def pays(self, before: Tensor, small: Tensor, flow: Tensor) -> Tensor:
        """Return how far moving the last frame makes it more like the present one, (B, 1, h, w) in [0, 1].

        Where nothing moves, the flow is noise: following it would blur what was brought along, and make it flicker.

        Args:
            before, small: (B, 1, h, w), brightness.
            flow: (B, 2, h, w), pixels.
        """
        gain = (before - small).abs() - (self.warp(before, flow) - small).abs()
        gain = F.avg_pool2d(gain, WINDOW, 1, WINDOW // 2, count_include_pad=False)
        return ((gain - LEAST_GAIN) * (1 / LEAST_GAIN)).clamp(0.0, 1.0)

    def detail(self, small: Tensor, brought: Tensor | None) -> Tensor:
        """Return what the network adds to the smooth frame, (B, 1, 2h, 2w)."""
        seen = F.pixel_unshuffle(2 * small - 1, 2)
        if brought is None:  # the layers' parts for what is brought along are left out
            x = F.conv2d(seen, self.first.weight[:, :4], self.first.bias, padding=1)
        else:
            x = self.first(torch.cat([seen, brought], dim=1))
        for layer in self.body:
            x = x + layer(F.leaky_relu(x, 0.2))
        x = F.leaky_relu(x, 0.2)
        if brought is None:
            assert self.last.bias is not None
            return F.pixel_shuffle(F.conv2d(x, self.last.weight[:FRAMES], self.last.bias[:FRAMES], padding=1), 4)
        made = self.last(x)
        kept = F.interpolate(F.pixel_shuffle(torch.sigmoid(made[:, FRAMES:]), 2), scale_factor=2.0, mode="nearest")
        return F.pixel_shuffle(made[:, :FRAMES], 4) + kept * F.pixel_shuffle(brought[:, :FRAMES], 4)


def cubic_kernels(sharpness: float = -0.75) -> Tensor:
    """Return the kernels (4, 1, 5, 5) of a bicubic enlargement to twice the size (Keys 1981), in pixel-shuffle order.

    Args:
        sharpness: of the cubic; -0.75 is OpenCV's and PyTorch's.
    """
    kernels = []
    for first in (-0.25, 0.25):  # where the large pixels' centres lie, from that of the small one
        distance = (torch.arange(-2, 3, dtype=torch.float64) - first).abs()
        near = (sharpness + 2) * distance**3 - (sharpness + 3) * distance**2 + 1
        far = sharpness * (distance**3 - 5 * distance**2 + 8 * distance - 4)
        kernels.append(torch.where(distance <= 1, near, torch.where(distance < 2, far, 0.0)))
    pairs = [torch.outer(vertical, across) for vertical in kernels for across in kernels]
    return torch.stack(pairs)[:, None].float()
