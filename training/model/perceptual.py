"""Perceptual distance by a frozen network: LPIPS (Zhang et al., arXiv 1801.03924, eq. 1) read from an ONNX file.

Optional: the weights are the user's own file (`--perceptual`), are not part of the project and never enter a bundle. A
network that trains a generator must not judge it afterwards.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor, nn

# AlexNet's five convolutions: (stride, padding, pool before the next one).
LAYERS = ((4, 2, True), (1, 2, True), (1, 1, False), (1, 1, False), (1, 1, False))


class PerceptualDistance(nn.Module):
    """LPIPS with AlexNet.

    Args:
        path: an ONNX file with initialisers `Conv_0.weight` to `Conv_4.bias`, `lin0.weight` to `lin4.weight`, `shift`
            and `scale`, as exported from the published weights.

    Raises:
        ValueError: the file is missing or lacks one of them.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        if not path.is_file():
            raise ValueError(
                f"{path} is no ONNX file that can be read: there is none; name another, or leave --perceptual out"
            )
        try:
            graph = onnx.load(path).graph
        except Exception as error:  # noqa: BLE001 - onnx raises protobuf's own kinds for a damaged file
            raise ValueError(f"{path} is no ONNX file that can be read: {type(error).__name__}") from None
        arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        names = [f"Conv_{i}.{part}" for i in range(5) for part in ("weight", "bias")]
        names += [f"lin{i}.weight" for i in range(5)] + ["shift", "scale"]
        missing = [name for name in names if name not in arrays]
        if missing:
            raise ValueError(f"{path} has no {missing[0]}: expected LPIPS with AlexNet, its weights under these names")
        for name in names:
            self.register_buffer(name.replace(".", "_"), torch.from_numpy(np.array(arrays[name], np.float32)))

    def forward(self, made: Tensor, real: Tensor) -> Tensor:
        """Return the mean distance of two batches of pictures (B, 3, H, W) in [0, 1].

        Both are moved by the same few pixels first: the network looks every four pixels only, and what always falls
        between its looks would go unpunished.
        """
        top, left = (int(value) for value in torch.randint(0, 4, (2,)))
        both = torch.cat([made, real.detach()])[:, :, top:, left:]
        x = (2 * both - 1 - self.get_buffer("shift")) / self.get_buffer("scale")
        distance = made.new_zeros(())
        for index, (stride, padding, is_pooled) in enumerate(LAYERS):
            weight, bias = self.get_buffer(f"Conv_{index}_weight"), self.get_buffer(f"Conv_{index}_bias")
            x = F.relu(F.conv2d(x, weight, bias, stride, padding))
            unit = x.float() / (x.float().square().sum(dim=1, keepdim=True) + 1e-8).sqrt()
            ours, theirs = unit.chunk(2)
            distance = distance + F.conv2d((ours - theirs).square(), self.get_buffer(f"lin{index}_weight")).mean()
            if is_pooled:
                x = F.max_pool2d(x, 3, 2)
        return distance
