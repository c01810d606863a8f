"""A show that is played by OSC: from sending a control until the frame that uses it.

python -m benchmarks instrument bundles/landscape

Runs a show in this process as `python -m streaming BUNDLE --osc PORT` does, with
a sink that discards its frames, and sends a control about nine times a second
over UDP, each time with another value.

figures:
  begun      from sending a value until the frame that uses it is begun
  delivered  from sending a value until a sink has that frame
  late       frames more than half an interval late, dropped: slots without one

With --flood another process sends values of a second control meanwhile.

target: delivered within two frames

examples:
  python -m benchmarks instrument bundles/landscape
  python -m benchmarks instrument bundles/landscape --seconds 60 --fps 24
  python -m benchmarks instrument bundles/landscape --flood 10000
"""

from __future__ import annotations

import argparse
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

from benchmarks.json_child import JsonChild
from benchmarks.latency.distribution import percentiles
from benchmarks.report import BenchmarkReport, check, check_rows
from runtime.bundle.controls import ControlSpec
from runtime.bundle.reader import read_manifest
from runtime.engines.table import ENGINES
from streaming import Frame, Sink, StreamFormat, stream

_PAUSE_S = 0.1137  # between two values; not a multiple of the interval, so that all its parts are met
_SETTLE_S = 2.0  # of the show, before the first value
_STEPS = 997  # different values
_WANTED = 2.0  # frames


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    add = parser.add_argument
    add("bundle", metavar="BUNDLE", help="folder of a bundle")
    add("--seconds", type=float, default=30.0, metavar="S", help="length of the show (30)")
    add("--fps", type=int, metavar="N", help="frames per second (as trained)")
    add("--size", metavar="WxH", help="frame size (the bundle's)")
    add("--engine", default="auto", metavar="E", help=f"auto, {', '.join(ENGINES)} (auto)")
    add("--flood", type=int, default=0, metavar="N", help="messages of a second control per second (0)")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure.

    Raises:
        ValueError, BundleError, EngineError: see `streaming.stream`; the bundle has too few controls.
    """
    if not 5 <= options.seconds <= 1800:
        raise ValueError(f"--seconds must be from 5 to 1800, got {options.seconds:g}")
    if not 0 <= options.flood <= 1_000_000:
        raise ValueError(f"--flood must be from 0 to 1000000, got {options.flood}")
    controls = [item for item in read_manifest(Path(options.bundle)).controls.values() if item.target == "step"]
    num_needed = 2 if options.flood else 1
    if len(controls) < num_needed:
        raise ValueError(f"{options.bundle} has {len(controls)} controls of the step graph, {num_needed} needed")
    port = _free_port()
    sink = ProbeSink(controls[0], port)
    with ExitStack() as stack:
        if options.flood:
            flooded = controls[1]
            words = (str(port), str(options.flood), flooded.name, str(flooded.minimum), str(flooded.maximum))
            sink.on_air = lambda: stack.enter_context(JsonChild("benchmarks.live.osc_flood", *words))
        stream(
            options.bundle,
            to=[sink],
            seconds=options.seconds,
            fps=options.fps,
            size=options.size,
            engine=options.engine,
            osc=port,
        )
    result = {
        "benchmark": "instrument",
        "bundle": sink.format.title,
        "width": sink.format.width,
        "height": sink.format.height,
        "fps": float(sink.format.fps),
        "seconds": options.seconds,
        "control": controls[0].name,
        "flood": options.flood,
        **summarise(sink, sink.format.fps),
        **{key: sink.stats[key] for key in ("engine", "frames", "late", "dropped", "osc")},
    }
    most = result["delivered_frames"]["max"]
    result["targets"] = {"control to frame": check(most <= _WANTED, f"{most:.2f} frames at most, {_WANTED:g} wanted")}
    title = f"{result['bundle']}, {result['width']} x {result['height']}, {result['fps']:g} fps, {result['engine']}"
    return BenchmarkReport(title, _rows(result), result)


class ProbeSink(Sink):
    """Discards its frames, sends a control, and notes when the frame with each value was begun and delivered.

    Args:
        control: within whose range the values are.
        port: to which OSC goes.

    Attributes:
        format: of the show.
        stats: of the show, at its end.
        on_air: called with the first frame.
        sent_ns, begun_ns, delivered_ns: by number of the value.
    """

    name = "null"

    def __init__(self, control: ControlSpec, port: int) -> None:
        from pythonosc.osc_message_builder import OscMessageBuilder

        self.format: StreamFormat
        self.stats: dict[str, Any] = {}
        self.on_air: Callable[[], object] = lambda: None
        self.sent_ns: list[int] = []
        self.begun_ns: dict[int, int] = {}
        self.delivered_ns: dict[int, int] = {}
        self._control, self._port = control, port
        self._builder = OscMessageBuilder
        self._numbers: dict[float, int] = {}
        self._current: int | None = None  # number of the value that was set for the next frame
        self._begun: list[tuple[int, int]] = []  # (slot, number of the value) of frames that are not delivered yet
        self._last: Frame | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._send, name="sender", daemon=True)

    def open(self, feed: StreamFormat) -> None:
        """Listen to what the show's thread does before each frame."""
        controller = feed.controller
        assert controller is not None
        self.format = feed
        follow, play = controller.follow, controller.play

        def note_value(name: str, value: float) -> None:
            follow(name, value)
            if name == self._control.name:
                self._current = self._numbers.get(round(value, 5))

        def note_frame(now_s: Fraction) -> None:
            play(now_s)
            if self._current is not None:
                self.begun_ns[self._current] = time.monotonic_ns()
                self._begun.append((int(now_s * feed.fps), self._current))
                self._current = None

        controller.follow, controller.play = note_value, note_frame  # type: ignore[method-assign]

    def write(self, frame: Frame) -> bool:
        """Note which values have arrived with the frame."""
        now_ns = time.monotonic_ns()
        if self._last is None:
            self.on_air()
            self._thread.start()
        is_repeated = self._last is not None and frame.picture is self._last.picture
        self._last = frame
        while self._begun and self._begun[0][0] <= frame.slot and not is_repeated:
            self.delivered_ns[self._begun.pop(0)[1]] = now_ns
        return True

    def close(self) -> None:
        """End the sender."""
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join()
        self.stats = dict(self.format.stats())

    def _send(self) -> None:
        control = self._control
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            pause_s = _SETTLE_S
            while not self._ending.wait(pause_s):
                number, pause_s = len(self.sent_ns), _PAUSE_S
                share = (1 + number * 311 % _STEPS) / (1 + _STEPS)  # each differs from the ones before
                value = round(control.minimum + (control.maximum - control.minimum) * share, 5)
                builder = self._builder(address=f"/everframe/control/{control.name}")
                builder.add_arg(value)
                datagram = builder.build().dgram
                self._numbers[value] = number
                self.sent_ns.append(time.monotonic_ns())
                sender.sendto(datagram, ("127.0.0.1", self._port))


def summarise(sink: ProbeSink, fps: Fraction) -> dict[str, Any]:
    """Return the figures: "sent" and "used" values, and percentiles of "begun" and "delivered" in ms and in frames.

    Raises:
        ValueError: no value was used.
    """
    if not sink.delivered_ns:
        raise ValueError("no value has arrived in a frame: raise --seconds")
    found: dict[str, Any] = {"sent": len(sink.sent_ns), "used": len(sink.delivered_ns)}
    for name, moments_ns in (("begun", sink.begun_ns), ("delivered", sink.delivered_ns)):
        waits_ms = [(moment_ns - sink.sent_ns[number]) / 1e6 for number, moment_ns in moments_ns.items()]
        found[f"{name}_ms"] = percentiles(waits_ms)
        found[f"{name}_frames"] = percentiles([wait_ms * float(fps) / 1000 for wait_ms in waits_ms])
    return found


def _rows(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    rows = []
    for name in ("begun", "delivered"):
        frames, waits = result[f"{name}_frames"], result[f"{name}_ms"]
        for key in ("p50", "p95", "max"):
            rows.append((f"{name} {key}", f"{frames[key]:.2f} frames", f"{waits[key]:.1f} ms"))
    osc = result["osc"]
    rows.append(("values", f"{result['used']} of {result['sent']}", "in a frame; the others were replaced or late"))
    rows.append(("late, dropped", f"{result['late']}, {result['dropped']}", f"of {result['frames']} frames"))
    rows.append(("OSC", f"{osc['messages']} messages", f"{osc['errors']} errors"))
    return rows + check_rows(result["targets"], "reached", "not reached")


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
