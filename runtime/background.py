"""One thread beside the show: it does one job after another, and gives way to the threads that make frames."""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

Result = TypeVar("Result")
_NICENESS = 10


class Background(Generic[Result]):
    """A thread of low priority, started with the first job.

    It is a daemon: a job that hangs in a driver must not keep the process alive.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Result], Future[Result]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def submit(self, job: Callable[[], Result]) -> Future[Result]:
        """Queue a job; may be called from any thread.

        Args:
            job: called in the background.

        Returns:
            What gives the job's result, or raises its error.
        """
        future: Future[Result] = Future()
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="everframe-background", daemon=True)
                self._thread.start()
        self._jobs.put((job, future))
        return future

    def close(self) -> None:
        """Finish the job that is being done, cancel the others, and end the thread."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is None:
            return
        waiting = []
        while not self._jobs.empty():
            waiting.append(self._jobs.get())
        self._jobs.put(None)
        for item in waiting:
            if item is not None:
                item[1].cancel()
        thread.join()

    def _run(self) -> None:
        if sys.platform == "linux":  # the only system where priority belongs to a thread
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        while (item := self._jobs.get()) is not None:
            job, future = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(job())
            except BaseException as error:  # noqa: BLE001 - whatever it is, the one who waits must see it
                future.set_exception(error)
