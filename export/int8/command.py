"""`python -m export int8 BUNDLE --out BUNDLE8`: adds the step graph in INT8, for `--precision int8`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from export.commandline import ProgressTable, print_table
from export.int8.bundle_writer import Int8Report, add_int8
from export.parity.checks import GATES_DB, print_checks
from runtime.engines.cpu import read_cpu
from runtime.engines.engine import INT8
from runtime.engines.int8 import cpu_name, faster_pairs

EXAMPLES = f"""what is done:
  1. The bundle is played from its own scenes, golden prompts and live test patterns, with controls at both ends and
     through a cross-fade; the step graph's inputs are kept.
  2. ONNX Runtime's quantiser finds the ranges of all layers. Weights get a scale per output channel.
  3. Golden frames are compared with the original on every engine of the CPU, then frames of moved controls and of a
     cross-fade with FP32; the gate is {GATES_DB[INT8]:g} dB.
     Layers that cost most for what they save stay in float until the frames pass.
  4. Every precision is timed in turns. `auto` takes int8 only on this kind of CPU, and only if it was faster.

examples:
  python -m export int8 bundles/areas --out areas8
  python -m export int8 bundles/areas --out areas8 --frames 256 --force     more frames to calibrate with
  python -m streaming areas8 --precision int8                               play it
  python -m export check areas8 --precision int8                            compare it on another machine

The graph in FP32 stays in the bundle. exit status: 0 the bundle was written; 2 an error, in one sentence.
"""
MAX_FRAMES = 4096


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    int8 = argparse.ArgumentParser(
        prog="python -m export int8",
        description="Add the step graph in INT8 to a bundle, calibrated on frames of its own show.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = int8.add_argument
    add("bundle", type=Path, metavar="BUNDLE", help="folder of a bundle")
    add("--out", type=Path, required=True, metavar="BUNDLE8", help="folder to write; BUNDLE itself with --force")
    add("--frames", type=int, default=64, metavar="N", help="frames of the show to calibrate with (%(default)s)")
    add("--rounds", type=int, default=10, metavar="N", help="rounds of the speed measurement (%(default)s)")
    add(
        "--vnni", action="store_true",
        help="weights of 8 bits in place of 7: closer frames, and refused by x86 CPUs without VNNI, which would "
        "overflow; also on Windows and Intel Macs, which do not tell whether the CPU has it",
    )  # fmt: skip
    add("--force", action="store_true", help="replace BUNDLE8 if it exists and is a bundle")
    return int8


def run(argv: Sequence[str]) -> Path:
    """Quantise a bundle and return the new folder.

    Raises:
        ValueError: a number is wrong, the bundle cannot be quantised, or its frames do not pass.
        BundleError: the bundle is damaged.
        EngineError: ONNX Runtime is missing or too old.
    """
    arguments = parser().parse_args(argv)
    if not 1 <= arguments.frames <= MAX_FRAMES:
        raise ValueError(f"--frames must be from 1 to {MAX_FRAMES} to calibrate with, got {arguments.frames}")
    if not 1 <= arguments.rounds <= MAX_FRAMES:
        raise ValueError(f"--rounds must be from 1 to {MAX_FRAMES}, got {arguments.rounds}")
    cpu = read_cpu()
    if arguments.vnni and not cpu.has_vnni:
        why = "this one has none" if cpu.flags else "and only Linux tells whether this one has it"
        raise ValueError(f"--vnni needs a CPU with VNNI to compare the frames on, {why}: leave it out")
    out: Path = arguments.out
    with ProgressTable() as stages:
        report = add_int8(
            arguments.bundle,
            out,
            frames=arguments.frames,
            rounds=arguments.rounds,
            vnni=arguments.vnni,
            force=arguments.force,
            stages=stages,
        )
    stages.print(f"{arguments.bundle} in INT8")
    print_checks(report.checks, "parity with the original")
    _print_speed(report)
    return out


def _print_speed(report: Int8Report) -> None:
    full = {entry["engine"]: entry["ms"] for entry in report.speed if entry["precision"] == "fp32"}
    rows = [
        (entry["engine"], entry["precision"], f"{entry['ms']:.2f}", f"{entry['ms'] / full[entry['engine']]:.2f}")
        for entry in report.speed
    ]
    print_table(f"speed on {cpu_name()}", ("engine", "precision", "ms", "of FP32"), rows, right="ms")
    pays = sorted(engine for engine, _ in faster_pairs(report.verified))
    print(
        f"{report.layers} of {report.of} layers are in INT8 ({report.share:.0%} of their products). "
        + (
            f"INT8 is faster in {' and '.join(pays)}."
            if pays
            else "INT8 is not the fastest here: `auto` does not choose it."
        )
    )
