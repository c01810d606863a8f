"""Sound against picture: flashes and clicks of a live input, as they come out of a live stream.

python -m benchmarks sound bundles/NAME --matte bundles/person

Runs `python -m streaming` with a file as the camera, which flashes and clicks
once a second, its blurred picture behind the person, and its sound
(`--sound input`), to a real nginx on loopback. The server is killed and started
again now and then. A reader decodes both and pairs each click with the nearest
flash. A frame lasts 1 / fps, so a flash is seen up to that much late.
Exit status 1 if sound and picture are more than 40 ms apart (median of any
tenth of the show, or of what came after any restart).

examples:
  python -m benchmarks sound bundles/landscape --matte bundles/person
      twenty minutes, three restarts
  python -m benchmarks sound bundles/landscape --matte bundles/person --seconds 60
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarks.live.rtmp_server import RtmpServer, check_server, free_port
from benchmarks.report import BenchmarkReport, Checks, check, check_rows, checks_to_markdown, has_failed, progress_bars
from benchmarks.scenarios.show_process import PATIENCE_S, ShowProcess

APART_MS = 40.0
_WIDTH, _HEIGHT, _CLIP_FPS, _CLIP_S = 640, 360, 60, 60
_FLASH_S, _CLICK_S = 0.15, 0.005
_RATE = 48_000
_DOWN_S = 2.0
_BRIGHT, _LOUD = 110, 0.15
_NEAR_S = 0.4  # a click further from a flash belongs to none, e.g. because a stream has just begun


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    add = parser.add_argument
    add("bundle", metavar="BUNDLE", help="folder of a bundle")
    add("--matte", required=True, metavar="BUNDLE", help="folder of a matte bundle")
    add("--seconds", type=int, default=1200, metavar="S", help="of the show (1200)")
    add("--restarts", type=int, default=3, metavar="N", help="how often the server is killed (3)")
    add("--fps", type=int, default=24, metavar="F", help="frames per second (24)")
    add("--size", default="640x360", metavar="WxH", help="frame size (640x360)")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure.

    Raises:
        ValueError: nginx is missing, a number is out of range, or nothing was received.
    """
    check_server()
    if options.restarts < 0 or options.fps < 1 or options.seconds < 20 * (options.restarts + 1):
        raise ValueError("--seconds must be at least 20 for each passage between restarts; --fps is positive")
    with tempfile.TemporaryDirectory(prefix="everframe-") as name:
        passages = _measure(options, Path(name))
    checks = judge(passages)
    pairs = [pair for passage in passages for pair in passage]
    result = {
        "benchmark": "sound",
        "bundle": Path(options.bundle).name,
        "fps": options.fps,
        "size": options.size,
        "seconds": options.seconds,
        "restarts": options.restarts,
        "checks": checks,
        "pairs": len(pairs),
    }
    title = f"{result['bundle']}, {options.seconds} s at {options.fps} fps, {options.restarts} restarts"
    return BenchmarkReport(title, check_rows(checks), result, {"passages": passages}, failed=has_failed(checks))


def judge(passages: list[list[tuple[float, float]]]) -> Checks:
    """Return what must hold.

    Args:
        passages: of each connection: when a flash was seen in seconds of the stream, and how many seconds later its
            click was heard.

    Raises:
        ValueError: nothing was received.
    """
    known = [passage for passage in passages if passage]
    if not known:
        raise ValueError("the reader saw no flash with a click: is the show too slow for its rate?")
    checks: Checks = {}
    every = np.array([1000 * apart for passage in known for _, apart in passage])
    tenths = [float(np.median(part)) for part in np.array_split(every, min(10, len(every)))]
    low, high = np.percentile(every, (2.5, 97.5))
    what = f"sound {np.median(every):+.0f} ms after the picture, 95 % of {len(every)} flashes within {low:+.0f} and "
    what += f"{high:+.0f} ms; medians of tenths {min(tenths):+.0f} to {max(tenths):+.0f} ms"
    checks["in step"] = check(max(map(abs, tenths)) <= APART_MS, what)
    begins = [float(np.median([1000 * apart for _, apart in passage[:10]])) for passage in known]
    what = f"after each of {len(known)} connections: {', '.join(f'{value:+.0f}' for value in begins)} ms"
    checks["after restarts"] = check(max(map(abs, begins)) <= APART_MS, what)
    return checks


def to_markdown(result: dict[str, Any]) -> str:
    """Return the checks as a Markdown table."""
    head = f"{result['bundle']}, {result['seconds']} s at {result['fps']} fps, {result['restarts']} restarts"
    return checks_to_markdown(head, result["checks"], "held")


def write_clip(path: Path) -> None:
    """Write a minute of a dark picture that flashes and clicks at the begin of each second."""
    dark, bright = (np.full((_HEIGHT * 3 // 2, _WIDTH), value, np.uint8) for value in (40, 225))
    for picture in (dark, bright):
        picture[_HEIGHT:] = 128
    second = np.zeros((2, _RATE), np.int16)
    second[:, : round(_CLICK_S * _RATE)] = 24_000
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("libx264", rate=_CLIP_FPS, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
        audio: Any = container.add_stream("pcm_s16le", rate=_RATE, layout="stereo")
        for number in range(_CLIP_S * _CLIP_FPS):
            is_flash = number % _CLIP_FPS < _FLASH_S * _CLIP_FPS
            container.mux(video.encode(av.VideoFrame.from_ndarray(bright if is_flash else dark, "yuv420p")))
            if number % _CLIP_FPS == 0:
                block: Any = av.AudioFrame.from_ndarray(second.T.reshape(1, -1).copy(), "s16", "stereo")
                block.sample_rate, block.pts = _RATE, number // _CLIP_FPS * _RATE
                container.mux(audio.encode(block))
        container.mux(video.encode(None))


def pair(flashes: list[float], clicks: list[float]) -> list[tuple[float, float]]:
    """Return each flash that has a click near it, and how much later the click is; both in seconds."""
    if not clicks:
        return []
    known = np.array(clicks)
    nearest = [(flash, float(known[np.abs(known - flash).argmin()] - flash)) for flash in flashes]
    return [(flash, apart) for flash, apart in nearest if abs(apart) < _NEAR_S]


def _measure(options: argparse.Namespace, folder: Path) -> list[list[tuple[float, float]]]:
    clip = folder / "clip.mkv"
    write_clip(clip)
    port = free_port()
    words = ["--matte", options.matte, "--behind", "blur", "--input", str(clip), "--sound", "input"]
    words += ["--size", options.size]
    server = RtmpServer(folder, port)
    try:
        with ShowProcess(options.bundle, [server.url], fps=options.fps, options=words) as show:
            show.wait_begun()
            show.wait_up()
            with _reading(server.url) as passages, progress_bars() as bar, bar("on air", options.seconds) as advance:
                part_s = options.seconds / (options.restarts + 1)
                for number in range(options.restarts + 1):
                    for _ in range(round(part_s)):
                        time.sleep(1.0)
                        advance(1)
                        if not show.is_running():
                            raise ValueError("the show has ended")
                    if number < options.restarts:
                        server.close(is_killed=True)
                        time.sleep(_DOWN_S)
                        server = RtmpServer(folder, port)
                        show.wait_up()
    finally:
        server.close()
    return passages


@contextmanager
def _reading(url: str) -> Iterator[list[list[tuple[float, float]]]]:
    """Decode a stream beside the body, again and again; one list of pairs for each connection."""
    passages: list[list[tuple[float, float]]] = []
    is_over = threading.Event()

    def read() -> None:
        while not is_over.is_set():
            flashes, clicks = _flashes_and_clicks(url, is_over)
            if flashes:
                passages.append(pair(flashes, clicks))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield passages
    finally:
        is_over.set()
        reader.join(PATIENCE_S)


def _flashes_and_clicks(url: str, is_over: threading.Event) -> tuple[list[float], list[float]]:
    """Decode one connection to its end; return when flashes and clicks began, in seconds of the stream."""
    flashes, clicks = [], []
    was_bright, quiet_until_s = True, 0.0
    try:
        with av.open(url, options={"rtmp_live": "live"}, timeout=(PATIENCE_S, 5.0)) as container:
            for frame in container.decode(video=0, audio=0):
                if is_over.is_set():
                    break
                begins_s = float(frame.time or 0)
                if isinstance(frame, av.AudioFrame):
                    loud = np.flatnonzero(np.abs(frame.to_ndarray()[0]) > _LOUD)
                    if len(loud) and (moment_s := begins_s + float(Fraction(int(loud[0]), _RATE))) >= quiet_until_s:
                        clicks.append(moment_s)
                        quiet_until_s = moment_s + 0.5
                    continue
                plane = frame.planes[0]
                luma = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
                is_bright = float(luma[::8, ::8].mean()) > _BRIGHT
                if is_bright and not was_bright:
                    flashes.append(begins_s)
                was_bright = is_bright
    except (av.FFmpegError, OSError, IndexError):  # the server was killed, or has only sound yet
        is_over.wait(0.2)
    return flashes, clicks
