"""A long show to RTMP, a recording and the page at once: lost frames, sound against picture, memory.

python -m benchmarks endurance bundles/NAME --plot endurance.png

Runs `python -m streaming` with a real nginx on loopback, a recording and the
page, each with a reader, and asks for another scene every minute. Checks after
the warm-up: no dropped slot and no frame lost by a sink; sound and picture at
the RTMP reader end within 40 ms of each other; memory does not grow. Exit
status 1 if a check fails.

examples:
  python -m benchmarks endurance bundles/satellite
      an hour
  python -m benchmarks endurance bundles/satellite --seconds 300
"""

from __future__ import annotations

import argparse
import tempfile
import time
import urllib.error
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.live.rtmp_server import RtmpServer, check_server
from benchmarks.report import (
    BenchmarkReport,
    Checks,
    check,
    check_rows,
    checks_to_markdown,
    has_failed,
    progress_bars,
    thirds,
)
from benchmarks.scenarios.show_process import Sample, ShowProcess, difference, media_ends, reading

AV_MS = 40.0  # sound and picture may end this far apart
GROWTH = 0.01  # of memory, over all but the warm-up
_SAMPLES = 120


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    add = parser.add_argument
    add("bundle", metavar="BUNDLE", help="folder of a bundle that takes a seed")
    add("--seconds", type=int, default=3600, metavar="S", help="of the show (3600)")
    add("--warm-up", type=int, default=60, metavar="S", help="seconds that do not count (60)")
    add("--fps", type=int, default=30, metavar="F", help="frames per second (30)")
    add("--no-recording", action="store_true", help="leave out the recording, which is encoded a second time")
    add("--switch-every", type=int, default=60, metavar="S", help="seconds between scenes, 0: none (60)")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure.

    Raises:
        ValueError: nginx is missing, a number is out of range, or the show does not begin.
    """
    check_server()
    if not 1 <= options.warm_up < options.seconds - 10 or options.fps < 1 or options.switch_every < 0:
        raise ValueError("--warm-up must be at least 1 and end 10 s before --seconds; --fps is positive")
    with tempfile.TemporaryDirectory(prefix="everframe-") as name:
        samples, ends, shown = _show(options, Path(name))
    checks = judge(samples, ends, warm_up_s=options.warm_up)
    result = {
        "benchmark": "endurance",
        "bundle": Path(options.bundle).name,
        "fps": options.fps,
        "seconds": options.seconds,
        "warm_up_s": options.warm_up,
        "switch_every_s": options.switch_every,
        "frames": samples[-1]["frames"],
        "p50_ms": float(np.median([sample["p50_ms"] for sample in samples])),
        "p99_ms": float(np.median([sample["p99_ms"] for sample in samples])),
        "ends": ends,
        "page_pictures": shown,
        "checks": checks,
        "samples": [{key: value for key, value in sample.items() if key != "sinks"} for sample in samples],
    }
    where = "RTMP and the page" if options.no_recording else "RTMP, a recording and the page"
    title = f"{result['bundle']}, {options.seconds} s at {options.fps} fps to {where}"
    return BenchmarkReport(title, check_rows(checks), result, failed=has_failed(checks))


def judge(samples: list[Sample], ends: dict[str, Any], *, warm_up_s: float) -> Checks:
    """Return what must hold.

    Args:
        samples: of the show, in order.
        ends: when picture and sound ended at the reader, and those of the recording.
        warm_up_s: samples before it do not count.
    """
    after = [sample for sample in samples if sample["at_s"] >= warm_up_s]
    since = difference(after[0], after[-1])
    lost = since["lost"].values()
    errors = sum(sink["errors"] for sink in after[-1]["sinks"])
    what = f"{since['frames']:,} frames after the warm-up: {since['dropped']} slots without one, {since['filled']} "
    what += (
        f"filled, {since['late']} late; lost by a sink: {', '.join(map(str, lost))}; {errors} reconnects or failures"
    )
    checks = {"frames": check(not (since["dropped"] or since["filled"] or errors or any(lost)), what)}
    apart_ms = 1000 * (ends["audio_end_s"] - ends["video_end_s"])
    what = f"picture {ends['video_end_s']:.3f} s, sound {ends['audio_end_s']:.3f} s: {apart_ms:+.0f} ms apart"
    checks["sound"] = check(abs(apart_ms) <= AV_MS, what)
    if "recorded" in ends:
        missing = ends["recorded_s"] * ends["fps"] - ends["recorded"]
        what = (
            f"{ends['recorded']:,} frames in {ends['recorded_s']:.1f} s of the file, {ends['received']:,} at the reader"
        )
        checks["recording"] = check(abs(missing) < 1.5, what)
    if memory := [sample["resident_mb"] for sample in after if sample["resident_mb"] is not None]:
        begin, end = thirds(memory)
        what = f"{begin:.1f} MB in the first third, {end:.1f} MB in the last ({end / begin - 1:+.2%}); all processes"
        checks["memory"] = check(end / begin - 1 <= GROWTH, what)
    return checks


def to_markdown(result: dict[str, Any]) -> str:
    """Return the checks as a Markdown table."""
    head = f"{result['bundle']}, {result['seconds']} s at {result['fps']} fps"
    return checks_to_markdown(head, result["checks"], "held")


def _show(options: argparse.Namespace, folder: Path) -> tuple[list[Sample], dict[str, Any], int]:
    """Run the show; return the samples, when everything ended, and how many pictures the page has shown."""
    recording = None if options.no_recording else folder / "recording.mkv"
    files = [] if recording is None else [str(recording)]
    with (
        RtmpServer(folder) as server,
        ShowProcess(options.bundle, [server.url, *files], fps=options.fps, seconds=options.seconds) as show,
    ):
        show.wait_begun()
        show.wait_up()
        with reading(server.url, show.page) as received:
            samples = _sample(show, options)
            show.wait()
    if not received.get("video") or not received.get("audio"):
        raise ValueError("the reader of the live stream got no picture or no sound")
    ends = {
        "video_end_s": received["video"]["end_s"],
        "audio_end_s": received["audio"]["end_s"],
        "received": received["video"]["packets"],
        "fps": options.fps,
    }
    if recording is not None:
        recorded = media_ends(str(recording))["video"]
        ends |= {"recorded": recorded["packets"], "recorded_s": recorded["end_s"]}
    return samples, ends, received["page_pictures"]


def _sample(show: ShowProcess, options: argparse.Namespace) -> list[Sample]:
    """Sample the show to its end, and ask for another scene now and then."""
    samples: list[Sample] = []
    step_s = max(1.0, options.seconds / _SAMPLES)
    next_switch_s = float(options.switch_every) if options.switch_every else float("inf")
    at_s = 0.0
    with progress_bars() as bar, bar("on air", options.seconds) as advance:
        while show.is_running():
            try:
                sample = show.sample()
                if sample["at_s"] >= next_switch_s:
                    next_switch_s += options.switch_every
                    cue = show.ask("/api/prompt", "POST", {"seed": len(samples)})["id"]
                    if cue > 1:  # cues that are kept would look like a leak
                        show.ask(f"/api/cues/{cue - 1}", "DELETE")
            except urllib.error.HTTPError as error:
                raise ValueError(f"the show refused a request: {error} {error.read().decode()}") from error
            except (urllib.error.URLError, ConnectionError):  # it has reached its end
                break
            for sink in sample["sinks"]:
                sink["name"] = sink["name"].partition(":")[0] if "://" in sink["name"] else "recording"
            samples.append(sample)
            advance(sample["at_s"] - at_s)
            at_s = sample["at_s"]
            time.sleep(max(0.2, min(step_s, options.seconds - at_s - 1)))
    if at_s < options.warm_up:
        raise ValueError("the show ended before its warm-up did")
    return samples
