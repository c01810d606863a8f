"""One thread beside the show: it does one job after another, and gives way to the threads that make frames."""

from __future__ import annotations

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
_CLOSED = "this generator is closed"


class Background(Generic[Result]):
    """A thread of low priority, started with the first job.

    It is a daemon: a job that hangs in a driver must not keep the process alive.
    """

    def __init__(self) -> None:
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
                self._thread = threading.Thread(target=self._run, name="everframe-background", daemon=True)
                self._thread.start()
            self._jobs.put((job, future))
        return future

    def close(self) -> None:
        """Finish the job that is being done and end the thread; the jobs that wait fail with a ValueError."""
        with self._lock:
            self._is_closed = True
            with contextlib.suppress(queue.Empty):
                while True:
                    item = self._jobs.get_nowait()
                    if item is not None and item[1].set_running_or_notify_cancel():
                        item[1].set_exception(ValueError(_CLOSED))
            self._jobs.put(None)
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        if sys.platform == "linux":  # the only system where priority belongs to a thread
            with contextlib.suppress(OSError):  # a courtesy: some containers forbid it
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        while (item := self._jobs.get()) is not None:
            job, future = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(job())
            except BaseException as error:  # noqa: BLE001 - whatever it is, the one who waits must see it
                future.set_exception(error)
