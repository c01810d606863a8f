"""PyTorch's own closed loop, fed exactly as the runtime feeds its engines: what every engine is measured against."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from export.graphs import ConditionGraph, StepGraph
from runtime.noise import CODES, FRAMES, normals
from training.generator import VideoGenerator
from training.painter import num_code_noise

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of the step graph in PyTorch: its inputs (in the graph's order) and outputs."""

    inputs: tuple[npt.NDArray[Any], ...]
    outputs: tuple[npt.NDArray[Any], ...]

    @property
    def frame(self) -> Pixels:
        """The frame, uint8 (H, W, 3) RGB."""
        rgb: Pixels = self.outputs[1][0]
        return rgb


def closed_loop(generator: VideoGenerator, seed: int, image: Pixels | None) -> Iterator[Evaluation]:
    """Run a generator from a seed, and from a picture if one is given, for ever.

    Args:
        generator: with rounded weights.
        seed: [0, 2**64); of the content code and of every frame's noise, as docs/bundle.md says.
        image: uint8 (H, W, 3) RGB of the frame's size, or None.

    Yields:
        One evaluation per frame, default controls, no renewal.
    """
    shape = generator.shape
    picture = np.zeros((shape.height, shape.width, 3), np.uint8) if image is None else image
    mask = np.full((1, shape.height, shape.width, 1), 0 if image is None else 255, np.uint8)
    code = normals(seed, CODES, 0, num_code_noise(shape.height, shape.width))[None]
    step = StepGraph(generator)
    with torch.no_grad():
        memory = ConditionGraph(generator)(*(torch.from_numpy(array.copy()) for array in (picture[None], mask, code)))
        state = tuple(generator.step.initial_state(1))
        control = torch.tensor([[1.0, 0.0, 0.0]])
    frame = 0
    while True:
        noise = torch.from_numpy(normals(seed, FRAMES, frame, shape.num_noise)[None])
        inputs = (*memory, *memory, torch.zeros(1), *state, noise, control)
        with torch.no_grad():
            outputs = step(*inputs)
        yield Evaluation(tuple(part.numpy() for part in inputs), tuple(part.numpy() for part in outputs))
        state = outputs[3:]
        frame += 1
