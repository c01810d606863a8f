"""Milliseconds per frame of a bundle's engines and precisions, measured in turns within one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.int8.moves import live_pattern
from runtime.engines.engine import INT8, INT8_ENGINES
from runtime.engines.table import open_engine
from runtime.generator import Generator

BLOCK = 8  # frames that one makes in its turn
SETTLE = 2  # of them that do not count: the caches still hold the others' frames
Pair = tuple[str, str]


def cpu_pairs(*, is_quantised: bool, without: Sequence[Pair] = ()) -> list[Pair]:
    """Return the (engine, precision) pairs of this machine's CPU, except FP16, which a CPU is slow in."""
    pairs = []
    for name in ("openvino", "onnxruntime"):
        engine = open_engine(name)
        if engine.available() is None:
            pairs += [(name, precision) for precision in engine.precisions() if precision != "fp16"]
            pairs += [(name, INT8)] if is_quantised and name in INT8_ENGINES else []
    return [pair for pair in pairs if pair not in without]


@dataclass(frozen=True)
class FrameTimes:
    """Milliseconds per frame of an engine in a precision: the median of each round, and the CPU's time in each round.

    Args:
        wall: from the request to the frame.
        cpu: that all threads of the process computed, which other programs change little.
    """

    wall: tuple[float, ...]
    cpu: tuple[float, ...]


def measure_ms(
    bundle: Path,
    pairs: Sequence[Pair],
    *,
    rounds: int,
    size: tuple[int, int] | None = None,
    threads: int | None = None,
    advance: Callable[[float], None] = lambda _: None,
) -> dict[Pair, FrameTimes]:
    """Time the frames of several engines and precisions.

    Args:
        bundle: its folder.
        pairs: (engine, precision); all are open at the same time, and make `BLOCK` frames in turns.
        rounds: at least 1; the result has one time for each.
        size: (width, height) of the frames in pixels; None for the bundle's own.
        threads: CPU threads per frame; None for all cores.
        advance: called with the completed share, 0 to 1.

    Raises:
        BundleError, EngineError: as of `Generator.open`.
    """
    found: dict[Pair, list[tuple[float, float]]] = {pair: [] for pair in pairs}
    with ExitStack() as opened:
        generators = {
            pair: opened.enter_context(
                Generator.open(
                    bundle, engine=pair[0], precision=pair[1], renewal=False, seed=7, size=size, threads=threads
                )
            )
            for pair in pairs
        }
        for generator in generators.values():
            _make(generator, BLOCK)
        for turn in range(rounds):
            for pair, generator in generators.items():
                times = _make(generator, BLOCK)[SETTLE:]
                wall, cpu = (float(np.median(column)) for column in zip(*times, strict=True))
                found[pair].append((wall, cpu))
            advance((turn + 1) / rounds)
    return {
        pair: FrameTimes(tuple(wall for wall, _ in rows), tuple(cpu for _, cpu in rows)) for pair, rows in found.items()
    }


def _make(generator: Generator, frames: int) -> list[tuple[float, float]]:
    live = live_pattern(generator.manifest)
    times = []
    for number in range(frames):
        if live is not None:
            generator.feed_live(live[number % len(live)])
        start, computed = time.perf_counter(), time.process_time()
        next(generator)
        times.append((1000 * (time.perf_counter() - start), 1000 * (time.process_time() - computed)))
    return times
