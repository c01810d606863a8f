"""The closed loop in PyTorch, with the inputs that the runtime gives its engines: the reference of every comparison."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from export.graphs import ConditionGraph, StepGraph
from runtime.noise import CODES, FRAMES, normals
from training.model.generator import CLIP, VideoGenerator
from training.model.painter import num_code_noise

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class StepEvaluation:
    """One evaluation of the step graph in PyTorch: its inputs (in the graph's order) and outputs."""

    inputs: tuple[npt.NDArray[Any], ...]
    outputs: tuple[npt.NDArray[Any], ...]

    @property
    def frame(self) -> Pixels:
        """The frame, uint8 (H, W, 3) RGB."""
        rgb: Pixels = self.outputs[1][0]
        return rgb


@dataclass(frozen=True)
class ReferencePrompt:
    """The prompt of a golden run; only a seed if all fields are None."""

    image: Pixels | None = None  # uint8 (H, W, 3) RGB of the frame's size
    clip: Pixels | None = None  # uint8 (CLIP, H, W, 3)
    text: str | None = None
    vector: npt.NDArray[np.float32] | None = None  # (D,), of the text


def reference_loop(generator: VideoGenerator, seed: int, prompt: ReferencePrompt) -> Iterator[StepEvaluation]:
    """Run a generator without end from a seed and a prompt.

    Args:
        generator: its weights must be rounded.
        seed: [0, 2**64); of the content code and of every frame's noise (docs/bundle.md).
        prompt: image, clip, text or none.

    Yields:
        One evaluation per frame, with default controls and no renewal.
    """
    shape = generator.shape
    size = (shape.height, shape.width, 3)
    picture = np.zeros(size, np.uint8) if prompt.image is None else prompt.image
    mask = np.full((1, *size[:2], 1), 0 if prompt.image is None else 255, np.uint8)
    clip = np.zeros((CLIP, *size), np.uint8) if prompt.clip is None else prompt.clip
    given = np.array([[0 if prompt.clip is None else 1]], np.float32)
    code = normals(seed, CODES, 0, num_code_noise(shape.height, shape.width))[None]
    inputs = [picture[None], mask, clip[None], given, code]
    if shape.text_dimensions:
        vector = np.zeros(shape.text_dimensions, np.float32) if prompt.vector is None else prompt.vector
        inputs.append(vector[None])
    step = StepGraph(generator)
    with torch.no_grad():
        memory = ConditionGraph(generator)(*(torch.from_numpy(array.copy()) for array in inputs))
        state = tuple(generator.step.initial_state(1))
        control = torch.tensor([[1.0, 0.0, 0.0]])
    frame = 0
    while True:
        noise = torch.from_numpy(normals(seed, FRAMES, frame, shape.num_noise)[None])
        tensors = (*memory, *memory, torch.zeros(1), *state, noise, control)
        with torch.no_grad():
            outputs = step(*tensors)
        yield StepEvaluation(tuple(part.numpy() for part in tensors), tuple(part.numpy() for part in outputs))
        state = outputs[3:]
        frame += 1
