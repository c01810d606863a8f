"""The show's sound in time: gaps, drift, what is kept."""

from __future__ import annotations

import numpy as np
import pytest

from streaming.sound.timeline import RATE, Samples, SoundTimeline, stretched, to_samples

BLOCK = RATE // 100


def block(value: int, length: int = BLOCK) -> Samples:
    return np.full((length, 2), value, np.int16)


def tone(begin: int, length: int, hertz: float = 440.0) -> Samples:
    wave = 8000 * np.sin(2 * np.pi * hertz * np.arange(begin, begin + length) / RATE)
    return np.repeat(np.rint(wave)[:, np.newaxis], 2, axis=1).astype(np.int16)


def test_blocks_lie_one_after_the_other() -> None:
    timeline = SoundTimeline()
    timeline.write(block(1), 0)
    timeline.write(block(2), BLOCK)
    assert timeline.end == 2 * BLOCK
    read = timeline.read(BLOCK - 2, BLOCK + 2)
    assert read.dtype == np.int16
    assert read.tolist() == [[1, 1], [1, 1], [2, 2], [2, 2]]


def test_what_is_not_there_is_silent() -> None:
    timeline = SoundTimeline()
    timeline.write(block(5), 100)
    assert timeline.read(98, 101).tolist() == [[0, 0], [0, 0], [5, 5]]
    assert timeline.read(100 + BLOCK - 1, 100 + BLOCK + 1).tolist() == [[5, 5], [0, 0]]
    assert timeline.read(-3, -1).tolist() == [[0, 0], [0, 0]]
    assert timeline.read(10, 5).shape == (0, 2)


def test_sound_before_the_show_is_left_out() -> None:
    timeline = SoundTimeline()
    timeline.write(np.arange(8, dtype=np.int16).reshape(4, 2), -2)
    assert timeline.end == 2
    assert timeline.read(0, 2).tolist() == [[4, 5], [6, 7]]
    timeline.write(block(1), -10 * BLOCK)
    assert timeline.end == 2


def test_after_a_gap_there_is_silence_and_then_the_sound_in_its_place() -> None:
    timeline = SoundTimeline()
    timeline.write(block(1), 0)
    timeline.write(block(2), RATE)
    assert timeline.end == RATE + BLOCK
    assert timeline.read(BLOCK - 1, BLOCK + 1).tolist() == [[1, 1], [0, 0]]
    assert not timeline.read(BLOCK, RATE).any()
    assert timeline.read(RATE, RATE + 1).tolist() == [[2, 2]]


def test_a_gap_longer_than_what_is_kept() -> None:
    timeline = SoundTimeline()
    timeline.write(block(1), 0)
    timeline.write(block(2), 100 * RATE)
    assert not timeline.read(92 * RATE, 100 * RATE).any()
    assert timeline.read(100 * RATE, 100 * RATE + 1).tolist() == [[2, 2]]


def test_only_the_last_ten_seconds_are_kept() -> None:
    timeline = SoundTimeline()
    for number in range(1100):
        timeline.write(block(number + 1), number * BLOCK)
    assert timeline.end == 11 * RATE
    assert timeline.read(RATE - 1, RATE + 1).tolist() == [[0, 0], [101, 101]]
    assert timeline.read(11 * RATE - 1, 11 * RATE).tolist() == [[1100, 1100]]


def test_late_and_early_blocks_of_one_source_stay_together() -> None:
    timeline = SoundTimeline()
    jitter = [0, 300, 40, 900, 0, 120, 0, 0, 700, 10]
    for number in range(200):
        timeline.write(block(number + 1), number * BLOCK + jitter[number % 10])
    assert timeline.end == 200 * BLOCK, "nothing was added or left out"
    assert np.array_equal(timeline.read(0, 200 * BLOCK)[::BLOCK, 0], np.arange(1, 201))


@pytest.mark.parametrize("per_block", [0.24, -0.24])  # samples; 500 parts in a million
def test_a_clock_that_drifts_is_followed(per_block: float) -> None:
    timeline = SoundTimeline()
    errors = []
    for number in range(60 * 100):
        position = round(number * (BLOCK + per_block))
        timeline.write(tone(number * BLOCK, BLOCK), position + (number * 7919) % 400)
        errors.append(timeline.end - BLOCK - position)
    assert max(map(abs, errors[500:])) < RATE // 100, "never 10 ms off"
    heard = timeline.read(timeline.end - RATE, timeline.end)[:, 0].astype(float)
    assert np.abs(np.diff(heard)).max() < 8000 * 2 * np.pi * 440 / RATE * 1.1, "no click"


def test_a_block_is_stretched_without_a_click() -> None:
    wave = tone(0, BLOCK)
    longer = stretched(wave, BLOCK + 2)
    assert longer.shape == (BLOCK + 2, 2)
    assert longer.dtype == np.int16
    assert longer[0].tolist() == wave[0].tolist()
    assert longer[-1].tolist() == wave[-1].tolist()
    assert np.abs(np.diff(longer[:, 0].astype(int))).max() <= np.abs(np.diff(wave[:, 0].astype(int))).max()


def test_the_bytes_of_a_message() -> None:
    samples = tone(0, 5)
    assert np.array_equal(to_samples(samples.tobytes()), samples)
