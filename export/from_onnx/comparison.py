"""Compares an imported bundle with the original model, in every engine of this machine.

ONNX Runtime in FP32, which runs the original too, decides whether the bundle is written. It makes every frame of the
closed loop. The other engines stop early, once more frames would not change what is known about them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.from_onnx.parity import GOLDEN_FRAMES, SEED, OriginalLoop, OriginalRun, Pixels, check_range
from export.from_onnx.progress import ProgressLines
from export.parity.checks import GATES_DB, IDENTICAL_DB, ParityCheck
from runtime import Generator
from runtime.bundle.reader import Bundle
from runtime.engines.selection import keep_times
from runtime.engines.table import count_cores
from runtime.errors import EngineError
from runtime.golden import feed_golden, psnr_db

REFERENCE = ("onnxruntime", "fp32")
_SETTLED = 48  # frames after which an engine whose frames do not get worse needs no more
_DRIFT_DB = 2.0  # by which the worst frame of the second half is below that of the first half, if errors accumulate


@dataclass(frozen=True)
class Refusal:
    """An engine and precision that cannot run a bundle, and the engine's sentence."""

    engine: str
    precision: str
    reason: str

    def __str__(self) -> str:
        return f"{self.engine} in {self.precision}: {self.reason}"

    def to_json(self) -> dict[str, Any]:
        """Return plain data for the manifest."""
        return {"engine": self.engine, "precision": self.precision, "reason": self.reason}


@dataclass(frozen=True)
class Comparison:
    """The checks of all engines, with the median time of a frame in milliseconds of each, and the refusals."""

    checks: tuple[ParityCheck, ...]
    frame_ms: tuple[float, ...]
    refusals: tuple[Refusal, ...]


def compare_engines(
    folder: Path,
    loop: OriginalLoop,
    count: int,
    engines: Sequence[tuple[str, str]],
    progress: ProgressLines,
    judge: Callable[[ParityCheck], object] = lambda _: None,
) -> Comparison:
    """Run a bundle in every engine and compare its frames with the original's.

    Args:
        folder: a complete bundle.
        loop: the original, which has made the golden frames.
        count: frames of the closed loop; the original makes those that are missing, meanwhile.
        engines: (engine, precision) pairs, ONNX Runtime in FP32 first.
        progress: gets the progress.
        judge: gets the check in ONNX Runtime in FP32 before the others are made, and may raise ValueError.

    Raises:
        ValueError: ONNX Runtime cannot run the bundle, or the original fails.
    """
    checks: list[ParityCheck] = []
    times: list[float] = []
    refusals: list[Refusal] = []
    for engine, precision in engines:
        try:
            if (engine, precision) == REFERENCE:
                check, frame_ms = _compare_reference(folder, loop, count, progress)
                judge(check)
            else:
                tell = progress.counter(f"{engine} {precision}", count)
                check, frame_ms = compare_loop(
                    folder, engine, precision, loop.run, is_enough=_Settled(GATES_DB[precision]), tell=tell
                )
        except EngineError as error:
            if (engine, precision) == REFERENCE:
                raise ValueError(f"the bundle does not run: {error}; nothing was written") from error
            refusals.append(Refusal(engine, precision, str(error)))
            continue
        checks.append(check)
        times.append(frame_ms)
    return Comparison(tuple(checks), tuple(times), tuple(refusals))


def compare_loop(
    bundle: Path,
    engine: str,
    precision: str,
    run: OriginalRun,
    *,
    frames: Iterable[Pixels] | None = None,
    threads: int | None = None,
    is_enough: Callable[[Sequence[float]], bool] = lambda _: False,
    tell: Callable[[int], object] = lambda _: None,
) -> tuple[ParityCheck, float]:
    """Run a bundle in the runtime and compare its frames with the original's.

    Args:
        bundle: a complete bundle.
        engine: name of the engine.
        precision: one of `runtime.engines.table.PRECISIONS`.
        run: frames and inputs of the original.
        frames: of the original; None for those of `run`.
        threads: CPU threads per frame; None for all cores.
        is_enough: whether to stop, given the PSNR in dB of all frames so far, each at most `IDENTICAL_DB`.
        tell: called with the number of frames so far.

    Returns:
        The comparison, and the median time of a frame in milliseconds, without the first one.

    Raises:
        EngineError: the engine rejected the graph.
        ValueError: the original failed in the thread that makes its frames.
    """
    tell(0)
    with Generator.open(
        bundle, engine=engine, precision=precision, renewal=False, seed=SEED, threads=threads
    ) as generator:
        return compare_frames(generator, run, run.frames if frames is None else frames, is_enough=is_enough, tell=tell)


def compare_frames(
    generator: Generator,
    run: OriginalRun,
    frames: Iterable[Pixels],
    *,
    is_enough: Callable[[Sequence[float]], bool] = lambda _: False,
    tell: Callable[[int], object] = lambda _: None,
) -> tuple[ParityCheck, float]:
    """Compare a generator's frames from its first on; arguments, result and errors as of `compare_loop`."""
    values: list[float] = []
    times: list[float] = []
    if run.image is not None or run.text is not None:
        generator.condition(image=run.image, text=run.text)
    for number, frame in enumerate(frames):
        tell(number)
        if run.live is not None:
            feed_golden(generator, run.live, number, is_masked=True)
        start = time.perf_counter()
        made = next(generator)
        times.append(1000 * (time.perf_counter() - start))
        values.append(min(psnr_db(made, frame), IDENTICAL_DB))
        if is_enough(values):
            break
    check = ParityCheck.of_psnr(generator.engine, generator.precision, "the original, closed loop", values)
    return check, float(np.median(times[1:]))


def _compare_reference(
    folder: Path, loop: OriginalLoop, count: int, progress: ProgressLines
) -> tuple[ParityCheck, float]:
    """Compare all frames in ONNX Runtime, while the original makes those that are missing on the other cores."""
    engine, precision = REFERENCE
    run = loop.run
    if len(run.frames) >= count:
        return compare_loop(folder, engine, precision, run)
    with ThreadPoolExecutor(1) as pool:
        making = pool.submit(loop.make, count, progress.counter("the original", count))
        try:
            check, _ = compare_loop(
                folder,
                engine,
                precision,
                run,
                frames=loop.frames(count),
                threads=max(1, count_cores() // 2),
                tell=progress.counter(f"{engine} {precision}", count),
            )
        except BaseException:
            loop.stop()
            raise
        making.result()
    check_range(loop.plan, loop.run)
    _, frame_ms = compare_loop(folder, engine, precision, run)  # timed with all threads, and with nothing beside it
    return check, frame_ms


class _Settled:
    """Whether an engine needs no more frames: it has failed, or its errors do not accumulate.

    Args:
        gate: in dB.
    """

    def __init__(self, gate: float) -> None:
        self._gate = gate

    def __call__(self, values: Sequence[float]) -> bool:
        if len(values) < GOLDEN_FRAMES[-1]:
            return False
        if min(values) < self._gate:
            return True
        half = len(values) // 2
        return len(values) >= _SETTLED and min(values[half:]) >= min(values[:half]) - _DRIFT_DB


def record_speeds(bundle: Bundle, found: Comparison) -> None:
    """Keep the times of the engines that passed, so that `--engine auto` on this machine need not measure them."""
    times = {
        f"{check.engine} {check.precision}": ms
        for check, ms in zip(found.checks, found.frame_ms, strict=True)
        if check.passed
    }
    keep_times(bundle, times)
