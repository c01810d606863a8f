"""How long a frame takes, one after the other as fast as they come, from `next(generator)` to pixels in memory.

python -m benchmarks latency bundles/NAME --plot latency.png
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.latency.comparison import check_names, compare
from benchmarks.latency.comparison import rows as beside_rows
from benchmarks.latency.comparison import to_markdown as beside_to_markdown
from benchmarks.latency.contenders import CONTENDERS
from benchmarks.latency.distribution import Distribution
from benchmarks.latency.stages import STAGES, TimedSession, open_timed
from benchmarks.machine import machine_card
from benchmarks.report import BenchmarkReport, write_beside
from runtime.engines.table import ENGINES, PRECISIONS, count_cores
from runtime.generator import Generator

SUMMARY = "how long a frame takes, where the time goes, and how long it takes others"
DESCRIPTION = """\
Make frames as fast as they come and measure each, from asking for it to having
its pixels in memory. The picture, its noise and its renewals are those of a
real show. Nothing else should run meanwhile: the load average is reported.
With --beside, what people would use instead makes the same frames in the same
run: each in a process of its own, blocks of frames in turns. Ratios come first.
"""
EXAMPLES = """\
figures:
  p50 ... p99   as many per cent of the frames took at most this long
  variation     standard deviation over mean: 0 is a metronome
  late          frames longer than the generator's own 1 / fps
  host to device, compute, device to host
                as trtexec names them; on a CPU nothing is copied but inputs. An
                engine on a GPU only enqueues in "compute"; "device to host" then
                includes the wait

examples:
  python -m benchmarks latency bundles/satellite-256
      the fastest engine in its fastest precision, on every core
  python -m benchmarks latency bundles/mine --engine onnxruntime --threads 1
      one engine on one core
  python -m benchmarks latency bundles/mine --prepare --frames 3000
      what preparing the next scene costs the frames meanwhile
  python -m benchmarks latency bundles/mine --json mine.json --plot mine.png
      keep every single duration, and draw them
  python -m benchmarks latency bundles/mine --beside all --run runs/mine
      beside the engine's bare loop, OpenVINO, ONNX Runtime and PyTorch (without
      --run a PyTorch network of the same shape with random weights)
"""


@dataclass(frozen=True)
class LatencyMeasurement:
    """Durations in milliseconds: opening, the first frame with its scene, each measured frame, and its three stages."""

    open_ms: float
    first_frame_ms: float
    frames_ms: list[float]
    stages_ms: list[tuple[float, float, float]] = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    parser.add_argument("bundle", metavar="BUNDLE", help="folder of a bundle")
    parser.add_argument("--engine", default="auto", metavar="E", help=f"auto, {', '.join(ENGINES)} (auto)")
    parser.add_argument("--precision", default="auto", metavar="P", help=f"auto, {', '.join(PRECISIONS)} (auto)")
    parser.add_argument("--pixels", default="rgb", metavar="KIND", help="rgb or i420 (rgb)")
    parser.add_argument("--frames", type=int, default=600, metavar="N", help="frames to measure (600)")
    parser.add_argument("--warmup", type=int, default=60, metavar="N", help="frames before that (60)")
    parser.add_argument("--threads", type=int, metavar="T", help="CPU threads for a frame (every core)")
    parser.add_argument(
        "--prepare", action="store_true", help="prepare one scene after the other in another thread meanwhile"
    )
    parser.add_argument("--beside", metavar="NAMES", help=f"also measure all, or some of {', '.join(CONTENDERS)}")
    parser.add_argument(
        "--run", dest="trained", metavar="RUN", help="with --beside: the run that the bundle was exported from"
    )
    parser.add_argument("--plot", metavar="FILE", help="draw the durations: .png, .svg or .pdf")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure as the arguments say.

    Raises:
        ValueError, BundleError, EngineError: see `Generator.open`; or the plot cannot be drawn.
    """
    if options.frames < 1 or options.warmup < 0:
        raise ValueError(
            f"--frames must be at least 1 and --warmup at least 0, got {options.frames} and {options.warmup}"
        )
    beside = [] if options.beside is None else check_names(options.beside)
    if options.trained is not None and not beside:
        raise ValueError("--run is for the contenders that --beside names: give --beside as well")
    if options.plot is not None:  # before the measurement, which takes its time
        from benchmarks.latency.plot import check_plot

        check_plot(Path(options.plot))
    machine = machine_card()  # first: the load should be the others', not this benchmark's

    timed: list[TimedSession] = []

    def open_generator() -> Generator:
        generator, session = open_timed(
            options.bundle,
            engine=options.engine,
            precision=options.precision,
            pixels=options.pixels,
            threads=options.threads,
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
    distribution = Distribution.of(measurement.frames_ms)
    result = to_result(generator, measurement, distribution, options, machine)
    if beside:
        result["beside"] = _measure_beside(beside, options)
    if options.plot is not None:
        from benchmarks.latency.plot import draw

        write_beside(Path(options.plot), lambda beside: draw(result, measurement.frames_ms, beside))
    title = f"{result['bundle']}, {result['width']} x {result['height']} {result['pixels']}"
    return BenchmarkReport(
        title,
        _rows(result, generator.engine_reason),
        result,
        {"frames_ms": [round(value, 4) for value in measurement.frames_ms]},
    )


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
        prepare: whether another thread prepares scenes without pause meanwhile.
        clock_ns: monotonic clock in nanoseconds.
        take_stages: returns the milliseconds of the stages since it was last called.

    Returns:
        The closed generator, for what it says of itself, and the durations.
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
        with _preparing(generator) if prepare else _nothing():
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
    generator: Generator,
    measurement: LatencyMeasurement,
    distribution: Distribution,
    options: argparse.Namespace,
    machine: dict[str, Any],
) -> dict[str, Any]:
    """Return everything as plain data, with the command that measures it again."""
    manifest = generator.manifest
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
        "ms": distribution.to_json(),
        "stages_ms": _stages(measurement),
        "variation": round(distribution.variation, 4),
        "fps": round(1000 / distribution.mean, 2) if distribution.mean else None,
        "own_fps": str(manifest.frame.fps),
        "late": sum(duration > budget_ms for duration in measurement.frames_ms),
        "warnings": _warnings(measurement, distribution, machine),
        "open_ms": round(measurement.open_ms, 1),
        "first_frame_ms": round(measurement.first_frame_ms, 1),
        "machine": machine,
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
    }


def to_markdown(result: dict[str, Any]) -> str:
    """Return the result as Markdown: the stages, and the contenders if there were any."""
    names = ("min", "max", "mean", "p50", "p90", "p95", "p99")
    head = (
        f"{result['bundle']}, {result['engine']} {result['precision']}, {result['pixels']}, {result['threads']} threads"
    )
    lines = [f"| {head} | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for stage, ms in {**result["stages_ms"], "total": result["ms"]}.items():
        lines.append(f"| {stage} | {' | '.join(f'{ms[name]:.2f}' for name in names)} |")
    text = "\n".join(lines) + "\n"
    if result["warnings"]:
        text += "\n" + " ".join(f"{warning[0].upper()}{warning[1:]}." for warning in result["warnings"]) + "\n"
    if "beside" in result:
        text += "\n" + beside_to_markdown(result["beside"])
    return text


def _measure_beside(names: list[str], options: argparse.Namespace) -> dict[str, Any]:
    from rich.console import Console

    threads = options.threads or count_cores()
    arguments = [str(options.bundle), str(threads), options.pixels, *([options.trained] if options.trained else [])]
    with Console(stderr=True).status("beside") as status:
        return compare(names, arguments, frames=options.frames, on_progress=status.update)


def _stages(measurement: LatencyMeasurement) -> dict[str, dict[str, float]]:
    parts = [list(part) for part in zip(*measurement.stages_ms, strict=True)]
    stages = {stage: Distribution.of(part).to_json() for stage, part in zip(STAGES, parts, strict=False)}
    if parts:
        rest = [total - sum(part) for total, part in zip(measurement.frames_ms, measurement.stages_ms, strict=True)]
        stages["host"] = Distribution.of(rest).to_json()
    return stages


def _warnings(measurement: LatencyMeasurement, distribution: Distribution, machine: dict[str, Any]) -> list[str]:
    """Say what makes the figures less than they seem."""
    found = []
    if distribution.p99 > 2 * distribution.p50:
        found.append("the spread is large: p99 is more than twice p50, something else ran or renewals took the cores")
    if machine["load"] is not None and machine["load"] > 0.5:
        found.append(f"the machine was busy before the measurement began (load {machine['load']})")
    stages = _stages(measurement)
    if stages and stages["host"]["mean"] > 0.1 * distribution.mean:
        found.append("the host is the bottleneck: over a tenth of a frame's time is spent outside the engine")
    return found


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def _preparing(generator: Generator) -> Iterator[None]:
    """Prepare one scene after the other in another thread until the block ends.

    Raises:
        ValueError: the generator takes no prompt.
        EngineError: the engine failed in the other thread.
    """
    generator.prepare()  # what is wrong with it shows here
    stop = threading.Event()
    errors: list[Exception] = []

    def prepare() -> None:
        try:
            generator.prepare()  # once at least, however few frames there are
            while not stop.is_set():
                generator.prepare()
        except Exception as error:  # noqa: BLE001 - handed to the thread that measures
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
    ms, machine = result["ms"], result["machine"]
    meanwhile = ", while scenes were being prepared" if result["prepare"] else ""
    rows = [(name, f"{ms[name]:.2f} ms", "") for name in ("p50", "p90", "p95", "p99", "max", "mean")]
    rows[0] = ("p50", f"{ms['p50']:.2f} ms", f"{result['frames']} frames after {result['warmup']}{meanwhile}")
    versions = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    return [
        *beside_rows(result.get("beside", {})),
        *(("warning", "", warning) for warning in result["warnings"]),
        ("engine", f"{result['threads']} threads", engine_reason),
        *rows,
        *((stage, f"{part['p50']:.2f} ms", f"p99 {part['p99']:.2f}") for stage, part in result["stages_ms"].items()),
        ("variation", f"{result['variation']:.3f}", "standard deviation over mean"),
        ("speed", f"{result['fps']} fps", f"the generator's own is {result['own_fps']}; {result['late']} frames late"),
        ("start", f"{result['open_ms']:.0f} ms", f"to open; {result['first_frame_ms']:.0f} ms for the first frame"),
        ("machine", f"{machine['cores']} cores", f"{machine['cpu']}: {', '.join(machine['flags'])}"),
        ("", f"{machine['memory_gib']} GiB", machine["os"]),
        ("", f"load {machine['load']}", f"Python {machine['python']}, {versions}"),
        ("commit", "", machine["commit"] or "none"),
    ]
