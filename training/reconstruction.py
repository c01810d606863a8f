"""Pretraining task: clip reconstruction from parts (after VideoMAE, arXiv 2203.12602).

The first frame of a clip is shown whole, in parts (tube masks: the same blocks stay hidden for the whole clip) or not
at all; the generator's own decoder has to give back the whole clip. What is hidden comes from the content code that the
recogniser read from the whole frame, so the painter learns to paint before an adversary asks it to.

Legend: B batch, T frames, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.config import Config
from training.footage import Batch
from training.generator import VideoGenerator
from training.losses import code_divergence, flow_error, pooled_l1
from training.painter import Recogniser
from training.perceptual import PerceptualDistance

BLOCK = 16  # side of one tube of the mask, pixels


def draw_masks(batch: int, height: int, width: int, given: float, masked: float, low: float, high: float) -> Tensor:
    """Draw which parts of the first frames are seen: (B, 1, H, W), 1 where seen.

    Args:
        batch: how many.
        height: of a frame.
        width: of a frame.
        given: share of frames seen whole.
        masked: share seen in parts; the rest is not seen at all.
        low: smallest share of blocks hidden in parts-only frames.
        high: largest.
    """
    rows, columns = height // BLOCK, width // BLOCK
    hidden = torch.empty(batch, 1).uniform_(low, high)
    blocks = (torch.rand(batch, rows * columns) >= hidden).float()
    kind = torch.rand(batch, 1)
    blocks = torch.where(kind < given, 1.0, torch.where(kind < given + masked, blocks, torch.zeros(())))
    mask = blocks.reshape(batch, 1, rows, columns)
    return mask.repeat_interleave(BLOCK, dim=2).repeat_interleave(BLOCK, dim=3)


class Reconstruction(nn.Module):
    """The task's own module is the recogniser; everything else is the generator's."""

    def __init__(self, config: Config, perceptual: PerceptualDistance | None = None) -> None:
        super().__init__()
        self.config = config
        # Frozen and the user's own: not one of this module's, so that no checkpoint holds it.
        self.perceptual = None if perceptual is None else perceptual.forward
        self.recogniser = Recogniser(config.model.height, config.model.width)

    def forward(self, generator: VideoGenerator, batch: Batch, offsets: list[int]) -> tuple[Tensor, dict[str, float]]:
        """Return the task's loss and its metrics.

        The noise is zero here: an L1 term would teach the oscillators to stand still. Their motion is the adversary's.
        """
        settings = self.config.pretrain
        first, frames, flow = (torch.from_numpy(array) for array in (batch.first, batch.frames, batch.flow))
        count, _, height, width = first.shape
        mask = draw_masks(count, height, width, settings.given, settings.masked, settings.mask_min, settings.mask_max)
        mean, logvar = self.recogniser(first)
        code = mean + torch.randn_like(mean) * (0.5 * logvar).exp()
        memory = generator.condition.from_code(first, mask, code)
        control = torch.tensor([[1.0, 0.0, 0.0]]).expand(count, -1)
        still = torch.zeros(count, generator.shape.num_noise)
        state = generator.step.initial_state(count)
        clip_loss = torch.zeros(())
        for number in range(1, max(offsets) + 1):
            state = generator.step.advance(memory, state, still, control)
            if number in offsets:
                made = generator.step.render(memory, state, control)
                clip_loss = clip_loss + pooled_l1(made, frames[:, offsets.index(number)]) / len(offsets)
        picture_loss = pooled_l1(memory.picture, first)
        flow_loss = flow_error(memory.flow[:, :2] * memory.flow[:, 2:], flow)
        kl = code_divergence(mean, logvar)
        look_loss = torch.zeros(()) if self.perceptual is None else self.perceptual(memory.picture, first)
        loss = clip_loss + picture_loss + settings.perceptual * look_loss + settings.flow * flow_loss + settings.kl * kl
        metrics = {"clip": clip_loss, "picture": picture_loss, "look": look_loss, "flow": flow_loss, "kl": kl}
        return loss, {key: float(value.detach()) for key, value in metrics.items()}
