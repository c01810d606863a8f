"""Parity of a bundle with PyTorch: one evaluation of the step graph, and closed loops through the runtime.

One evaluation is not enough: an error of 1e-4 in a state does not show in its frame and ruins the thousandth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from export.graphs import CONDITION_INPUTS, STEP_INPUTS, STEP_OUTPUTS, ConditionGraph
from export.parity.checks import ParityCheck
from export.parity.reference import ReferencePrompt, StepEvaluation
from runtime import Generator
from runtime.golden import psnr_db
from training.model.generator import MotionMemory, VideoGenerator
from training.model.resizing import at_work_size

ONE_STEP_TOLERANCE = 2e-3  # of a tensor's largest value; pixels may round to the next level


def compare_step(step: Path, evaluation: StepEvaluation, run: str) -> ParityCheck:
    """Compare every output of one evaluation of a step graph in ONNX Runtime with PyTorch.

    Args:
        step: file of the graph.
        evaluation: PyTorch's, from the middle of a loop, so that no state is zero.
        run: name of the loop.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(step), providers=["CPUExecutionProvider"])
    wanted = {value.name for value in session.get_inputs()}
    feeds = {name: value for name, value in zip(STEP_INPUTS, evaluation.inputs, strict=True) if name in wanted}
    found = session.run(STEP_OUTPUTS, feeds)
    errors = [_relative_error(ours, theirs) for ours, theirs in zip(found, evaluation.outputs, strict=True)]
    worst, mean = max(errors), float(np.mean(errors))
    return ParityCheck(
        "onnxruntime", "fp32", f"{run}, one step", 1, worst, mean, ONE_STEP_TOLERANCE, "relative error"
    )  # fmt: skip


def compare_condition(condition: Path, generator: VideoGenerator, work: tuple[int, int], run: str) -> ParityCheck:
    """Compare a condition graph in ONNX Runtime with PyTorch, for a clip and motion hints.

    Args:
        condition: file of the graph.
        generator: with rounded weights.
        work: width and height that it works at.
        run: name of the comparison.
    """
    import onnxruntime

    graph = ConditionGraph(at_work_size(generator, work))
    inputs = graph.example_inputs()
    with torch.no_grad():
        memory = [part.numpy() for part in graph(*inputs)]
    session = onnxruntime.InferenceSession(str(condition), providers=["CPUExecutionProvider"])
    feeds = {name: part.numpy() for name, part in zip(CONDITION_INPUTS, inputs, strict=True)}
    found = session.run(list(MotionMemory._fields), feeds)
    errors = [_relative_error(ours, theirs) for ours, theirs in zip(found, memory, strict=True)]
    worst, mean = max(errors), float(np.mean(errors))
    return ParityCheck("onnxruntime", "fp32", run, 1, worst, mean, ONE_STEP_TOLERANCE, "relative error")


def _relative_error(ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> float:
    difference = np.abs(ours.astype(np.float64) - theirs.astype(np.float64))
    if ours.dtype == np.uint8:
        # A value between two levels may round either way; a difference of two levels is an error.
        return 0.0 if difference.max() <= 1 else float(difference.max()) / 255
    return float(difference.max() / max(1e-6, float(np.abs(theirs).max())))


def compare_loop(
    bundle: Path,
    engine: str,
    precision: str,
    run: str,
    seed: int,
    prompt: ReferencePrompt,
    frames: Sequence[npt.NDArray[np.uint8]],
    *,
    threads: int | None = None,
    advance: Callable[[float], None] | None = None,
) -> ParityCheck:
    """Run a bundle in the runtime at the size of PyTorch's frames, and compare its frames with those.

    Args:
        bundle: a complete bundle.
        engine: name of the engine.
        precision: "fp32", "bf16", "fp16" or "auto".
        run: name of the loop.
        seed: of the loop.
        prompt: of the loop.
        frames: PyTorch's, uint8 (H, W, 3), from frame 1 on.
        threads: CPU threads; None for every core.
        advance: called with the completed share, 0 to 1.
    """
    with Generator.open(
        bundle,
        engine=engine,
        precision=precision,
        renewal=False,
        seed=seed,
        threads=threads,
        size=(frames[0].shape[1], frames[0].shape[0]),
    ) as generator:
        generator.condition(image=prompt.image, past=prompt.clip, text=prompt.text, seed=seed)
        values = []
        for frame in frames:
            values.append(psnr_db(next(generator), frame))
            if advance is not None:
                advance(len(values) / len(frames))
        return ParityCheck.of_psnr(engine, generator.precision, f"{run}, closed loop", values)
