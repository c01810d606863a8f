"""Compares a bundle in the runtime with frames of diffusers. Imports no PyTorch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from export.parity.checks import IDENTICAL_DB, ParityCheck, available_engines
from runtime import Generator
from runtime.errors import EngineError
from runtime.golden import psnr_db

Pixels = npt.NDArray[np.uint8]
GATES_DB = {"fp32": 40.0, "bf16": 25.0, "fp16": 30.0}  # of the worst frame
SEED = 7
REFERENCE = ("onnxruntime", "fp32")  # has to pass


@dataclass(frozen=True)
class ReferenceRun:
    """Frames of diffusers.

    Args:
        frames: uint8 (count, H, W, 3); frame k of the bundle is `frames[k - delay]`, counted from 0.
        live: the pictures that went in, in the same order, or None.
        prompt: the text.
        delay: frames from a picture to the frame made of it.
    """

    frames: Pixels
    live: Pixels | None
    prompt: str
    delay: int


@dataclass(frozen=True)
class EngineResult:
    """One engine: its check and the median time of a frame in milliseconds, or why it refused the bundle."""

    check: ParityCheck | None
    frame_ms: float = 0.0
    refusal: str = ""


def compare_run(bundle: Path, engine: str, precision: str, run: ReferenceRun) -> tuple[ParityCheck, float]:
    """Run a bundle and compare each frame with that of diffusers.

    Args:
        bundle: a complete bundle.
        engine: its name.
        precision: e.g. "fp32".
        run: frames of diffusers with the noise of `SEED` and default controls.

    Returns:
        The check, and the median time of a frame in milliseconds, without the first one.

    Raises:
        EngineError: the engine refused the graph.
    """
    values, times = [], []
    with Generator.open(bundle, engine=engine, precision=precision, renewal=False, seed=SEED) as generator:
        generator.condition(text=run.prompt, seed=SEED)
        for number in range(len(run.frames) + run.delay):
            if run.live is not None:
                generator.feed_live(run.live[number % len(run.live)])
            start = time.perf_counter()
            made = next(generator)
            times.append(1000 * (time.perf_counter() - start))
            if number >= run.delay:
                values.append(min(psnr_db(made, run.frames[number - run.delay]), IDENTICAL_DB))
        worst, mean = min(values), sum(values) / len(values)
        kind = generator.precision
        check = ParityCheck(engine, kind, "diffusers, closed loop", len(values), worst, mean, GATES_DB[kind], "dB")
    return check, float(np.median(times[1:] or times))


def compare_engines(
    bundle: Path, run: ReferenceRun, engines: Sequence[tuple[str, str]] | None = None
) -> list[EngineResult]:
    """Run a bundle on every engine of this machine; ONNX Runtime in FP32 has to pass.

    Args:
        bundle: a complete bundle.
        run: frames of diffusers.
        engines: (engine, precision) beside it; None for all that there are.

    Raises:
        ValueError: the frames of ONNX Runtime differ, or it cannot run the bundle.
    """
    results = []
    others = available_engines() if engines is None else engines
    for engine, precision in (REFERENCE, *(pair for pair in others if pair != REFERENCE)):
        has_to_pass = (engine, precision) == REFERENCE
        try:
            check, frame_ms = compare_run(bundle, engine, precision, run)
        except EngineError as error:
            if has_to_pass:
                raise ValueError(f"the bundle does not run: {error}; no bundle was written") from error
            results.append(EngineResult(None, refusal=f"{engine} in {precision}: {error}"))
            continue
        if has_to_pass and not check.passed:
            raise ValueError(
                f"the bundle's frames have {check.worst:.3g} dB in {engine} compared with diffusers, the gate is "
                f"{check.gate:g}: no bundle was written; please report it with the pipeline's config files"
            )
        results.append(EngineResult(check, frame_ms))
    return results
