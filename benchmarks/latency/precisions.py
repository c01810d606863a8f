"""Time per frame and parity of every precision of the CPU's engines, INT8 beside FP32 and bf16.

python -m benchmarks precisions BUNDLE...

All engines and precisions of a bundle are open at the same time and make
blocks of frames in turns, so that other programs slow all of them down alike.
The ratio is the median over rounds of the CPU's time, over that of the same
engine in FP32: with one thread, other programs hardly change it. The dB are of
the worst golden frame, against the original. A bundle
without a graph in INT8 is measured in its other precisions.

examples:
  python -m export int8 bundles/areas --out areas8
  python -m benchmarks precisions areas8 bundles/fill --threads 1
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine_card
from benchmarks.report import BenchmarkReport
from export.commandline import to_size
from export.int8.timing import FrameTimes, cpu_pairs, measure_ms
from export.parity.checks import GATES_DB, IDENTICAL_DB
from runtime.bundle.reader import open_bundle
from runtime.engines.table import count_cores
from runtime.golden import check_golden


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    add = parser.add_argument
    add("bundles", nargs="+", metavar="BUNDLE", help="folders of bundles")
    add("--rounds", type=int, default=12, metavar="N", help="blocks of frames of each precision (12)")
    add("--threads", type=int, default=1, metavar="T", help="CPU threads for a frame (1)")
    add("--size", metavar="WxH", help="frame size in pixels (the bundle's)")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure.

    Raises:
        ValueError, BundleError, EngineError: see `Generator.open`.
    """
    if options.rounds < 1:
        raise ValueError(f"--rounds must be at least 1, got {options.rounds}")
    if not 1 <= options.threads <= count_cores():
        raise ValueError(f"--threads must be from 1 to {count_cores()}, the cores of this machine")
    machine = machine_card()  # before the measurement
    size = None if options.size is None else to_size(options.size)
    measured = []
    for folder in options.bundles:
        bundle = open_bundle(folder)
        pairs = cpu_pairs(is_quantised=bundle.int8 is not None)
        times = measure_ms(Path(folder), pairs, rounds=options.rounds, size=size, threads=options.threads)
        measured += [
            {"bundle": bundle.manifest.name, **_layers(bundle.manifest.verified), **_row(Path(folder), pair, times)}
            for pair in pairs
        ]
    result = {
        "benchmark": "precisions",
        "threads": options.threads,
        "rounds": options.rounds,
        "measured": measured,
        "machine": machine,
    }
    rows = [
        (
            f"{row['bundle']}, {row['engine']} {row['precision']}",
            f"{row['ratio']:.2f}",
            f"{row['cpu_ms']:.2f} ms of the CPU, {row['wall_ms']:.2f} ms; {_parity(row)}",
        )
        for row in measured
    ]
    return BenchmarkReport("CPU time over that of the same engine in FP32", rows, result)


def to_markdown(result: dict[str, Any]) -> str:
    """Return the result as a Markdown table."""
    lines = [
        "| bundle | engine | precision | CPU ms | wall ms | times FP32 | worst dB | gate |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in result["measured"]:
        db = "" if row["worst_db"] is None else f"{row['worst_db']:.1f}"
        lines.append(
            f"| {row['bundle']} | {row['engine']} | {row['precision']} | {row['cpu_ms']:.2f} | {row['wall_ms']:.2f} | "
            f"{row['ratio']:.2f} | {db} | {row['gate_db']:g} |"
        )
    return "\n".join(lines) + "\n"


def _row(folder: Path, pair: tuple[str, str], times: dict[tuple[str, str], FrameTimes]) -> dict[str, Any]:
    engine, precision = pair
    own, full = np.array(times[pair].cpu), np.array(times[engine, "fp32"].cpu)
    golden = [min(result.psnr_db, IDENTICAL_DB) for result in check_golden(folder, engine, precision)]
    return {
        "engine": engine,
        "precision": precision,
        "cpu_ms": round(float(np.median(own)), 3),
        "wall_ms": round(float(np.median(times[pair].wall)), 3),
        "ratio": round(float(np.median(own / np.maximum(full, 1e-6))), 3),
        "worst_db": round(min(golden), 1) if golden else None,
        "gate_db": GATES_DB[precision],
    }


def _layers(verified: Any) -> dict[str, Any]:
    entry = verified.get("int8")
    keys = ("quantised", "layers", "share_of_products")
    return {key: entry[key] for key in keys if key in entry} if isinstance(entry, dict) else {}


def _parity(row: dict[str, Any]) -> str:
    if row["worst_db"] is None:
        return "no golden frames"
    verdict = "" if row["worst_db"] >= row["gate_db"] else ": FAILED"
    return f"{row['worst_db']:.1f} dB, gate {row['gate_db']:g}{verdict}"
