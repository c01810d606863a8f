"""A real show, `python -m streaming`, with its page, its /stats, its memory, and readers at the far ends."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av

from benchmarks.live.receiver import jpegs
from benchmarks.live.rtmp_server import free_port
from benchmarks.machine import tree_mb

START_S = 60.0
PATIENCE_S = 20.0  # for whatever reads a stream
STATS = ("frames", "late", "dropped", "filled", "p50_ms", "p99_ms", "worst_ms", "sinks")

Sample = dict[str, Any]


class ShowProcess:
    """A show in a process of its own, as a user starts it; a context manager that kills it at the end.

    Args:
        bundle: folder of a bundle.
        sinks: where it goes, besides its page.
        fps: frames per second.
        seconds: its length; None for no end.
        options: more arguments of the command line.

    Attributes:
        page: the address of its page.
    """

    def __init__(
        self,
        bundle: str,
        sinks: Sequence[str],
        *,
        fps: int,
        seconds: int | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self.page = f"http://127.0.0.1:{free_port()}"
        words = [word for sink in (*sinks, self.page) for word in ("--to", sink)]
        words += ["--fps", str(fps), *options, *([] if seconds is None else ["--seconds", str(seconds)])]
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the show
        command = [sys.executable, "-m", "streaming", bundle, *words]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self._log)

    def wait_begun(self) -> Sample:
        """Wait until the show has begun, and return the first sample.

        Raises:
            ValueError: the show has ended or did not begin.
        """
        deadline_s = time.monotonic() + START_S
        while time.monotonic() < deadline_s:
            if not self.is_running():
                self._log.seek(0)
                raise ValueError(f"the show has ended at once: {self._log.read().strip().splitlines()[-1:]}")
            with contextlib.suppress(OSError):  # the page does not answer yet
                if (sample := self.sample())["sinks"]:
                    return sample
            time.sleep(0.1)
        raise ValueError(f"the show has not begun after {START_S:g} s")

    def wait_up(self, is_up: bool = True) -> float:
        """Wait until its RTMP stream is up, or down; return the seconds it took. /stats is up to 0.25 s old.

        Raises:
            ValueError: it did not happen.
        """
        started_s = time.monotonic()
        while time.monotonic() < started_s + PATIENCE_S:
            stream = next(sink for sink in self.ask("/stats")["sinks"] if sink["name"].startswith("rtmp"))
            if stream["is_up"] == is_up:
                return time.monotonic() - started_s
            time.sleep(0.05)
        raise ValueError(f"the stream is not {'up' if is_up else 'down'} after {PATIENCE_S:g} s: {stream['state']}")

    def is_running(self) -> bool:
        """Return whether the process runs."""
        return self._process.poll() is None

    def ask(self, path: str, method: str = "GET", body: dict[str, Any] | None = None) -> Any:
        """Send a request to the page and return its JSON; OSError if it fails."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.page + path, data, {"content-type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def sample(self) -> Sample:
        """Return `STATS` with `at_s`, `answer_ms`, `resident_mb` of all processes and `descriptors` of the main one.

        Raises:
            OSError: the page does not answer.
        """
        begun_s = time.monotonic()
        stats = self.ask("/stats")
        folder = Path(f"/proc/{self._process.pid}/fd")
        return {
            "at_s": stats["seconds"],
            "answer_ms": 1000 * (time.monotonic() - begun_s),
            "resident_mb": tree_mb(self._process.pid),
            "descriptors": len(list(folder.iterdir())) if folder.exists() else 0,
            **{key: stats[key] for key in STATS},
        }

    def wait(self) -> None:
        """Wait for its regular end."""
        self._process.wait(30.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


def difference(first: Sample, last: Sample) -> dict[str, Any]:
    """Return what happened between two samples: frames, late, dropped, filled, and `lost`: sink -> dropped frames."""
    pairs = zip(first["sinks"], last["sinks"], strict=True)
    return {
        **{key: last[key] - first[key] for key in ("frames", "late", "dropped", "filled")},
        "lost": {sink["name"]: sink["dropped"] - before["dropped"] for before, sink in pairs},
    }


# Readers.


def media_ends(url: str) -> dict[str, Any]:
    """Read a stream or a file to its end: {"video": {"packets", "start_s", "end_s"}, "audio": ...}."""
    found: dict[str, Any] = {}
    options = {"rw_timeout": "20000000"} if "://" in url else {}
    try:
        with av.open(url, options=options, timeout=(PATIENCE_S, PATIENCE_S)) as container:
            for packet in container.demux():
                if packet.pts is None or packet.stream.type not in ("video", "audio"):
                    continue
                time_base = float(packet.time_base)
                begin_s = packet.pts * time_base
                entry = found.setdefault(packet.stream.type, {"packets": 0, "start_s": begin_s, "end_s": 0.0})
                entry["packets"] += 1
                entry["end_s"] = max(entry["end_s"], begin_s + (packet.duration or 0) * time_base)
    except (av.FFmpegError, OSError) as error:
        print(f"{url} ended by {error}", file=sys.stderr)
    return found


def can_decode(url: str) -> bool:
    """Return whether a new reader of a live stream gets a picture."""
    deadline_s = time.monotonic() + PATIENCE_S
    options = {"analyzeduration": "500000", **({"rtmp_live": "live"} if "://" in url else {})}
    while time.monotonic() < deadline_s:
        try:
            with av.open(url, options=options, timeout=(PATIENCE_S, 10.0)) as container:
                if container.streams.video:  # before the first key frame there is only sound
                    return next(container.decode(video=0), None) is not None
        except (av.FFmpegError, OSError):
            return False
    return False


@contextmanager
def reading(url: str, page: str) -> Iterator[dict[str, Any]]:
    """Read a live stream and watch a page beside the body; fill in `media_ends` and `page_pictures` at their end."""
    found: dict[str, Any] = {"page_pictures": 0}

    def watch() -> None:
        with urllib.request.urlopen(f"{page}/stream.mjpeg", timeout=START_S) as answer:
            for _ in jpegs(answer):
                found["page_pictures"] += 1

    def start(work: Callable[[], object]) -> threading.Thread:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread

    readers = [start(lambda: found.update(media_ends(url))), start(watch)]
    yield found
    for reader in readers:
        reader.join(30.0)
