"""What a sink gets with each frame."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from streaming.sound.reader import SoundReader
from streaming.sound.timeline import RATE, Samples, SoundTimeline

FPS = Fraction(30000, 1001)


def counted(begin: int, end: int) -> Samples:
    return np.repeat((np.arange(begin, end) % 30_000).astype(np.int16)[:, np.newaxis], 2, axis=1)


def filled(seconds: float) -> SoundTimeline:
    timeline = SoundTimeline()
    timeline.write(counted(0, round(seconds * RATE)), 0)
    return timeline


def test_frames_get_all_of_the_sound_in_order() -> None:
    reader = SoundReader(filled(3), FPS, lambda: 1.0)
    parts = [reader.read(slot) for slot in range(60)]
    whole = np.concatenate(parts)
    assert np.array_equal(whole, counted(0, len(whole)))
    assert len(whole) == int(60 * RATE / FPS)
    assert {len(part) for part in parts} <= {1601, 1602}


def test_a_frame_that_is_left_out_loses_no_sound() -> None:
    reader = SoundReader(filled(3), FPS, lambda: 1.0)
    whole = np.concatenate([reader.read(slot) for slot in (0, 1, 5, 6, 30)])
    assert np.array_equal(whole, counted(0, len(whole)))


def test_a_stream_begins_with_its_first_frame_also_after_a_break() -> None:
    reader = SoundReader(filled(5), Fraction(25), lambda: 1.0)
    assert reader.read(10)[0, 0] == 10 * 1920
    reader.read(11)
    reader.restart()
    assert reader.read(50)[0, 0] == 50 * 1920 % 30_000


def test_sound_reaches_ahead_as_far_as_it_is_there() -> None:
    reader = SoundReader(filled(1), Fraction(25), lambda: 1.0, ahead_s=0.1)
    assert len(reader.read(0)) == 1920 + RATE // 10
    assert len(reader.read(1)) == 1920
    assert len(reader.read(24)) == RATE - 2 * 1920 - RATE // 10, "all that is there"
    assert len(reader.read(25)) == 0


def test_sound_that_is_late_is_waited_for_and_then_silent() -> None:
    timeline = SoundTimeline()
    reader = SoundReader(timeline, Fraction(25), lambda: 1.0)
    assert [len(reader.read(slot)) for slot in range(6)] == [0] * 6
    silent = reader.read(10)  # at 0.4 s: what should have come by 0.2 s
    assert len(silent) == RATE // 5
    assert not silent.any()
    timeline.write(counted(0, RATE), 0)
    heard = reader.read(11)
    assert heard[0, 0] == RATE // 5, "what follows is in its place"


def test_a_gain_comes_in_gently_and_never_overflows() -> None:
    timeline = SoundTimeline()
    timeline.write(np.full((RATE, 2), 20_000, np.int16), 0)
    gain = 1.0
    reader = SoundReader(timeline, Fraction(25), lambda: gain)
    assert (reader.read(0) == 20_000).all()
    gain = 4.0
    rising = reader.read(1)[:, 0]
    assert rising[0] == 20_000
    assert rising.max() == 32767
    assert (np.diff(rising.astype(int)) >= 0).all()
    gain = 0.0
    falling = reader.read(2)[:, 0]
    assert falling[-1] == 0
    assert (reader.read(3) == 0).all()


@pytest.mark.parametrize("gain", [0.5, 2.0])
def test_a_steady_gain(gain: float) -> None:
    timeline = SoundTimeline()
    timeline.write(np.full((RATE, 2), 1000, np.int16), 0)
    reader = SoundReader(timeline, Fraction(25), lambda: gain)
    assert (reader.read(0) == 1000 * gain).all()
