"""Time per frame at other sizes: the same weights, exported again from 128 to 1024 pixels.

python -m benchmarks scale runs/NAME --keep sizes --plot scale.png

Exports a run at each size, once, into a folder that is kept, and times its
frames, each size in a process of its own. Bundles may be given instead of a
run; nothing is exported then. Nothing else should run at the same time.

examples:
  python -m benchmarks scale runs/mine --keep sizes
      128, 192, 256, 384, 512, 768 and 1024 pixels square; exported again only
      where `sizes` does not hold them yet
  python -m benchmarks scale runs/mine --keep sizes --sizes 256x256,640x384
  python -m benchmarks scale bundles/small bundles/large --plot scale.png
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.latency.comparison import BLOCK, SETTLE, ContenderProcess
from benchmarks.latency.distribution import percentiles
from benchmarks.report import BenchmarkReport
from runtime.bundle.pruning import prune
from runtime.bundle.reader import open_bundle
from runtime.engines.opening import frame_output
from runtime.engines.table import count_cores

_SIZES = "128x128,192x192,256x256,384x384,512x512,768x768,1024x1024"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    add = parser.add_argument
    add("sources", nargs="+", metavar="RUN|BUNDLE", help="one run, or bundles of several sizes")
    add("--keep", metavar="DIR", help="folder for the exports of a run; needed for a run")
    add("--sizes", default=_SIZES, metavar="WxH,...", help=f"sizes to export a run at ({_SIZES})")
    add("--frames", type=int, default=250, metavar="N", help="frames of each size (250)")
    add("--threads", type=int, metavar="T", help="CPU threads for a frame (every core)")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure.

    Raises:
        ValueError, BundleError, EngineError: a source is neither run nor bundle, or cannot be exported or run here.
    """
    from rich.console import Console

    if options.frames < 1:
        raise ValueError(f"--frames must be at least 1, got {options.frames}")
    threads = options.threads or count_cores()
    with Console(stderr=True).status("scale") as status:
        bundles, refused = find_bundles(options.sources, options.keep, options.sizes, status.update)
        sizes = []
        for bundle in bundles:
            status.update(f"{bundle}: measuring")
            sizes.append(measure(bundle, threads, options.frames))
    sizes.sort(key=lambda row: row["width"] * row["height"])
    result = {
        "benchmark": "scale",
        "bundle": open_bundle(bundles[0]).manifest.name,
        "threads": threads,
        "frames": options.frames,
        "exponent": exponent(sizes),
        "sizes": sizes,
        "refused": refused,
    }
    rows = [
        (_size(row), f"{row['ms']['p50']:.1f} ms", f"p99 {row['ms']['p99']:.1f}, {row['fps']} fps") for row in sizes
    ]
    rows += [(text, "-", why) for text, why in refused.items()]
    if result["exponent"] is not None:
        rows.append(("cost", f"pixels ^ {result['exponent']:.2f}", "1 is proportional"))
    return BenchmarkReport(f"{result['bundle']}, {threads} threads", rows, result)


def find_bundles(
    sources: Sequence[str], keep: str | None, sizes: str, on_progress: Callable[[str], object]
) -> tuple[list[Path], dict[str, str]]:
    """Return the bundles to measure, exporting a run where need be; and size -> why its export was refused.

    Args:
        sources: one run, or bundles.
        keep: folder of a run's exports.
        sizes: "WxH,WxH".
        on_progress: called with a text before each export.

    Raises:
        ValueError: a source is neither, a run comes without `keep`, or every size was refused.
    """
    paths = [Path(source) for source in sources]
    if all((path / "bundle.json").is_file() for path in paths):
        return paths, {}
    if len(paths) != 1:
        missing = next(path for path in paths if not (path / "bundle.json").is_file())
        raise ValueError(f"{missing} is not a bundle: give bundles of several sizes, or one run alone")
    if keep is None:
        raise ValueError(f"{paths[0]} is not a bundle: for a run, name a folder for its exports with --keep")
    from export.bundle_writer import ExportError, ExportOptions, export_run
    from export.commandline import to_size

    found: list[Path] = []
    refused: dict[str, str] = {}
    for text in sizes.split(","):
        out = Path(keep) / f"{paths[0].name}-{text}"
        if not (out / "bundle.json").is_file():
            on_progress(f"{out}: exporting")
            # Parity is tested by `python -m export`: a few frames are enough here.
            options = ExportOptions(frames=4, size=to_size(text), precisions=("fp32",), engines=())
            try:
                export_run(paths[0], out, options=options)
            except ExportError as error:  # other sizes may be exact enough
                refused[text] = str(error)
                continue
        found.append(out)
    if not found:
        raise ValueError(f"every size was refused: {'; '.join(refused.values())}")
    return found, refused


def measure(bundle: Path, threads: int, frames: int) -> dict[str, Any]:
    """Time the frames of one bundle in a process of its own, without renewal, I420.

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
    with ContenderProcess("everframe", [str(bundle), str(threads), "i420"]) as worker:
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
    lines += [f"| {size} | refused: {why} |" + " |" * 6 for size, why in result["refused"].items()]
    text = "\n".join(lines) + "\n"
    if result["exponent"] is not None:
        text += f"\nThe time grows as pixels to the power of {result['exponent']:.2f}.\n"
    return text


def _size(row: dict[str, Any]) -> str:
    return f"{row['width']} x {row['height']}"
