"""Building blocks that the generator and the discriminator share.

Legend: B batch, C channels, H height, W width, K oscillator modes.
Everything exports to plain ONNX: fixed shapes, no control flow, no kernels computed at run time.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv(
    in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, padding_mode: str = "zeros"
) -> nn.Conv2d:
    """Return a padded convolution that keeps the size (or divides it by `stride`)."""
    return nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, padding_mode=padding_mode)


@torch.no_grad()
def repeat_subpixels(layer: nn.Conv2d, factor: int = 2) -> None:
    """Start a layer before a pixel shuffle so that it repeats pixels: no checkerboard to unlearn (ICNR, 1707.02937)."""
    blocks = layer.weight[:: factor**2].clone()
    layer.weight.copy_(blocks.repeat_interleave(factor**2, dim=0))


class FiLMBlock(nn.Module):
    """Residual block of two 3x3 convolutions, modulated between them (FiLM, Perez et al. 2018, eq. 1).

    Modulating the activation instead of the kernel (StyleGAN2) keeps the weights constant, which every engine asks for.
    """

    def __init__(self, channels: int, style_channels: int, padding_mode: str = "zeros") -> None:
        super().__init__()
        self.first = conv(channels, channels, padding_mode=padding_mode)
        self.second = conv(channels, channels, padding_mode=padding_mode)
        self.modulation = nn.Linear(style_channels, 2 * channels)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        with torch.no_grad():
            self.second.weight.mul_(0.3)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Return x (B, C, H, W) plus its modulated residual; style is (B, S)."""
        scale, shift = self.modulation(style)[:, :, None, None].chunk(2, dim=1)
        hidden = self.first(F.leaky_relu(x, 0.2))
        hidden = hidden * (1 + scale) + shift
        return x + self.second(F.leaky_relu(hidden, 0.2))


class ResidualBlock(nn.Module):
    """Residual block of two 3x3 convolutions, pre-activated."""

    def __init__(self, channels: int, padding_mode: str = "zeros") -> None:
        super().__init__()
        self.first = conv(channels, channels, padding_mode=padding_mode)
        self.second = conv(channels, channels, padding_mode=padding_mode)
        with torch.no_grad():
            self.second.weight.mul_(0.3)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of x (B, C, H, W)."""
        return x + self.second(F.leaky_relu(self.first(F.leaky_relu(x, 0.2)), 0.2))


def upsample(x: Tensor) -> Tensor:
    """Double the size by repeating pixels: (B, C, H, W) -> (B, C, 2H, 2W)."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def enlarge(x: Tensor) -> Tensor:
    """Double the size bilinearly: (B, C, H, W) -> (B, C, 2H, 2W); smoother than `upsample`, and dearer."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def resize(x: Tensor, height: int, width: int) -> Tensor:
    """Resize bilinearly, corners not aligned: (B, C, h, w) -> (B, C, height, width)."""
    return F.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)


def pixel_grid(height: int, width: int) -> Tensor:
    """Return the base sampling grid (1, height, width, 2) in [-1, 1], x first, as `grid_sample` wants it."""
    y = (torch.arange(height, dtype=torch.float32) + 0.5) * (2.0 / height) - 1.0
    x = (torch.arange(width, dtype=torch.float32) + 0.5) * (2.0 / width) - 1.0
    return torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)[None].contiguous()


class Warp(nn.Module):
    """Backward warp at one resolution, with its base grid as a constant.

    TensorRT-RTX fails to build a graph whose second grid is a Resize of the first, so every resolution keeps its own
    grid and only displacements are resized.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, height: int, width: int, frame_height: int, frame_width: int) -> None:
        super().__init__()
        grid = pixel_grid(height, width)
        # One row and one column: a whole grid would be most of what a graph stores.
        self.register_buffer("rows", grid[:, :, :1, 1].clone(), persistent=False)
        self.register_buffer("columns", grid[:, :1, :, 0].clone(), persistent=False)
        # Displacements are in pixels of the frame whatever the resolution: one frame is 2 units wide.
        scale = torch.tensor([2.0 / frame_width, 2.0 / frame_height])
        self.register_buffer("scale", scale.reshape(1, 2, 1, 1), persistent=False)

    def forward(self, x: Tensor, displacement: Tensor) -> Tensor:
        """Move the picture by `displacement`, in FP32 whatever the autocast.

        Args:
            x: (B, C, H, W).
            displacement: (B, 2, H, W), pixels of the full frame; positive moves the content right and down.

        Returns:
            (B, C, H, W) of the dtype of x; what comes from outside the border repeats its edge.
        """
        with torch.autocast(x.device.type, enabled=False):
            moved = displacement.float() * self.scale
            grid = torch.stack([self.columns - moved[:, 0], self.rows - moved[:, 1]], dim=-1)
            warped = F.grid_sample(x.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
        return warped.to(x.dtype)


class PlanarWarp(Warp):
    """`Warp`, whose grid is put together plane by plane: OpenVINO is faster at that.

    Args:
        height, width, frame_height, frame_width: as of `Warp`.
        mode: "bilinear", or "bicubic", which blurs less what is moved again in every frame.
        padding_mode: "border", or "zeros" for what comes from outside.
    """

    def __init__(
        self, height: int, width: int, frame_height: int, frame_width: int, mode: str = "bilinear",
        padding_mode: str = "border",
    ) -> None:  # fmt: skip
        super().__init__(height, width, frame_height, frame_width)
        self.mode, self.padding_mode = mode, padding_mode

    def forward(self, x: Tensor, displacement: Tensor) -> Tensor:
        """Move the picture by `displacement`; as of `Warp.forward`."""
        with torch.autocast(x.device.type, enabled=False):
            moved = displacement.float() * self.scale
            planes = torch.cat([self.columns[:, None] - moved[:, :1], self.rows[:, None] - moved[:, 1:]], dim=1)
            grid = planes.permute(0, 2, 3, 1)
            warped = F.grid_sample(x.float(), grid, mode=self.mode, padding_mode=self.padding_mode, align_corners=False)
        return warped.to(x.dtype)


def spread_in(sums: Tensor, weights: Tensor, levels: int, doubt: float, coarsest: Tensor) -> Tensor:
    """Return weighted values, spread smoothly to where their weights are 0, by a pyramid of averages (push-pull).

    Args:
        sums: (B, C, H, W) of value times weight; both sides multiples of 2 to the power of `levels`.
        weights: (B, 1, H, W).
        levels: halvings.
        doubt: weight of the coarser level's value beside a level's own.
        coarsest: (B, C, 1, 1) the value where nothing is known.

    Returns:
        (B, C, H, W); the value itself where the weight is large beside `doubt`.
    """
    pyramid, masses = [sums], [weights]
    for _ in range(levels):
        pyramid.append(F.avg_pool2d(pyramid[-1], 2))
        masses.append(F.avg_pool2d(masses[-1], 2))
    value = coarsest.expand(-1, -1, *pyramid[-1].shape[2:])
    for level in range(levels, -1, -1):  # each level trusts its own average where it has one, else the coarser's
        if value.shape[2:] != pyramid[level].shape[2:]:
            value = enlarge(value)
        value = (pyramid[level] + doubt * value) / (masses[level] + doubt)
    return value
