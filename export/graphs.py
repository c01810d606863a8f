"""The two graphs of a bundle as PyTorch modules, from pixels to pixels (docs/bundle.md).

Legend: H height, W width of a frame; the batch is 1.
TensorRT supports uint8 only for inputs and outputs: casts are the first and last nodes of a graph.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.model.generator import ConditionMemory, StepState, VideoGenerator, dissolve

# Recommendation ITU-R BT.709-6, items 3.2 to 3.4, limited range: Y' = 16 + 219 (0.2126 R' + 0.7152 G' + 0.0722 B').
LUMA = (0.2126, 0.7152, 0.0722)


def to_rgb(picture: Tensor) -> Tensor:
    """Quantise (1, 3, H, W) in [0, 1] to uint8 (1, H, W, 3), rounding half up."""
    return torch.floor(picture * 255.0 + 0.5).clamp(0, 255).permute(0, 2, 3, 1).to(torch.uint8)


def to_i420(picture: Tensor) -> Tensor:
    """Quantise (1, 3, H, W) in [0, 1] to planar I420, uint8 (1, H * 3 / 2, W), BT.709 limited range."""
    _, _, height, width = picture.shape
    red, green, blue = picture.split(1, dim=1)
    luma = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue  # (1, 1, H, W)
    chroma = torch.cat([(blue - luma) / (2 * (1 - LUMA[2])), (red - luma) / (2 * (1 - LUMA[0]))], dim=1)
    planes = torch.cat([(16 + 219 * luma).flatten(1), (128 + 224 * F.avg_pool2d(chroma, 2)).flatten(1)], dim=1)
    return torch.floor(planes + 0.5).clamp(0, 255).reshape(1, height * 3 // 2, width).to(torch.uint8)


class ConditionGraph(nn.Module):
    """condition.onnx: image, mask, clip, given, noise, and text if the generator takes it -> memory."""

    def __init__(self, generator: VideoGenerator) -> None:
        super().__init__()
        self.condition = generator.condition

    def forward(
        self, image: Tensor, mask: Tensor, clip: Tensor, given: Tensor, noise: Tensor, text: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Return the memory's slots.

        Args:
            image: uint8 (1, H, W, 3).
            mask: uint8 (1, H, W, 1).
            clip: uint8 (1, CLIP, H, W, 3), oldest frame first.
            given: float32 (1, 1), 1 with a clip, 0 without.
            noise: float32 (1, N).
            text: float32 (1, D).
        """
        picture = image.to(torch.float32).permute(0, 3, 1, 2) * (1.0 / 255.0)
        known = mask.to(torch.float32).permute(0, 3, 1, 2) * (1.0 / 255.0)
        frames = clip.to(torch.float32).permute(0, 1, 4, 2, 3) * (1.0 / 255.0)
        return tuple(self.condition(picture, known, frames, given, noise, text))


def condition_inputs(generator: VideoGenerator) -> list[str]:
    """Return the names of the condition graph's inputs in the order of `ConditionGraph`."""
    return ["image", "mask", "clip", "given", "noise", *(["text"] if generator.shape.text_dimensions else [])]


class StepGraph(nn.Module):
    """step.onnx: two memories, mix, state, noise and controls -> frame in RGB and I420, and the next state."""

    def __init__(self, generator: VideoGenerator) -> None:
        super().__init__()
        self.step = generator.step

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return (picture, rgb, i420, *next state); arguments in the order of `step_inputs`."""
        slots, parts = len(ConditionMemory._fields), len(StepState._fields)
        a, b = ConditionMemory(*tensors[:slots]), ConditionMemory(*tensors[slots : 2 * slots])
        mix = tensors[2 * slots]
        state = StepState(*tensors[2 * slots + 1 : 2 * slots + 1 + parts])
        noise, control = tensors[-2:]
        picture, following = self.step(dissolve(a, b, mix), state, noise, control)
        return picture, to_rgb(picture), to_i420(picture), *following


def step_inputs() -> list[str]:
    """Return the names of the step graph's inputs in the order of `StepGraph`."""
    return [
        *(f"a_{slot}" for slot in ConditionMemory._fields),
        *(f"b_{slot}" for slot in ConditionMemory._fields),
        "mix",
        *StepState._fields,
        "noise",
        "control",
    ]


def step_outputs() -> list[str]:
    """Return the names of the step graph's outputs in the order of `StepGraph`."""
    return ["picture", "rgb", "i420", *(f"next_{part}" for part in StepState._fields)]
