"""The level follower on sines, clicks, noise and silence."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from streaming.sound.levels import BLOCK, NAMES, RATE, LevelFollower

Samples = npt.NDArray[np.int16]
BANDS = {100: "bass", 1000: "middle", 5000: "high"}


def silence(seconds: float) -> Samples:
    """Return zeros."""
    return np.zeros((round(seconds * RATE), 2), np.int16)


def sine(hertz: float, seconds: float, amplitude: float = 0.5) -> Samples:
    """Return a sine on both channels, amplitude 1 for full scale, faded in and out over 2 ms."""
    wave = amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)
    fade = np.linspace(0, 1, 96)
    wave[:96] *= fade
    wave[-96:] *= fade[::-1]
    return np.repeat(np.round(32767 * wave).astype(np.int16)[:, None], 2, axis=1)


def follow(samples: Samples, follower: LevelFollower | None = None) -> dict[str, npt.NDArray[np.float64]]:
    """Return each value after every block."""
    follower = follower or LevelFollower()
    rows = []
    for begin in range(0, len(samples) - BLOCK + 1, BLOCK):
        follower.feed(samples[begin : begin + BLOCK])
        rows.append(follower.values())
    return {name: np.array([row[name] for row in rows]) for name in NAMES}


@pytest.mark.parametrize("hertz", BANDS)
def test_a_burst_is_in_its_band(hertz: int) -> None:
    found = follow(np.concatenate([silence(0.1), sine(hertz, 1.0), silence(0.1)]))
    for name, values in found.items():
        assert np.all((values >= 0) & (values <= 1)), name
        assert np.all(values[:10] == 0), name
    assert found[BANDS[hertz]][13:109].min() > 0.98
    assert found["level"][13:109].min() > 0.98
    for name in set(BANDS.values()) - {BANDS[hertz]}:
        assert found[name][80:109].max() < 0.05, name  # its beginning is heard in the other bands, too


@pytest.mark.parametrize("hertz", BANDS)
def test_the_attack_is_one_block_and_the_release_a_seventh_of_a_second(hertz: int) -> None:
    values = follow(np.concatenate([silence(0.1), sine(hertz, 0.3), silence(1.5)]))[BANDS[hertz]]
    assert values[9] == 0
    assert values[10] > 0.9
    assert values[11:40].min() > 0.9
    after_release_s = values[40 + 2 + 15]  # two blocks until the window is silent
    assert 0.25 < after_release_s < 0.5
    assert values[-1] == 0


@pytest.mark.parametrize("hertz", BANDS)
def test_a_burst_begins_once(hertz: int) -> None:
    onset = follow(np.concatenate([silence(0.2), sine(hertz, 0.5), silence(0.5)]))["onset"]
    assert list(np.flatnonzero(onset == 1)) in ([20], [21])


def test_every_click_is_an_onset() -> None:
    track = silence(4.0)
    clicks = [round(second * RATE) for second in (0.5, 1.0, 1.37, 1.613, 2.0, 2.25, 2.5, 2.759, 3.001)]
    burst = np.random.default_rng(7).integers(-20_000, 20_000, 96).astype(np.int16)
    for begin in clicks:
        track[begin : begin + 96] = burst[:, None]
    onset = follow(track)["onset"]
    found = np.flatnonzero(onset == 1)
    assert len(found) == len(clicks)
    for block, begin in zip(found, clicks, strict=True):
        assert begin // BLOCK <= block <= begin // BLOCK + 2  # 30 ms at most
    assert onset[found[0] + 10] == pytest.approx(0.5)
    assert onset[found[0] + 20] == pytest.approx(0, abs=1e-9)


def test_clicks_are_heard_in_music_and_steady_sounds_are_none() -> None:
    rng = np.random.default_rng(3)
    track = sine(110, 4.0, 0.3) + sine(440, 4.0, 0.1) + rng.integers(-300, 300, (4 * RATE, 2)).astype(np.int16)
    assert np.all(follow(track)["onset"][30:] == 0)
    clicks = [RATE, 2 * RATE, 3 * RATE]
    for begin in clicks:
        noise = rng.integers(-9000, 9000, (960, 1)) * np.linspace(1, 0, 960)[:, None]
        track[begin : begin + 960] += noise.astype(np.int16)
    found = np.flatnonzero(follow(track)["onset"] == 1)
    assert [round(block / 100) for block in found if block > 30] == [1, 2, 3]


def test_quiet_and_loud_music_use_the_same_range() -> None:
    beat = np.tile(np.exp(-np.arange(RATE // 2) / (0.08 * RATE)), 8)[:, None]
    music = beat * sum(sine(hertz, 4.0, 0.3).astype(np.float64) for hertz in BANDS)
    both = [follow(np.round(gain * music).astype(np.int16)) for gain in (1.0, 1 / 16)]
    for name in ("level", "bass", "middle", "high"):
        first, second = (found[name][200:] for found in both)
        assert first.max() > 0.9
        assert first.min() < 0.3
        assert np.abs(first - second).max() < 0.1, name


def test_noise_of_a_silent_room_stays_low() -> None:
    noise = np.random.default_rng(2).integers(-8, 9, (2 * RATE, 2)).astype(np.int16)
    found = follow(noise)
    assert all(values.max() < 0.3 for values in found.values())


def test_silence_is_zero_and_never_not_a_number() -> None:
    follower = LevelFollower()
    assert follower.values() == dict.fromkeys(NAMES, 0.0)
    found = follow(silence(1.0), follower)
    assert all(np.all(values == 0) for values in found.values())
    follow(np.full((RATE, 2), -32768, np.int16), follower)
    assert all(np.isfinite(values).all() for values in follow(silence(3.0), follower).values())
    assert follower.values() == dict.fromkeys(NAMES, 0.0)


def test_a_constant_offset_is_no_sound() -> None:
    found = follow(np.full((2 * RATE, 2), 300, np.int16))
    assert all(values[-1] == 0 for values in found.values())


def test_channels_that_cancel_each_other_are_heard() -> None:
    samples = sine(1000, 0.2)
    samples[:, 1] *= -1
    assert follow(samples)["middle"][-1] == 1


def test_the_length_of_what_is_fed_does_not_matter() -> None:
    rng = np.random.default_rng(11)
    samples = rng.integers(-9000, 9000, (RATE, 2)).astype(np.int16)
    whole, pieces = LevelFollower(), LevelFollower()
    whole.feed(samples)
    begin = 0
    while begin < RATE:
        end = begin + int(rng.integers(0, 1500))
        pieces.feed(samples[begin:end])
        begin = end
    assert pieces.values() == whole.values()


@pytest.mark.parametrize(
    "samples", [np.zeros((480, 2), np.float32), np.zeros((480,), np.int16), np.zeros((480, 1), np.int16)]
)
def test_other_samples_are_refused(samples: npt.NDArray[np.int16]) -> None:
    with pytest.raises(ValueError, match=r"samples must be int16 \(n, 2\), got"):
        LevelFollower().feed(samples)
