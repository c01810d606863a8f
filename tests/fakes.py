"""Stand-ins for what tests must not wait for: a clock, an engine, a sink."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from runtime.bundle.manifest import Manifest
from runtime.engines.engine import Array, BufferedSession, Program
from runtime.engines.opening import OpenedEngine
from runtime.engines.table import EngineChoice
from runtime.generator import Generator
from streaming.sinks.sink import Frame, Sink, StreamFormat

Compute = Callable[[Program, dict[str, Array], int], dict[str, Array]]


class FakeClock:
    """A monotonic clock that only moves when told to, or when somebody sleeps on it.

    Args:
        start_s: what it shows first.
    """

    def __init__(self, start_s: float = 1000.0) -> None:
        self.time_s = start_s
        self.sleeps: list[float] = []  # deadlines that were slept for, passed ones too

    def now(self) -> float:
        """Return the time in seconds."""
        return self.time_s

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.time_s += seconds

    def sleep_until(self, deadline_s: float) -> None:
        """Jump to a deadline; stay where it has passed."""
        self.sleeps.append(deadline_s)
        self.time_s = max(self.time_s, deadline_s)


class FakeSession(BufferedSession):
    """A session that computes in Python and remembers what it was given; see `runtime.engines.engine.Session`.

    Args:
        program: gives the tensors.
        compute: (program, inputs by name, number of the run from 0) -> outputs by name; others stay as they are.
    """

    def __init__(self, program: Program, compute: Compute) -> None:
        super().__init__(program)
        self.writes: list[tuple[int, str, Array]] = []  # (runs before, name, value)
        self.num_runs = 0
        self.is_closed = False
        self._program = program
        self._compute = compute

    def write(self, name: str, value: Array) -> None:
        """Copy a value in, and remember it."""
        super().write(name, value)
        self.writes.append((self.num_runs, name, value.copy()))

    def written(self, name: str) -> list[tuple[int, Array]]:
        """Return (number of the run that it was written for, value) for one input."""
        return [(run, value) for run, written, value in self.writes if written == name]

    def run(self) -> None:
        """Compute once and swap the states."""
        inputs, outputs = self.turns[self.turn]
        for name, value in self._compute(self._program, inputs, self.num_runs).items():
            np.copyto(outputs[name], value)
        self.num_runs += 1
        self.swap()

    def close(self) -> None:
        """Remember that it was closed."""
        self.is_closed = True


def count_frames(program: Program, inputs: dict[str, Array], run: int) -> dict[str, Array]:
    """Compute frames of one grey, the run's number modulo 256, and leave everything else as it is."""
    frames = [item for item in program.outputs if item.role == "frame"]
    return {item.name: np.full(item.shape, run % 256, np.uint8) for item in frames}


class FakeEngine:
    """An engine of fake sessions; see `runtime.engines.engine.Engine`.

    Args:
        compute: what its sessions compute.
    """

    name = "fake"

    def __init__(self, compute: Compute = count_frames) -> None:
        self.sessions: list[FakeSession] = []
        self.threads: list[int] = []
        self._compute = compute

    def available(self) -> str | None:
        """It always is."""
        return None

    def precisions(self) -> Sequence[str]:
        """Return ("fp32",)."""
        return ("fp32",)

    def open(self, program: Program, precision: str, threads: int, cache_dir: Path | None) -> FakeSession:
        """Return a fake session."""
        session = FakeSession(program, self._compute)
        self.sessions.append(session)
        self.threads.append(threads)
        return session


def fake_generator(manifest: Manifest, compute: Compute = count_frames, **options: Any) -> tuple[Generator, FakeEngine]:
    """Return a generator of fake sessions, and their engine (sessions: step, condition, and what `skip` opens).

    Args:
        manifest: any; its graphs' files are not read.
        compute: what the sessions compute.
        options: `pixels`, `seed`, `renewal`, `open_text_encoder` of `Generator`.
    """
    engine = FakeEngine(compute)
    pixels = options.get("pixels", "rgb")
    outputs = tuple(item for item in manifest.step.outputs if item.role == "state" or item.pixels == pixels)
    pairs = tuple((item.name, item.next) for item in manifest.step.inputs_of("state"))
    step = engine.open(Program(b"", manifest.step.inputs, outputs, pairs), "fp32", 1, None)
    condition = None
    if manifest.condition is not None:
        condition = engine.open(Program(b"", manifest.condition.inputs, manifest.condition.outputs), "fp32", 1, None)
    states = tuple(manifest.step.outputs_of("state"))
    frameless = Program(b"", manifest.step.inputs, states, pairs)
    open_without_frames = options.pop("open_without_frames", lambda: engine.open(frameless, "fp32", 1, None))
    choice = EngineChoice(engine, "fp32", "a fake")
    opened = OpenedEngine(choice, step, condition, open_without_frames, options.pop("open_spare", None))
    return Generator(manifest, opened, **options), engine


class RecordingSink(Sink):
    """A sink that keeps every frame it is given.

    Args:
        spec: its name.
        hold: if given, each write waits for it: a slow sink whose speed the test decides.
        error: raised by every write from number `fail_at` on.
        fail_at: see `error`.
    """

    def __init__(
        self,
        spec: str = "recording",
        *,
        hold: threading.Semaphore | None = None,
        error: Exception | None = None,
        fail_at: int = 0,
    ) -> None:
        self.name = spec
        self.feed: StreamFormat | None = None
        self.frames: list[Array] = []
        self.slots: list[int] = []
        self.is_started = False
        self.kept: bool | None = None  # what `close` was told, None while it is open
        self._hold = hold
        self._error = error
        self._fail_at = fail_at
        self._num_writes = 0

    def open(self, feed: StreamFormat) -> None:
        """Remember the feed."""
        self.feed = feed

    def start(self) -> None:
        """Remember that it was started."""
        self.is_started = True

    def write(self, frame: Frame) -> bool:
        """Copy a frame and its slot, or fail as told."""
        if self._hold is not None:
            self._hold.acquire()
        number, self._num_writes = self._num_writes, self._num_writes + 1
        if self._error is not None and number >= self._fail_at:
            raise self._error
        self.frames.append(frame.picture.copy())
        self.slots.append(frame.slot)
        return True

    def close(self, *, keep: bool) -> None:
        """Remember how it was closed."""
        self.kept = keep
