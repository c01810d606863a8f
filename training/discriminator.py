"""The critic: sees the anchor and three frames of a clip at once, real or made.

Legend: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.layers import ResidualBlock, conv

NUM_FRAMES = 4  # the anchor, two consecutive frames and one further on


class Discriminator(nn.Module):
    """A plain convolutional critic without normalisation (arXiv 2501.05441): per-place logits and one for the clip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        c = channels
        self.stem = conv(3 * NUM_FRAMES * 4, c)  # 1/2
        self.levels = nn.ModuleList()
        widths = [c, 2 * c, 3 * c, 4 * c]
        self.levels.append(nn.Sequential(conv(c, widths[1], stride=2), ResidualBlock(widths[1])))  # 1/4
        self.levels.append(nn.Sequential(conv(widths[1], widths[2], stride=2), ResidualBlock(widths[2])))  # 1/8
        self.levels.append(nn.Sequential(conv(widths[2], widths[3], stride=2), ResidualBlock(widths[3])))  # 1/16
        self.to_local = conv(widths[3], 1)
        self.last = conv(widths[3], widths[3], stride=2)  # 1/32
        self.to_whole = nn.Linear(widths[3], 1)

    def forward(self, clip: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Judge clips.

        Args:
            clip: (B, 4, 3, H, W) RGB in [0, 1]: anchor, t, t + 1, t + gap.

        Returns:
            Logits (B, 1 + H/16 * W/16), larger is more real, and the features of every level.
        """
        # Differences to the anchor make small motion as loud as the picture itself.
        anchor, rest = clip[:, :1], clip[:, 1:]
        seen = torch.cat([2 * anchor - 1, 4 * (rest[:, :1] - anchor), 4 * (rest[:, 1:] - rest[:, :1])], dim=1)
        x = self.stem(F.pixel_unshuffle(seen.flatten(1, 2), 2))
        features = []
        for level in self.levels:
            x = level(F.leaky_relu(x, 0.2))
            features.append(x)
        x = F.leaky_relu(x, 0.2)
        whole = self.to_whole(F.leaky_relu(self.last(x), 0.2).mean(dim=(2, 3)))
        return torch.cat([whole, self.to_local(x).flatten(1)], dim=1).float(), features


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
