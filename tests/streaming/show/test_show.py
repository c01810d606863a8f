"""The show's loop on a fake clock: length, endings, stats."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import pytest

from streaming.errors import ReaderGoneError, SinkError
from streaming.output.fan_out import FanOut
from streaming.output.pacing import Pacer
from streaming.show.show import Show, ShowEnd
from streaming.show.stats import ShowStats
from streaming.sinks.sink import Picture
from tests.fakes import FakeClock
from tests.streaming.doubles import WAIT_S, ScriptedSink, endless, feed


class Stage:
    """A show with a fake clock, in which every frame costs what the test says."""

    def __init__(self, sink: ScriptedSink, fps: int = 10) -> None:
        self.clock = FakeClock(0.0)
        self.sink = sink
        self.fan_out = FanOut([sink])
        self.pacer = Pacer(self.clock, Fraction(fps))
        self.show = Show(self.fan_out, self.pacer, self.clock)
        self.fan_out.open(feed())
        self.fan_out.wait_ready()

    def frames(self, *costs_s: float) -> Iterator[Picture]:
        """Yield frames, the last cost for ever; wait for the sink, so that its queue never drops."""
        for index, picture in enumerate(endless()):
            if index:
                self.sink.has_written.acquire(timeout=WAIT_S)
            self.clock.advance(costs_s[min(index, len(costs_s) - 1)])
            yield picture


def test_a_show_has_the_length_that_was_asked_for() -> None:
    stage = Stage(ScriptedSink())
    assert stage.show.run(stage.frames(0.03), num_slots=25) is ShowEnd.TIME_IS_UP
    stage.fan_out.close()
    stats = stage.show.stats(of_all=True)
    assert [frame.slot for frame in stage.sink.frames] == list(range(25))
    assert (stats.frames, stats.late, stats.dropped) == (25, 0, 0)
    assert stats.seconds == pytest.approx(2.5)
    assert stats.timing.fps == pytest.approx(10)
    assert stats.timing.p50_ms == pytest.approx(30)  # the engine's time, without the waiting
    assert stage.show.first_frame_s == pytest.approx(0.03)


def test_a_slow_engine_drops_slots_and_the_show_is_no_longer_for_it() -> None:
    stage = Stage(ScriptedSink())
    stage.show.run(stage.frames(0.0, 0.25), num_slots=20)
    stage.fan_out.close()
    stats = stage.show.stats()
    slots = [frame.slot for frame in stage.sink.frames]
    assert slots[:4] == [0, 2, 5, 7]
    assert slots[-1] < 20 == stats.frames + stats.dropped
    assert stage.clock.now() <= 2.2


def test_it_ends_when_it_is_stopped() -> None:
    stage = Stage(ScriptedSink())
    assert stage.show.run(stage.frames(0.05), is_stopped=lambda: stage.clock.now() > 1) is ShowEnd.INTERRUPTED
    stage.fan_out.close()
    assert 10 <= len(stage.sink.frames) <= 11


@pytest.mark.parametrize(
    ("error", "end"), [(SinkError("broken"), ShowEnd.ALL_DEAD), (ReaderGoneError("gone"), ShowEnd.READER_GONE)]
)
def test_it_ends_when_no_sink_is_left(error: SinkError, end: ShowEnd) -> None:
    sink = ScriptedSink("sink", {"write": error})
    stage = Stage(sink)

    def frames() -> Iterator[Picture]:
        for index, picture in enumerate(endless()):
            if index == 1:  # the sink fails at frame 0
                assert stage.fan_out.threads[0].join(WAIT_S)
            assert index < 2, "the show goes on without anybody to see it"
            yield picture

    assert stage.show.run(frames()) is end
    stage.fan_out.close()


def test_statistics_are_refreshed_four_times_a_second() -> None:
    stage = Stage(ScriptedSink(), fps=100)
    seen: list[ShowStats] = []
    assert stage.show.latest()["frames"] == 0
    stage.show.engine = "fake fp32"
    stage.show.run(stage.frames(0.001), num_slots=200, on_refresh=seen.append)
    stage.fan_out.close()
    assert 8 <= len(seen) <= 9
    latest = stage.show.latest()
    assert latest["engine"] == "fake fp32"
    assert latest["frames"] == seen[-1].frames
    assert latest["fps"] == pytest.approx(100, rel=0.01)


@pytest.mark.parametrize(
    ("cost_s", "delay_s"), [(0.0, 0.008), (0.03, 0.008), (0.045, 0.005), (0.05, 0.0), (0.09, 0.0), (0.1, 0.0)]
)
def test_a_frame_is_begun_later_where_there_is_time_to_spare(cost_s: float, delay_s: float) -> None:
    stage = Stage(ScriptedSink())
    begun: list[float] = []

    def frames() -> Iterator[Picture]:
        source = stage.frames(0.0)
        while True:
            begun.append(stage.clock.now())
            stage.clock.advance(cost_s)
            yield next(source)

    stage.show.run(frames(), num_slots=10)
    stage.fan_out.close()
    due = [begun[0] + cost_s + 0.1 * slot for slot in range(9)]  # of the frame before
    assert [later - earlier for later, earlier in zip(begun[1:], due, strict=True)] == pytest.approx([delay_s] * 9)
    assert (stage.show.stats().late, stage.show.stats().dropped) == (0, 0)


def test_one_slow_frame_ends_the_delay_for_a_while() -> None:
    stage = Stage(ScriptedSink())
    begun: list[float] = []

    def frames() -> Iterator[Picture]:
        for number, picture in enumerate(stage.frames(0.0)):
            begun.append(stage.clock.now())
            stage.clock.advance(0.06 if number == 1 else 0.01)
            yield picture

    stage.show.run(frames(), num_slots=40)
    stage.fan_out.close()
    delays = [round(moment - begun[0] - 0.01 - 0.1 * number, 6) for number, moment in enumerate(begun[1:])]
    assert delays[:3] == [0.008, 0, 0]
    assert delays[-1] == 0.008


def test_frames_that_are_made_ahead_all_arrive_in_order_when_they_are_due() -> None:
    stage = Stage(ScriptedSink())
    delivered: list[tuple[int, float]] = []

    def frames() -> Iterator[Picture]:
        for index, picture in enumerate(endless()):
            if index == 1:
                stage.pacer.make_ahead(1)
            yield picture

    put = stage.fan_out.put

    def watched(picture: Picture, slot: int) -> None:
        delivered.append((slot, stage.clock.now()))
        put(picture, slot)

    stage.fan_out.put = watched  # type: ignore[method-assign]
    show = Show(stage.fan_out, stage.pacer, stage.clock)
    assert show.run(frames(), num_slots=12) is ShowEnd.TIME_IS_UP
    assert [slot for slot, _ in delivered] == list(range(12))  # the last ones too: the show waits for them
    assert all(at_s >= float(stage.pacer.deadline(slot)) - 1e-9 for slot, at_s in delivered[1:])
    stage.fan_out.close()


def test_what_a_delivery_raises_reaches_the_show() -> None:
    stage = Stage(ScriptedSink())

    def refuse(picture: Picture, slot: int) -> None:
        if slot:
            raise MemoryError("no memory for a copy")

    def frames() -> Iterator[Picture]:
        for index, picture in enumerate(endless()):
            if index == 1:
                stage.pacer.make_ahead(1)
            yield picture

    stage.fan_out.put = refuse  # type: ignore[method-assign]
    with pytest.raises(MemoryError, match="no memory"):
        Show(stage.fan_out, stage.pacer, stage.clock).run(frames(), is_stopped=lambda: stage.clock.now() > 1000)
    stage.fan_out.close()
