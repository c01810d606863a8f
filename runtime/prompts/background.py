"""A background thread of low priority, which runs one job after the other."""

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
_EXIT_TIMEOUT_S = 30.0
_CLOSED = "this generator is closed"


class BackgroundThread(Generic[Result]):
    """A thread of low priority, started with the first job.

    It is a daemon thread, because a job that hangs in a driver must not keep the process alive. If `close` timed out,
    the end of the process waits up to 30 s for the job: before Python 3.14, a thread that returns from an engine while
    the interpreter shuts down aborts the process.

    Args:
        only_idle: whether it runs only while CPU cores are idle. It then never delays a frame, but a job may take
            minutes on a machine where other programs use all cores.
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
            The job's future; a job that has not started can be cancelled.

        Raises:
            ValueError: the thread is closed.
        """
        future: Future[Result] = Future()
        with self._lock:
            if self._is_closed:
                raise ValueError(_CLOSED)
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="everframe-background", daemon=True)
                thread.start()  # raises if the system is out of threads
                self._thread = thread
            self._jobs.put((job, future))
        return future

    def close(self, timeout_s: float | None = None) -> bool:
        """Finish the current job and end the thread; waiting jobs fail with a ValueError.

        Args:
            timeout_s: how long to wait for the current job; None for no limit.

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
            atexit.register(self._thread.join, _EXIT_TIMEOUT_S)
        return not self._thread.is_alive()

    def _run(self) -> None:
        if sys.platform == "linux":  # the only system with a priority per thread
            thread = threading.get_native_id()
            with contextlib.suppress(OSError):  # some containers forbid it
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
            except BaseException as error:  # noqa: BLE001 - the caller gets it from the future
                future.set_exception(error)
