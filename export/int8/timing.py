"""Milliseconds per frame of a bundle's engines and precisions, measured in turns within one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from export.int8.recording import live_pattern
from runtime.engines.engine import INT8, INT8_ENGINES
from runtime.engines.table import open_engine
from runtime.generator import Generator

BLOCK = 12  # frames that one makes in its turn
SETTLE = 3  # of them that do not count: the caches still hold the others' frames
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


def measure_ms(
    bundle: Path,
    pairs: Sequence[Pair],
    *,
    rounds: int,
    size: tuple[int, int] | None = None,
    threads: int | None = None,
    advance: Callable[[float], None] = lambda _: None,
) -> dict[Pair, list[float]]:
    """Return the median time per frame of each round, in milliseconds.

    Args:
        bundle: its folder.
        pairs: (engine, precision); all are open at the same time, and make `BLOCK` frames in turns.
        rounds: at least 1.
        size: (width, height) of the frames in pixels; None for the bundle's own.
        threads: CPU threads per frame; None for all cores.
        advance: called with the completed share, 0 to 1.

    Raises:
        BundleError, EngineError: as of `Generator.open`.
    """
    found: dict[Pair, list[float]] = {pair: [] for pair in pairs}
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
                found[pair].append(float(np.median(_make(generator, BLOCK)[SETTLE:])))
            advance((turn + 1) / rounds)
    return found


def _make(generator: Generator, frames: int) -> list[float]:
    live = live_pattern(generator.manifest)
    times = []
    for number in range(frames):
        if live is not None:
            generator.feed_live(live[number % len(live)])
        start = time.perf_counter()
        next(generator)
        times.append(1000 * (time.perf_counter() - start))
    return times
