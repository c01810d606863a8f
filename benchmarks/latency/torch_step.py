"""The step graph of a bundle trained here, in PyTorch: eager or compiled, in FP32 or bf16."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from export.graphs import StepGraph, step_inputs, to_i420, to_rgb
from runtime.bundle.manifest import Manifest
from training.checkpoint import load_generator
from training.model.generator import ConditionMemory, Shape, StepState, VideoGenerator, dissolve


class _Step(StepGraph):
    """With one frame output."""

    def __init__(self, generator: VideoGenerator, pixels: str) -> None:
        super().__init__(generator)
        self.to_pixels = to_rgb if pixels == "rgb" else to_i420

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return (frame, *next state)."""
        slots, parts = len(ConditionMemory._fields), len(StepState._fields)
        a, b = ConditionMemory(*tensors[:slots]), ConditionMemory(*tensors[slots : 2 * slots])
        state = StepState(*tensors[2 * slots + 1 : 2 * slots + 1 + parts])
        picture, following = self.step(dissolve(a, b, tensors[2 * slots]), state, *tensors[-2:])
        return self.to_pixels(picture), *following


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
    names = step_inputs()
    if {item.name for item in manifest.step.inputs} != set(names):
        raise ValueError(
            f"{manifest.name} was not exported from Everframe's generator: there is no PyTorch network to compare with"
        )
    torch.set_num_threads(threads)
    width, height = manifest.frame.width, manifest.frame.height
    generator = VideoGenerator(Shape(height, width)) if run is None else load_generator(run, (width, height))[0]
    step: Any = _Step(generator.eval(), pixels)
    is_half = precision == "bf16"
    if is_half:
        step = step.to(memory_format=torch.channels_last)
    if is_compiled:
        step = torch.compile(step)
    tensors = [torch.from_numpy(inputs[name]) for name in names]
    first = len(ConditionMemory._fields) * 2 + 1  # of the states

    def make() -> npt.NDArray[Any]:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=is_half):
            frame, *states = step(*tensors)
        tensors[first : first + len(states)] = [state.float() for state in states]
        picture: npt.NDArray[np.uint8] = frame.numpy()[0]
        return picture

    return make
