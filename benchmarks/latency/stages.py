"""The stages of a frame, in the terms of trtexec: a session that measures how long its calls take."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from runtime.bundle.manifest import Manifest
from runtime.bundle.reader import open_bundle
from runtime.engines.engine import Array, Session
from runtime.engines.opening import OpenedEngine, open_condition, open_sessions
from runtime.engines.table import choose_engine, failed_pairs
from runtime.generator import Generator
from runtime.pixels.assemble import with_size
from runtime.prompts.prompt_text import prepare_encoder

T = TypeVar("T")
STAGES = ("host to device", "compute", "device to host")  # an engine on a GPU only enqueues in "compute"


class TimedSession:
    """A session that adds up the nanoseconds that its calls take; see `runtime.engines.engine.Session`.

    Args:
        session: the one that does the work; owned from now on.
        clock_ns: monotonic clock in nanoseconds.
    """

    def __init__(self, session: Session, clock_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        self._session = session
        self._clock_ns = clock_ns
        self._spent_ns = [0, 0, 0]

    def take_ms(self) -> tuple[float, float, float]:
        """Return the milliseconds spent on writing, running and reading since the last call."""
        spent, self._spent_ns = self._spent_ns, [0, 0, 0]
        return spent[0] / 1e6, spent[1] / 1e6, spent[2] / 1e6

    def write(self, name: str, value: Array) -> None:
        """Write an input."""
        self._time(0, lambda: self._session.write(name, value))

    def run(self) -> None:
        """Evaluate the graph."""
        self._time(1, self._session.run)

    def read(self, name: str) -> Array:
        """Read an output."""
        return self._time(2, lambda: self._session.read(name))

    def _time(self, stage: int, call: Callable[[], T]) -> T:
        start = self._clock_ns()
        value = call()
        self._spent_ns[stage] += self._clock_ns() - start
        return value

    def reset(self) -> None:
        """Set the states to zeros."""
        self._session.reset()

    def close(self) -> None:
        """Close the session."""
        self._session.close()


def open_timed(
    path: str | Path,
    *,
    engine: str,
    precision: str,
    pixels: str,
    threads: int | None,
    size: tuple[int, int] | None = None,
    wrap: Callable[[Session, Manifest], TimedSession] = lambda session, _: TimedSession(session),
) -> tuple[Generator, TimedSession]:
    """Open a bundle as `Generator.open` does, with a step session that measures its calls.

    Args: as of `Generator.open`; `wrap` makes that session from the engine's.
    """
    bundle = with_size(open_bundle(path), size, pixels)
    choice = choose_engine(engine, precision, failed_pairs(bundle.manifest.verified))
    step, condition = open_sessions(
        bundle, choice.engine, choice.precision, pixels=pixels, threads=threads, cache_dir=None
    )
    timed = wrap(step, bundle.manifest)

    def open_spare() -> Session:
        return open_condition(bundle, choice.engine, choice.precision, threads=threads, cache_dir=None)

    generator = Generator(
        bundle.manifest,
        OpenedEngine(choice, timed, condition, open_spare=open_spare),
        pixels=pixels,
        open_text_encoder=prepare_encoder(bundle.path, bundle.manifest),
        folder=bundle.path,
    )
    return generator, timed
