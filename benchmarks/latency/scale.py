"""Time per frame at other frame sizes: the same weights from 640 x 360 to 1920 x 1080.

python -m benchmarks scale bundles/NAME --plot scale.png

Times a bundle's frames at each size, in a process of its own. Bundles of
schema 1 have one size: give several. Nothing else should run at the same time.

examples:
  python -m benchmarks scale bundles/landscape
      640x360, 960x540, 1280x720 and 1920x1080
  python -m benchmarks scale bundles/landscape --sizes 1280x720,720x1280
  python -m benchmarks scale bundles/small bundles/large --plot scale.png
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.latency.comparison import BLOCK, SETTLE, ContenderProcess
from benchmarks.latency.distribution import percentiles
from benchmarks.report import BenchmarkReport
from export.commandline import to_list, to_size
from runtime.bundle.pruning import prune
from runtime.bundle.reader import open_bundle
from runtime.engines.opening import frame_output
from runtime.engines.table import count_cores
from runtime.pixels.assemble import check_size, with_size

_SIZES = "640x360,960x540,1280x720,1920x1080"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    add = parser.add_argument
    add("bundles", nargs="+", metavar="BUNDLE", type=Path, help="folder of a bundle")
    add("--sizes", default=_SIZES, metavar="WxH,...", help=f"frame sizes of a bundle that has no fixed one ({_SIZES})")
    add("--frames", type=int, default=250, metavar="N", help="frames of each size (250)")
    add("--threads", type=int, metavar="T", help="CPU threads for a frame (every core)")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure.

    Raises:
        ValueError, BundleError, EngineError: a bundle is damaged or cannot run here, or a size is wrong.
    """
    from rich.console import Console

    if options.frames < 1:
        raise ValueError(f"--frames must be at least 1, got {options.frames}")
    threads = options.threads or count_cores()
    with Console(stderr=True).status("scale") as status:
        sizes = []
        for bundle, size in find_sizes(options.bundles, options.sizes):
            status.update(f"{bundle} {size}: measuring")
            sizes.append(measure(bundle, size, threads, options.frames))
    sizes.sort(key=lambda row: row["width"] * row["height"])
    result = {
        "benchmark": "scale",
        "bundle": open_bundle(options.bundles[0]).manifest.name,
        "threads": threads,
        "frames": options.frames,
        "exponent": exponent(sizes),
        "sizes": sizes,
    }
    rows = [
        (_size(row), f"{row['ms']['p50']:.1f} ms", f"p99 {row['ms']['p99']:.1f}, {row['fps']} fps") for row in sizes
    ]
    if result["exponent"] is not None:
        rows.append(("cost", f"pixels ^ {result['exponent']:.2f}", "1 is proportional"))
    return BenchmarkReport(f"{result['bundle']}, {threads} threads", rows, result)


def find_sizes(bundles: Sequence[Path], sizes: str) -> list[tuple[Path, str]]:
    """Return (bundle, frame size) for each measurement; the size is "WxH", or "" for the only one of a bundle.

    Raises:
        ValueError: a size is wrong.
        BundleError: a bundle is damaged.
    """
    found: list[tuple[Path, str]] = []
    for bundle in bundles:
        if not open_bundle(bundle).manifest.shapes:
            found.append((bundle, ""))
            continue
        for text in to_list(sizes):
            check_size(to_size(text))
            found.append((bundle, text))
    return found


def measure(bundle: Path, size: str, threads: int, frames: int) -> dict[str, Any]:
    """Time a bundle's frames of one size ("WxH", or "") in a process of its own, without renewal, I420.

    Raises:
        ValueError: it cannot run here.
    """
    opened = with_size(open_bundle(bundle), to_size(size) if size else None, "i420")
    manifest = opened.manifest
    graph = prune(
        opened.step, [frame_output(manifest.step, "i420"), *(item.name for item in manifest.step.outputs_of("state"))]
    )
    durations: list[float] = []
    memory = None
    with ContenderProcess("everframe", [str(bundle), str(threads), "i420", size]) as worker:
        while len(durations) < frames:
            made = worker.make(BLOCK)
            durations += made["ms"][SETTLE:]
            memory = made["resident_mb"]
    ms = percentiles(durations)
    return {
        "width": manifest.frame.width,
        "height": manifest.frame.height,
        "gflop": round(count_flop(graph) / 1e9, 3),
        "what": worker.ready["what"],
        "ms": ms,
        "fps": round(1000 / ms["p50"], 1),
        "resident_mb": memory,
        "first_frame_ms": worker.ready["first_frame_ms"],
    }


def count_flop(graph: bytes) -> int:
    """Return the floating point operations of a graph's convolutions and matrix products, a multiply-add being two."""
    model = onnx.shape_inference.infer_shapes(onnx.ModelProto.FromString(graph))
    known = [*model.graph.value_info, *model.graph.input, *model.graph.output]
    shapes = {item.name: [size.dim_value for size in item.type.tensor_type.shape.dim] for item in known}
    shapes |= {item.name: list(item.dims) for item in model.graph.initializer}
    total = 0
    for node in model.graph.node:
        out = int(np.prod(shapes.get(node.output[0], [0]), dtype=np.int64))
        if node.op_type == "Conv":
            total += 2 * out * int(np.prod(shapes[node.input[1]][1:], dtype=np.int64))
        elif node.op_type in ("MatMul", "Gemm"):
            transposed = next((item.i for item in node.attribute if item.name == "transA"), 0)
            total += 2 * out * shapes[node.input[0]][0 if transposed else -1]
    return total


def exponent(rows: Sequence[dict[str, Any]]) -> float | None:
    """Return e of `time ~ pixels ** e`, fitted to the medians; None for fewer than two sizes."""
    pixels = np.array([row["width"] * row["height"] for row in rows], np.float64)
    if len(set(pixels.tolist())) < 2:
        return None
    slope, _ = np.polyfit(np.log(pixels), np.log([row["ms"]["p50"] for row in rows]), 1)
    return round(float(slope), 3)


def to_markdown(result: dict[str, Any]) -> str:
    """Return the sizes as a Markdown table."""
    lines = ["| size | GFLOP a frame | with | p50 ms | p99 ms | fps | MB | first frame s |", "|" + "---|" * 8]
    for row in result["sizes"]:
        ms, memory, start = row["ms"], row["resident_mb"] or 0, row["first_frame_ms"] / 1000
        figures = f"{ms['p50']:.1f} | {ms['p99']:.1f} | {row['fps']:.0f} | {memory:.0f} | {start:.1f}"
        lines.append(f"| {_size(row)} | {row['gflop']:.1f} | {row['what']} | {figures} |")
    text = "\n".join(lines) + "\n"
    if result["exponent"] is not None:
        text += f"\nThe time grows as pixels to the power of {result['exponent']:.2f}.\n"
    return text


def _size(row: dict[str, Any]) -> str:
    return f"{row['width']} x {row['height']}"
