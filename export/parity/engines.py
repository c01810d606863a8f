"""Parity: a bundle's graphs against PyTorch, over one evaluation and over a closed loop, each with its gate.

One evaluation alone hides divergence: an error of 1e-4 in a state is invisible in its frame and ruins the thousandth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from export.graphs import step_inputs, step_outputs
from export.parity.checks import GATES_DB, IDENTICAL_DB, ParityCheck
from export.parity.reference import ReferencePrompt, StepEvaluation
from runtime import Generator
from runtime.golden import psnr_db

ONE_STEP_TOLERANCE = 2e-3  # of the largest value of a tensor; pixels may round to the neighbouring level


def one_step(folder: Path, evaluation: StepEvaluation, run: str) -> ParityCheck:
    """Compare one evaluation of step.onnx in ONNX Runtime with PyTorch's, every output.

    Args:
        folder: holds step.onnx.
        evaluation: PyTorch's, taken from the middle of a loop, so that no state is zero.
        run: name of the loop.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / "step.onnx"), providers=["CPUExecutionProvider"])
    wanted = {value.name for value in session.get_inputs()}
    feeds = {name: value for name, value in zip(step_inputs(), evaluation.inputs, strict=True) if name in wanted}
    found = session.run(step_outputs(), feeds)
    errors = [_relative_error(ours, theirs) for ours, theirs in zip(found, evaluation.outputs, strict=True)]
    return ParityCheck(
        "onnxruntime",
        "fp32",
        f"{run}, one step",
        1,
        max(errors),
        float(np.mean(errors)),
        ONE_STEP_TOLERANCE,
        "relative error",
    )


def _relative_error(ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> float:
    difference = np.abs(ours.astype(np.float64) - theirs.astype(np.float64))
    if ours.dtype == np.uint8:
        # A value on the border between two levels may go either way; two levels off is an error.
        return 0.0 if difference.max() <= 1 else float(difference.max()) / 255
    return float(difference.max() / max(1e-6, float(np.abs(theirs).max())))


def closed_loop(
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
    """Run a bundle through the runtime as long as PyTorch was run, and compare frame by frame.

    Args:
        bundle: a complete bundle.
        engine: name of the engine.
        precision: "fp32", "bf16", "fp16" or "auto".
        run: name of the loop.
        seed: of the loop.
        prompt: what it was conditioned on.
        frames: PyTorch's, uint8 (H, W, 3), from frame 1 on.
        threads: CPU threads; None for every core.
        advance: called with the share that is done.
    """
    with Generator.open(
        bundle, engine=engine, precision=precision, renewal=False, seed=seed, threads=threads
    ) as generator:
        generator.condition(image=prompt.image, clip=prompt.clip, text=prompt.text, seed=seed)
        values = []
        for frame in frames:
            values.append(min(psnr_db(next(generator), frame), IDENTICAL_DB))
            if advance is not None:
                advance(len(values) / len(frames))
        used = generator.precision
    return ParityCheck(
        engine, used, f"{run}, closed loop", len(frames), min(values), float(np.mean(values)), GATES_DB[used], "dB"
    )
