"""What a frame costs at other sizes: the same weights, re-exported from 128 to 1024 pixels.

python -m benchmarks scale runs/NAME --keep sizes --plot scale.png
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.latency.comparison import BLOCK, SETTLE, Process
from benchmarks.latency.distribution import Distribution
from benchmarks.machine import machine_card
from benchmarks.report import BenchmarkReport, write_beside
from runtime.bundle.graph_checks import prune
from runtime.bundle.reader import open_bundle
from runtime.engines.sessions import frame_output
from runtime.engines.table import count_cores

SUMMARY = "what a frame costs from 128 to 1024 pixels, with the same weights"
DESCRIPTION = """\
Export a run at each size, once, into a folder that is kept, and time its
frames, each size in a process of its own. Bundles may be given instead of a
run; nothing is exported then. Nothing else should run meanwhile.
"""
EXAMPLES = """\
examples:
  python -m benchmarks scale runs/mine --keep sizes
      128, 192, 256, 384, 512, 768 and 1024 pixels square; exported again only
      where `sizes` does not hold them yet
  python -m benchmarks scale runs/mine --keep sizes --sizes 256x256,640x384
  python -m benchmarks scale bundles/small bundles/large --plot scale.png
"""
_SIZES = "128x128,192x192,256x256,384x384,512x512,768x768,1024x1024"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    parser.add_argument("sources", nargs="+", metavar="RUN|BUNDLE", help="one run, or bundles of several sizes")
    parser.add_argument("--keep", metavar="DIR", help="where the exports of a run stay; needed for a run")
    parser.add_argument("--sizes", default=_SIZES, metavar="WxH,...", help=f"sizes to export a run at ({_SIZES})")
    parser.add_argument("--frames", type=int, default=250, metavar="N", help="frames of each size (250)")
    parser.add_argument("--threads", type=int, metavar="T", help="CPU threads for a frame (every core)")
    parser.add_argument("--plot", metavar="FILE", help="draw cost against pixels: .png, .svg or .pdf")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure as the arguments say.

    Raises:
        ValueError, BundleError, EngineError: a source is neither run nor bundle, or cannot be exported or run here.
    """
    from rich.console import Console

    if options.frames < 1:
        raise ValueError(f"--frames must be at least 1, got {options.frames}")
    if options.plot is not None:
        from benchmarks.latency.plot import check_plot

        check_plot(Path(options.plot))
    machine = machine_card()
    threads = options.threads or count_cores()
    with Console(stderr=True).status("scale") as status:
        bundles, refused = find_bundles(options.sources, options.keep, options.sizes, status.update)
        rows = []
        for bundle in bundles:
            status.update(f"{bundle}: measuring")
            rows.append(measure(bundle, threads, options.frames))
    rows.sort(key=lambda row: row["width"] * row["height"])
    result = {
        "benchmark": "scale",
        "bundle": open_bundle(bundles[0]).manifest.name,
        "threads": threads,
        "frames": options.frames,
        "exponent": exponent(rows),
        "sizes": rows,
        "refused": refused,
        "machine": machine,
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
    }
    if options.plot is not None:
        from benchmarks.latency.scale_plot import draw

        write_beside(Path(options.plot), lambda beside: draw(result, beside))
    table = [
        (
            f"{row['width']} x {row['height']}",
            f"{row['ms']['p50']:.1f} ms",
            f"p99 {row['ms']['p99']:.1f}, {row['fps']} fps",
        )
        for row in rows
    ]
    table += [(text, "-", why) for text, why in refused.items()]
    if result["exponent"] is not None:
        table.append(("cost", f"pixels ^ {result['exponent']:.2f}", "1 is in proportion"))
    return BenchmarkReport(f"{result['bundle']}, {threads} threads", table, result)


def find_bundles(sources: Sequence[str], keep: str | None, sizes: str, say: Any) -> tuple[list[Path], dict[str, str]]:
    """Return the bundles to measure, exporting a run where need be, and the sizes that its export refused, with why.

    Args:
        sources: one run, or bundles.
        keep: folder of a run's exports.
        sizes: "WxH,WxH".
        say: told what happens next.

    Raises:
        ValueError: a source is neither, a run comes without `keep`, or every size was refused.
    """
    paths = [Path(source) for source in sources]
    if all((path / "bundle.json").is_file() for path in paths):
        return paths, {}
    if len(paths) != 1:
        missing = next(path for path in paths if not (path / "bundle.json").is_file())
        raise ValueError(f"{missing} is no bundle: give bundles of several sizes, or one run alone")
    if keep is None:
        raise ValueError(f"{paths[0]} is no bundle: for a run, say with --keep where its exports stay")
    from export.arguments import to_size
    from export.bundle_writer import ExportError, ExportOptions, export_run

    found: list[Path] = []
    refused: dict[str, str] = {}
    for text in sizes.split(","):
        out = Path(keep) / f"{paths[0].name}-{text}"
        if not (out / "bundle.json").is_file():  # whole or absent
            say(f"{out}: exporting")
            # Their parity is what `python -m export` is for: a few frames are enough here.
            wish = ExportOptions(frames=4, size=to_size(text), precisions=("fp32",), engines=())
            try:
                export_run(paths[0], out, wish=wish)
            except ExportError as error:  # a size at which an engine is not exact enough says nothing of the others
                refused[text] = str(error)
                continue
        found.append(out)
    if not found:
        raise ValueError(f"every size was refused: {'; '.join(refused.values())}")
    return found, refused


def measure(bundle: Path, threads: int, frames: int) -> dict[str, Any]:
    """Time the frames of one bundle in a process of its own, scenes that stay, I420.

    Raises:
        ValueError: it cannot run here.
    """
    opened = open_bundle(bundle)
    manifest = opened.manifest
    graph = prune(
        opened.step, [frame_output(manifest.step, "i420"), *(item.name for item in manifest.step.outputs_of("state"))]
    )
    durations: list[float] = []
    memory = None
    worker = Process("everframe", [str(bundle), str(threads), "i420"])
    try:
        while len(durations) < frames:
            made = worker.make(BLOCK)
            durations += made["ms"][SETTLE:]
            memory = made["resident_mb"]
    finally:
        worker.close()
    distribution = Distribution.of(durations)
    return {
        "width": manifest.frame.width,
        "height": manifest.frame.height,
        "gflop": round(count_flop(graph) / 1e9, 3),
        "what": worker.ready["what"],
        "ms": distribution.to_json(),
        "fps": round(1000 / distribution.p50, 1),
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
    lines += [f"| {size} | refused: {why} |" + " |" * 6 for size, why in result["refused"].items()]
    text = "\n".join(lines) + "\n"
    if result["exponent"] is not None:
        text += f"\nThe time grows as pixels to the power of {result['exponent']:.2f}.\n"
    return text


def _size(row: dict[str, Any]) -> str:
    return f"{row['width']} x {row['height']}"
