"""Whether a show can go on for ever: memory, latency and pictures over many frames, a flat line or a failure.

python -m benchmarks soak bundles/NAME --plot soak.png
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine_card, resident_mb
from benchmarks.report import BenchmarkReport, write_beside
from runtime.engines.table import ENGINES, PRECISIONS
from runtime.generator import Generator

SUMMARY = "whether memory, latency and pictures stay as they are over many frames"
DESCRIPTION = """\
Make many frames as fast as they come, ask for another scene now and then, and
sample memory, latency and pictures in a hundred windows. The first tenth is
warm-up. Status 1 if a line is not flat.
"""
EXAMPLES = """\
what must hold after the warm-up:
  memory    resident memory ends within 1 % of where it began
  latency   the median frame of the last third takes at most 10 % longer than
            that of the first (whatever else the machine does counts, too)
  picture   no window is black, white, of one colour or standing still

examples:
  python -m benchmarks soak bundles/satellite-256
      100,000 frames
  python -m benchmarks soak bundles/mine --frames 20000 --switch-every 200
      another scene every 200 frames
"""
WINDOWS = 100
_WARM_UP = 0.1  # share of the windows


@dataclass(frozen=True)
class SoakWindow:
    """One hundredth of the frames: number of its last frame, milliseconds, MB, levels of 255."""

    frame: int
    p50_ms: float
    p99_ms: float
    resident_mb: float | None
    mean: float
    contrast: float
    motion: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    parser.add_argument("bundle", metavar="BUNDLE", help="folder of a bundle")
    parser.add_argument("--frames", type=int, default=100_000, metavar="N", help="frames (100000)")
    parser.add_argument(
        "--switch-every", type=int, default=1000, metavar="N", help="frames between scenes, 0: none (1000)"
    )
    parser.add_argument("--engine", default="auto", metavar="E", help=f"auto, {', '.join(ENGINES)} (auto)")
    parser.add_argument("--precision", default="auto", metavar="P", help=f"auto, {', '.join(PRECISIONS)} (auto)")
    parser.add_argument("--threads", type=int, metavar="T", help="CPU threads for a frame (every core)")
    parser.add_argument("--plot", metavar="FILE", help="draw the three lines: .png, .svg or .pdf")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure as the arguments say.

    Raises:
        ValueError, BundleError, EngineError: see `Generator.open`; or the plot cannot be drawn.
    """
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    if options.frames < WINDOWS * 2 or options.switch_every < 0:
        raise ValueError(
            f"--frames must be at least {WINDOWS * 2} and --switch-every at least 0, "
            f"got {options.frames} and {options.switch_every}"
        )
    if options.plot is not None:
        from benchmarks.latency.plot import check_plot

        check_plot(Path(options.plot))
    machine = machine_card()
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with (
        Generator.open(
            options.bundle, engine=options.engine, precision=options.precision, pixels="i420", threads=options.threads
        ) as generator,
        Progress(*columns, console=Console(stderr=True)) as progress,
    ):
        bar = progress.add_task("frames", total=options.frames)
        windows = soak(
            generator,
            frames=options.frames,
            switch_every=options.switch_every,
            on_window=lambda window: progress.update(bar, completed=window.frame),
        )
    checks = judge(windows)
    result = {
        "benchmark": "soak",
        "bundle": generator.manifest.name,
        "bundle_sha256": generator.manifest.sha256,
        "engine": generator.engine,
        "precision": generator.precision,
        "frames": options.frames,
        "switch_every": options.switch_every,
        "checks": checks,
        "windows": [asdict(window) for window in windows],
        "machine": machine,
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
    }
    if options.plot is not None:
        from benchmarks.scenarios.soak_plot import draw

        write_beside(Path(options.plot), lambda beside: draw(result, beside))
    rows = [(name, "passed" if check["passed"] else "FAILED", check["what"]) for name, check in checks.items()]
    title = f"{result['bundle']}, {windows[-1].frame} frames, {result['engine']} {result['precision']}"
    return BenchmarkReport(title, rows, result, failed=not all(check["passed"] for check in checks.values()))


def soak(
    generator: Generator,
    *,
    frames: int,
    switch_every: int,
    on_window: Callable[[SoakWindow], object] = lambda _: None,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
    memory_mb: Callable[[], float | None] = resident_mb,
) -> list[SoakWindow]:
    """Make frames and sample them; Ctrl-C ends it early with the windows so far.

    Args:
        generator: gives I420; a new scene is asked for through `prepare` beside the show only if it takes a seed.
        frames: at least twice `WINDOWS`.
        switch_every: frames between scenes; 0 for none.
        on_window: told of each window.
        clock_ns: monotonic clock in nanoseconds.
        memory_mb: resident memory in MB.

    Raises:
        KeyboardInterrupt: before the first window was full.
    """
    windows: list[SoakWindow] = []
    seed_control = next((name for name, item in generator.manifest.controls.items() if item.target == "seed"), None)
    durations = np.zeros(-(-frames // WINDOWS))
    previous = np.zeros((generator.height, generator.width), np.uint8)
    filled = 0
    try:
        for number in range(frames):
            if switch_every and number and number % switch_every == 0 and seed_control is not None:
                generator.set_control(seed_control, number // switch_every % 1000)
            start = clock_ns()
            frame = next(generator)
            durations[filled] = (clock_ns() - start) / 1e6
            filled += 1
            is_last = (number + 1) * WINDOWS // frames > number * WINDOWS // frames
            luma = frame[: generator.height]
            if is_last:
                p50, p99 = np.percentile(durations[:filled], [50, 99]).tolist()
                motion = float(np.abs(luma.astype(np.int16) - previous).mean())
                figures = (float(luma.mean()), float(luma.std()), motion)
                windows.append(SoakWindow(number + 1, p50, p99, memory_mb(), *figures))
                on_window(windows[-1])
                filled = 0
            elif (number + 2) * WINDOWS // frames > (number + 1) * WINDOWS // frames:
                np.copyto(previous, luma)
    except KeyboardInterrupt:
        if len(windows) < WINDOWS // 10:
            raise
    return windows


def judge(windows: list[SoakWindow]) -> dict[str, dict[str, Any]]:
    """Return what must hold: name -> {"passed", "what": one sentence with the figures}."""
    after = windows[int(len(windows) * _WARM_UP) :]
    third = max(1, len(after) // 3)
    checks: dict[str, dict[str, Any]] = {}
    memory = [window.resident_mb for window in after if window.resident_mb is not None]
    if memory:
        first, last = float(np.median(memory[:third])), float(np.median(memory[-third:]))
        change = last / first - 1
        what = (
            f"{first:.1f} MB after the warm-up, {last:.1f} MB at the end ({change:+.2%}; at most {max(memory):.1f} MB)"
        )
        checks["memory"] = {"passed": abs(change) <= 0.01, "what": what}
    first, last = (float(np.median([window.p50_ms for window in part])) for part in (after[:third], after[-third:]))
    what = f"p50 {first:.2f} ms at first, {last:.2f} ms at the end ({last / first - 1:+.1%}); "
    what += f"p99 {np.median([window.p99_ms for window in after]):.2f} ms in the median window"
    checks["latency"] = {"passed": last <= 1.1 * first, "what": what}
    lowest = min(window.contrast for window in after)
    still = min(window.motion for window in after)
    means = [window.mean for window in after]
    is_alive = lowest > 2 and still > 0.01 and min(means) > 4 and max(means) < 251
    what = f"mean {min(means):.0f} to {max(means):.0f}, contrast at least {lowest:.1f}, motion at least {still:.2f}"
    checks["picture"] = {"passed": is_alive, "what": what + " levels of 255"}
    return checks


def to_markdown(result: dict[str, Any]) -> str:
    """Return the checks as a Markdown table."""
    head = f"{result['bundle']}, {result['windows'][-1]['frame']:,} frames, {result['engine']} {result['precision']}"
    lines = [f"| {head} | | |", "|---|---|---|"]
    for name, check in result["checks"].items():
        lines.append(f"| {name} | {'flat' if check['passed'] else '**failed**'} | {check['what']} |")
    return "\n".join(lines) + "\n"
