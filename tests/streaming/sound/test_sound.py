"""The sound of a show: its place in time, its controls, its levels and its status."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import pytest

from streaming.sound.sound import Sound
from streaming.sound.timeline import RATE, Samples
from tests.fakes import FakeClock


class Follower:
    """Counts what it is fed."""

    def __init__(self) -> None:
        self.fed: list[Samples] = []

    def feed(self, samples: Samples) -> None:
        self.fed.append(samples)

    def values(self) -> Mapping[str, float]:
        return {"level": 0.12345}


class Source:
    """A source that notes what it is told."""

    def __init__(self) -> None:
        self.error = ""
        self.starts: list[float] = []
        self.is_closed = False

    def wait_ready(self) -> None:
        if self.error:
            raise ValueError(self.error)

    def begin(self, start_s: float) -> None:
        self.starts.append(start_s)

    def state(self) -> str:
        return self.error

    def close(self) -> None:
        self.is_closed = True


def make(clock: FakeClock, delay_s: float = 0.0) -> tuple[Sound, Follower]:
    follower = Follower()
    return Sound("mic", delay_s=delay_s, clock=clock, follower=follower), follower  # type: ignore[arg-type]


def ones(seconds: float) -> Samples:
    return np.ones((round(seconds * RATE), 2), np.int16)


def test_a_block_lies_where_it_was_recorded_plus_the_delay() -> None:
    sound, _ = make(FakeClock(100.0), delay_s=0.05)
    sound.write(ones(0.1), 99.9)
    assert sound.timeline.end == 0, "the show has not begun"
    sound.begin(100.0)
    sound.write(ones(0.1), 100.2)
    assert sound.timeline.end == round(0.35 * RATE)
    assert not sound.timeline.read(0, round(0.25 * RATE)).any()
    assert sound.timeline.read(round(0.25 * RATE), round(0.35 * RATE)).all()


def test_levels_are_those_of_now_not_of_what_is_read_ahead() -> None:
    clock = FakeClock(10.0)
    sound, follower = make(clock)
    sound.begin(10.0)
    sound.write(ones(0.3), 10.0)
    sound.follow()
    assert not follower.fed
    clock.advance(0.1)
    sound.follow()
    clock.advance(0.05)
    sound.follow()
    assert [len(samples) for samples in follower.fed] == [4800, 2400]
    assert all(samples.all() for samples in follower.fed)
    clock.advance(5.0)
    sound.follow()
    assert len(follower.fed[-1]) == 7200, "what was left"
    sound.follow()
    assert not follower.fed[-1].any(), "a source that is silent has no level"


def test_controls() -> None:
    sound, _ = make(FakeClock(0.0))
    assert sound.controls == {"sound.gain": 1.0, "sound.mute": 0.0}
    assert [spec.name for spec in sound.control_specs] == list(sound.controls)
    sound.begin(0.0)
    sound.timeline.write(np.full((RATE, 2), 100, np.int16), 0)
    reader = sound.reader(Fraction(25))
    sound.set_control("sound.gain", 2.0)
    reader.read(0)
    assert (reader.read(1) == 200).all()
    sound.set_control("sound.mute", 1.0)
    reader.read(2)
    assert (reader.read(3) == 0).all()
    with pytest.raises(ValueError, match=r"^sound.gain must be from 0.0 to 4.0, got 5"):
        sound.set_control("sound.gain", 5.0)
    with pytest.raises(ValueError, match=r"^there is no control sound.bass; expected sound.gain, sound.mute$"):
        sound.check_control("sound.bass", 1.0)
    with pytest.raises(ValueError, match="got nan"):
        sound.check_control("sound.mute", float("nan"))


def test_status() -> None:
    clock, source = FakeClock(0.0), Source()
    sound, _ = make(clock)
    assert sound.to_json() == {
        "name": "mic",
        "state": "no sound arrives: the stream is silent",
        "is_up": False,
        "levels": {"level": 0.123},
    }
    sound.use(source)
    sound.write(ones(0.01), 0.0)
    assert sound.to_json()["is_up"]
    clock.advance(2.0)
    source.error = "the microphone has stopped"
    assert sound.to_json()["state"] == "the microphone has stopped"
    with pytest.raises(ValueError, match="has stopped"):
        sound.wait_ready()
    sound.close()
    assert source.is_closed


def test_a_source_learns_when_the_show_began() -> None:
    early, late = Source(), Source()
    sound, _ = make(FakeClock(0.0))
    sound.wait_ready()
    sound.use(early)
    assert not sound.has_begun
    sound.begin(7.0)
    assert sound.has_begun
    sound.use(late)
    assert (early.starts, late.starts) == ([7.0], [7.0])


def test_sound_that_always_comes_late_is_shifted_so_that_it_is_heard() -> None:
    clock = FakeClock(0.0)
    sound, _ = make(clock)
    sound.begin(0.0)
    reader = sound.reader(Fraction(25))
    heard = []
    for slot in range(100):
        clock.advance(0.04)
        sound.write(ones(0.04), clock.now() - 0.04 - 0.5)  # half a second ago
        heard.append(bool(reader.read(slot).any()))
    assert not any(heard[1:20]), "what was late at first is lost"
    assert all(heard[40:])
    ends_s = sound.timeline.end / RATE
    assert clock.now() - 0.1 <= ends_s <= clock.now() + 0.1


def test_one_late_block_changes_nothing() -> None:
    clock = FakeClock(0.0)
    sound, _ = make(clock)
    sound.begin(0.0)
    for number in range(100):
        clock.advance(0.04)
        late_s = 0.5 if number % 20 == 5 else 0.0
        sound.write(ones(0.04), clock.now() - 0.04 - late_s)
    assert sound.timeline.end / RATE == pytest.approx(clock.now(), abs=0.01)
