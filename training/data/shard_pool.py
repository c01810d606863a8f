"""Videos are decoded by processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import av
import cv2

from training.data.takes import ShardSettings
from training.data.video_spool import CRASHED, Job, spool_source
from training.workers import end_with_parent


def default_workers() -> int:
    """Return the default number of decoding processes: one per core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start_worker() -> None:
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    quieten()


def quieten() -> None:
    """Let OpenCV use one thread and FFmpeg log nothing."""
    cv2.setNumThreads(1)
    av.logging.set_level(av.logging.PANIC)


def decode(jobs: Sequence[Job], settings: ShardSettings, workers: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Spool every video, in any order; a worker that crashes loses only its own video.

    Args:
        jobs: the videos.
        settings: how they are cut.
        workers: processes; 0 decodes in this one.

    Yields:
        A job's number and the metadata of its spool, see `spool_source`.

    Raises:
        OSError: a video cannot be fetched, or the disk is full.
    """

    def ask(pool: ProcessPoolExecutor, job: Job) -> Future[dict[str, Any]]:
        return pool.submit(spool_source, job.source, job.spool, settings)

    if workers == 0:
        for job in jobs:
            yield job.number, spool_source(job.source, job.spool, settings)
        return
    context = multiprocessing.get_context("spawn")
    remaining = deque(jobs)
    while remaining:
        pool = ProcessPoolExecutor(min(workers, len(remaining)), context, _start_worker)
        running: dict[Future[dict[str, Any]], Job] = {}
        suspects: list[Job] = []
        try:
            while (remaining or running) and not suspects:
                while remaining and len(running) < 2 * workers:
                    job = remaining.popleft()
                    try:
                        running[ask(pool, job)] = job
                    except BrokenProcessPool:
                        suspects.append(job)
                        break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    job = running.pop(future)
                    try:
                        yield job.number, future.result()
                    except BrokenProcessPool:
                        suspects.append(job)
            suspects += running.values()
        finally:
            _stop(pool)
        # One of these crashed its worker. Retry each alone to find out which.
        for job in sorted(suspects, key=lambda job: job.number):
            pool = ProcessPoolExecutor(1, context, _start_worker)
            try:
                yield job.number, ask(pool, job).result()
            except BrokenProcessPool:
                yield job.number, {"error": CRASHED}
            finally:
                _stop(pool)


def _stop(pool: ProcessPoolExecutor) -> None:
    processes = list((getattr(pool, "_processes", None) or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join()
    pool.shutdown(wait=True)
