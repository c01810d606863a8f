"""Camera to screen: from a camera's picture to pixels at the far end, with a person over a show.

python -m benchmarks screen bundles/NAME --matte bundles/person

Plays a file as the camera whose pictures carry large numbers, puts them over
their own blurred picture (`--matte`, `--behind blur`), so that the numbers stay
readable wherever the matte finds a person, and reads them at the page, as its
MJPEG stream arrives in another process. Measures from when the process that
reads the camera hands a picture to the show until the picture is decoded there.
The reading process itself takes a few milliseconds more, as a camera's driver
does.

figures:
  camera to screen  as above; wanted: p95 under 100 ms
  late, dropped     frames more than half an interval late; slots without a frame

examples:
  python -m benchmarks screen bundles/landscape --matte bundles/person
  python -m benchmarks screen bundles/landscape --matte bundles/person --fps 30 --size 960x540
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import av
import numpy as np
import numpy.typing as npt

from benchmarks.json_child import JsonChild
from benchmarks.latency.distribution import percentiles
from benchmarks.live import stamp
from benchmarks.live.rtmp_server import free_port
from benchmarks.report import BenchmarkReport, Checks, check, check_rows, checks_to_markdown
from streaming.arguments import parse
from streaming.broadcast import run_show
from streaming.inputs.live_input import ChildInputReader, LiveInput, Rgb
from streaming.process.interruption import Interruption
from streaming.sinks.page_sink import PageSink
from streaming.sinks.sink import Frame, StreamFormat

LIMIT_MS = 100.0
_CAMERA_FPS, _CAMERA_FRAMES = 30, 2**stamp.LARGE_BITS  # a number comes again after 8.5 s
_SETTLE_S = 4.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    add = parser.add_argument
    add("bundle", metavar="BUNDLE", help="folder of a bundle")
    add("--matte", required=True, metavar="BUNDLE", help="folder of a matte bundle")
    add("--seconds", type=float, default=40.0, metavar="S", help="of the show (40)")
    add("--fps", type=int, default=24, metavar="F", help="frames per second (24)")
    add("--size", default="1280x720", metavar="WxH", help="frame size (1280x720)")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure.

    Raises:
        ValueError, BundleError, EngineError, SinkError: see `streaming.stream`; nothing was received.
    """
    if not (10 <= options.seconds <= 1800 and 1 <= options.fps <= 240):
        raise ValueError(
            f"--seconds must be from 10 to 1800 and --fps from 1 to 240, got {options.seconds:g} and {options.fps}"
        )
    seen: list[tuple[int, int]] = []
    with tempfile.TemporaryDirectory(prefix="everframe-") as name:
        clip = Path(name) / "camera.mp4"
        width, height = map(int, options.size.split("x"))
        write_camera(clip, width, height)
        sink = _ReadPage(f"http://127.0.0.1:{free_port()}")
        words = [options.bundle, "--matte", options.matte, "--behind", "blur", "--input", str(clip)]
        words += ["--fps", str(options.fps), "--size", options.size, "--seconds", str(options.seconds)]
        with _noted_camera(seen):
            run_show(parse(words), Interruption(), [sink])
    latencies = match(seen, sink.arrivals)
    if not latencies:
        raise ValueError("the reader saw no number: is the show too slow for its rate?")
    figures = percentiles(latencies)
    stats = sink.stats
    what = f"p50 {figures['p50']:.0f}, p95 {figures['p95']:.0f}, p99 {figures['p99']:.0f} ms of {len(latencies)} "
    what += f"pictures; {stats['late']} late, {stats['dropped']} dropped of {stats['frames']} frames"
    checks: Checks = {"camera to screen": check(figures["p95"] < LIMIT_MS, what)}
    result = {
        "benchmark": "screen",
        "bundle": Path(options.bundle).name,
        "fps": options.fps,
        "size": options.size,
        "camera_to_screen_ms": figures,
        "late": stats["late"],
        "dropped": stats["dropped"],
        "checks": checks,
    }
    title = f"{result['bundle']} with a person, {options.size} at {options.fps} fps"
    return BenchmarkReport(title, check_rows(checks, "reached", "NOT REACHED"), result)


def match(seen: list[tuple[int, int]], arrivals: list[tuple[int, int]]) -> list[float]:
    """Return the latency of each number's first arrival in milliseconds; the first seconds do not count.

    Args:
        seen: (number, nanoseconds) of the camera's pictures, in order; numbers come again.
        arrivals: likewise, of the pictures at the far end.
    """
    latencies: list[float] = []
    begins_ns = arrivals[0][1] + int(_SETTLE_S * 1e9) if arrivals else 0
    taken: set[int] = set()
    for number, moment_ns in arrivals:
        before = [when_ns for known, when_ns in seen if known == number and when_ns <= moment_ns]
        if before and before[-1] not in taken:
            taken.add(before[-1])
            if moment_ns >= begins_ns:
                latencies.append((moment_ns - before[-1]) / 1e6)
    return latencies


def to_markdown(result: Mapping[str, Any]) -> str:
    """Return the check as a Markdown table."""
    return checks_to_markdown(
        f"{result['bundle']}, {result['size']} at {result['fps']} fps", result["checks"], "reached"
    )


def write_camera(path: Path, width: int, height: int) -> None:
    """Write a video whose pictures carry their numbers in cells that survive the blur."""
    picture = np.full((height * 3 // 2, width), 128, np.uint8)
    with av.open(str(path), "w") as container:
        options = {"preset": "ultrafast", "crf": "18"}
        stream: Any = container.add_stream("libx264", rate=_CAMERA_FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(_CAMERA_FRAMES):
            stamp.write_large(picture[:height], number)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "yuv420p")))
        container.mux(stream.encode(None))


class _ReadPage(PageSink):
    """A page that another process watches, from the first frame to the end."""

    def __init__(self, spec: str) -> None:
        super().__init__(spec)
        self.arrivals: list[tuple[int, int]] = []
        self.stats: dict[str, Any] = {}
        self._watcher: JsonChild | None = None

    def open(self, feed: StreamFormat) -> None:
        self._feed_stats = feed.stats
        super().open(feed)

    def write(self, frame: Frame) -> bool:
        if self._watcher is None:
            self._watcher = JsonChild("benchmarks.live.receiver", self.name, "large")
        return super().write(frame)

    def close(self) -> None:
        self.stats = dict(self._feed_stats())
        super().close()
        if self._watcher is not None:
            self.arrivals = [(number, moment_ns) for number, moment_ns in self._watcher.finish(20.0) or []]


class _NotedReader(ChildInputReader):
    """A camera's reader that notes when each number arrived."""

    def __init__(self, seen: list[tuple[int, int]], spec: str, width: int, height: int) -> None:
        super().__init__(spec, width, height)
        self._seen = seen

    def read(self, timeout_s: float) -> Rgb | None:
        if (frame := super().read(timeout_s)) is not None:
            moment_ns = time.monotonic_ns()
            luma: npt.NDArray[Any] = frame[..., 1]
            if (number := stamp.read_large(luma)) is not None:
                self._seen.append((number, moment_ns))
        return frame


@contextmanager
def _noted_camera(seen: list[tuple[int, int]]) -> Iterator[None]:
    """Let shows note the numbers of their live input."""
    with mock.patch("streaming.show.player.LiveInput", partial(LiveInput, dial=partial(_NotedReader, seen))):
        yield
