"""Glass-to-glass latency: from asking for a frame to decoded pixels at the far end.

python -m benchmarks live bundles/NAME --plot live.png

Runs a show in this process, writes each frame's number into its pixels, and
decodes the stream in another process as it arrives: through a real RTMP server
(nginx), through the page, and, for comparison, through an `ffmpeg` process that
gets raw frames, encodes with the same settings and publishes to the same server.
A control is set twice a second.

figures:
  glass to glass  from when a frame is handed to the sinks until its decoded
                  pixels are in the receiver's memory
  jitter          how far arrivals are from the regular interval
  late, dropped   frames more than half an interval late; slots without a frame
  lost            frames that were sent and never arrived
  control         from setting a control (on the page: as a slider there does)
                  to the first frame made with it: until it is sent, and until
                  it is received

targets at 30 fps: RTMP glass to glass p99 under 100 ms; a control takes effect
in a frame that is sent within two intervals

examples:
  python -m benchmarks live bundles/satellite
  python -m benchmarks live bundles/mine --seconds 60 --roads rtmp --plot a.png
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.json_child import JsonChild
from benchmarks.latency.distribution import percentiles
from benchmarks.latency.stages import open_timed
from benchmarks.live import stamp
from benchmarks.live.rtmp_server import RtmpServer, free_port, why_missing
from benchmarks.live.show import ControlledSession, Notes, NumberedFrames, PipedSink, play, read_timeline
from benchmarks.report import BenchmarkReport, Checks, check, check_rows
from runtime.engines.table import ENGINES, PRECISIONS
from streaming.errors import SinkError
from streaming.live.timeline import VARIABLE
from streaming.sinks.table import make_sinks

ROADS = {"rtmp": "RTMP", "page": "the page", "ffmpeg": "frames piped into `ffmpeg`, RTMP"}
STEPS = (
    "inputs", "step", "read", "number", "wait for its slot", "to the encoder", "encode", "send", "server and decoder",
)  # fmt: skip
_SETTLE_S = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    add = parser.add_argument
    add("bundle", metavar="BUNDLE", help="folder of a bundle")
    add("--roads", default=",".join(ROADS), metavar="R,...", help=f"some of {', '.join(ROADS)} (all)")
    add("--seconds", type=float, default=30.0, metavar="S", help="of each road (30)")
    add("--fps", type=int, default=30, metavar="N", help="frames per second (30)")
    add("--engine", default="auto", metavar="E", help=f"auto, {', '.join(ENGINES)} (auto)")
    add("--precision", default="auto", metavar="P", help=f"auto, {', '.join(PRECISIONS)} (auto)")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure.

    Raises:
        ValueError, BundleError, EngineError: see `Generator.open`; a road is unknown, or none works here.
    """
    roads = options.roads.split(",")
    for road in roads:
        if road not in ROADS:
            raise ValueError(f'there is no road "{road}", expected some of {", ".join(ROADS)}')
    if not (5 <= options.seconds <= 1800 and 1 <= options.fps <= 240):
        raise ValueError(
            f"--seconds must be from 5 to 1800 and --fps from 1 to 240, got {options.seconds:g} and {options.fps}"
        )
    results = {road: _measure(road, options) for road in roads}
    if all("missing" in result for result in results.values()):
        raise ValueError("; ".join(f"{road}: {result['missing']}" for road, result in results.items()))
    first = next(result for result in results.values() if "missing" not in result)
    result = {
        "benchmark": "live",
        **{key: first[key] for key in ("bundle", "engine", "precision", "width", "height")},
        "fps": options.fps,
        "seconds": options.seconds,
        "roads": results,
        "targets": judge(results, options.fps),
    }
    title = f"{result['bundle']}, {options.fps} fps, {result['engine']} {result['precision']}"
    return BenchmarkReport(title, _rows(result), result)


def _measure(road: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one road; {"missing": why} if that is not possible here."""
    if road != "page" and (why := why_missing()) is not None:
        return {"missing": why}
    notes = Notes()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = f"http://127.0.0.1:{free_port()}" if road == "page" else stack.enter_context(RtmpServer(folder)).url
        receivers: list[JsonChild] = []
        generator, session = open_timed(
            options.bundle,
            engine=options.engine,
            precision=options.precision,
            pixels="i420",
            threads=None,
            wrap=lambda step, manifest: ControlledSession(
                step, getattr(manifest.step.only_input("control"), "name", None)
            ),
        )
        assert isinstance(session, ControlledSession)
        stack.enter_context(generator)
        os.environ[VARIABLE] = str(folder / "timeline")
        stack.callback(os.environ.pop, VARIABLE)
        try:
            play(
                NumberedFrames(generator, session, notes),
                generator,
                PipedSink(url) if road == "ffmpeg" else make_sinks([url], "i420")[0],
                fps=Fraction(options.fps),
                seconds=options.seconds,
                on_air=lambda: receivers.append(stack.enter_context(JsonChild("benchmarks.live.receiver", url))),
            )
        except SinkError as error:
            return {"missing": str(error)}
        arrivals = dict(receivers[0].finish(20.0) or [])
        timeline = read_timeline(folder / "timeline")
    about = {"bundle": generator.manifest.name, "engine": generator.engine, "precision": generator.precision}
    found = summarise(notes, arrivals, timeline, Fraction(options.fps))
    return {**about, "width": generator.width, "height": generator.height, **found}


def summarise(
    notes: Notes, arrivals: Mapping[int, int], timeline: Mapping[int, tuple[int, int, int]], fps: Fraction
) -> dict[str, Any]:
    """Return the figures of one road; the first two seconds after the first arrival do not count.

    Args:
        notes: of the show.
        arrivals: number, modulo 65536 -> nanoseconds at which its pixels were there.
        timeline: slot -> when the frame was at the encoder, encoded, sent; empty where it is not known.
        fps: slots per second.

    Returns:
        "glass_ms", "jitter_ms", "control_left_ms", "control_received_ms" (percentiles in milliseconds, or None),
        "steps_ms" (median by step), "frames", "received", "lost", "late", "dropped", "glass_all_ms".
    """
    if not arrivals:
        return {"missing": "nothing was received"}
    came = {number: arrivals[number % 2**stamp.BITS] for number in notes.left if number % 2**stamp.BITS in arrivals}
    begin_ns = min(came.values()) + int(_SETTLE_S * 1e9)
    numbers = [number for number in sorted(came) if came[number] >= begin_ns]
    if len(numbers) < 2:
        return {"missing": "too few frames were received: raise --seconds"}
    expected = [number for number in notes.left if numbers[0] <= number <= numbers[-1]]
    glass = [(came[number] - notes.left[number][0]) / 1e6 for number in numbers]
    interval_ms = float(1000 / fps)
    slots = np.array([notes.left[number][1] for number in numbers])
    moments = np.array([came[number] for number in numbers]) / 1e6
    jitter = np.abs(np.diff(moments) - np.diff(slots) * interval_ms)
    controls = [(moment, number) for moment, number in notes.controls if number in came and number in notes.left]
    left = [(notes.left[number][0] - moment) / 1e6 for moment, number in controls]
    received = [(came[number] - moment) / 1e6 for moment, number in controls]
    return {
        "glass_ms": percentiles(glass),
        "glass_all_ms": [round(value, 2) for value in glass],
        "jitter_ms": percentiles(jitter.tolist()),
        "control_left_ms": percentiles(left) if left else None,
        "control_received_ms": percentiles(received) if received else None,
        "steps_ms": _steps(notes, came, timeline, numbers),
        "frames": len(notes.left),
        "received": len(numbers),
        "lost": len(expected) - len(numbers),
        "late": notes.late,
        "dropped": notes.dropped,
    }


def judge(results: Mapping[str, Any], fps: int) -> Checks:
    """Return the targets; what was not measured is left out."""
    targets: Checks = {}
    known = {road: found for road, found in results.items() if "missing" not in found}
    if "rtmp" in known:
        p99 = known["rtmp"]["glass_ms"]["p99"]
        targets["RTMP glass to glass"] = check(p99 < 100, f"p99 {p99:.1f} ms, below 100 ms wanted")
    for road, name in (("rtmp", "control to frame"), ("page", "slider on the page to frame")):
        if (left := known.get(road, {}).get("control_left_ms")) is not None:
            worst, wanted = left["max"], 2000 / fps
            what = f"{worst:.1f} ms at most until the frame leaves, {wanted:.1f} ms (two intervals) wanted"
            targets[name] = check(worst <= wanted, what)
    return targets


def to_markdown(result: dict[str, Any]) -> str:
    """Return the roads, the timeline and the targets as Markdown."""
    lines = [
        "| road | glass to glass p50 | p95 | p99 ms | jitter p99 ms | control to frame, left / received, p50 ms "
        "| frames | lost | late | dropped |",
        "|" + "---|" * 10,
    ]
    known = {road: found for road, found in result["roads"].items() if "missing" not in found}
    for road, found in result["roads"].items():
        if road not in known:
            lines.append(f"| {ROADS[road]} | not measured: {found['missing']} | | | | | | | | |")
            continue
        glass, left, received = found["glass_ms"], found["control_left_ms"], found["control_received_ms"]
        control = "" if left is None else f"{left['p50']:.0f} / {received['p50']:.0f}"
        lines.append(
            f"| {ROADS[road]} | {glass['p50']:.1f} | {glass['p95']:.1f} | {glass['p99']:.1f} | "
            f"{found['jitter_ms']['p99']:.1f} | {control} | {found['frames']} | {found['lost']} | {found['late']} | "
            f"{found['dropped']} |"
        )
    lines += ["", f"| median ms | {' | '.join(STEPS)} |", "|" + "---|" * (len(STEPS) + 1)]
    for road, found in known.items():
        cells = (f"{found['steps_ms'][step]:.1f}" if step in found["steps_ms"] else "" for step in STEPS)
        lines.append(f"| {ROADS[road]} | {' | '.join(cells)} |")
    text = "\n".join(lines) + "\n"
    for name, target in result["targets"].items():
        text += f"\n{name}: {target['what']}: {'reached' if target['passed'] else '**not reached**'}."
    return text + "\n"


def _steps(
    notes: Notes, came: Mapping[int, int], timeline: Mapping[int, tuple[int, int, int]], numbers: list[int]
) -> dict[str, float]:
    spans: dict[str, list[float]] = {step: [] for step in STEPS}
    for number in numbers:
        inputs, step, read = notes.stages_ms[number]
        left, slot = notes.left[number]
        for name, value in zip(STEPS[:3], (inputs, step, read), strict=True):
            spans[name].append(value)
        rest = (notes.made[number] - notes.asked[number]) / 1e6 - inputs - step - read
        spans["number"].append(rest)
        spans["wait for its slot"].append((left - notes.made[number]) / 1e6)
        if slot in timeline:
            arrived, encoded, sent = timeline[slot]
            for name, start, end in zip(
                STEPS[5:], (left, arrived, encoded, sent), (arrived, encoded, sent, came[number]), strict=True
            ):
                spans[name].append((end - start) / 1e6)
    return {step: round(float(np.median(values)), 3) for step, values in spans.items() if values}


def _rows(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    rows = check_rows(result["targets"], "reached", "NOT REACHED")
    for road, found in result["roads"].items():
        if "missing" in found:
            rows.append((road, "-", f"not measured: {found['missing']}"))
            continue
        glass = found["glass_ms"]
        what = f"p95 {glass['p95']:.1f}, p99 {glass['p99']:.1f} ms; {found['received']} frames counted, "
        what += f"{found['lost']} lost, {found['late']} late, {found['dropped']} dropped; "
        what += ", ".join(f"{step} {value:.1f}" for step, value in found["steps_ms"].items())
        rows.append((road, f"p50 {glass['p50']:.1f} ms", what))
    return rows
