"""Loads batches ahead of time in a thread or in worker processes; the batches are the same either way."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from training.data.footage import Batch, ClipSampler
from training.workers import end_with_parent

Request = tuple[int, list[int]]  # a step and the offsets of its frames
AHEAD = 2  # steps that are loaded ahead, per worker


class Batches(Iterator[Batch]):
    """The iterator of `load_batches`; `waited` is the time in seconds that the caller spent waiting."""

    def __init__(self, source: Iterator[tuple[Batch, list[str]]], close: Callable[[], None]) -> None:
        self._source, self._close = source, close
        self._reported: set[str] = set()
        self.waited = 0.0

    def __next__(self) -> Batch:
        before = time.perf_counter()
        try:
            batch, problems = next(self._source)
        except BaseException:
            self.close()
            raise
        finally:
            self.waited += time.perf_counter() - before
        for problem in problems:
            if problem not in self._reported:
                self._reported.add(problem)
                print(f"warning: unreadable footage, replaced by another clip: {problem}", flush=True)
        return batch

    def close(self) -> None:
        """Stop loading; workers end."""
        self._source = iter(())
        self._close()
        self._close = _nothing

    def __enter__(self) -> Batches:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _nothing() -> None:
    pass


class _Steps(Dataset[tuple[Batch, list[str]]]):
    """Step -> this rank's rows of the global batch."""

    def __init__(self, sampler: ClipSampler, batch: int, rank: int, world: int) -> None:
        self.sampler, self.batch = sampler, batch
        self.rows = range(rank * batch // world, (rank + 1) * batch // world)

    def __getitem__(self, request: Request) -> tuple[Batch, list[str]]:
        step, offsets = request
        return self.sampler.collate([step * self.batch + row for row in self.rows], offsets)


class _Requests(Sampler[Request]):
    """The requests in order; read in the main process, so that only numbers are sent to the workers."""

    def __init__(self, offsets_at: Callable[[int], Sequence[int]], start: int, stop: int) -> None:
        self.offsets_at, self.steps = offsets_at, range(start, stop)

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Request]:
        return ((step, list(self.offsets_at(step))) for step in self.steps)


def load_batches(
    sampler: ClipSampler,
    offsets_at: Callable[[int], Sequence[int]],
    batch: int,
    start: int,
    stop: int,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
) -> Batches:
    """Load the batches of steps `start` to `stop - 1`, ahead of time.

    The global batch of a step is samples `step * batch` and the `batch - 1` after it. Joined over the ranks, the
    batches are the same for every `world` and every `workers`.

    Args:
        sampler: draws the clips.
        offsets_at: step -> the frames that clips of this step have; called in this process, some steps ahead.
        batch: clips per step, over all ranks.
        start: the first step.
        stop: the last step (exclusive).
        rank: number of this process, from 0 to `world - 1`.
        world: number of processes that share the batch.
        workers: loading processes; 0 loads in a thread of this process.

    Returns:
        An iterator; close it, or use it in a `with` statement, unless it is read to its end.

    Raises:
        ValueError: `batch` is not a multiple of `world`, or `rank` or `workers` is out of range.
    """
    if world < 1 or not 0 <= rank < world:
        raise ValueError(f"rank {rank} of {world}: expected a rank from 0 to one less than the number of processes")
    require_shareable(batch, world)
    if workers < 0:
        raise ValueError(f"{workers} loading processes, expected 0 or more")
    steps, requests = _Steps(sampler, batch, rank, world), _Requests(offsets_at, start, stop)
    if workers == 0 or not len(requests):
        return _in_a_thread(steps, requests)
    return _in_processes(steps, requests, workers)


def require_shareable(batch: int, world: int) -> None:
    """Raise ValueError unless every one of `world` processes gets the same number of a batch's clips, one or more."""
    if batch < 1 or batch % world:
        fitting = [str(number) for number in range(1, batch + 1) if batch % number == 0]
        raise ValueError(
            f"a batch of {batch} cannot be shared by {world} processes: choose a multiple of {world}, or start "
            f"{' or '.join(', '.join(fitting).rsplit(', ', 1)) or 'fewer'} of them"
        )


def _in_a_thread(steps: _Steps, requests: _Requests) -> Batches:
    pool = ThreadPoolExecutor(1, thread_name_prefix="footage")

    def source() -> Iterator[tuple[Batch, list[str]]]:
        ahead: deque[Future[tuple[Batch, list[str]]]] = deque()
        for request in requests:
            ahead.append(pool.submit(steps.__getitem__, request))
            if len(ahead) > AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()

    return Batches(source(), lambda: pool.shutdown(wait=True, cancel_futures=True))


def _in_processes(steps: _Steps, requests: _Requests, workers: int) -> Batches:
    # Workers are forked from a server that has only imported PyTorch: no threads, no CUDA, and fast.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context: Any = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["training.data.loading"])
    loader: DataLoader[tuple[Batch, list[str]]] = DataLoader(
        steps,
        batch_size=None,
        sampler=requests,
        num_workers=min(workers, len(requests)),
        prefetch_factor=AHEAD,
        collate_fn=_as_it_is,
        worker_init_fn=_start_worker,
        multiprocessing_context=context,
        generator=torch.Generator(),  # its own: the model's random numbers must not depend on `workers`
    )
    batches = iter(loader)
    return Batches(batches, lambda: _stop(batches))


def _as_it_is(item: tuple[Batch, list[str]]) -> tuple[Batch, list[str]]:
    return item


def _start_worker(_: int) -> None:
    end_with_parent()  # PyTorch's own watchdog watches the fork server, which lives as long as its workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    # By name, because many kept batches would exhaust file descriptors.
    torch.multiprocessing.set_sharing_strategy("file_system")


def _stop(batches: Any) -> None:
    shutdown = getattr(batches, "_shutdown_workers", None)
    if shutdown is not None:
        shutdown()
