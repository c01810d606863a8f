"""Shows on a Ray cluster whose machines are killed: how soon they are back, and at which frame.

python -m benchmarks fleet

Starts a Ray cluster of several nodes on this machine, shows of 64 x 64 pixels
whose frames show their own number, and a real RTMP server. First nothing
happens, then the API is asked many times a second, then random nodes are killed
one after another; the head is not. A reader of each stream notes every frame's
number and time. Measures the time until frames come again, whether they are
those that the clock asks for, late frames, and streams that had two senders.
Exit status 1 if one of these is not as docs/cluster.md promises.

examples:
  python -m benchmarks fleet
  python -m benchmarks fleet --shows 4 --kills 2 --quiet-s 30 --asks-s 20
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import shutil
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarks.live.rtmp_server import RtmpServer, check_server
from benchmarks.report import BenchmarkReport
from benchmarks.scenarios.counter_bundle import MOST, number_in, write_counter

FPS = 10
BACK_S = 10.0  # what a return may take, 95th percentile
_FRAMES_OFF = 5  # by which a frame may differ from the one that the clock asks for, half a second
_START_S = 180.0
_SILENT_S = 1.0  # without a frame, after which a reader connects again
# libavformat looks at 5 s of a stream before it hands out frames, if nobody says otherwise.
_READING = {"rtmp_live": "live", "rtmp_buffer": "100", "analyzeduration": "1000000", "rw_timeout": "1000000"}
_LOOKED_AT = 20  # frames that come at once after a reader has connected, at most
_STORE_BYTES = 80 * 2**20
_HEALTH = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 500,
    "health_check_failure_threshold": 3,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    add = parser.add_argument
    add("--nodes", type=int, default=4, metavar="N", help="nodes of the cluster, the head among them (4)")
    add("--shows", type=int, default=12, metavar="N", help="shows (12)")
    add("--kills", type=int, default=10, metavar="N", help="nodes that are killed (10)")
    add("--quiet-s", type=float, default=1200.0, metavar="S", help="seconds in which nothing happens (1200)")
    add("--asks-s", type=float, default=60.0, metavar="S", help="seconds in which the API is asked (60)")
    add("--asks", type=int, default=200, metavar="N", help="requests a second (200)")
    add("--seed", type=int, default=7, metavar="N", help="of the random nodes and moments (7)")


class StreamReader(threading.Thread):
    """Reads a stream for ever, and connects again when it ends.

    Args:
        url: of the stream.

    Attributes:
        frames: (monotonic time in seconds, number) of every frame that was decoded.
    """

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.frames: list[tuple[float, int]] = []
        self._url, self._is_over = url, threading.Event()
        self.start()

    def run(self) -> None:
        """Read until `close` is called."""
        while not self._is_over.is_set():
            with contextlib.suppress(av.error.FFmpegError, OSError, StopIteration, IndexError):
                self._read()
            self._is_over.wait(0.2)

    def close(self) -> None:
        """Stop reading."""
        self._is_over.set()

    def _read(self) -> None:
        with av.open(self._url, options=_READING, timeout=(5.0, _SILENT_S)) as container:
            container.streams.video[0].thread_type = "NONE"
            for frame in container.decode(video=0):
                if self._is_over.is_set():
                    return
                self.frames.append((time.monotonic(), number_in(frame.to_ndarray(format="gray"))))


class TestCluster:
    """A Ray cluster of several nodes on this machine; a context manager.

    Args:
        nodes: how many, the head among them.
        cpus: of each node but the head, which has none.
    """

    __test__ = False  # for pytest

    def __init__(self, nodes: int, cpus: float) -> None:
        import ray
        from ray.cluster_utils import Cluster

        common = {"object_store_memory": _STORE_BYTES, "include_dashboard": False}
        self._node_args = {**common, "num_cpus": cpus}
        self._cluster = Cluster(True, head_node_args={**common, "num_cpus": 0, "_system_config": _HEALTH})
        try:
            self.workers = [self._cluster.add_node(**self._node_args) for _ in range(nodes - 1)]
            ray.init(address=self._cluster.address, log_to_driver=False, configure_logging=False)
        except BaseException:
            self._cluster.shutdown()
            raise

    def kill(self, node: Any) -> None:
        """Kill all processes of a node."""
        self.workers.remove(node)
        self._cluster.remove_node(node, allow_graceful=False)

    def add(self) -> None:
        """Add a node."""
        self.workers.append(self._cluster.add_node(**self._node_args))

    def __enter__(self) -> TestCluster:
        return self

    def __exit__(self, *_: object) -> None:
        import ray

        ray.shutdown()
        self._cluster.shutdown()


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure.

    Raises:
        ValueError: nginx or Ray is missing, a number is too small, or a show does not start.
    """
    check_server()
    if options.nodes < 3 or options.shows < 1 or options.kills < 0:
        raise ValueError("--nodes must be at least 3, --shows at least 1 and --kills at least 0")
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # Ray then uses the loopback address on Linux, too
    try:
        from fleet.config import FleetConfig, to_show
        from fleet.director import Director
        from fleet.server import FleetServer
    except ImportError as error:
        raise ValueError(f"the benchmark needs Ray: pip install 'everframe[cluster]' ({error})") from None
    rng = random.Random(options.seed)
    log: list[str] = []
    folder = Path(tempfile.mkdtemp(prefix="everframe-"))
    try:
        bundle = write_counter(folder / "counter", FPS)
        with RtmpServer(folder) as server, TestCluster(options.nodes, options.shows) as cluster:
            urls = [f"{server.url.rpartition('/')[0]}/show{number}" for number in range(options.shows)]
            shows = {
                f"show{number}": to_show(
                    f"show{number}",
                    {"bundle": str(bundle), "to": [url], "cpus": 0.5, "engine": "onnxruntime", "no_mark": True},
                )
                for number, url in enumerate(urls)
            }
            config = FleetConfig(shows, {}, {}, "http://127.0.0.1:0")
            with Director(config, log.append) as director, FleetServer(config.page) as web:
                web.start(director)
                started_s = _wait_on_air(director, _START_S)
                readers = [StreamReader(url) for url in urls]
                _wait(lambda: all(reader.frames for reader in readers), 60.0, "a stream is not read")
                try:
                    quiet = _watched(readers, web.url, lambda: time.sleep(options.quiet_s))
                    asked: dict[str, Any] = {}
                    asking = _watched(readers, web.url, lambda: asked.update(_ask(web.url, options)))
                    offsets = [_offset(reader.frames) for reader in readers]
                    kills = [_kill_one(cluster, director, readers, offsets, rng) for _ in range(options.kills)]
                finally:
                    for reader in readers:
                        reader.close()
                states = director.shows()
        errors = (folder / "error.log").read_text(encoding="utf-8", errors="replace").splitlines()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    backs = [back for kill in kills for back in kill["back_s"]]
    offs = [abs(off) for kill in kills for off in kill["frames_off"]]
    result = {
        "benchmark": "fleet",
        "fps": FPS,
        "nodes": options.nodes,
        "shows": options.shows,
        "started_s": round(started_s, 1),
        "quiet": quiet,
        "asked": {**asking, **asked},
        "kills": kills,
        "returns": len(backs),
        "back_s": _quantiles(backs),
        "frames_off": _quantiles(offs),
        "two_senders": sum("already publishing" in line for line in errors),
        "not_on_air": [show["name"] for show in states if show["state"] != "on air"],
    }
    is_good = (
        not result["not_on_air"]
        and not result["two_senders"]
        and (not backs or (np.quantile(backs, 0.95) <= BACK_S and max(offs) <= _FRAMES_OFF))
    )
    title = f"{options.shows} shows on {options.nodes} nodes of one machine, {options.kills} nodes killed"
    return BenchmarkReport(title, [(what, figure, "") for what, figure in _rows(result)], result, {}, not is_good)


def to_markdown(result: dict[str, Any]) -> str:
    """Return the table of docs/results.md."""
    lines = ["| what | figure |", "|---|---|", *(f"| {what} | {figure} |" for what, figure in _rows(result))]
    return "\n".join(lines) + "\n"


def _rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    back, off = result["back_s"], result["frames_off"]
    asked = result["asked"]
    return [
        ("all shows on air after the start", f"{result['started_s']} s"),
        ("returns after a node was killed", f"{result['returns']} in {len(result['kills'])} kills"),
        ("seconds until frames come again: median, 95 %, worst", f"{back['p50']}, {back['p95']}, {back['worst']}"),
        (
            "frames that the first ones are off the clock: median, 95 %, worst",
            f"{off['p50']}, {off['p95']}, {off['worst']}",
        ),
        ("second senders that the server refused", str(result["two_senders"])),
        ("quiet: late and dropped of all frames; longest gap", _losses(result["quiet"])),
        (f"API asked {asked['rate']} times a second: the same", _losses(asked)),
        (
            "answers of the API: failed; median and 99 % in ms",
            f"{asked['failed']}; {asked['answer_ms']['p50']}, {asked['answer_ms']['p99']}",
        ),
    ]


def _losses(part: dict[str, Any]) -> str:
    return f"{part['late']} and {part['dropped']} of {part['frames']}; {part['longest_gap_s']} s"


def _kill_one(
    cluster: TestCluster, director: Any, readers: Sequence[StreamReader], offsets: Sequence[float], rng: random.Random
) -> dict[str, Any]:
    """Kill the node of a random show, wait until all are back, and add another node."""
    time.sleep(rng.uniform(2.0, 6.0))
    busy = {show["node"] for show in director.shows()}
    node = rng.choice([worker for worker in cluster.workers if worker.node_id in busy])
    hit = [int(show["name"].removeprefix("show")) for show in director.shows() if show["node"] == node.node_id]
    killed_s = time.monotonic()
    cluster.kill(node)

    def is_back(number: int) -> bool:
        """Whether frames come that were made after the kill; those on their way come within two seconds."""
        times = [at_s for at_s, _ in readers[number].frames[-2 * _LOOKED_AT :]]
        return len(times) == 2 * _LOOKED_AT and times[0] > killed_s + 2.0 and time.monotonic() - times[-1] < 1.0

    _wait(lambda: all(is_back(number) for number in hit), 60.0, "a show does not come back")
    time.sleep(2.0)
    back_s, frames_off = [], []
    for number in hit:
        frames = readers[number].frames
        gaps = [(two[0] - one[0], index) for index, (one, two) in enumerate(itertools.pairwise(frames))]
        recent = [(gap, index) for gap, index in gaps if frames[index + 1][0] > killed_s]
        _, index = max(recent)
        back_s.append(round(frames[index + 1][0] - killed_s, 2))
        after = frames[index + 1 + _LOOKED_AT :]
        frames_off.append(round(_difference(_offset(after), offsets[number]), 1))
    cluster.add()
    return {"shows": len(hit), "back_s": back_s, "frames_off": frames_off}


def _offset(frames: Sequence[tuple[float, int]]) -> float:
    """Return how far the numbers of frames are ahead of time in frames; the median of the last 100."""
    unwrapped = [(number - at_s * FPS) % MOST for at_s, number in frames[-100:]]
    first = unwrapped[0]
    offset: float = first + float(np.median([_difference(value, first) for value in unwrapped]))
    return offset


def _difference(one: float, two: float) -> float:
    """Return one - two of numbers that begin again at `MOST`."""
    difference: float = (one - two + MOST / 2) % MOST - MOST / 2
    return difference


def _watched(readers: Sequence[StreamReader], url: str, act: Callable[[], object]) -> dict[str, Any]:
    """Do something, and return what the shows and the readers lost meanwhile."""
    before, counts = _stats(url), [len(reader.frames) for reader in readers]
    act()
    after = _stats(url)
    gaps = [
        two[0] - one[0]
        for reader, count in zip(readers, counts, strict=True)
        for one, two in itertools.pairwise(reader.frames[count:])
    ]
    lost = {key: sum(after[name][key] - before[name][key] for name in after) for key in ("frames", "late", "dropped")}
    return {**lost, "longest_gap_s": round(max(gaps, default=0.0), 2)}


def _stats(url: str) -> dict[str, dict[str, int]]:
    found = {}
    for show in _get(f"{url}/api/shows")["shows"]:
        found[show["name"]] = _get(f"{url}/shows/{show['name']}/stats")
    return found


def _ask(url: str, options: argparse.Namespace) -> dict[str, Any]:
    """Ask the API at a steady rate: the list of shows, and the state of one of them in turn."""
    count = round(options.asks * options.asks_s)
    paths = [f"{url}/api/shows", *(f"{url}/shows/show{number}/api/state" for number in range(options.shows))]
    start_s, failed = time.monotonic() + 0.2, 0
    took_ms: list[float] = []

    def ask(number: int) -> bool:
        time.sleep(max(0.0, start_s + number / options.asks - time.monotonic()))
        began_s = time.monotonic()
        try:
            _get(paths[number % len(paths)])
        except OSError:
            return False
        took_ms.append(1000 * (time.monotonic() - began_s))
        return True

    with ThreadPoolExecutor(32) as pool:
        failed = sum(not good for good in pool.map(ask, range(count)))
    seconds = time.monotonic() - start_s
    return {
        "requests": count,
        "failed": failed,
        "rate": round(count / seconds),
        "answer_ms": {"p50": round(float(np.median(took_ms)), 1), "p99": round(float(np.quantile(took_ms, 0.99)), 1)},
    }


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.loads(answer.read())


def _wait_on_air(director: Any, timeout_s: float) -> float:
    began_s = time.monotonic()
    _wait(lambda: all(show["state"] == "on air" for show in director.shows()), timeout_s, "a show does not start")
    return time.monotonic() - began_s


def _wait(is_done: Callable[[], bool], timeout_s: float, what: str) -> None:
    end_s = time.monotonic() + timeout_s
    while not is_done():
        if time.monotonic() > end_s:
            raise ValueError(f"{what} within {timeout_s:g} s: see the logs of Ray")
        time.sleep(0.1)


def _quantiles(values: Sequence[float]) -> dict[str, float | None]:
    if not values:
        return {"p50": None, "p95": None, "worst": None}
    return {
        "p50": round(float(np.median(values)), 2),
        "p95": round(float(np.quantile(values, 0.95)), 2),
        "worst": round(max(values), 2),
    }
