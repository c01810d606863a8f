"""Latency of the page's camera: from a frame in another process to its pixels in that of the show.

python -m benchmarks camera

Another process writes a number into each frame, encodes it as H.264 and sends it
by WebRTC on the loopback, as a browser sends its camera to `--input page`. This
process receives it as a show does. There is no show beside it.

figures:
  frame to show   from when the frame is handed to the encoder until its RGB
                  pixels, in the show's size, are in this process
  sent to show    the same without encoding
  CPU             of this process and of the child that receives, per frame;
                  Linux only

examples:
  python -m benchmarks camera --size 1280x720 --fps 24 --seconds 30
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.json_child import JsonChild
from benchmarks.latency.distribution import percentiles
from benchmarks.live import stamp
from benchmarks.report import BenchmarkReport
from streaming.inputs.live_input import Rgb
from streaming.inputs.page_camera import LatestFrame, PageCamera

_SETTLE_S = 2.0  # after the first arrival; not counted


class NumberedFrames(LatestFrame):
    """Notes when the frame of each number arrives."""

    def __init__(self) -> None:
        super().__init__()
        self.arrivals: list[tuple[int, int]] = []

    def put(self, frame: Rgb) -> None:
        """Hold a frame."""
        now_ns = time.monotonic_ns()
        if (number := stamp.read(frame[..., 1])) is not None:
            self.arrivals.append((number, now_ns))
        super().put(frame)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    add = parser.add_argument
    add("--size", default="1280x720", metavar="WxH", help="of a frame in pixels (1280x720)")
    add("--fps", type=int, default=24, metavar="N", help="frames per second (24)")
    add("--seconds", type=float, default=30.0, metavar="S", help="how long (30)")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure.

    Raises:
        ValueError: an option has a bad value, or nothing was received.
    """
    match = re.fullmatch(r"(\d{2,4})x(\d{2,4})", options.size)
    if match is None or int(match[1]) % 2 or int(match[2]) % 2:
        raise ValueError(f"--size must be WIDTHxHEIGHT, both even, got {options.size}")
    if not (5 <= options.seconds <= 1800 and 1 <= options.fps <= 240):
        raise ValueError(
            f"--seconds must be from 5 to 1800 and --fps from 1 to 240, got {options.seconds:g} and {options.fps}"
        )
    width, height = int(match[1]), int(match[2])
    frames = NumberedFrames()
    camera = PageCamera(width, height, frames=frames)
    try:
        words = [str(value) for value in (width, height, options.fps, options.seconds)]
        with JsonChild("benchmarks.live.camera_sender", *words) as sender:
            offer = _checked(sender.read(), "sdp")
            begin_s, before_s = time.monotonic(), _cpu_s(os.getpid())
            _, answer = camera.answer(offer["sdp"], is_local=True)
            sent = _checked(sender.ask(json.dumps(answer)), "sent")["sent"]
            child = camera._child
            used_s = [None if child is None else _cpu_s(child.pid), _cpu_s(os.getpid()) - before_s]
            took_s = time.monotonic() - begin_s
    finally:
        camera.close()
    found = summarise(sent, frames.arrivals)
    cpu = {
        name: None if used is None or not frames.arrivals else round(1000 * used / len(frames.arrivals), 2)
        for name, used in zip(("child_cpu_ms", "show_cpu_ms"), used_s, strict=True)
    }
    size = {"width": width, "height": height, "fps": options.fps, "seconds": round(took_s, 1)}
    result = {"benchmark": "camera", **size, **found, **cpu}
    title = f"the page's camera, {width} x {height}, {options.fps} fps, H.264, loopback"
    return BenchmarkReport(title, _rows(result), result)


def summarise(sent: Sequence[Sequence[int]], arrivals: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Return the figures; the first two seconds after the first arrival do not count.

    Args:
        sent: for each frame its number, and the nanoseconds at which it was at hand and encoded.
        arrivals: (number, nanoseconds) in the order of arrival.

    Returns:
        "frame_ms" and "sent_ms" (percentiles), "frames", "received", "disordered".

    Raises:
        ValueError: nothing was received.
    """
    begin_ns = arrivals[0][1] + int(_SETTLE_S * 1e9) if arrivals else 0
    came: Mapping[int, int] = {number: moment_ns for number, moment_ns in arrivals if moment_ns >= begin_ns}
    known = [(number, hand_ns, encoded_ns) for number, hand_ns, encoded_ns in sent if number in came]
    if not known:
        raise ValueError("nothing was received: is UDP on the loopback blocked?")
    first, last = known[0][0], known[-1][0]
    order = [number for number, _ in arrivals]
    return {
        "frame_ms": percentiles([(came[number] - hand_ns) / 1e6 for number, hand_ns, _ in known]),
        "sent_ms": percentiles([(came[number] - encoded_ns) / 1e6 for number, _, encoded_ns in known]),
        "frames": sum(first <= number <= last for number, _, _ in sent),
        "received": len(known),
        "disordered": sum(later <= earlier for earlier, later in itertools.pairwise(order)),
    }


def _checked(said: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return what the sender said; raises ValueError if it has failed."""
    if key not in said:
        raise ValueError(f"the camera could not be sent: {said.get('error', said)}")
    return said


def _cpu_s(pid: int) -> float:
    """Return the CPU time of a process so far in seconds; 0 where the system has no /proc."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        return 0.0
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rows(result: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    rows = [
        (name, f"{result[key]['p50']:.1f} / {result[key]['p95']:.1f} / {result[key]['p99']:.1f} ms", "p50 / p95 / p99")
        for name, key in (("frame to show", "frame_ms"), ("sent to show", "sent_ms"))
    ]
    lost = result["frames"] - result["received"]
    rows.append(("frames", str(result["received"]), f"{lost} lost, {result['disordered']} out of order"))
    rows.append(("CPU", f"{result['show_cpu_ms']} ms", f"of this process per frame; child {result['child_cpu_ms']} ms"))
    return rows
