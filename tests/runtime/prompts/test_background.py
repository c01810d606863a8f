"""The background thread: order, errors, priority and closing."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from runtime.prompts.background import BackgroundThread


def test_jobs_are_done_in_order_and_give_their_results() -> None:
    background: BackgroundThread[int] = BackgroundThread()
    done: list[int] = []

    def job(number: int) -> int:
        done.append(number)
        return number * number

    futures = [background.submit(lambda number=number: job(number)) for number in range(20)]
    assert [future.result(10) for future in futures] == [number * number for number in range(20)]
    assert done == list(range(20))
    background.close()


def test_an_error_reaches_the_caller_and_the_next_job_runs() -> None:
    background: BackgroundThread[int] = BackgroundThread()
    failed = background.submit(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        failed.result(10)
    assert background.submit(lambda: 5).result(10) == 5
    background.close()


def test_closing_finishes_the_running_job_and_fails_the_waiting_ones() -> None:
    background: BackgroundThread[int] = BackgroundThread()
    begun, go_on = threading.Event(), threading.Event()

    def job() -> int:
        begun.set()
        go_on.wait(10)
        return 7

    running = background.submit(job)
    waiting = background.submit(lambda: 8)
    assert begun.wait(10)
    closing = threading.Thread(target=background.close)
    closing.start()
    with pytest.raises(ValueError, match="closed"):
        waiting.result(10)
    go_on.set()
    closing.join(10)
    assert running.result(10) == 7
    with pytest.raises(ValueError, match="closed"):
        background.submit(lambda: 9)
    background.close()


def test_closing_an_unused_one_is_fine() -> None:
    before = threading.active_count()
    BackgroundThread[int]().close()
    assert threading.active_count() == before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives threads a priority of their own")
def test_only_the_background_thread_has_a_lower_priority() -> None:
    background: BackgroundThread[int] = BackgroundThread()

    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = niceness()
    assert background.submit(niceness).result(10) == max(before, 10)
    assert niceness() == before
    background.close()


def test_a_job_that_is_cancelled_before_it_begins_is_left_out() -> None:
    background: BackgroundThread[int] = BackgroundThread()
    begun, release = threading.Event(), threading.Event()

    def job() -> int:
        begun.set()
        assert release.wait(10)
        return 7

    running = background.submit(job)
    dropped, kept = background.submit(lambda: 1 // 0), background.submit(lambda: 8)
    late = background.submit(lambda: 9)
    assert begun.wait(10)
    assert dropped.cancel()
    assert not running.cancel()
    release.set()
    assert (running.result(10), kept.result(10), late.result(10)) == (7, 8, 9)
    background.close()


def test_closing_leaves_cancelled_jobs_alone() -> None:
    background: BackgroundThread[int] = BackgroundThread()
    begun, release = threading.Event(), threading.Event()

    def job() -> int:
        begun.set()
        assert release.wait(10)
        return 7

    background.submit(job)
    assert begun.wait(10)
    dropped, waiting = background.submit(lambda: 1), background.submit(lambda: 2)
    assert dropped.cancel()
    threading.Timer(0.01, release.set).start()
    background.close()
    assert dropped.cancelled()
    with pytest.raises(ValueError, match="closed"):
        waiting.result(10)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives threads a priority of their own")
def test_one_for_idle_moments_has_the_lowest_priority_there_is() -> None:
    background: BackgroundThread[tuple[int, int]] = BackgroundThread(only_idle=True)

    def priority() -> tuple[int, int]:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id()), os.sched_getscheduler(0)

    before = priority()
    assert background.submit(priority).result(10) == (19, os.SCHED_IDLE)
    assert priority() == before
    assert background.close()


def test_closing_has_a_timeout() -> None:
    background: BackgroundThread[None] = BackgroundThread()
    begun, release = threading.Event(), threading.Event()

    def job() -> None:
        begun.set()
        assert release.wait(10)

    running = background.submit(job)
    assert begun.wait(10)
    assert not background.close(0)
    release.set()
    assert running.result(10) is None
    assert background.close(10)
