"""Pauses are filled slot by slot, also while an engine is replaced."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from runtime import EngineError
from runtime.prompts.background import BackgroundThread
from streaming.output.fan_out import FanOut
from streaming.output.frame_repeater import PATIENCE_S, FrameRepeater
from streaming.output.pacing import Pacer
from streaming.show.fallback import FallbackFrames, load_fallback, to_i420
from streaming.sinks.sink import Picture
from tests.fakes import FakeClock
from tests.streaming.doubles import WAIT_S, ScriptedSink, colour_card, feed, numbered
from tests.streaming.doubles import to_i420 as exact_i420


class Stage:
    """A filler between a pacer and a sink at 10 frames per second."""

    def __init__(self) -> None:
        self.clock = FakeClock(100.0)
        self.pacer = Pacer(self.clock, Fraction(10))
        self.sink = ScriptedSink()
        self.fan_out = FanOut([self.sink])
        self.fan_out.open(feed())
        self.fan_out.wait_ready()
        self.filler = FrameRepeater(self.fan_out, self.pacer, self.clock)

    def show(self, number: int) -> int:
        slot = self.pacer.pace()
        self.filler.put(numbered(number), slot)
        assert self.sink.has_written.acquire(timeout=WAIT_S)
        return slot

    def fill(self) -> bool:
        before = self.filler.num_filled
        is_pause = self.filler.fill()
        if self.filler.num_filled > before:
            assert self.sink.has_written.acquire(timeout=WAIT_S)
        return is_pause


def test_a_pause_is_filled_with_the_last_frame() -> None:
    stage = Stage()
    assert not stage.fill(), "nothing is filled before the show"
    assert [stage.show(number) for number in (1, 2)] == [0, 1]
    stage.clock.advance(PATIENCE_S - 0.01)
    assert not stage.fill(), "a short pause is left alone"
    for _ in range(8):
        stage.clock.advance(0.05)
        assert stage.fill()
    assert stage.show(3) == 7
    assert not stage.fill()
    slots = [frame.slot for frame in stage.sink.frames]
    assert slots == sorted(set(slots)), "time never runs backwards, and no slot is there twice"
    assert slots[-1] == 7
    assert set(range(3, 7)) <= set(slots)
    filled = [frame for frame in stage.sink.frames if 1 < frame.slot < 7]
    assert stage.filler.num_filled == len(filled) >= 4
    assert all(np.array_equal(frame.picture, numbered(2)) for frame in filled)
    stage.fan_out.close()


def test_a_frame_that_is_delivered_after_its_slot_was_filled_is_left_out() -> None:
    stage = Stage()
    stage.show(1)
    for _ in range(8):
        stage.clock.advance(0.05)
        stage.fill()
    last = stage.sink.frames[-1].slot
    assert last >= 2
    stage.filler.put(numbered(2), last)  # made ahead for that slot
    stage.filler.put(numbered(3), last + 1)
    assert stage.sink.has_written.acquire(timeout=WAIT_S)
    slots = [frame.slot for frame in stage.sink.frames]
    assert slots == sorted(set(slots))
    assert np.array_equal(stage.sink.frames[-1].picture, numbered(3))
    stage.fan_out.close()


def test_the_thread_looks_often_while_there_is_a_pause_and_seldom_else() -> None:
    stage = Stage()
    stage.show(1)
    pauses: list[float] = []

    def wait(seconds: float) -> bool:
        pauses.append(seconds)
        stage.clock.advance(0.15)
        return len(pauses) == 4

    stage.filler.start(wait)
    stage.filler.close()
    assert pauses == [PATIENCE_S / 2, PATIENCE_S / 2, 0.05, 0.05]
    stage.fan_out.close()


PICTURE = numbered(50)


def frames_until_failure(count: int, message: str = "the device is gone") -> Iterator[Picture]:
    for number in range(count):
        yield numbered(number)
    raise EngineError(message)


class Now(BackgroundThread[Any]):
    """A background whose jobs are done at once."""

    def submit(self, job: Any) -> Any:
        future = super().submit(job)
        future.exception(WAIT_S)
        return future


def test_a_picture_stands_in_until_the_engine_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streaming.show.fallback.BackgroundThread", Now)
    clock, said = FakeClock(0.0), list[str]()
    sources: list[Any] = [EngineError("still gone"), iter([numbered(7), numbered(8)])]

    def reopen() -> Iterator[Picture]:
        source = sources.pop(0)
        if isinstance(source, Exception):
            raise source
        return iter(source)

    standby = FallbackFrames(frames_until_failure(2), PICTURE, reopen, clock, said.append)
    assert [next(standby)[0, 0] for _ in range(2)] == [numbered(0)[0, 0], numbered(1)[0, 0]]
    for _ in range(3):
        assert next(standby) is PICTURE
    assert not standby.is_up
    assert len(sources) == 2, "it waits before it tries again"
    clock.advance(1.0)
    assert next(standby) is PICTURE  # begins an attempt
    assert next(standby) is PICTURE  # sees it fail
    clock.advance(1.0)
    assert next(standby) is PICTURE
    assert len(sources) == 1, "the second wait is longer"
    clock.advance(1.0)
    assert next(standby) is PICTURE
    assert next(standby)[0, 0] == numbered(7)[0, 0]
    assert standby.is_up
    assert said == [
        "every engine has failed (the device is gone): the fallback picture is shown; trying again in 1 s",
        "the engine cannot be opened again (still gone); trying again in 2 s",
        "the engine is back",
    ]
    standby.close()


def test_a_fallback_picture_looks_like_a_frame(tmp_path: Path) -> None:
    card = colour_card(64, 48)
    Image.fromarray(card).save(tmp_path / "card.png")
    path = str(tmp_path / "card.png")
    assert np.array_equal(load_fallback(path, 64, 48, "rgb"), card)
    assert load_fallback(path, 64, 48, "i420").shape == (72, 64)
    difference = to_i420(card).astype(int) - exact_i420(card)
    inner = np.abs(difference[:48].reshape(3, 16, 4, 16)[:, 4:12, :, 4:12])
    assert inner.max() <= 2
    with pytest.raises(ValueError, match="there is no image file"):
        load_fallback(str(tmp_path / "nothing.png"), 64, 48, "rgb")
