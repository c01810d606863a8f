"""The graphs of a bundle as PyTorch modules (docs/bundle.md).

Legend: H height, W width of the work size; the batch is 1.
TensorRT supports uint8 only for inputs and outputs: casts are the first and last nodes of a graph.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtime.bundle.tensors import HINTS
from training.model.generator import CLIP, MotionMemory, StepState, VideoGenerator, detail_of, dissolve
from training.model.painter import Seen, num_code_noise


class PaintGraph(nn.Module):
    """paint.onnx: noise, and text if the generator takes it -> a picture of the trained size, or enlarged."""

    def __init__(self, generator: VideoGenerator) -> None:
        super().__init__()
        condition, shape = generator.condition, generator.shape
        self.prior, self.painter, self.sharpness = condition.prior, condition.painter, shape.painted_sharpness
        self.enlarger = generator.enlarger
        self.height, self.width = shape.height, shape.width
        # Nothing is given, so what the painter sees is constant: one value per channel instead of 0.3 M weights.
        for name, level in condition.painter.seen_nothing()._asdict().items():
            self.register_buffer(name, level)

    def forward(self, noise: Tensor, text: Tensor | None = None) -> Tensor:
        """Return the picture, uint8 (1, h, w, 3) RGB.

        Args:
            noise: float32 (1, N).
            text: float32 (1, D).
        """
        sizes = {"smooth": 1, "x32": 32, "x16": 16, "x8": 8, "x4": 4}
        # Zeros that depend on an input, or whole planes would be stored as constants.
        zero = noise[:, :1, None, None] * 0
        seen = Seen(
            *(
                self.get_buffer(name) + zero.expand(1, 1, self.height // size, self.width // size)
                for name, size in sizes.items()
            )
        )
        picture = self.painter.paint(seen, self.prior(noise, text), text)
        picture = (picture + (self.sharpness - 1) * detail_of(picture)).clamp(0.0, 1.0)
        if self.enlarger is not None:
            picture = self.enlarger.whole(picture)
        return torch.floor(picture * 255.0 + 0.5).permute(0, 2, 3, 1).to(torch.uint8)

    def example_inputs(self, text_dimensions: int) -> tuple[Tensor, ...]:
        """Return inputs of the right shapes."""
        random = torch.Generator().manual_seed(0)
        noise = torch.randn(1, num_code_noise(self.height, self.width), generator=random)
        text = torch.randn(1, text_dimensions, generator=random)
        return (noise, F.normalize(text, dim=1)) if text_dimensions else (noise,)


class ConditionGraph(nn.Module):
    """condition.onnx: a picture, where it may move, the clip before it and motion hints -> memory."""

    def __init__(self, generator: VideoGenerator) -> None:
        super().__init__()
        self.encoder = generator.condition.encoder
        self.height, self.width = generator.shape.height, generator.shape.width

    def forward(self, image: Tensor, moving: Tensor, clip: Tensor, given: Tensor, hints: Tensor) -> MotionMemory:
        """Return the memory's slots.

        Args:
            image: uint8 (1, H, W, 3).
            moving: uint8 (1, H, W, 1), 255 where things may move, 0 where nothing does.
            clip: uint8 (1, CLIP, H, W, 3), oldest frame first; the last one is the image.
            given: float32 (1, 1), 1 with a clip, 0 without.
            hints: float32 (1, 5, H/8, W/8), the channels of `training.model.hints`; zeros without hints.
        """
        picture = image.to(torch.float32).permute(0, 3, 1, 2) * (1.0 / 255.0)
        freedom = moving.to(torch.float32).permute(0, 3, 1, 2) * (1.0 / 255.0)
        frames = clip.to(torch.float32).permute(0, 1, 4, 2, 3) * (1.0 / 255.0)
        memory = self.encoder(picture, frames[:, :-1], given, hints)
        free = memory.flow[:, 2:] * F.avg_pool2d(freedom, 4)
        return MotionMemory(memory.features8, memory.modes, torch.cat([memory.flow[:, :2], free], dim=1))

    def example_inputs(self) -> tuple[Tensor, ...]:
        """Return inputs of the right shapes."""
        random = torch.Generator().manual_seed(0)
        size = (self.height, self.width)
        clip = torch.randint(0, 256, (1, CLIP, *size, 3), generator=random, dtype=torch.uint8)
        moving = torch.full((1, *size, 1), 255, dtype=torch.uint8)
        return clip[:, -1].clone(), moving, clip, torch.ones(1, 1), example_hints(self.height, self.width)


def example_hints(height: int, width: int) -> Tensor:
    """Return hints of two vectors and a stroke of each brush, for a work size, (1, 5, height/8, width/8)."""
    rows, columns = height // 8, width // 8
    hints = torch.zeros(1, HINTS, rows, columns)
    for row, column, x, y in ((rows // 4, columns // 4, 2.0, -0.5), (rows // 2, 3 * columns // 4, -1.5, 1.0)):
        hints[0, :3, row, column] = torch.tensor([x, y, 1.0])
    hints[0, 3, -2:] = 1
    hints[0, 4, 1, : columns // 2] = 1
    return hints


class StepGraph(nn.Module):
    """step.onnx: two memories, mix, state, noise and controls -> moves, and the next state."""

    def __init__(self, generator: VideoGenerator) -> None:
        super().__init__()
        self.step = generator.step

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return (moves, *next state); arguments in the order of `STEP_INPUTS`."""
        slots, parts = len(MotionMemory._fields), len(StepState._fields)
        a, b = MotionMemory(*tensors[:slots]), MotionMemory(*tensors[slots : 2 * slots])
        memory = dissolve(a, b, tensors[2 * slots])
        state = StepState(*tensors[2 * slots + 1 : 2 * slots + 1 + parts])
        noise, control = tensors[-2], self.step.paced(tensors[-1])
        moves = self.step.moves(memory, state, control)  # of zeros: none, so the picture itself comes first
        return moves, *self.step.advance(memory, state, noise, control)

    def example_inputs(self, memory: MotionMemory) -> tuple[Tensor, ...]:
        """Return inputs of the right shapes, with a memory on both sides."""
        random = torch.Generator().manual_seed(0)
        kick = torch.randn(1, self.step.shape.num_noise, generator=random)
        both = (*memory, *(part.clone() for part in memory))
        return *both, torch.zeros(1), *self.step.initial_state(1), kick, torch.tensor([[1.0, 0.0, 0.0]])


PAINT_INPUTS = ("noise", "text")  # the text only if the generator takes it
CONDITION_INPUTS = ("image", "moving", "clip", "given", "hints")
STEP_INPUTS = (
    *(f"a_{slot}" for slot in MotionMemory._fields),
    *(f"b_{slot}" for slot in MotionMemory._fields),
    "mix",
    *StepState._fields,
    "noise",
    "control",
)
STEP_OUTPUTS = ("moves", *(f"next_{part}" for part in StepState._fields))
