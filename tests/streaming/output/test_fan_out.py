"""The fan-out: independent sinks, held and released by semaphores; no test sleeps."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from streaming.errors import ReaderGoneError, SinkError
from streaming.output.fan_out import QUEUE_LENGTH, FanOut
from tests.fakes import FakeClock
from tests.streaming.doubles import WAIT_S, ScriptedSink, feed, numbered


def started(*sinks: ScriptedSink) -> FanOut:
    fan_out = FanOut(sinks)
    fan_out.open(feed())
    fan_out.wait_ready()
    return fan_out


def wait_for_writes(sink: ScriptedSink, count: int) -> None:
    for _ in range(count):
        assert sink.has_written.acquire(timeout=WAIT_S)


def test_every_sink_gets_the_same_frames_in_order() -> None:
    sinks = [ScriptedSink("a"), ScriptedSink("b")]
    fan_out = started(*sinks)
    for slot in (0, 1, 4):
        fan_out.put(numbered(slot), slot)
        for sink in sinks:
            wait_for_writes(sink, 1)
    assert fan_out.close() == []
    for sink in sinks:
        assert [frame.slot for frame in sink.frames] == [0, 1, 4]
        assert [int(frame.picture[0, 0]) for frame in sink.frames] == [16, 20, 32]
        assert sink.calls == ["open", "start", "close"]
    assert [stats.written for stats in fan_out.stats()] == [3, 3]


def test_a_frame_is_copied_once_shared_and_read_only() -> None:
    first, second = ScriptedSink("a"), ScriptedSink("b")
    fan_out = started(first, second)
    picture = numbered(3)
    fan_out.put(picture, 0)
    picture[:] = 0  # the generator goes on to the next frame
    fan_out.close()
    assert first.frames[0].picture is second.frames[0].picture
    np.testing.assert_array_equal(first.frames[0].picture, numbered(3))
    with pytest.raises(ValueError, match="read-only"):
        first.frames[0].picture[0, 0] = 1


def test_a_blocked_sink_loses_its_oldest_frames_and_affects_no_other() -> None:
    hold = threading.Semaphore(0)
    blocked, free = ScriptedSink("blocked", hold=hold), ScriptedSink("free")
    fan_out = started(blocked, free)
    fan_out.put(numbered(0), 0)
    assert blocked.is_writing.acquire(timeout=WAIT_S)  # it hangs in frame 0
    wait_for_writes(free, 1)
    for slot in range(1, 10):
        fan_out.put(numbered(slot), slot)
        wait_for_writes(free, 1)  # the other one keeps up
    states = {stats.name: stats for stats in fan_out.stats()}
    assert states["blocked"].dropped == 9 - QUEUE_LENGTH
    assert states["free"].dropped == 0
    hold.release(10)
    fan_out.close()
    assert [frame.slot for frame in blocked.frames] == [0, 8, 9]
    assert [frame.slot for frame in free.frames] == list(range(10))


def test_a_failed_sink_is_closed_and_reported() -> None:
    dying, living = ScriptedSink("dying", {"write": SinkError("no space left")}), ScriptedSink("living")
    fan_out = started(dying, living)
    fan_out.put(numbered(0), 0)
    assert fan_out.threads[0].join(WAIT_S)
    fan_out.put(numbered(1), 1)
    fan_out.close()
    assert dying.calls == ["open", "start", "close"]
    assert [frame.slot for frame in living.frames] == [0, 1]
    stats = fan_out.stats()[0]
    assert (stats.state, stats.is_dead, stats.errors) == ("dead: no space left", True, 1)


def test_the_first_error_is_reported() -> None:
    sink = ScriptedSink("sink", {"write": SinkError("first"), "close": SinkError("second")})
    fan_out = started(sink)
    fan_out.put(numbered(0), 0)
    fan_out.close()
    assert fan_out.stats()[0].state == "dead: first"


def test_an_error_at_the_end_is_reported() -> None:
    fan_out = started(ScriptedSink("sink", {"close": SinkError("the disk is full")}))
    fan_out.close()
    assert fan_out.stats()[0].state == "dead: the disk is full"


def test_the_show_is_over_when_all_are_dead_or_a_reader_has_left() -> None:
    fan_out = started(ScriptedSink("a", {"write": SinkError("broken")}), ScriptedSink("b"))
    fan_out.put(numbered(0), 0)
    assert fan_out.threads[0].join(WAIT_S)
    assert not fan_out.is_dead
    fan_out.close()
    assert fan_out.is_dead
    reader = started(ScriptedSink("-", {"write": ReaderGoneError("gone")}), ScriptedSink("b"))
    reader.put(numbered(0), 0)
    assert reader.threads[0].join(WAIT_S)
    assert reader.is_reader_gone
    assert not reader.threads[0].stats().is_dead
    assert reader.stats()[0].errors == 0
    reader.close()


def test_if_one_cannot_be_opened_none_is_started() -> None:
    sinks = [ScriptedSink("a"), ScriptedSink("b", {"open": SinkError("port 1 is in use")}), ScriptedSink("c")]
    fan_out = FanOut(sinks)
    with pytest.raises(SinkError, match="port 1"):
        fan_out.open(feed())
    assert [sink.calls for sink in sinks] == [["open", "discard"], ["open"], []]
    assert fan_out.threads == []


def test_if_one_cannot_start_the_others_leave_nothing_behind() -> None:
    sinks = [ScriptedSink("a"), ScriptedSink("b", {"start": SinkError("no encoder")})]
    fan_out = FanOut(sinks)
    fan_out.open(feed())
    with pytest.raises(SinkError, match="no encoder"):
        fan_out.wait_ready()
    fan_out.close(keep=False)
    assert [sink.calls[-1] for sink in sinks] == ["discard", "discard"]


def test_a_sink_that_hangs_is_abandoned_and_named() -> None:
    hold = threading.Semaphore(0)
    sink = ScriptedSink("hanging", hold=hold)
    sink.close_s = 0.0
    fan_out = started(sink)
    fan_out.put(numbered(0), 0)
    assert sink.is_writing.acquire(timeout=WAIT_S)
    assert fan_out.close() == ["hanging"]
    assert fan_out.close() == []  # a second call does nothing
    hold.release(10)
    assert fan_out.threads[0].join(WAIT_S)


def test_an_internal_error_ends_the_sink_and_prints_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    traces: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", traces.append)
    fan_out = started(ScriptedSink("sink", {"write": ZeroDivisionError("a bug")}))
    fan_out.put(numbered(0), 0)
    assert fan_out.threads[0].join(WAIT_S)
    assert "internal error" in fan_out.stats()[0].state
    assert traces[0].exc_type is ZeroDivisionError


def test_bit_rates_are_those_of_the_last_seconds() -> None:
    sink, silent, clock = ScriptedSink("a"), ScriptedSink("b"), FakeClock()
    fan_out = FanOut([sink, silent], clock)
    fan_out.open(feed())
    fan_out.wait_ready()
    sink.sent_bytes, sink.reconnects = 0, 2
    rates = []
    for second in range(10):
        rates.append(fan_out.stats()[0].bitrate)
        clock.advance(1)
        sink.sent_bytes += 1000 if second < 5 else 4000
    fan_out.close()
    assert rates == [None, 8000, 8000, 8000, 8000, 8000, 16000, 24000, 32000, 32000]
    assert fan_out.stats()[0].reconnects == 2
    assert fan_out.stats()[1].bitrate is None


def test_a_sink_without_a_thread_is_refused_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    first, second = ScriptedSink("a"), ScriptedSink("b")
    fan_out = FanOut([first, second])
    monkeypatch.setattr(threading.Thread, "start", refuse)
    fan_out.open(feed())
    with pytest.raises(SinkError, match="sink a cannot be opened: the system starts no more threads"):
        fan_out.wait_ready()
    assert fan_out.close(keep=False) == []
    assert first.calls == second.calls == ["open", "discard"]


@pytest.mark.parametrize("error", [MemoryError(), ImportError("libav: failed to map segment")])
def test_a_sink_without_memory_is_dead_and_says_so(error: Exception) -> None:
    sink = ScriptedSink("a", {"start": error})
    fan_out = FanOut([sink])
    fan_out.open(feed())
    with pytest.raises(SinkError, match=r"sink a failed: .*memory"):
        fan_out.wait_ready()
    fan_out.close(keep=False)
    assert sink.calls == ["open", "start", "discard"]
