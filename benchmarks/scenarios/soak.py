"""Memory, latency and pictures of a generator over many frames: all must stay constant.

python -m benchmarks soak bundles/NAME --plot soak.png

Makes frames as fast as possible, switches scenes regularly, and samples memory,
latency and pictures in a hundred windows. The first tenth is warm-up. Checks
after it; exit status 1 if one fails:
  memory    resident memory ends within 1 % of where it began
  latency   the median frame of the last third takes at most 10 % longer than
            that of the first (other load on the machine counts as well)
  picture   no window is black, white, of one colour or still

examples:
  python -m benchmarks soak bundles/satellite
      100,000 frames
  python -m benchmarks soak bundles/mine --frames 20000 --switch-every 200
      another scene every 200 frames
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.machine import resident_mb
from benchmarks.report import (
    BenchmarkReport,
    Checks,
    check,
    check_rows,
    checks_to_markdown,
    has_failed,
    progress_bars,
    thirds,
)
from runtime.engines.table import ENGINES, PRECISIONS
from runtime.generator import Generator

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
    add = parser.add_argument
    add("bundle", metavar="BUNDLE", help="folder of a bundle")
    add("--frames", type=int, default=100_000, metavar="N", help="frames (100000)")
    add("--switch-every", type=int, default=1000, metavar="N", help="frames between scenes, 0: none (1000)")
    add("--engine", default="auto", metavar="E", help=f"auto, {', '.join(ENGINES)} (auto)")
    add("--precision", default="auto", metavar="P", help=f"auto, {', '.join(PRECISIONS)} (auto)")
    add("--threads", type=int, metavar="T", help="CPU threads for a frame (every core)")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure.

    Raises:
        ValueError, BundleError, EngineError: see `Generator.open`.
    """
    if options.frames < WINDOWS * 2 or options.switch_every < 0:
        raise ValueError(
            f"--frames must be at least {WINDOWS * 2} and --switch-every at least 0, "
            f"got {options.frames} and {options.switch_every}"
        )
    choice = {"engine": options.engine, "precision": options.precision, "threads": options.threads}
    with (
        Generator.open(options.bundle, pixels="i420", **choice) as generator,
        progress_bars() as bar,
        bar("windows", WINDOWS) as advance,
    ):
        windows = soak(
            generator, frames=options.frames, switch_every=options.switch_every, on_window=lambda _: advance(1)
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
    }
    title = f"{result['bundle']}, {windows[-1].frame} frames, {result['engine']} {result['precision']}"
    return BenchmarkReport(title, check_rows(checks), result, failed=has_failed(checks))


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
        generator: makes I420; scenes are switched only if it takes a seed.
        frames: at least twice `WINDOWS`.
        switch_every: frames between scenes; 0 for none.
        on_window: called with each window.
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


def judge(windows: list[SoakWindow]) -> Checks:
    """Return what must hold."""
    after = windows[int(len(windows) * _WARM_UP) :]
    checks: Checks = {}
    memory = [window.resident_mb for window in after if window.resident_mb is not None]
    if memory:
        first, last = thirds(memory)
        change = last / first - 1
        what = (
            f"{first:.1f} MB after the warm-up, {last:.1f} MB at the end ({change:+.2%}; at most {max(memory):.1f} MB)"
        )
        checks["memory"] = check(abs(change) <= 0.01, what)
    first, last = thirds([window.p50_ms for window in after])
    what = f"p50 {first:.2f} ms at first, {last:.2f} ms at the end ({last / first - 1:+.1%}); "
    what += f"p99 {np.median([window.p99_ms for window in after]):.2f} ms in the median window"
    checks["latency"] = check(last <= 1.1 * first, what)
    contrast, motion = min(window.contrast for window in after), min(window.motion for window in after)
    means = [window.mean for window in after]
    what = f"mean {min(means):.0f} to {max(means):.0f}, contrast at least {contrast:.1f}, motion at least {motion:.2f}"
    is_alive = contrast > 2 and motion > 0.01 and min(means) > 4 and max(means) < 251
    checks["picture"] = check(is_alive, what + " levels of 255")
    return checks


def to_markdown(result: dict[str, Any]) -> str:
    """Return the checks as a Markdown table."""
    head = f"{result['bundle']}, {result['windows'][-1]['frame']:,} frames, {result['engine']} {result['precision']}"
    return checks_to_markdown(head, result["checks"], "flat")
