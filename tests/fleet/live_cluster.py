"""Shows on a real Ray cluster of this machine: one node is killed, one drained. Prints what it saw as JSON.

python -m tests.fleet.live_cluster FOLDER

A process of its own, as Ray reads its environment when it is imported and keeps what it was told.
"""

from __future__ import annotations

import faulthandler
import io
import json
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.scenarios.counter_bundle import number_in, write_counter
from benchmarks.scenarios.fleet import TestCluster
from tests.fleet.waiting import wait_until

FPS = 10
NEAR = FPS  # frames by which a frame of /frame.jpg may be behind the clock
WAIT_S = 60.0
LIMIT_S = 200.0  # after which this process says where it is and ends
PAIR = ("one", "two")


def main(folder: Path) -> dict[str, Any]:
    """Run, and return what was seen."""
    with TestCluster(3, 2) as cluster:
        from fleet.config import FleetConfig, to_show
        from fleet.director import Director
        from fleet.server import FleetServer

        common = {"to": "null", "cpus": 0.5, "engine": "onnxruntime", "no_mark": True}
        bundle = str(write_counter(folder / "counter", FPS))
        tables = {
            "one": {"bundle": bundle, **common},
            "two": {"bundle": bundle, **common},
            "greedy": {"bundle": bundle, **common, "gpus": 3},
            "lost": {**common, "bundle": str(folder / "nowhere")},
        }
        shows = {name: to_show(name, table, {}) for name, table in tables.items()}
        config = FleetConfig(shows, {}, {}, "http://127.0.0.1:0", state_every_s=0.5)
        told: list[str] = []
        with Director(config, told.append) as director, FleetServer(config.page) as web:
            web.start(director)
            fleet = _Fleet(director, web.url)
            fleet.wait_on_air("both shows on air")
            wait_until(lambda: fleet.show("greedy")["error"] and fleet.show("lost")["error"], "errors", WAIT_S)
            seen: dict[str, Any] = {"errors": {name: fleet.show(name)["error"] for name in ("greedy", "lost")}}
            wait_until(lambda: min(map(fleet.number, PAIR)) > 5 * NEAR, "frames", WAIT_S)
            offsets = {name: fleet.offset(name) for name in PAIR}

            node = fleet.show("one")["node"]
            hit = [name for name in PAIR if fleet.show(name)["node"] == node]
            cluster.kill(next(worker for worker in cluster.workers if worker.node_id == node))
            fleet.wait_on_air("both shows on air again", elsewhere_than=node)
            fleet.wait_in_place(offsets, "frames in place after the kill")
            seen["killed"] = {"hit": hit, "starts": [fleet.show(name)["starts"] for name in PAIR]}

            cluster.add()
            old = fleet.show("one")["node"]
            wait_until(lambda: sum(node["is_alive"] for node in fleet.nodes()) == 3, "the new node", WAIT_S)
            fleet.ask("POST", f"/api/nodes/{old}/drain")
            fleet.wait_on_air("both shows on the other node", elsewhere_than=old)
            fleet.wait_in_place(offsets, "frames in place after the drain")
            seen["drained"] = [node["name"] == old for node in fleet.nodes() if node["is_draining"]]

            before = fleet.ask("POST", "/api/shows/lost/move")
            removed = [fleet.ask("DELETE", f"/api/shows/{name}") for name in ("lost", "greedy", "lost")]
            seen["removed"] = [before, *removed]
            seen["left"] = sorted(show["name"] for show in fleet.shows())
        seen["told"] = told
    return seen


class _Fleet:
    """A fleet, seen through its API.

    Args:
        director: of it.
        url: of its page.
    """

    def __init__(self, director: Any, url: str) -> None:
        self._director, self._url = director, url

    def shows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self._get("/api/shows"))["shows"]
        return found

    def show(self, name: str) -> dict[str, Any]:
        return next(show for show in self.shows() if show["name"] == name)

    def nodes(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self._get("/api/shows"))["nodes"]
        return found

    def number(self, name: str) -> int:
        """Return the number of the frame on air; -1 if there is none."""
        try:
            picture = Image.open(io.BytesIO(self._get(f"/shows/{name}/frame.jpg"))).convert("L")
        except OSError:  # an HTTP error is one too
            return -1
        return number_in(np.asarray(picture))

    def offset(self, name: str) -> float:
        """Return how far the frame on air is ahead of the clock, in frames."""
        return self.number(name) - FPS * time.time()

    def wait_on_air(self, what: str, elsewhere_than: str = "") -> None:
        def is_there() -> bool:
            shows = [self.show(name) for name in PAIR]
            return all(show["state"] == "on air" and show["node"] != elsewhere_than for show in shows)

        wait_until(is_there, what, WAIT_S)

    def wait_in_place(self, offsets: dict[str, float], what: str) -> None:
        """Wait until the frames are those that the clock asks for; those of a show that began anew never are."""
        for name in PAIR:
            wait_until(lambda name=name: abs(self.offset(name) - offsets[name]) <= NEAR, what, WAIT_S)  # type: ignore[misc]

    def ask(self, method: str, path: str) -> list[Any]:
        """Return the status and the content of an answer."""
        try:
            with urllib.request.urlopen(urllib.request.Request(self._url + path, method=method), timeout=WAIT_S) as got:
                return [got.status, json.loads(got.read())]
        except urllib.error.HTTPError as error:
            with error:
                return [error.code, json.loads(error.read())]

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(self._url + path, timeout=WAIT_S) as answer:
            content: bytes = answer.read()
            return content


if __name__ == "__main__":
    faulthandler.dump_traceback_later(LIMIT_S, exit=True)
    print(json.dumps(main(Path(sys.argv[1]))), flush=True)
