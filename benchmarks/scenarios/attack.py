"""A show under attack beside a quiet one: late frames, lost frames, descriptors, memory, answers to the operator.

python -m benchmarks attack bundles/NAME
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.live.rtmp_server import RtmpServer, free_port, why_missing
from benchmarks.machine import machine_card
from benchmarks.report import BenchmarkReport
from benchmarks.scenarios.endurance import _ask, _demuxing, _tree_mb, _wait_begun, _watching

SUMMARY = "a show under a mixed attack, beside a quiet one of the same length"
DESCRIPTION = """\
Run two shows, each to a real nginx on loopback, to a recording and to the page,
with a reader at each end. The first is left alone. During the second, a process
of its own attacks the page without a pause: silent connections, half-sent heads
and bodies, bad requests, stalled uploads, WebSockets that send rubbish, and
prompts that are prepared and dropped. As root, a second recording goes to a full
disk as well. Status 1 if the operator is refused once, if descriptors or memory
grow, or if the stream or the recording loses a frame.
"""
EXAMPLES = """\
examples:
  python -m benchmarks attack bundles/satellite-256
      ten minutes each
  python -m benchmarks attack bundles/satellite-256 --seconds 60
"""
GROWTH = 0.05  # of memory, from the first third after the warm-up to the last
MAX_DESCRIPTORS = 700  # of the show's own process
_SAMPLE_S = 1.0
_GOODBYE_S = 30.0
_FULL_DISK = "size=256k"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    parser.add_argument("bundle", metavar="BUNDLE", help="folder of a bundle that takes a seed")
    parser.add_argument("--seconds", type=int, default=600, metavar="S", help="of each show (600)")
    parser.add_argument("--warm-up", type=int, default=20, metavar="S", help="that do not count (20)")
    parser.add_argument("--fps", type=int, default=30, metavar="F", help="frames per second (30)")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure both shows.

    Raises:
        ValueError: nginx is missing, a number is out of range, or a show does not begin.
    """
    if (why_not := why_missing()) is not None:
        raise ValueError(why_not)
    if not 1 <= options.warm_up < options.seconds - 5 or options.fps < 1:
        raise ValueError("--warm-up must be at least 1 and end 5 s before --seconds; --fps is positive")
    machine = machine_card()
    shows = {}
    for name in ("quiet", "attacked"):
        print(f"{name}: {options.seconds} s", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="everframe-") as folder:
            shows[name] = summarise(*_show(options, Path(folder), is_attacked=name == "attacked"), options.warm_up)
    checks = judge(shows["attacked"])
    result = {
        "benchmark": "attack",
        "bundle": Path(options.bundle).name,
        "fps": options.fps,
        "seconds": options.seconds,
        "shows": shows,
        "checks": checks,
        "machine": machine,
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
    }
    rows = [(key, str(shows["quiet"][key]), f"attacked: {shows['attacked'][key]}") for key in shows["quiet"]]
    rows += [(name, "passed" if check["passed"] else "FAILED", check["what"]) for name, check in checks.items()]
    title = f"{result['bundle']}, {options.seconds} s at {options.fps} fps: quiet, and attacked"
    return BenchmarkReport(title, rows, result, failed=not all(check["passed"] for check in checks.values()))


def summarise(samples: list[dict[str, Any]], attack: dict[str, int], warm_up_s: float) -> dict[str, Any]:
    """Return the figures of one show after its warm-up.

    Args:
        samples: what the show said of itself, in order; each has `at_s`, `resident_mb`, `descriptors`, `answer_ms`.
        attack: what the attackers did, by name; empty for a quiet show.
        warm_up_s: until when nothing counts.
    """
    answered = [sample for sample in samples if "frames" in sample]
    after = [sample for sample in answered if sample["at_s"] >= warm_up_s]
    first, last = after[0], after[-1]
    memory = [sample["resident_mb"] for sample in after]
    third = max(1, len(memory) // 3)
    lost = {
        sink["name"]: sink["dropped"] - before["dropped"]
        for sink, before in zip(last["sinks"], first["sinks"], strict=True)
        if not sink["name"].endswith("full.mkv")
    }
    return {
        "frames": last["frames"] - first["frames"],
        "late": last["late"] - first["late"],
        "dropped": last["dropped"] - first["dropped"],
        "filled": last["filled"] - first["filled"],
        "lost_by_sinks": sum(lost.values()),
        "reconnects": sum(sink["reconnects"] for sink in last["sinks"]),
        "p99_ms": float(np.median([sample["p99_ms"] for sample in after])),
        "answer_p99_ms": round(float(np.percentile([sample["answer_ms"] for sample in after], 99)), 1),
        "refused": len(samples) - len(answered),
        "descriptors": max(sample["descriptors"] for sample in after),
        "memory_mb": [round(float(np.median(part)), 1) for part in (memory[:third], memory[-third:])],
        "attack": attack,
    }


def judge(show: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what must hold of an attacked show: name -> {"passed", "what": one sentence with the figures}."""
    begin, end = show["memory_mb"]
    return {
        "operator": {
            "passed": show["refused"] == 0,
            "what": f"{show['refused']} requests of the operator failed; 99 % answered in {show['answer_p99_ms']} ms",
        },
        "sinks": {
            "passed": not (show["lost_by_sinks"] or show["reconnects"]),
            "what": f"{show['lost_by_sinks']} frames lost by a sink, {show['reconnects']} reconnects",
        },
        "descriptors": {
            "passed": show["descriptors"] <= MAX_DESCRIPTORS,
            "what": f"at most {show['descriptors']} open at once",
        },
        "memory": {
            "passed": end / begin - 1 <= GROWTH,
            "what": f"{begin} MB in the first third, {end} MB in the last; all processes of the show",
        },
    }


def to_markdown(result: dict[str, Any]) -> str:
    """Return both shows and the checks as Markdown tables."""
    head = f"{result['bundle']}, {result['seconds']} s at {result['fps']} fps"
    lines = [f"| {head} | quiet | attacked |", "|---|---|---|"]
    quiet, attacked = (result["shows"][name] for name in ("quiet", "attacked"))
    lines += [f"| {key} | {quiet[key]} | {attacked[key]} |" for key in quiet if key != "attack"]
    lines += ["", f"The attack: {', '.join(f'{count:,} {name}' for name, count in attacked['attack'].items())}.", ""]
    lines += ["| check | | |", "|---|---|---|"]
    for name, check in result["checks"].items():
        lines.append(f"| {name} | {'passed' if check['passed'] else '**failed**'} | {check['what']} |")
    return "\n".join(lines) + "\n"


def _show(
    options: argparse.Namespace, folder: Path, *, is_attacked: bool
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Run one show; return its samples, and what the attackers did."""
    server = RtmpServer(folder)
    page = f"http://127.0.0.1:{free_port()}"
    with _full_disk(folder, is_wanted=is_attacked) as full:
        targets = [server.url, str(folder / "recording.mkv"), page, *([str(full / "full.mkv")] if full else [])]
        rate = ["--fps", str(options.fps), "--seconds", str(options.seconds)]
        words = [word for target in targets for word in ("--to", target)]
        show = subprocess.Popen(
            [sys.executable, "-m", "streaming", options.bundle, *rate, *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        attack: dict[str, int] = {}
        try:
            _wait_begun(show, page)
            with _demuxing(server.url), _watching(page):
                if is_attacked:
                    with _attacking(page, attack):
                        samples = _sample(show, page, options)
                else:
                    samples = _sample(show, page, options)
                show.wait(_GOODBYE_S)
        finally:
            show.kill()
            show.wait()
            server.close()
    return samples, attack


@contextmanager
def _attacking(page: str, done: dict[str, int]) -> Iterator[None]:
    """Attack a page beside the body, from a process of its own, and fill in what was done."""
    command = [sys.executable, "-m", "benchmarks.scenarios.attackers", page]
    attackers = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield
        told, _ = attackers.communicate(timeout=_GOODBYE_S)  # the end of its input stops it
        done.update(json.loads(told))
    finally:
        attackers.kill()
        attackers.wait()


@contextmanager
def _full_disk(folder: Path, *, is_wanted: bool) -> Iterator[Path | None]:
    """Mount a file system of a few hundred kB for the body; None where that is not allowed."""
    place = folder / "full"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", _FULL_DISK, "tmpfs", str(place)]
    is_mounted = is_wanted and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield place if is_mounted else None
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(place)], check=True)


def _sample(show: subprocess.Popen[str], page: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Ask for the figures once a second, as an operator would, until the show is about to end."""
    samples: list[dict[str, Any]] = []
    at_s = 0.0
    while show.poll() is None and at_s < options.seconds - 2:
        begun_s = time.monotonic()
        try:
            stats = _ask(f"{page}/stats")
        except OSError:
            if show.poll() is not None:
                break
            samples.append({"at_s": at_s})
        else:
            at_s = stats["seconds"]
            keys = ("frames", "late", "dropped", "filled", "p99_ms", "sinks")
            samples.append(
                {
                    "at_s": at_s,
                    "answer_ms": 1000 * (time.monotonic() - begun_s),
                    "resident_mb": _tree_mb(show.pid) or 0.0,
                    "descriptors": len(list(Path(f"/proc/{show.pid}/fd").iterdir())),
                    **{key: stats[key] for key in keys},
                }
            )
        time.sleep(_SAMPLE_S)
    if at_s < options.warm_up:
        raise ValueError("the show ended before its warm-up did")
    return samples
