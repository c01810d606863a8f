"""The step graph of one of our bundles in PyTorch, as a yardstick: eager or compiled, in FP32 or bf16."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from export.graphs import StepGraph, step_inputs, to_i420, to_rgb
from training.checkpoint import load_generator
from training.generator import Memory, Shape, State, VideoGenerator, dissolve

if TYPE_CHECKING:
    from benchmarks.contenders import Task


class _Step(StepGraph):
    """With the one frame output that is wanted."""

    def __init__(self, generator: VideoGenerator, pixels: str) -> None:
        super().__init__(generator)
        self.to_pixels = to_rgb if pixels == "rgb" else to_i420

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return (frame, *next state)."""
        slots, parts = len(Memory._fields), len(State._fields)
        a, b = Memory(*tensors[:slots]), Memory(*tensors[slots : 2 * slots])
        state = State(*tensors[2 * slots + 1 : 2 * slots + 1 + parts])
        picture, following = self.step(dissolve(a, b, tensors[2 * slots]), state, *tensors[-2:])
        return self.to_pixels(picture), *following


def open_step(task: Task, precision: str, *, is_compiled: bool) -> Callable[[], npt.NDArray[Any]]:
    """Return what makes one frame.

    Args:
        task: its bundle must be one of ours; without a run the network has the bundle's shape and random weights, which
            takes as long.
        precision: "fp32", or "bf16": autocast, channels last.
        is_compiled: whether `torch.compile` gets it first.

    Raises:
        ValueError: the bundle was not exported from our generator.
    """
    manifest = task.bundle.manifest
    names = step_inputs()
    if {item.name for item in manifest.step.inputs} != set(names):
        raise ValueError(f"{manifest.name} was not exported from a generator of ours: there is no PyTorch of it")
    torch.set_num_threads(task.threads)
    width, height = manifest.frame.width, manifest.frame.height
    if task.run is None:
        generator = VideoGenerator(Shape(height, width))
    else:
        generator = load_generator(task.run, (width, height))[0]
    step: Any = _Step(generator.eval(), task.pixels)
    is_half = precision == "bf16"
    if is_half:
        step = step.to(memory_format=torch.channels_last)
    if is_compiled:
        step = torch.compile(step)
    values = task.inputs()
    tensors = [torch.from_numpy(values[name]) for name in names]
    first = len(Memory._fields) * 2 + 1  # of the states

    def make() -> npt.NDArray[Any]:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=is_half):
            frame, *states = step(*tensors)
        tensors[first : first + len(states)] = [state.float() for state in states]
        picture: npt.NDArray[np.uint8] = frame.numpy()[0]
        return picture

    return make
