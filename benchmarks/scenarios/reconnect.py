"""A live stream whose server is killed at random, and one whose server accepts and never reads.

python -m benchmarks reconnect bundles/NAME

Runs three shows to RTMP and to `null`: one undisturbed, one whose server (a real
nginx on loopback) is killed and started again at random moments, with a new
reader after each return, and one whose server accepts and never reads. Measures
late frames of each, the time to reconnect (from /stats, which is up to 0.25 s
old), and whether the stream decodes again. Exit status 1 if a return takes more
than 2 s, does not decode, or the other sink loses a frame.

examples:
  python -m benchmarks reconnect bundles/satellite
  python -m benchmarks reconnect bundles/satellite --kills 5
"""

from __future__ import annotations

import argparse
import random
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.live.rtmp_server import RtmpServer, check_server, free_port
from benchmarks.report import BenchmarkReport
from benchmarks.scenarios.show_process import ShowProcess, can_decode, difference
from runtime.bundle.reader import open_bundle

BACK_S = 2.0  # what a return may take
_UP_S, _DOWN_S = (2.0, 5.0), (0.3, 3.0)  # between two kills, and until the server returns
_SHOWS = {"server killed": "killed", "undisturbed": "undisturbed", "server never reads": "stalled"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    add = parser.add_argument
    add("bundle", metavar="BUNDLE", help="folder of a bundle")
    add("--kills", type=int, default=20, metavar="N", help="how often the server is killed (20)")
    add("--fps", type=int, default=30, metavar="F", help="frames per second (30)")
    add("--seed", type=int, default=7, metavar="N", help="of the random moments (7)")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure.

    Raises:
        ValueError: nginx is missing, a number is too small, or a stream never comes back.
        BundleError: the bundle is damaged.
    """
    check_server()
    if options.kills < 1 or options.fps < 1:
        raise ValueError(f"--kills and --fps must be at least 1, got {options.kills} and {options.fps}")
    open_bundle(options.bundle)
    rng = random.Random(options.seed)
    moments = [(rng.uniform(*_UP_S), rng.uniform(*_DOWN_S)) for _ in range(options.kills)]
    returns: list[dict[str, Any]] = []

    def play(url: str, during: Callable[[ShowProcess], object], *, waits: bool = True) -> dict[str, Any]:
        with ShowProcess(options.bundle, [url, "null"], fps=options.fps) as show:
            first = show.wait_begun()
            if waits:
                show.wait_up()
            during(show)
            since = difference(first, show.sample())
        return {**{key: since[key] for key in ("frames", "late", "dropped")}, "null_lost": since["lost"]["null"]}

    with tempfile.TemporaryDirectory(prefix="everframe-") as name:
        folder, port = Path(name), free_port()
        url = f"rtmp://127.0.0.1:{port}/live/benchmark"

        def kill(show: ShowProcess) -> None:
            for up_s, down_s in moments:
                time.sleep(up_s)
                servers[-1].close(is_killed=True)
                show.wait_up(is_up=False)
                time.sleep(down_s)
                servers.append(RtmpServer(folder, port))
                back_s = show.wait_up()
                returns.append({"back_s": round(back_s, 3), "is_decoded": can_decode(url)})

        servers = [RtmpServer(folder, port)]
        try:
            killed = play(url, kill)
            seconds = killed["frames"] / options.fps
            undisturbed = play(url, lambda _: time.sleep(seconds))
        finally:
            servers[-1].close()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"rtmp://127.0.0.1:{silent.getsockname()[1]}/live/benchmark"
        stalled = play(url, lambda _: time.sleep(min(60.0, seconds)), waits=False)
    back = [item["back_s"] for item in returns]
    num_decoded = sum(item["is_decoded"] for item in returns)
    result = {
        "benchmark": "reconnect",
        "bundle": Path(options.bundle).name,
        "fps": options.fps,
        "kills": options.kills,
        "back_s": {"p50": round(float(np.median(back)), 2), "worst": round(max(back), 2)},
        "decoded": num_decoded,
        "killed": killed,
        "undisturbed": undisturbed,
        "stalled": stalled,
    }
    rows = [
        ("reconnected", f"{max(back):.2f} s", f"worst after the server's return; {np.median(back):.2f} typical"),
        ("decoded again", f"{num_decoded} of {options.kills}", "by a new reader after each return"),
    ]
    for title, key in _SHOWS.items():
        show: dict[str, Any] = result[key]
        rows.append((title, f"{show['late']} late", f"{show['dropped']} dropped of {show['frames']} frames"))
    is_good = max(back) <= BACK_S and num_decoded == len(returns) and stalled["null_lost"] == 0
    return BenchmarkReport(str(result["bundle"]), rows, result, {"returns": returns}, failed=not is_good)


def to_markdown(result: dict[str, Any]) -> str:
    """Return the shows as a Markdown table."""
    lines = ["| show | frames | late | dropped | lost by the other sink |", "|---|---|---|---|---|"]
    for name, key in _SHOWS.items():
        show = result[key]
        lines.append(f"| {name} | {show['frames']} | {show['late']} | {show['dropped']} | {show['null_lost']} |")
    back = result["back_s"]
    lines.append(
        f"\nKilled {result['kills']} times at random; on air again {back['p50']} s (median) and at worst "
        f"{back['worst']} s after the server's return; a new reader decoded after {result['decoded']} of them."
    )
    return "\n".join(lines) + "\n"
