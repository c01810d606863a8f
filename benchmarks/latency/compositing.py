"""Time per frame of a person over a show, part by part.

python -m benchmarks composite bundles/person

Live frames and frames behind the person are drawn from noise. The parts are
measured in alternating blocks of frames. Figures are medians in milliseconds:

  feed    converting a live frame, which a show does beside the frame that is
          being made
  matte   finding the person in it
  blend   the frame with the person over it

examples:
  python -m benchmarks composite bundles/person --size 1920x1080
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import BenchmarkReport
from export.commandline import to_size
from runtime.compositing.composite import Composite

_BLOCK = 10  # frames of a part in a row; the first of them are not measured
_WARM = 3
_STEPS = ("feed", "matte", "blend")
CASES: dict[str, dict[str, float]] = {
    "defaults": {},
    "half the size, in a corner": {"matte.x": 0.25, "matte.size": 0.5},
    "wrap": {"matte.wrap": 0.5},
    "tone": {"matte.tone": 0.5},
    "wrap and tone": {"matte.wrap": 0.5, "matte.tone": 0.5},
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    add = parser.add_argument
    add("bundle", type=Path, metavar="BUNDLE", help="folder of a matte bundle")
    add("--size", default="1280x720", metavar="WxH", help="frame size in pixels (1280x720)")
    add("--pixels", choices=("i420", "rgb"), default="i420", help="format of the frames (i420)")
    add("--blocks", type=int, default=10, metavar="N", help=f"blocks of {_BLOCK} frames for each part (10)")
    add("--engine", default="auto", metavar="E", help="see `latency` (auto)")
    add("--threads", type=int, metavar="T", help="CPU threads for a frame (every core)")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure.

    Raises:
        ValueError, BundleError, EngineError: an argument or the bundle cannot be used.
    """
    if options.blocks < 1:
        raise ValueError(f"--blocks is {options.blocks}, expected 1 or more")
    width, height = to_size(options.size)
    opened = {"pixels": options.pixels, "engine": options.engine, "threads": options.threads}
    with Composite.open(options.bundle, width, height, **opened) as composite:
        times = measure(composite, options.blocks)
    medians = {case: {step: float(np.median(one[step])) for step in _STEPS} for case, one in times.items()}
    rows = [(case, f"{sum(one.values()):.2f} ms", _words(one)) for case, one in medians.items()]
    size = f"{width}x{height}"
    result = {"benchmark": "composite", "bundle": options.bundle.name, "size": size, "ms": medians}
    return BenchmarkReport(f"a person over frames of {size} {options.pixels}", rows, result)


def measure(
    composite: Composite, blocks: int, clock_ns: Callable[[], int] = time.perf_counter_ns
) -> dict[str, dict[str, list[float]]]:
    """Return the milliseconds of each step of each frame, by case and step.

    Args:
        composite: open.
        blocks: of frames, for each case.
        clock_ns: monotonic clock in nanoseconds.
    """
    random = np.random.default_rng(0)
    height, width = composite.height, composite.width
    shape = (height, width, 3) if composite.pixels == "rgb" else (height * 3 // 2, width)
    behind = random.integers(0, 256, shape, np.uint8)
    live = random.integers(0, 256, (height, width, 3), np.uint8)
    found: dict[str, dict[str, list[float]]] = {case: {step: [] for step in _STEPS} for case in CASES}
    for _ in range(blocks):
        for case, values in CASES.items():
            for spec in composite.control_specs:
                composite.set_control(spec.name, values.get(spec.name, spec.default))
            for number in range(_BLOCK):
                marks = [clock_ns()]
                for act in (lambda: composite.feed_live(live), composite.update, lambda: composite.over(behind)):
                    act()
                    marks.append(clock_ns())
                if number >= _WARM:
                    for step, before, after in zip(_STEPS, marks, marks[1:], strict=False):
                        found[case][step].append((after - before) / 1e6)
    return found


def to_markdown(result: Mapping[str, Any]) -> str:
    """Return the figures as a Markdown table."""
    lines = ["| | feed, ms | matte, ms | blend, ms |", "|---|---|---|---|"]
    for case, one in result["ms"].items():
        lines.append(f"| {case} | {' | '.join(f'{one[step]:.2f}' for step in _STEPS)} |")
    return "\n".join(lines) + "\n"


def _words(one: Mapping[str, float]) -> str:
    return ", ".join(f"{step} {ms:.2f}" for step, ms in one.items())
