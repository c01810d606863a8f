"""The progress of a build in TensorRT and TensorRT-RTX, and how Ctrl-C stops one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Report = Callable[[float, str], None]


def new_monitor(module: Any, stopped: threading.Event, report: Report | None) -> Any:
    """Return a monitor (a module's `IProgressMonitor`) that reports what is done, and stops the build when it is to."""

    class Monitor(module.IProgressMonitor):  # type: ignore[misc]  # the module is chosen at run time
        """Counts phases within phases; returns False, which stops the build, when it is to stop."""

        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)
            self.counter = PhaseCounter()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._tell(self.counter.start(phase_name, parent_phase, num_steps), phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._tell(self.counter.step(phase_name, step), phase_name)
            return not stopped.is_set()

        def phase_finish(self, phase_name: str) -> None:
            self.counter.finish(phase_name)

        def _tell(self, done: float, phase: str) -> None:
            if report is not None and not stopped.is_set():
                report(done, phase)

    return Monitor()


class PhaseCounter:
    """The share of a build that is done, from phases within phases; several threads may count at once."""

    def __init__(self) -> None:
        self._phases: dict[str, list[Any]] = {}  # name -> [parent, steps, steps done]
        self._done = 0.0
        self._lock = threading.Lock()

    def start(self, name: str, parent: str | None, steps: int) -> float:
        """Begin a phase and return the share of the whole that is done, 0 to 1, which never falls."""
        with self._lock:
            self._phases[name] = [parent, max(1, steps), 0]
            return self._total(name)

    def step(self, name: str, step: int) -> float:
        """Note that the step of this number, from 0, is done, and return the share of the whole."""
        with self._lock:
            if name in self._phases:
                self._phases[name][2] = min(step + 1, self._phases[name][1])
            return self._total(name)

    def finish(self, name: str) -> None:
        """Forget a phase: its parent counts it as a step."""
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
    """Turn Ctrl-C into an event while a build runs, and into KeyboardInterrupt after it: none may cross the builder."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped  # signals reach the main thread alone
        return
    before = signal.signal(signal.SIGINT, lambda *_: stopped.set())
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)
    if stopped.is_set():
        raise KeyboardInterrupt
