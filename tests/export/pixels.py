"""Pixels in PyTorch, as the reference of the ONNX nodes that make them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LUMA = (0.2126, 0.7152, 0.0722)


def to_rgb(picture: Tensor) -> Tensor:
    """Quantise (1, 3, H, W) in [0, 1] to uint8 (1, H, W, 3), rounding half up."""
    return torch.floor(picture * 255.0 + 0.5).clamp(0, 255).permute(0, 2, 3, 1).to(torch.uint8)


def to_i420(picture: Tensor) -> Tensor:
    """Quantise (1, 3, H, W) in [0, 1] to planar I420, uint8 (1, H * 3 / 2, W), BT.709 limited range."""
    _, _, height, width = picture.shape
    red, green, blue = picture.split(1, dim=1)
    luma = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
    chroma = torch.cat([(blue - luma) / (2 * (1 - LUMA[2])), (red - luma) / (2 * (1 - LUMA[0]))], dim=1)
    planes = torch.cat([(16 + 219 * luma).flatten(1), (128 + 224 * F.avg_pool2d(chroma, 2)).flatten(1)], dim=1)
    return torch.floor(planes + 0.5).clamp(0, 255).reshape(1, height * 3 // 2, width).to(torch.uint8)
