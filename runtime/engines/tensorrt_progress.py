"""Progress of a build in TensorRT and TensorRT-RTX, and Ctrl-C during one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Report = Callable[[float, str], None]


def new_monitor(module: Any, stopped: threading.Event, report: Report | None) -> Any:
    """Return an `IProgressMonitor` that reports the progress, and stops the build if `stopped` is set."""

    class Monitor(module.IProgressMonitor):  # type: ignore[misc]  # the module is chosen at run time
        """Counts nested phases; `step_complete` returns False to stop the build."""

        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)
            self.counter = PhaseCounter()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._report(self.counter.start(phase_name, parent_phase, num_steps), phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._report(self.counter.step(phase_name, step), phase_name)
            return not stopped.is_set()

        def phase_finish(self, phase_name: str) -> None:
            self.counter.finish(phase_name)

        def _report(self, done: float, phase: str) -> None:
            if report is not None and not stopped.is_set():
                report(done, phase)

    return Monitor()


class PhaseCounter:
    """The progress of a build, computed from nested phases; thread-safe."""

    def __init__(self) -> None:
        self._phases: dict[str, list[Any]] = {}  # name -> [parent, steps, steps done]
        self._done = 0.0
        self._lock = threading.Lock()

    def start(self, name: str, parent: str | None, steps: int) -> float:
        """Begin a phase and return the progress of the whole build, 0 to 1, which never decreases."""
        with self._lock:
            self._phases[name] = [parent, max(1, steps), 0]
            return self._total(name)

    def step(self, name: str, step: int) -> float:
        """Record that step number `step`, from 0, is done, and return the progress of the whole build."""
        with self._lock:
            if name in self._phases:
                self._phases[name][2] = min(step + 1, self._phases[name][1])
            return self._total(name)

    def finish(self, name: str) -> None:
        """Remove a phase; its parent counts it as a step."""
        with self._lock:
            self._phases.pop(name, None)

    def _total(self, name: str | None) -> float:
        share = 0.0
        for _ in range(len(self._phases)):
            if name is None or name not in self._phases:
                break
            parent, steps, done = self._phases[name]
            share = min(1.0, (done + share) / steps)
            name = parent
        self._done = max(self._done, share)
        return self._done


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Set an event on Ctrl-C during a build and raise KeyboardInterrupt afterwards, never inside the builder."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped  # only the main thread receives signals
        return
    before = signal.signal(signal.SIGINT, lambda *_: stopped.set())
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)
    if stopped.is_set():
        raise KeyboardInterrupt
