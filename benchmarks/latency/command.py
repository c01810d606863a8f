"""Time per frame, as fast as frames can be made, from `next(generator)` to pixels in memory.

python -m benchmarks latency bundles/NAME --plot latency.png

The picture, its noise and its renewals are those of a real show. Nothing else
should run at the same time: the load average is reported. With --compare, other
runtimes make the same frames in the same run: each in a process of its own, in
alternating blocks of frames. Ratios come first.

figures:
  p50 ... p99   this many per cent of the frames took at most this long
  variation     standard deviation over mean
  late          frames longer than the generator's own 1 / fps
  host to device, compute, device to host
                as trtexec names them; on a CPU only inputs are copied. An engine
                on a GPU only enqueues in "compute"; "device to host" then
                includes the wait

examples:
  python -m benchmarks latency bundles/satellite
      the fastest engine in its fastest precision, on every core
  python -m benchmarks latency bundles/mine --engine onnxruntime --threads 1
      one engine on one core
  python -m benchmarks latency bundles/mine --prepare --frames 3000
      what preparing the next scene costs
  python -m benchmarks latency bundles/mine --json mine.json --plot mine.png
      keep every single duration, and draw them
  python -m benchmarks latency bundles/mine --compare all --run runs/mine
      next to the engine's bare loop, OpenVINO, ONNX Runtime and PyTorch (without
      --run a PyTorch network of the same shape with random weights)
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.latency.comparison import check_names, compare
from benchmarks.latency.comparison import rows as comparison_rows
from benchmarks.latency.comparison import to_markdown as comparison_to_markdown
from benchmarks.latency.contenders import CONTENDERS
from benchmarks.latency.distribution import percentiles
from benchmarks.latency.stages import STAGES, TimedSession, open_timed
from benchmarks.machine import machine_card
from benchmarks.report import BenchmarkReport
from export.commandline import to_size
from runtime.engines.table import ENGINES, PRECISIONS, count_cores
from runtime.generator import Generator

_COLUMNS = ("min", "max", "mean", "p50", "p90", "p95", "p99")


@dataclass(frozen=True)
class LatencyMeasurement:
    """Durations in milliseconds: opening, the first frame with its scene, each measured frame, and its three stages."""

    open_ms: float
    first_frame_ms: float
    frames_ms: list[float]
    stages_ms: list[tuple[float, float, float]] = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    add = parser.add_argument
    add("bundle", metavar="BUNDLE", help="folder of a bundle")
    add("--engine", default="auto", metavar="E", help=f"auto, {', '.join(ENGINES)} (auto)")
    add("--precision", default="auto", metavar="P", help=f"auto, {', '.join(PRECISIONS)} (auto)")
    add("--pixels", default="rgb", metavar="KIND", help="rgb or i420 (rgb)")
    add("--frames", type=int, default=600, metavar="N", help="frames to measure (600)")
    add("--warmup", type=int, default=60, metavar="N", help="frames before that (60)")
    add("--threads", type=int, metavar="T", help="CPU threads for a frame (every core)")
    add("--size", metavar="WxH", help="frame size in pixels (the bundle's)")
    add("--prepare", action="store_true", help="prepare scenes in another thread at the same time")
    add("--compare", "--beside", metavar="NAMES", help=f"also measure all, or some of {', '.join(CONTENDERS)}")
    add("--run", dest="trained", metavar="RUN", help="with --compare: the run that the bundle was exported from")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure.

    Raises:
        ValueError, BundleError, EngineError: see `Generator.open`.
    """
    if options.frames < 1 or options.warmup < 0:
        raise ValueError(
            f"--frames must be at least 1 and --warmup at least 0, got {options.frames} and {options.warmup}"
        )
    contenders = [] if options.compare is None else check_names(options.compare)
    if options.trained is not None and not contenders:
        raise ValueError("--run is for the contenders that --compare names: give --compare as well")
    machine = machine_card()  # before the measurement
    timed: list[TimedSession] = []

    def open_generator() -> Generator:
        generator, session = open_timed(
            options.bundle,
            engine=options.engine,
            precision=options.precision,
            pixels=options.pixels,
            threads=options.threads,
            size=None if options.size is None else to_size(options.size),
        )
        timed.append(session)
        return generator

    generator, measurement = measure(
        open_generator,
        frames=options.frames,
        warmup=options.warmup,
        prepare=options.prepare,
        take_stages=lambda: timed[0].take_ms(),
    )
    result = to_result(generator, measurement, options, machine)
    if contenders:
        from rich.console import Console

        trained = [options.trained] if options.trained else []
        arguments = [str(options.bundle), str(result["threads"]), options.pixels, options.size or "", *trained]
        with Console(stderr=True).status("comparison") as status:
            result["comparison"] = compare(contenders, arguments, frames=options.frames, on_progress=status.update)
    title = f"{result['bundle']}, {result['width']} x {result['height']} {result['pixels']}"
    details = {"frames_ms": [round(value, 4) for value in measurement.frames_ms]}
    return BenchmarkReport(title, _rows(result, generator.engine_reason), result, details)


def measure(
    open_generator: Callable[[], Generator],
    *,
    frames: int,
    warmup: int,
    prepare: bool = False,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
    take_stages: Callable[[], tuple[float, float, float]] | None = None,
) -> tuple[Generator, LatencyMeasurement]:
    """Open a generator, warm it up, and time its frames one by one.

    Args:
        open_generator: opens it.
        frames: how many are timed, at least 1.
        warmup: how many come before, the first one not counted.
        prepare: whether another thread prepares scenes without pause at the same time.
        clock_ns: monotonic clock in nanoseconds.
        take_stages: returns the milliseconds of the stages since it was last called.

    Returns:
        The closed generator, for its metadata, and the durations.
    """
    start = clock_ns()
    with open_generator() as generator:
        opened = clock_ns()
        next(generator)
        shown = clock_ns()
        for _ in range(warmup):
            next(generator)
        durations: list[float] = []
        stages: list[tuple[float, float, float]] = []
        with _preparing(generator) if prepare else nullcontext():
            if take_stages is not None:
                take_stages()
            for _ in range(frames):
                before = clock_ns()
                next(generator)
                durations.append((clock_ns() - before) / 1e6)
                if take_stages is not None:
                    stages.append(take_stages())
    return generator, LatencyMeasurement((opened - start) / 1e6, (shown - opened) / 1e6, durations, stages)


def to_result(
    generator: Generator, measurement: LatencyMeasurement, options: argparse.Namespace, machine: dict[str, Any]
) -> dict[str, Any]:
    """Return everything as plain data."""
    manifest = generator.manifest
    ms = percentiles(measurement.frames_ms)
    stages = _stages(measurement)
    budget_ms = float(1000 / manifest.frame.fps)
    return {
        "benchmark": "latency",
        "bundle": manifest.name,
        "bundle_sha256": manifest.sha256,
        "width": generator.width,
        "height": generator.height,
        "pixels": generator.pixels,
        "engine": generator.engine,
        "precision": generator.precision,
        "threads": options.threads or count_cores(),
        "frames": options.frames,
        "warmup": options.warmup,
        "prepare": options.prepare,
        "ms": ms,
        "stages_ms": stages,
        "variation": round(float(np.std(measurement.frames_ms)) / ms["mean"], 4) if ms["mean"] else 0.0,
        "fps": round(1000 / ms["mean"], 2) if ms["mean"] else None,
        "own_fps": str(manifest.frame.fps),
        "late": sum(duration > budget_ms for duration in measurement.frames_ms),
        "warnings": _warnings(stages, ms, machine["load"]),
        "open_ms": round(measurement.open_ms, 1),
        "first_frame_ms": round(measurement.first_frame_ms, 1),
        "machine": machine,
    }


def to_markdown(result: dict[str, Any]) -> str:
    """Return the result as Markdown: the stages, and the contenders if there were any."""
    head = f"{result['bundle']}, {result['engine']} {result['precision']}, {result['pixels']}"
    lines = [
        f"| {head}, {result['threads']} threads | {' | '.join(_COLUMNS)} |",
        f"|---|{'---|' * len(_COLUMNS)}",
    ]
    for stage, ms in {**result["stages_ms"], "total": result["ms"]}.items():
        lines.append(f"| {stage} | {' | '.join(f'{ms[name]:.2f}' for name in _COLUMNS)} |")
    text = "\n".join(lines) + "\n"
    if result["warnings"]:
        text += "\n" + " ".join(f"{warning[0].upper()}{warning[1:]}." for warning in result["warnings"]) + "\n"
    if compared := result.get("comparison", result.get("beside")):  # "beside" in results of version 0.1
        text += "\n" + comparison_to_markdown(compared)
    return text


def _stages(measurement: LatencyMeasurement) -> dict[str, dict[str, float]]:
    if not measurement.stages_ms:
        return {}
    parts = dict(zip(STAGES, zip(*measurement.stages_ms, strict=True), strict=True))
    pairs = zip(measurement.frames_ms, measurement.stages_ms, strict=True)
    parts["host"] = tuple(total - sum(part) for total, part in pairs)
    return {stage: percentiles(part) for stage, part in parts.items()}


def _warnings(stages: dict[str, dict[str, float]], ms: dict[str, float], load: float | None) -> list[str]:
    found = []
    if ms["p99"] > 2 * ms["p50"]:
        found.append("the spread is large: p99 is more than twice p50, something else ran or renewals took the cores")
    if load is not None and load > 0.5:
        found.append(f"the machine was busy before the measurement began (load {load})")
    if stages and stages["host"]["mean"] > 0.1 * ms["mean"]:
        found.append("the host is the bottleneck: over a tenth of a frame's time is spent outside the engine")
    return found


@contextmanager
def _preparing(generator: Generator) -> Iterator[None]:
    """Prepare one scene after the other in another thread until the block ends.

    Raises:
        ValueError: the generator takes no prompt.
        EngineError: the engine failed in the other thread.
    """
    generator.prepare()  # raises here what is wrong with it
    stop = threading.Event()
    errors: list[Exception] = []

    def prepare() -> None:
        try:
            generator.prepare()  # once at least, however few frames there are
            while not stop.is_set():
                generator.prepare()
        except Exception as error:  # noqa: BLE001 - raised in the measuring thread
            errors.append(error)

    thread = threading.Thread(target=prepare, name="prepare", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if errors:
        raise errors[0]


def _rows(result: dict[str, Any], engine_reason: str) -> list[tuple[str, str, str]]:
    ms = result["ms"]
    preparing = ", while scenes were being prepared" if result["prepare"] else ""
    return [
        *comparison_rows(result.get("comparison", {})),
        *(("warning", "", warning) for warning in result["warnings"]),
        ("engine", f"{result['threads']} threads", engine_reason),
        ("p50", f"{ms['p50']:.2f} ms", f"{result['frames']} frames after {result['warmup']}{preparing}"),
        *((name, f"{ms[name]:.2f} ms", "") for name in ("p90", "p95", "p99", "max", "mean")),
        *((stage, f"{part['p50']:.2f} ms", f"p99 {part['p99']:.2f}") for stage, part in result["stages_ms"].items()),
        ("variation", f"{result['variation']:.3f}", "standard deviation over mean"),
        ("speed", f"{result['fps']} fps", f"the generator's own is {result['own_fps']}; {result['late']} frames late"),
        ("start", f"{result['open_ms']:.0f} ms", f"to open; {result['first_frame_ms']:.0f} ms for the first frame"),
    ]
