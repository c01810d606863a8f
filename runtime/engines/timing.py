"""Which engine is the fastest for a bundle on this machine: measured once, and kept in the cache.

The order of engines in the table is that of our bundles on our machines. It is wrong for some imported models, e.g.
those in int8 on a CPU without the instructions for it.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import runtime
from runtime.engines.cache import EngineCache
from runtime.engines.cpu import read_cpu
from runtime.engines.engine import Session
from runtime.errors import EngineError

QUICK_MS = 5.0  # no engine has to be faster than this
_MARGIN = 1.1  # an engine has to be so many times as fast as the first of the table to be taken instead
_MOST_RUNS = 8
_LIMIT_S = 2.0  # for each engine, opening not included
_SHORT_LIMIT_S = 1.0  # for all other engines, opening included
_PACKAGES = ("openvino", "onnxruntime", "onnxruntime-gpu")


@dataclass(frozen=True)
class Candidate:
    """An engine and precision that may be faster than the first one.

    Args:
        label: e.g. "onnxruntime fp32".
        open: opens a session of the step graph; raises EngineError if the engine refuses it.
        is_same_engine: whether it is another precision of the first one's engine.
    """

    label: str
    open: Callable[[], Session]
    is_same_engine: bool


class SpeedRecord:
    """Milliseconds per frame of the engines for one graph on this machine, in a file of the cache.

    The key has the CPU's name, the number of threads, the versions of the engines, and what is compared: a time says
    nothing where others are missing. Delete the file to measure again.

    Args:
        folder: of the cache; None for no record.
        graph: names the graphs and the frame's size.
        threads: CPU threads per frame.
        labels: the engines and precisions that are compared, e.g. ["openvino bf16", "onnxruntime fp32"].
    """

    def __init__(self, folder: Path | None, graph: str, threads: int, labels: Sequence[str]) -> None:
        versions = [f"{name} {_version(name)}" for name in _PACKAGES]
        parts = [read_cpu().model, str(threads), *versions, runtime.__version__, *labels]
        self._entry = EngineCache(folder, graph.encode(), "speeds", parts)

    def load(self) -> dict[str, float] | None:
        """Return milliseconds by engine and precision; empty if it was begun and not ended, None without one."""
        content = self._entry.load()
        if content is None:
            return None
        with suppress(ValueError):
            found = json.loads(content)
            if isinstance(found, dict):
                return {str(label): ms for label, value in found.items() if (ms := to_ms(value)) is not None}
        return {}

    def begin(self) -> bool:
        """Note that a measurement begins, and return whether it can be kept: else it would be made at every start.

        An engine that ends the process while it is measured is so measured only once.
        """
        self._entry.store(b"{}")
        return self._entry.load() is not None

    def store(self, times: dict[str, float]) -> None:
        """Keep what was measured."""
        self._entry.store(json.dumps(times).encode())

    def discard(self) -> None:
        """Forget a measurement that was begun, so that it is made at the next start."""
        self._entry.discard()


def compare_speeds(
    label: str,
    session: Session,
    others: Sequence[Candidate],
    *,
    open_s: float,
    is_short: bool,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Measure engines that run the same graph, on inputs of zeros; the first one's states are zeros afterwards.

    Args:
        label: of the first engine, e.g. "openvino bf16".
        session: of the first engine, which nothing was written to.
        others: the other engines.
        open_s: seconds that opening the first one took.
        is_short: whether the other engines get one second in all. Precisions that would take longer to compile than
            what is left of it, as far as the first one shows, are then left out.
        clock: seconds.

    Returns:
        Milliseconds of the fastest run by label, of those that were measured. The first one is alone if it takes less
        than `QUICK_MS`.
    """
    times = {label: run_ms(session, math.inf, _LIMIT_S, clock)}
    session.reset()
    if times[label] < QUICK_MS:
        return times
    start = clock()
    for other in sorted(others, key=lambda item: item.is_same_engine):
        left_s = _SHORT_LIMIT_S - (clock() - start) if is_short else _LIMIT_S
        if left_s <= 0 or (is_short and other.is_same_engine and open_s > left_s):
            continue
        with suppress(EngineError):
            opened = other.open()
            try:
                times[other.label] = run_ms(opened, min(times.values()), left_s, clock)
            finally:
                opened.close()
    return times


def run_ms(session: Session, best_ms: float, limit_s: float, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the milliseconds of a session's fastest run, of up to eight.

    Args:
        session: of the step graph.
        best_ms: stop when the fastest run takes more than twice as long, or the first one, which is slower, four times.
        limit_s: begin no run after so many seconds, but for the first one.
        clock: seconds.
    """
    start = clock()
    found: list[float] = []
    while not found or (
        len(found) < _MOST_RUNS and clock() - start < limit_s and min(found) <= (4 if len(found) == 1 else 2) * best_ms
    ):
        begin = clock()
        session.run()
        found.append(1000 * (clock() - begin))
    return min(found)


def fastest(times: dict[str, float]) -> str | None:
    """Return the label of the fastest engine; the first one unless another is clearly faster. None for no times."""
    if not times:
        return None
    first, best = next(iter(times)), min(times, key=times.__getitem__)
    return best if times[best] * _MARGIN < times[first] else first


def describe_speeds(times: dict[str, float]) -> str:
    """Return e.g. "openvino bf16: 21 ms, onnxruntime fp32: 44 ms; measured once on this machine"."""
    listed = ", ".join(f"{label}: {ms:.3g} ms" for label, ms in sorted(times.items(), key=lambda item: item[1]))
    return f"{listed}; measured once on this machine"


def to_ms(value: object) -> float | None:
    """Return a time in milliseconds that a file holds; None unless it is a finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        ms = float(value)
    except OverflowError:
        return None
    return ms if math.isfinite(ms) and ms > 0 else None


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"
