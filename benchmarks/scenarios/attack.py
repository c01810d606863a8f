"""A show whose page is attacked, next to a quiet one of the same length.

python -m benchmarks attack bundles/NAME

Runs two shows, each to a real nginx on loopback, to a recording and to the page,
with a reader at each end. During the second, another process attacks the page
without a pause: silent connections, half-sent headers and bodies, bad requests,
stalled uploads, invalid WebSocket frames, and prompts that are prepared and
dropped. As root, a second recording goes to a full disk as well. Exit status 1
if a request of the operator fails, if descriptors or memory grow, or if the
stream or the recording loses a frame.

examples:
  python -m benchmarks attack bundles/satellite
      ten minutes each
  python -m benchmarks attack bundles/satellite --seconds 60
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.json_child import JsonChild
from benchmarks.live.rtmp_server import RtmpServer, check_server
from benchmarks.report import BenchmarkReport, Checks, check, check_rows, checks_to_markdown, has_failed, thirds
from benchmarks.scenarios.show_process import Sample, ShowProcess, difference, reading

GROWTH = 0.05  # of memory, from the first third after the warm-up to the last
MAX_DESCRIPTORS = 700  # of the show's main process
_SAMPLE_S = 1.0
_FULL_DISK = "size=256k"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    add = parser.add_argument
    add("bundle", metavar="BUNDLE", help="folder of a bundle that takes a seed")
    add("--seconds", type=int, default=600, metavar="S", help="of each show (600)")
    add("--warm-up", type=int, default=20, metavar="S", help="seconds that do not count (20)")
    add("--fps", type=int, default=30, metavar="F", help="frames per second (30)")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure both shows.

    Raises:
        ValueError: nginx is missing, a number is out of range, or a show does not begin.
    """
    check_server()
    if not 1 <= options.warm_up < options.seconds - 5 or options.fps < 1:
        raise ValueError("--warm-up must be at least 1 and end 5 s before --seconds; --fps is positive")
    shows = {}
    for name in ("quiet", "attacked"):
        print(f"{name}: {options.seconds} s", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="everframe-") as folder:
            samples, attack = _show(options, Path(folder), is_attacked=name == "attacked")
        shows[name] = summarise(samples, attack, options.warm_up)
    checks = judge(shows["attacked"])
    result = {
        "benchmark": "attack",
        "bundle": Path(options.bundle).name,
        "fps": options.fps,
        "seconds": options.seconds,
        "shows": shows,
        "checks": checks,
    }
    rows = [(key, str(shows["quiet"][key]), f"attacked: {shows['attacked'][key]}") for key in shows["quiet"]]
    title = f"{result['bundle']}, {options.seconds} s at {options.fps} fps: quiet, and attacked"
    return BenchmarkReport(title, [*rows, *check_rows(checks)], result, failed=has_failed(checks))


def summarise(samples: list[Sample], attack: dict[str, int], warm_up_s: float) -> dict[str, Any]:
    """Return the figures of one show after its warm-up.

    Args:
        samples: of the show, in order; those of failed requests have `at_s` alone.
        attack: how often each attack was made; empty for a quiet show.
        warm_up_s: samples before it do not count.
    """
    answered = [sample for sample in samples if "frames" in sample]
    after = [sample for sample in answered if sample["at_s"] >= warm_up_s]
    since = difference(after[0], after[-1])
    return {
        **{key: since[key] for key in ("frames", "late", "dropped", "filled")},
        "lost_by_sinks": sum(count for name, count in since["lost"].items() if not name.endswith("full.mkv")),
        "reconnects": sum(sink["reconnects"] for sink in after[-1]["sinks"]),
        "p99_ms": float(np.median([sample["p99_ms"] for sample in after])),
        "answer_p99_ms": round(float(np.percentile([sample["answer_ms"] for sample in after], 99)), 1),
        "refused": len(samples) - len(answered),
        "descriptors": max(sample["descriptors"] for sample in after),
        "memory_mb": [round(value, 1) for value in thirds([sample["resident_mb"] or 0.0 for sample in after])],
        "attack": attack,
    }


def judge(show: dict[str, Any]) -> Checks:
    """Return what must hold of an attacked show."""
    begin, end = show["memory_mb"]
    operator = f"{show['refused']} requests of the operator failed; 99 % answered in {show['answer_p99_ms']} ms"
    sinks = f"{show['lost_by_sinks']} frames lost by a sink, {show['reconnects']} reconnects"
    memory = f"{begin} MB in the first third, {end} MB in the last; all processes of the show"
    return {
        "operator": check(show["refused"] == 0, operator),
        "sinks": check(not (show["lost_by_sinks"] or show["reconnects"]), sinks),
        "descriptors": check(show["descriptors"] <= MAX_DESCRIPTORS, f"at most {show['descriptors']} open at once"),
        "memory": check(end <= begin * (1 + GROWTH), memory),
    }


def to_markdown(result: dict[str, Any]) -> str:
    """Return both shows and the checks as Markdown tables."""
    lines = [
        f"| {result['bundle']}, {result['seconds']} s at {result['fps']} fps | quiet | attacked |",
        "|---|---|---|",
    ]
    quiet, attacked = result["shows"]["quiet"], result["shows"]["attacked"]
    lines += [f"| {key} | {quiet[key]} | {attacked[key]} |" for key in quiet if key != "attack"]
    counts = ", ".join(f"{count:,} {name}" for name, count in attacked["attack"].items())
    return "\n".join(
        [*lines, "", f"The attack: {counts}.", "", checks_to_markdown("check", result["checks"], "passed")]
    )


def _show(options: argparse.Namespace, folder: Path, *, is_attacked: bool) -> tuple[list[Sample], dict[str, int]]:
    """Run one show; return its samples, and how often each attack was made."""
    attack: dict[str, int] = {}
    with RtmpServer(folder) as server, _full_disk(folder, is_wanted=is_attacked) as full:
        sinks = [server.url, str(folder / "recording.mkv"), *([str(full / "full.mkv")] if full else [])]
        with ShowProcess(options.bundle, sinks, fps=options.fps, seconds=options.seconds) as show:
            show.wait_begun()
            show.wait_up()
            with reading(server.url, show.page):
                if is_attacked:
                    with JsonChild("benchmarks.scenarios.attackers", show.page) as attackers:
                        samples = _sample(show, options)
                        attack = attackers.finish() or {}
                else:
                    samples = _sample(show, options)
                show.wait()
    return samples, attack


@contextmanager
def _full_disk(folder: Path, *, is_wanted: bool) -> Iterator[Path | None]:
    """Mount a file system of a few hundred kB for the body; None if that is not wanted or not allowed."""
    place = folder / "full"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", _FULL_DISK, "tmpfs", str(place)]
    is_mounted = is_wanted and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield place if is_mounted else None
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(place)], check=True)


def _sample(show: ShowProcess, options: argparse.Namespace) -> list[Sample]:
    """Ask for /stats once a second, as an operator would, until shortly before the show's end."""
    samples: list[Sample] = []
    at_s = 0.0
    while show.is_running() and at_s < options.seconds - 2:
        try:
            samples.append(show.sample())
            at_s = samples[-1]["at_s"]
        except OSError:
            if show.is_running():
                samples.append({"at_s": at_s})
        time.sleep(_SAMPLE_S)
    if at_s < options.warm_up:
        raise ValueError("the show ended before its warm-up did")
    return samples
