"""The step graph of a bundle trained here, in PyTorch: eager or compiled, in FP32 or bf16."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from export.graphs import STEP_INPUTS, StepGraph
from export.parity.reference import displaced_planes
from runtime.bundle.manifest import Manifest
from runtime.pixels.stage import plane_sets
from training.checkpoint import load_generator
from training.model.generator import MotionMemory, Shape, VideoGenerator
from training.model.resizing import at_work_size


class _Step(StepGraph):
    """With the pixel stage."""

    def __init__(self, generator: VideoGenerator, size: tuple[int, int], pixels: str) -> None:
        super().__init__(generator)
        self.size, self.pixels = size, pixels
        self.margins = [item.margin for item in plane_sets(*size, pixels)]
        self.work = generator.shape.width, generator.shape.height

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return (frame, *next state); the pictures' planes are the last arguments."""
        names = len(STEP_INPUTS)
        moves, *states = super().forward(*tensors[:names])
        with torch.autocast("cpu", enabled=False):
            planes = [
                displaced_planes(planes, moves.float(), self.work, margin)
                for planes, margin in zip(tensors[names:], self.margins, strict=True)
            ]
            if self.pixels == "rgb":
                frame = planes[0].permute(0, 2, 3, 1)
            else:
                frame = torch.cat([part.flatten(1) for part in planes], 1).reshape(1, -1, self.size[0])
            return torch.floor(frame + 0.5).to(torch.uint8), *states


def open_step(
    manifest: Manifest,
    inputs: Mapping[str, npt.NDArray[Any]],
    precision: str,
    *,
    is_compiled: bool,
    pixels: str,
    threads: int,
    run: Path | None,
) -> Callable[[], npt.NDArray[Any]]:
    """Return a function that makes one frame.

    Args:
        manifest: of the bundle.
        inputs: of the first frame, by name.
        precision: "fp32", or "bf16": autocast, channels last.
        is_compiled: whether `torch.compile` is used.
        pixels: "rgb" or "i420".
        threads: CPU threads.
        run: what the bundle was exported from; None for a network of its shape with random weights, which is as fast.

    Raises:
        ValueError: the bundle was not exported from Everframe's generator.
    """
    width, height = manifest.frame.width, manifest.frame.height
    names = [*STEP_INPUTS, *(item.name for item in plane_sets(width, height, pixels))]
    if {item.name for item in manifest.step.inputs} != set(names):
        raise ValueError(
            f"{manifest.name} was not exported from Everframe's generator: there is no PyTorch network to compare with"
        )
    torch.set_num_threads(threads)
    shapes = {(shape.width, shape.height): shape.step.file for shape in manifest.shapes}
    work = next(size for size, file in shapes.items() if file == manifest.step.file)
    generator = VideoGenerator(Shape(256, 256)) if run is None else load_generator(run)[0]
    step: Any = _Step(at_work_size(generator, work).eval(), (width, height), pixels)
    is_half = precision == "bf16"
    if is_half:
        step = step.to(memory_format=torch.channels_last)
    if is_compiled:
        step = torch.compile(step)
    tensors = [torch.from_numpy(inputs[name]) for name in names]
    first = len(MotionMemory._fields) * 2 + 1  # of the states

    def make() -> npt.NDArray[Any]:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=is_half):
            frame, *states = step(*tensors)
        tensors[first : first + len(states)] = [state.float() for state in states]
        picture: npt.NDArray[np.uint8] = frame.numpy()[0]
        return picture

    return make
