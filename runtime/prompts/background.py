"""One thread beside the show: it does one job after another, and gives way to the threads that make frames."""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

Result = TypeVar("Result")
_NICENESS = 10
_IDLE_NICENESS = 19
_LAST_PATIENCE_S = 30.0
_CLOSED = "this generator is closed"


class BackgroundThread(Generic[Result]):
    """A thread of low priority, started with the first job.

    It is a daemon: a job that hangs in a driver must not keep the process alive. A job that `close` has left at work is
    waited for at the end of the process, for up to 30 s: before Python 3.14 a thread that returns from an engine while
    the interpreter is finalised aborts the process.

    Args:
        only_idle: whether it has the cores only while nobody else wants them. A show then does not feel it at all, but
            on a machine where another program takes every core, a job may last for minutes.
    """

    def __init__(self, *, only_idle: bool = False) -> None:
        self._only_idle = only_idle
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Result], Future[Result]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._is_closed = False

    def submit(self, job: Callable[[], Result]) -> Future[Result]:
        """Queue a job; may be called from any thread.

        Args:
            job: called in the background.

        Returns:
            What gives the job's result, or raises its error; a job that has not begun can be cancelled.

        Raises:
            ValueError: it is closed.
        """
        future: Future[Result] = Future()
        with self._lock:
            if self._is_closed:
                raise ValueError(_CLOSED)
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="everframe-background", daemon=True)
                thread.start()  # may fail: the system can be out of threads
                self._thread = thread
            self._jobs.put((job, future))
        return future

    def close(self, timeout_s: float | None = None) -> bool:
        """Finish the job that is being done and end the thread; the jobs that wait fail with a ValueError.

        Args:
            timeout_s: how long to wait for the job that is being done; None for as long as it takes.

        Returns:
            Whether the thread has ended.
        """
        with self._lock:
            self._is_closed = True
            with contextlib.suppress(queue.Empty):
                while True:
                    item = self._jobs.get_nowait()
                    if item is not None and item[1].set_running_or_notify_cancel():
                        item[1].set_exception(ValueError(_CLOSED))
            self._jobs.put(None)
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            atexit.register(self._thread.join, _LAST_PATIENCE_S)
        return not self._thread.is_alive()

    def _run(self) -> None:
        if sys.platform == "linux":  # the only system where priority belongs to a thread
            thread = threading.get_native_id()
            with contextlib.suppress(OSError):  # a courtesy: some containers forbid it
                niceness = _IDLE_NICENESS if self._only_idle else _NICENESS
                os.setpriority(os.PRIO_PROCESS, thread, max(niceness, os.getpriority(os.PRIO_PROCESS, thread)))
                if self._only_idle:
                    os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))
        while (item := self._jobs.get()) is not None:
            job, future = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(job())
            except BaseException as error:  # noqa: BLE001 - whatever it is, the one who waits must see it
                future.set_exception(error)
