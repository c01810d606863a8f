"""A live stream whose server is killed again and again, and one whose server accepts and never reads.

python -m benchmarks kills bundles/NAME
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.live import stamp
from benchmarks.live.rtmp_server import RtmpServer, free_port, why_missing
from benchmarks.machine import machine_card
from benchmarks.report import BenchmarkReport
from runtime.generator import Generator
from streaming.output.fan_out import FanOut, SinkStats
from streaming.output.frame_repeater import FrameRepeater
from streaming.output.pacing import Pacer, SystemClock
from streaming.show.show import Show
from streaming.sinks.null_sink import NullSink
from streaming.sinks.rtmp_sink import RtmpSink
from streaming.sinks.sink import Picture, StreamFormat

SUMMARY = "a live stream whose server is killed at random, and one whose server never reads"
DESCRIPTION = """\
Three shows to RTMP and to nowhere: one that nobody disturbs, one whose server
(a real nginx on loopback) is killed and started again at random moments, with a
new reader after each return, and one whose server accepts and never reads. Late
frames of each, how soon the stream is back, and whether it decodes.
"""
EXAMPLES = """\
examples:
  python -m benchmarks kills bundles/satellite-256
  python -m benchmarks kills bundles/satellite-256 --kills 5
"""
BACK_S = 2.0  # what a return may take
_UP_S, _DOWN_S = (2.0, 5.0), (0.3, 3.0)  # between two kills, and until the server returns
_POLL_S = 0.01
_PATIENCE_S = 20.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    parser.add_argument("bundle", metavar="BUNDLE", help="folder of a bundle, at least 256 x 32 pixels")
    parser.add_argument("--kills", type=int, default=20, metavar="N", help="how often the server is killed (20)")
    parser.add_argument("--fps", type=int, default=30, metavar="F", help="frames per second (30)")
    parser.add_argument("--seed", type=int, default=7, metavar="N", help="of the random moments (7)")


class StageShow:
    """A show on a thread of its own, to RTMP and to nowhere.

    Args:
        generator: makes I420.
        url: of the stream.
        fps: slots per second.
    """

    def __init__(self, generator: Generator, url: str, fps: int) -> None:
        clock = SystemClock()
        self.fan_out = FanOut([RtmpSink(url), NullSink("null")])
        self.pacer = Pacer(clock, Fraction(fps))
        self._stop = threading.Event()
        show = Show(self.fan_out, self.pacer, clock, FrameRepeater(self.fan_out, self.pacer, clock))
        self.fan_out.open(StreamFormat("kills", generator.width, generator.height, Fraction(fps), "i420", show.latest))
        self.fan_out.wait_ready()
        self._thread = threading.Thread(
            target=show.run, args=(_numbered(generator),), kwargs={"is_stopped": self._stop.is_set}, daemon=True
        )
        self._thread.start()

    @property
    def stream(self) -> SinkStats:
        """How the stream is doing."""
        return self.fan_out.figures()[0]

    def wait_up(self) -> float:
        """Return how many seconds it took until the stream was on.

        Raises:
            ValueError: it did not come.
        """
        started_s = time.monotonic()
        while not self.stream.is_up:
            if time.monotonic() - started_s > _PATIENCE_S:
                raise ValueError(f"the stream is not on after {_PATIENCE_S:g} s: {self.stream.state}")
            time.sleep(_POLL_S)
        return time.monotonic() - started_s

    def end(self) -> dict[str, Any]:
        """End the show and return its figures."""
        self._stop.set()
        self._thread.join()
        null = self.fan_out.figures()[1]
        late, dropped = self.pacer.num_late, self.pacer.num_dropped
        self.fan_out.close()
        shown = null.written + null.dropped
        return {"frames": shown, "late": late, "dropped": dropped, "null_lost": null.dropped}


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure.

    Raises:
        ValueError: nginx is missing, a number is too small, or a stream never comes back.
        BundleError, EngineError: the bundle cannot be played here.
    """
    if (why_not := why_missing()) is not None:
        raise ValueError(why_not)
    if options.kills < 1:
        raise ValueError(f"--kills must be at least 1, got {options.kills}")
    rng = random.Random(options.seed)
    with (
        Generator.open(options.bundle, pixels="i420") as generator,
        tempfile.TemporaryDirectory(prefix="everframe-") as folder,
    ):
        for _ in range(options.fps):
            next(generator)
        moments = [(rng.uniform(*_UP_S), rng.uniform(*_DOWN_S)) for _ in range(options.kills)]
        killed, returns = _kill(generator, options.fps, moments, Path(folder))
        control = _leave(generator, options.fps, killed["frames"] / options.fps, Path(folder))
        stalled = _stall(generator, options.fps, min(60.0, killed["frames"] / options.fps))
        engine = f"{generator.engine} {generator.precision}"
    back = [item["back_s"] for item in returns]
    num_decoded = sum(item["is_decoded"] for item in returns)
    is_good = max(back) <= BACK_S and num_decoded == len(returns) and stalled["null_lost"] == 0
    result = {
        "benchmark": "kills",
        "bundle": Path(options.bundle).name,
        "engine": engine,
        "fps": options.fps,
        "kills": options.kills,
        "back_s": {"p50": round(float(np.median(back)), 2), "worst": round(max(back), 2)},
        "decoded": num_decoded,
        "killed": killed,
        "undisturbed": control,
        "stalled": stalled,
        "machine": machine_card(),
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
    }
    rows = [
        ("back on air", f"{max(back):.2f} s", f"worst after the server's return; {np.median(back):.2f} typical"),
        ("decoded again", f"{num_decoded} of {options.kills}", "by a new reader after each return"),
        *(
            (name, f"{show['late']} late", f"{show['dropped']} dropped of {show['frames']} frames")
            for name, show in (("with kills", killed), ("undisturbed", control), ("server never reads", stalled))
        ),
    ]  # fmt: skip
    return BenchmarkReport(
        f"{Path(options.bundle).name} on {engine}", rows, result, {"returns": returns}, failed=not is_good
    )


def to_markdown(result: dict[str, Any]) -> str:
    """Return a result as a table for docs/results.md."""
    shows = (("server killed", "killed"), ("undisturbed", "undisturbed"), ("server never reads", "stalled"))
    lines = ["| show | frames | late | dropped | lost by the other sink |", "|---|---|---|---|---|"]
    for name, key in shows:
        show = result[key]
        lines.append(f"| {name} | {show['frames']} | {show['late']} | {show['dropped']} | {show['null_lost']} |")
    back = result["back_s"]
    lines.append(
        f"\nKilled {result['kills']} times at random; on air again {back['p50']} s (median) and at worst "
        f"{back['worst']} s after the server's return; a new reader decoded after {result['decoded']} of them."
    )
    return "\n".join(lines) + "\n"


def _kill(
    generator: Generator, fps: int, moments: list[tuple[float, float]], folder: Path
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Play while the server is killed; return the show's figures, and what became of each return."""
    port = free_port()
    server = RtmpServer(folder, port)
    show = StageShow(generator, server.url, fps)
    returns = []
    try:
        show.wait_up()
        for up_s, down_s in moments:
            time.sleep(up_s)
            server.kill()
            while show.stream.is_up:
                time.sleep(_POLL_S)
            time.sleep(down_s)
            server = RtmpServer(folder, port)
            back_s = show.wait_up()
            returns.append({"back_s": round(back_s, 3), "is_decoded": _can_read(server.url)})
    finally:
        figures = show.end()
        server.close()
    return figures, returns


def _leave(generator: Generator, fps: int, seconds: float, folder: Path) -> dict[str, Any]:
    server = RtmpServer(folder, free_port())
    show = StageShow(generator, server.url, fps)
    try:
        show.wait_up()
        time.sleep(seconds)
    finally:
        figures = show.end()
        server.close()
    return figures


def _stall(generator: Generator, fps: int, seconds: float) -> dict[str, Any]:
    """Play to a server that accepts and never reads."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"rtmp://127.0.0.1:{server.getsockname()[1]}/live/benchmark"
        show = StageShow(generator, url, fps)
        time.sleep(seconds)
        return show.end()


def _can_read(url: str) -> bool:
    """Return whether a new reader decodes a numbered frame."""
    reader = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.live.receiver", url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert reader.stdout is not None
        is_ready = reader.stdout.readline().strip() == "ready"
        told, _ = reader.communicate("", timeout=_PATIENCE_S)
        return is_ready and len(json.loads(told)) > 0
    except (subprocess.TimeoutExpired, ValueError):
        return False
    finally:
        reader.kill()
        reader.wait()


def _numbered(generator: Generator) -> Iterator[Picture]:
    buffer = np.empty((generator.height * 3 // 2, generator.width), np.uint8)
    number = 0
    while True:
        np.copyto(buffer, next(generator))
        stamp.write(buffer[: generator.height], number % 2**stamp.BITS)
        number += 1
        yield buffer
