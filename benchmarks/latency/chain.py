"""What a chain of bundles costs beyond the engine runs of its links.

python -m benchmarks chain bundles/NAME BUNDLE

In turn, and in one process, a frame of the chain and a bare run of each link's
engine are timed. The bare run uses the same engine with the inputs of the frame
before; nothing is written to it or read from it. What is left is the chain's
and the generators' own work: scenes, noise, controls, and the frames between
the links, which are cropped, resized and copied. Nothing else should run at the
same time.

examples:
  python -m benchmarks chain bundles/landscape bundles/person
      every frame of landscape (1280 x 720), turned into a matte
  python -m benchmarks chain bundles/landscape bundles/mine --engine onnxruntime --threads 1
  python -m benchmarks chain bundles/landscape bundles/mine bundles/mine --json chain.json
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.latency.distribution import percentiles
from benchmarks.latency.stages import TimedSession, open_timed
from benchmarks.machine import machine_card
from benchmarks.report import BenchmarkReport
from runtime.chain import Chain
from runtime.engines.table import ENGINES, PRECISIONS, count_cores

_MAX_OVERHEAD = 0.05  # of the bare runs, that a chain may add


@dataclass(frozen=True)
class ChainMeasurement:
    """Milliseconds of each frame of the chain, and of the bare runs beside it: one value per link and frame."""

    chain_ms: list[float] = field(default_factory=list)
    bare_ms: list[tuple[float, ...]] = field(default_factory=list)

    @property
    def overhead(self) -> float:
        """The median over all frames of the chain's time over the sum of the bare runs, minus 1."""
        ratios = [chain / sum(bare) for chain, bare in zip(self.chain_ms, self.bare_ms, strict=True)]
        return float(np.median(ratios)) - 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    add = parser.add_argument
    add("bundles", nargs="+", metavar="BUNDLE", help="folder of a bundle, the first link first; at least two")
    add("--engine", default="auto", metavar="E", help=f"auto, {', '.join(ENGINES)} (auto)")
    add("--precision", default="auto", metavar="P", help=f"auto, {', '.join(PRECISIONS)} (auto)")
    add("--pixels", default="rgb", metavar="KIND", help="of the last bundle's frames: rgb or i420 (rgb)")
    add("--frames", type=int, default=300, metavar="N", help="frames to measure (300)")
    add("--warmup", type=int, default=30, metavar="N", help="frames before that (30)")
    add("--threads", type=int, metavar="T", help="CPU threads for a frame (every core)")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure.

    Raises:
        ValueError, BundleError, EngineError: see `Chain.open`.
    """
    if len(options.bundles) < 2:
        raise ValueError(f"a chain needs at least two bundles, got {options.bundles[0]} alone: add another one")
    if options.frames < 1 or options.warmup < 1:
        raise ValueError(f"--frames and --warmup must be at least 1, got {options.frames} and {options.warmup}")
    machine = machine_card()  # before the measurement
    with ExitStack() as stack:
        chain, sessions = open_timed_chain(options, stack)
        measurement = measure(chain, sessions, frames=options.frames, warmup=options.warmup)
        return to_report(chain, measurement, options, machine)


def open_timed_chain(options: argparse.Namespace, stack: ExitStack) -> tuple[Chain, list[TimedSession]]:
    """Open the chain, and return the session of each link's step graph with it; the stack closes both."""
    opened = []
    for number, bundle in enumerate(options.bundles):
        is_last = number == len(options.bundles) - 1
        generator, session = open_timed(
            bundle,
            engine=options.engine,
            precision=options.precision,
            pixels=options.pixels if is_last else "rgb",
            threads=options.threads,
        )
        opened.append((stack.enter_context(generator), session))
    return Chain([generator for generator, _ in opened]), [session for _, session in opened]


def measure(
    chain: Chain,
    sessions: Sequence[TimedSession],
    *,
    frames: int,
    warmup: int,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> ChainMeasurement:
    """Time frames of a chain, and a bare run of each link after each of them.

    Args:
        chain: the chain.
        sessions: of the step graph of each link.
        frames: how many are timed.
        warmup: how many come before, at least 1.
        clock_ns: monotonic clock in nanoseconds.
    """
    measurement = ChainMeasurement()
    for number in range(warmup + frames):
        began = clock_ns()
        next(chain)
        took_ms = (clock_ns() - began) / 1e6
        for session in sessions:
            session.take_ms()
        for session in sessions:
            session.run()
        bare_ms = tuple(session.take_ms()[1] for session in sessions)
        if number >= warmup:
            measurement.chain_ms.append(took_ms)
            measurement.bare_ms.append(bare_ms)
    return measurement


def to_report(
    chain: Chain, measurement: ChainMeasurement, options: argparse.Namespace, machine: dict[str, Any]
) -> BenchmarkReport:
    """Return the table and the result as plain data."""
    ms = percentiles(measurement.chain_ms)
    bare = [percentiles(times)["p50"] for times in zip(*measurement.bare_ms, strict=True)]
    total = percentiles([sum(times) for times in measurement.bare_ms])
    overhead, names = measurement.overhead, list(chain.link_ms)
    result: dict[str, Any] = {
        "benchmark": "chain",
        "links": [
            {"name": name, "width": link.width, "height": link.height, "bare_ms": value, "ms": round(chain_ms, 4)}
            for name, link, value, chain_ms in zip(names, chain.links, bare, chain.link_ms.values(), strict=True)
        ],
        "pixels": chain.pixels,
        "engine": chain.engine,
        "precision": chain.precision,
        "threads": options.threads or count_cores(),
        "frames": options.frames,
        "warmup": options.warmup,
        "overhead": round(overhead, 4),
        "ms": ms,
        "bare_ms": total,
        "machine": machine,
    }
    rows = [
        ("overhead", f"{100 * overhead:.1f} %", f"of the bare runs, median of all frames; wanted: {_MAX_OVERHEAD:.0%}"),
        ("chain", f"{ms['p50']:.2f} ms", f"p99 {ms['p99']:.2f}"),
        ("bare runs", f"{total['p50']:.2f} ms", f"p99 {total['p99']:.2f}; the sum over the links"),
    ]
    rows += [
        (item["name"], f"{item['ms']:.2f} ms", f"bare {item['bare_ms']:.2f}; {item['width']} x {item['height']}")
        for item in result["links"]
    ]
    title = f"{' > '.join(names)}, {chain.engine} {chain.precision}, {result['threads']} threads"
    details = {"chain_ms": [round(value, 4) for value in measurement.chain_ms]}
    return BenchmarkReport(title, rows, result, details)
