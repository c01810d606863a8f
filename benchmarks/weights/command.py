"""Memory and time of a bundle with large weights: its import, and its first frames in every engine.

python -m benchmarks weights

A network of convolutions and products of matrices with random weights is written
to a temporary folder (--folder), as an ONNX file with its weights beside it. It is
imported, and the bundle makes a few frames in each engine and precision of this
machine: each in a process of its own, whose memory is read every 10 ms.

"Own memory" belongs to no file: the system cannot take it back. "Resident" also
counts the pages of the mapped weights file, which the system drops when other
programs need memory. The folder is removed at the end; it needs twice the size of
the weights.

examples:
  python -m benchmarks weights --gigabytes 2.5
  python -m benchmarks weights --gigabytes 1.7 --dtype float16 --engine openvino --json weights.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.json_child import JsonChild
from benchmarks.report import BenchmarkReport, progress_bars
from benchmarks.weights.model import SIDE, write_model
from runtime.engines.table import ENGINES, count_cores, open_engine

_CHILD = "benchmarks.weights.memory_child"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    add = parser.add_argument
    add("--gigabytes", type=float, default=2.5, metavar="N", help="size of the weights, 10^9 bytes (2.5)")
    add("--dtype", choices=("float32", "float16"), default="float32", help="type of the weights (float32)")
    add("--engine", action="append", metavar="E", help=f"one of {', '.join(ENGINES)}; repeatable (those that run here)")
    add("--frames", type=int, default=3, metavar="N", help="frames of each engine (3)")
    add("--threads", type=int, default=count_cores(), metavar="T", help="CPU threads per frame (every core)")
    add("--folder", type=Path, metavar="F", help="folder for the temporary files (the system's)")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure.

    Raises:
        ValueError: an option is wrong, or a part failed.
        OSError: the folder cannot be written.
    """
    if options.gigabytes <= 0 or options.frames < 1 or options.threads < 1:
        raise ValueError("--gigabytes, --frames and --threads must be above 0")
    pairs = _pairs(options.engine)
    with tempfile.TemporaryDirectory(prefix="everframe-weights-", dir=options.folder) as name, progress_bars() as bar:
        folder = Path(name)
        with bar("parts", 2 + len(pairs)) as advance:
            model = write_model(folder / "large.onnx", round(options.gigabytes * 1e9), options.dtype)
            advance(1)
            imported = _measure({"what": "import", "model": str(model.file), "bundle": str(folder / "bundle")})
            model.file.with_name(f"{model.file.name}.data").unlink()
            advance(1)
            bundle_bytes = sum(file.stat().st_size for file in (folder / "bundle").rglob("*") if file.is_file())
            engines = {}
            for engine, precision in pairs:
                part: dict[str, Any] = {"what": "frames", "engine": engine, "precision": precision}
                part |= {
                    "bundle": str(folder / "bundle"),
                    "frames": options.frames,
                    "threads": options.threads,
                    "size": [SIDE, SIDE],
                }
                engines[f"{engine} {precision}"] = _measure(part)
                advance(1)
    result = {
        "weight_bytes": model.weight_bytes,
        "bundle_bytes": bundle_bytes,
        "dtype": options.dtype,
        "threads": options.threads,
        "import": imported,
        "engines": engines,
    }
    return BenchmarkReport(f"{model.weight_bytes / 1e9:.2f} GB of weights in {options.dtype}", _rows(result), result)


def _pairs(names: list[str] | None) -> list[tuple[str, str]]:
    engines = [open_engine(name) for name in names or ENGINES]
    usable = [engine for engine in engines if engine.available() is None]
    if names and len(usable) < len(names):
        raise ValueError("; ".join(str(engine.available()) for engine in engines if engine not in usable))
    return [(engine.name, precision) for engine in usable for precision in engine.precisions()]


def _measure(part: dict[str, Any]) -> dict[str, Any]:
    with JsonChild(_CHILD, json.dumps(part)) as child:
        found: dict[str, Any] = child.read()
    if "error" in found:
        raise ValueError(f"{part['what']} failed: {found['error']}")
    return found


def _rows(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    imported = result["import"]
    parity = ", ".join(f"{label} {worst} dB" for label, worst in imported["parity_db"].items())
    rows = [
        ("import", f"{imported['own_mb'] / 1000:.2f} GB", _note(imported, f"{imported['seconds']:.0f} s; {parity}"))
    ]
    for label, found in result["engines"].items():
        times = f"opened in {found['open_s']:.1f} s, {found['frame_ms']:.0f} ms per frame"
        rows.append((label, f"{found['own_mb'] / 1000:.2f} GB", _note(found, times)))
    return rows


def _note(found: dict[str, Any], times: str) -> str:
    return f"own memory; resident {found['resident_mb'] / 1000:.2f} GB; {times}"


def to_markdown(result: dict[str, Any]) -> str:
    """Return a table for the documentation."""
    lines = ["| | own memory | resident | |", "|---|---|---|---|"]
    imported = result["import"]
    parts = {"import, all engines": (imported, f"{imported['seconds']:.0f} s")}
    for label, found in result["engines"].items():
        parts[f"open, {label}"] = (found, f"{found['open_s']:.1f} s, then {found['frame_ms']:.0f} ms per frame")
    for label, (found, note) in parts.items():
        own, resident = found["own_mb"] / 1000, found["resident_mb"] / 1000
        lines.append(f"| {label} | {own:.2f} GB | {resident:.2f} GB | {note} |")
    return "\n".join(lines) + "\n"
