"""The closed loop in PyTorch, with the inputs that the runtime gives its engines: the reference of every comparison."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from export.graphs import ConditionGraph, PaintGraph, StepGraph
from runtime.bundle.tensors import HINTS
from runtime.noise import CODES, FRAMES, normals
from runtime.pixels.picture_inputs import SHARPENING
from runtime.pixels.scene_session import sharpened, squeezed
from runtime.prompts.images import load_image
from training.model.generator import CLIP, VideoGenerator
from training.model.layers import pixel_grid
from training.model.painter import num_code_noise
from training.model.resizing import at_work_size

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class StepEvaluation:
    """One evaluation of the step graph in PyTorch: its inputs and outputs in the graph's order, and the frame.

    Args:
        inputs, outputs: of the step graph.
        frame: of the pixel stage, uint8 (H, W, 3) RGB.
    """

    inputs: tuple[npt.NDArray[Any], ...]
    outputs: tuple[npt.NDArray[Any], ...]
    frame: Pixels


@dataclass(frozen=True)
class ReferencePrompt:
    """The prompt of a golden run; only a seed if all fields are None."""

    image: Pixels | None = None  # uint8 (H, W, 3) RGB of the frame's size
    clip: Pixels | None = None  # uint8 (CLIP, H, W, 3)
    text: str | None = None
    vector: npt.NDArray[np.float32] | None = None  # (D,), of the text
    hints: npt.NDArray[np.float32] | None = None  # (1, 5, h/8, w/8), h and w of the work size


def reference_loop(
    generator: VideoGenerator, work: tuple[int, int], frame: tuple[int, int], seed: int, prompt: ReferencePrompt
) -> Iterator[StepEvaluation]:
    """Run a generator without end from a seed and a prompt.

    Args:
        generator: at its trained size; its weights must be rounded.
        work: width and height that it works at.
        frame: width and height of the frames.
        seed: [0, 2**64); of the content code and of every frame's noise (docs/bundle.md).
        prompt: image, clip, text, hints or none.

    Yields:
        One evaluation per frame, with default controls and no renewal.
    """
    width, height = frame
    sized = at_work_size(generator, work)
    step = StepGraph(sized)
    with torch.no_grad():
        if prompt.image is not None:
            picture = prompt.image
        elif prompt.clip is not None:
            picture = prompt.clip[-1]
        else:
            picture = load_image(_paint(generator, seed, prompt.vector), width, height)
        clip = np.zeros((CLIP, height, width, 3), np.uint8) if prompt.clip is None else prompt.clip
        small, *past = (squeezed(part, work[1], work[0]) for part in (picture, *clip))
        given = np.array([[0 if prompt.clip is None else 1]], np.float32)
        moving = np.full((1, work[1], work[0], 1), 255, np.uint8)
        hints = np.zeros((1, HINTS, work[1] // 8, work[0] // 8), np.float32) if prompt.hints is None else prompt.hints
        inputs = (small[None], moving, np.stack(past)[None], given, hints)
        memory = ConditionGraph(sized)(*(torch.from_numpy(array.copy()) for array in inputs))
    sharp = sharpened(picture, sized.shape.sharpness, None).astype(np.float32)
    state = tuple(sized.step.initial_state(1))
    control = torch.tensor([[1.0, 0.0, 0.0]])
    index = 0
    while True:
        noise = torch.from_numpy(normals(seed, FRAMES, index, sized.shape.num_noise)[None])
        tensors = (*memory, *memory, torch.zeros(1), *state, noise, control)
        with torch.no_grad():
            outputs = step(*tensors)
            share = np.float32(min(1.0, index / SHARPENING))
            pixels = displaced(picture + share * (sharp - picture), outputs[0], work)
        yield StepEvaluation(tuple(part.numpy() for part in tensors), tuple(part.numpy() for part in outputs), pixels)
        state = outputs[1:]
        index += 1


def displaced(picture: npt.NDArray[Any], moves: Tensor, work: tuple[int, int]) -> Pixels:
    """Return the frame that the pixel stage makes of a picture (docs/bundle.md, "Pixel stage").

    Args:
        picture: uint8 or float32 (H, W, 3) RGB, 0 to 255, H and W even.
        moves: float32 (1, MOVES, h, w), in pixels of `work`.
        work: width and height.
    """
    height, width = picture.shape[:2]
    margin = 2 * max(4, max(width, height) // 64)
    planes = np.pad(np.moveaxis(picture, 2, 0), ((0, 0), *(((margin, margin + 1),) * 2)), mode="symmetric")
    rows, columns = height + 2 * margin, width + 2 * margin
    copies = [torch.from_numpy(planes[:, y : y + rows, x : x + columns]) for y in (0, 1) for x in (0, 1)]
    shifted = torch.stack(copies, dim=1).unflatten(1, (2, 2)).float()
    frame = displaced_planes(shifted, moves, work, margin)
    rounded: Pixels = torch.floor(frame + 0.5)[0].permute(1, 2, 0).to(torch.uint8).numpy()
    return rounded


def displaced_planes(shifted: Tensor, moves: Tensor, work: tuple[int, int], margin: int) -> Tensor:
    """Return the planes of a frame, float32 (1, planes, H, W), not rounded; H and W even.

    Args:
        shifted: float32 (planes, 2, 2, H + 2 * margin, W + 2 * margin): copies of each plane, moved up and to the left
            by 0 or 1 pixel.
        moves: float32 (1, MOVES, h, w), in pixels of `work`.
        work: width and height.
        margin: pixels around what is shown.
    """
    count, _, _, rows, columns = shifted.shape
    height, width = rows - 2 * margin, columns - 2 * margin
    per_block = F.interpolate(moves, (height // 2, width // 2), mode="bilinear", align_corners=False)
    first_pixels = pixel_grid(rows, columns)[:, margin : margin + height : 2, margin : margin + width : 2]
    scale = torch.tensor([2 * width / (work[0] * columns), 2 * height / (work[1] * rows)])
    a, b = (
        F.grid_sample(
            shifted.reshape(1, 4 * count, rows, columns),
            first_pixels - per_block[:, channel : channel + 2].permute(0, 2, 3, 1) * scale,
            padding_mode="border",
            align_corners=False,
        )
        for channel in (0, 2)
    )
    return F.pixel_shuffle(b + per_block[:, 4:] * (a - b), 2)


def _paint(generator: VideoGenerator, seed: int, vector: npt.NDArray[np.float32] | None) -> Pixels:
    shape = generator.shape
    inputs = [torch.from_numpy(normals(seed, CODES, 0, num_code_noise(shape.height, shape.width))[None])]
    if shape.text_dimensions:
        text = np.zeros(shape.text_dimensions, np.float32) if vector is None else vector
        inputs.append(torch.from_numpy(text[None].copy()))
    painted: Pixels = PaintGraph(generator)(*inputs)[0].numpy()
    return painted
