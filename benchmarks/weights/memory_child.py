"""One part of the benchmark `weights` in a process of its own: `python -m benchmarks.weights.memory_child JSON`.

Writes one line of JSON: seconds, the peak of the memory of the process, and milliseconds per frame.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

_EVERY_S = 0.01
_STATUS = Path("/proc/self/status")


class MemoryPeak:
    """Notes the peak of this process's memory while it is entered, in MB (10^6 bytes).

    Attributes:
        resident: of all resident memory, with pages of mapped files.
        own: of memory that belongs to no file; the system cannot take it back.
    """

    def __init__(self) -> None:
        self.resident = self.own = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> MemoryPeak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            last = self._ended.wait(_EVERY_S)
            found = dict(line.split(":", 1) for line in _STATUS.read_text(encoding="utf-8").splitlines())
            self.resident = max(self.resident, int(found["VmRSS"].split()[0]) * 1024 / 1e6)
            self.own = max(self.own, int(found["RssAnon"].split()[0]) * 1024 / 1e6)
            if last:
                return


def main() -> None:
    """Run one part, described by the JSON of the first argument."""
    part: dict[str, Any] = json.loads(sys.argv[1])
    with MemoryPeak() as peak:
        start = time.perf_counter()
        found = _import(part) if part["what"] == "import" else _frames(part)
        seconds = time.perf_counter() - start
    found |= {"seconds": round(seconds, 2), "resident_mb": round(peak.resident), "own_mb": round(peak.own)}
    print(json.dumps(found), flush=True)


def _import(part: dict[str, Any]) -> dict[str, Any]:
    from export.from_onnx.importer import ImportOptions, import_model

    report = import_model(Path(part["model"]), Path(part["bundle"]), options=ImportOptions(preview=False))
    checks = {f"{check.engine} {check.precision}": round(check.worst, 1) for check in report.checks}
    return {"parity_db": checks, "refusals": [refusal.to_json() for refusal in report.refusals]}


def _frames(part: dict[str, Any]) -> dict[str, Any]:
    from runtime import Generator

    start = time.perf_counter()
    chosen = {key: part[key] for key in ("engine", "precision", "threads")}
    with Generator.open(part["bundle"], **chosen) as generator:
        opened = time.perf_counter() - start
        picture = np.random.default_rng(1).integers(0, 256, (*part["size"], 3), dtype=np.uint8)
        times = []
        for _ in range(part["frames"]):
            generator.feed_live(picture)
            before = time.perf_counter()
            next(generator)
            times.append(1000 * (time.perf_counter() - before))
    return {"open_s": round(opened, 2), "first_ms": round(times[0], 1), "frame_ms": round(float(np.median(times)), 1)}


if __name__ == "__main__":
    main()
