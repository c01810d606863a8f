"""A long show to an RTMP server, a recording and the page at once: lost frames, sound beside picture, memory.

python -m benchmarks endurance bundles/NAME --plot endurance.png
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.live.rtmp_server import RtmpServer, free_port, why_missing
from benchmarks.machine import machine_card, resident_mb
from benchmarks.report import BenchmarkReport, write_beside

SUMMARY = "a long show to RTMP, a recording and the page at once"
DESCRIPTION = """\
Put a bundle on air as a user would, `python -m streaming`, to a real nginx on
loopback, to a recording and to the page, each with somebody at the other end,
and ask for another scene every minute. What must hold after the warm-up: no
slot without a frame and no frame that a sink lost; sound and picture at the
RTMP reader end within 40 ms of each other; memory is flat. Status 1 if not.
"""
EXAMPLES = """\
examples:
  python -m benchmarks endurance bundles/satellite-256
      an hour
  python -m benchmarks endurance bundles/satellite-256 --seconds 300
"""
AV_MS = 40.0  # sound and picture may end this far apart
GROWTH = 0.01  # of memory, over all but the warm-up
_START_S = 60.0
_GOODBYE_S = 30.0
_SAMPLES = 120


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    parser.add_argument("bundle", metavar="BUNDLE", help="folder of a bundle that takes a seed")
    parser.add_argument("--seconds", type=int, default=3600, metavar="S", help="of the show (3600)")
    parser.add_argument("--warm-up", type=int, default=60, metavar="S", help="that do not count (60)")
    parser.add_argument("--fps", type=int, default=30, metavar="F", help="frames per second (30)")
    parser.add_argument(
        "--switch-every", type=int, default=60, metavar="S", help="seconds between scenes, 0: none (60)"
    )
    parser.add_argument("--plot", metavar="FILE", help="draw memory and frame times: .png, .svg or .pdf")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure.

    Raises:
        ValueError: nginx is missing, a number is out of range, or the show does not begin.
    """
    if (why_not := why_missing()) is not None:
        raise ValueError(why_not)
    if not 1 <= options.warm_up < options.seconds - 10 or options.fps < 1 or options.switch_every < 0:
        raise ValueError("--warm-up must be at least 1 and end 10 s before --seconds; --fps is positive")
    if options.plot is not None:
        from benchmarks.latency.plot import check_plot

        check_plot(Path(options.plot))
    machine = machine_card()
    with tempfile.TemporaryDirectory(prefix="everframe-") as name:
        samples, ends, shown = _show(options, Path(name))
    checks = judge(samples, ends, warm_up_s=options.warm_up)
    last = samples[-1]
    result = {
        "benchmark": "endurance",
        "bundle": Path(options.bundle).name,
        "fps": options.fps,
        "seconds": options.seconds,
        "warm_up_s": options.warm_up,
        "switch_every_s": options.switch_every,
        "frames": last["frames"],
        "p50_ms": float(np.median([sample["p50_ms"] for sample in samples])),
        "p99_ms": float(np.median([sample["p99_ms"] for sample in samples])),
        "ends": ends,
        "page_pictures": shown,
        "checks": checks,
        "samples": [{key: value for key, value in sample.items() if key != "sinks"} for sample in samples],
        "machine": machine,
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
    }
    if options.plot is not None:
        from benchmarks.scenarios.endurance_plot import draw

        write_beside(Path(options.plot), lambda beside: draw(result, beside))
    rows = [(name, "passed" if check["passed"] else "FAILED", check["what"]) for name, check in checks.items()]
    title = f"{result['bundle']}, {options.seconds} s at {options.fps} fps to RTMP, a recording and the page"
    return BenchmarkReport(title, rows, result, failed=not all(check["passed"] for check in checks.values()))


def judge(samples: list[dict[str, Any]], ends: dict[str, Any], *, warm_up_s: float) -> dict[str, dict[str, Any]]:
    """Return what must hold: name -> {"passed", "what": one sentence with the figures}.

    Args:
        samples: what the show told of itself, in order, each with `at_s` and `resident_mb`.
        ends: when picture and sound ended at the reader, and when those of the recording did.
        warm_up_s: until when nothing counts.
    """
    after = [sample for sample in samples if sample["at_s"] >= warm_up_s]
    first, last = after[0], after[-1]
    late, dropped, filled = (last[key] - first[key] for key in ("late", "dropped", "filled"))
    lost = {
        sink["name"]: sink["dropped"] - before["dropped"]
        for sink, before in zip(last["sinks"], first["sinks"], strict=True)
    }
    errors = sum(sink["errors"] for sink in last["sinks"])
    frames = last["frames"] - first["frames"]
    what = f"{frames:,} frames after the warm-up: {dropped} slots without one, {filled} filled, {late} late; "
    what += f"lost by a sink: {', '.join(str(count) for count in lost.values())}; {errors} reconnects or failures"
    checks = {"frames": {"passed": not (dropped or filled or errors or any(lost.values())), "what": what}}
    apart_ms = 1000 * (ends["audio_end_s"] - ends["video_end_s"])
    what = f"picture {ends['video_end_s']:.3f} s, sound {ends['audio_end_s']:.3f} s: {apart_ms:+.0f} ms apart"
    checks["sound"] = {"passed": abs(apart_ms) <= AV_MS, "what": what}
    missing = ends["recorded_s"] * ends["fps"] - ends["recorded"]
    what = f"{ends['recorded']:,} frames in {ends['recorded_s']:.1f} s of the file, {ends['received']:,} at the reader"
    checks["recording"] = {"passed": abs(missing) < 1.5, "what": what}
    memory = [sample["resident_mb"] for sample in after if sample["resident_mb"] is not None]
    if memory:
        third = max(1, len(memory) // 3)
        begin, end = float(np.median(memory[:third])), float(np.median(memory[-third:]))
        what = f"{begin:.1f} MB in the first third, {end:.1f} MB in the last ({end / begin - 1:+.2%}); all processes"
        checks["memory"] = {"passed": end / begin - 1 <= GROWTH, "what": what}
    return checks


def to_markdown(result: dict[str, Any]) -> str:
    """Return the checks as a Markdown table."""
    head = f"{result['bundle']}, {result['seconds']} s at {result['fps']} fps"
    lines = [f"| {head} | | |", "|---|---|---|"]
    for name, check in result["checks"].items():
        lines.append(f"| {name} | {'held' if check['passed'] else '**failed**'} | {check['what']} |")
    return "\n".join(lines) + "\n"


def _show(options: argparse.Namespace, folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any], int]:
    """Play; return the samples, when everything ended, and how many pictures the page has shown."""
    server = RtmpServer(folder)
    page, recording = f"http://127.0.0.1:{free_port()}", folder / "recording.mkv"
    sinks = [word for sink in (server.url, str(recording), page) for word in ("--to", sink)]
    rate = ["--fps", str(options.fps), "--seconds", str(options.seconds)]
    command = [sys.executable, "-m", "streaming", options.bundle, *rate, *sinks]
    show = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        _wait_begun(show, page)
        with _demuxing(server.url) as received, _watching(page) as watched:
            samples = _sample(show, page, options)
            show.wait(_GOODBYE_S)
        if not received.get("video") or not received.get("audio"):
            raise ValueError("the reader of the live stream has got no picture or no sound")
        recorded = _ends(str(recording))
    finally:
        show.kill()
        show.wait()
        server.close()
    ends = {
        "video_end_s": received["video"]["end_s"],
        "audio_end_s": received["audio"]["end_s"],
        "received": received["video"]["packets"],
        "recorded": recorded["video"]["packets"],
        "recorded_s": recorded["video"]["end_s"],
        "fps": options.fps,
    }
    return samples, ends, watched[0]


def _sample(show: subprocess.Popen[str], page: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    from rich.console import Console
    from rich.progress import Progress, TimeRemainingColumn

    samples: list[dict[str, Any]] = []
    step_s = max(1.0, options.seconds / _SAMPLES)
    next_switch_s = float(options.switch_every) if options.switch_every else float("inf")
    columns = (*Progress.get_default_columns()[:2], TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("on air", total=options.seconds)
        while show.poll() is None:
            try:
                stats = _ask(f"{page}/stats")
                if stats["seconds"] >= next_switch_s:
                    next_switch_s += options.switch_every
                    cue = _ask(f"{page}/api/prompt", "POST", {"seed": len(samples)})["id"]
                    if cue > 1:  # cues that are kept would look like a leak
                        _ask(f"{page}/api/cues/{cue - 1}", "DELETE")
            except urllib.error.HTTPError as error:
                raise ValueError(f"the show has refused a request: {error} {error.read().decode()}") from error
            except (urllib.error.URLError, ConnectionError):  # it is at its end
                break
            memory = _tree_mb(show.pid)
            keys = ("frames", "late", "dropped", "filled", "p50_ms", "p99_ms", "worst_ms", "sinks")
            sample = {"at_s": stats["seconds"], "resident_mb": memory, **{key: stats[key] for key in keys}}
            for sink in sample["sinks"]:
                sink["name"] = sink["name"].partition(":")[0] if "://" in sink["name"] else "recording"
            samples.append(sample)
            progress.update(bar, completed=stats["seconds"])
            left_s = options.seconds - stats["seconds"] - 1
            time.sleep(max(0.2, min(step_s, left_s)))
    if not samples or samples[-1]["at_s"] < options.warm_up:
        raise ValueError("the show ended before its warm-up did")
    return samples


def _wait_begun(show: subprocess.Popen[str], page: str) -> None:
    deadline_s = time.monotonic() + _START_S
    while time.monotonic() < deadline_s:
        if show.poll() is not None:
            assert show.stderr is not None
            raise ValueError(f"the show has ended at once: {show.stderr.read().strip().splitlines()[-1:]}")
        try:
            if any(sink["name"].startswith("rtmp") and sink["is_up"] for sink in _ask(f"{page}/stats")["sinks"]):
                threading.Thread(target=show.stderr.read, daemon=True).start()  # type: ignore[union-attr]
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise ValueError(f"the show is not on air after {_START_S:g} s")


@contextmanager
def _demuxing(url: str) -> Iterator[dict[str, Any]]:
    """Read the live stream beside the body, and fill in what came once the stream has ended."""
    received: dict[str, Any] = {}
    reader = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.scenarios.ends", url], stdout=subprocess.PIPE, text=True
    )
    try:
        yield received
        told, _ = reader.communicate(timeout=_GOODBYE_S)
        received.update(json.loads(told or "{}"))
    finally:
        reader.kill()
        reader.wait()


@contextmanager
def _watching(page: str) -> Iterator[list[int]]:
    """Watch the page beside the body, as a browser would; count its pictures."""
    count = [0]

    def watch() -> None:
        with urllib.request.urlopen(f"{page}/stream.mjpeg", timeout=_START_S) as answer:
            _count_pictures(answer.readline, answer.read, count)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    yield count
    watcher.join(_GOODBYE_S)


def _count_pictures(readline: Callable[[], bytes], read: Callable[[int], bytes], count: list[int]) -> None:
    while line := readline():
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            readline()
            read(int(value))
            count[0] += 1


def _ends(file: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.scenarios.ends", file]
    told: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return told


def _ask(url: str, method: str = "GET", body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def _tree_mb(pid: int) -> float | None:
    """Return the resident memory of a process and of all that it has started, in MB."""
    own = resident_mb(pid)
    if own is None:
        return None
    children = [
        int(child)
        for file in Path(f"/proc/{pid}/task").glob("*/children")
        for child in file.read_text(encoding="utf-8").split()
    ]
    return round(own + sum(_tree_mb(child) or 0.0 for child in children), 1)
