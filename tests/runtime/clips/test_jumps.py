"""Which jumps are found, and where a playhead goes by them."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.clips.jumps import (
    LIMIT,
    WAY_LIMIT,
    Jump,
    _with_future,
    distances,
    earliest,
    find_dissolve,
    find_jumps,
    jump_length,
    ordinary_step,
)
from runtime.clips.playhead import Playhead


def circling(count: int, period: float, drift: float = 0.0) -> np.ndarray:
    """Return descriptions that come back after a period, but for a drift per frame."""
    angle = 2 * np.pi * np.arange(count) / period
    return np.stack([np.cos(angle), np.sin(angle), drift * np.arange(count)], axis=1).astype(np.float32)


def test_distances_are_root_mean_squares() -> None:
    values = np.random.default_rng(0).normal(size=(5, 3, 2)).astype(np.float32)
    expected = np.sqrt(((values[:, None] - values[None]) ** 2).mean(axis=(2, 3)))
    assert np.allclose(distances(values), expected, atol=1e-5)


def test_a_cycle_is_found() -> None:
    distance = distances(circling(150, 40))
    jumps = find_jumps(distance, 30.0)
    assert jumps
    assert all(abs(jump.target - jump.source) % 40 in (0, 1, 39) for jump in jumps)
    assert all(jump.cost <= LIMIT for jump in jumps)
    assert any(jump.target < jump.source for jump in jumps)
    last = max(jump.source for jump in jumps)
    assert all(jump.target + jump.length < last for jump in jumps), "no dead ends"
    assert list(jumps) == sorted(jumps, key=lambda jump: (jump.source, jump.target))


def test_what_never_comes_back_has_no_jumps() -> None:
    distance = distances(circling(120, 1e6, drift=1.0))
    assert find_jumps(distance, 30.0) == ()
    dissolve = find_dissolve(distance, 30.0)
    assert dissolve.target < 20
    assert dissolve.source + dissolve.length <= 119
    assert dissolve.length == 30


def test_the_future_counts() -> None:
    to_far, to_near = Jump(10, 80, 5, 0.1), Jump(10, 40, 5, 0.1)
    good_end, bad_end = Jump(60, 2, 5, 0.1), Jump(120, 2, 5, 1.5)
    found = {(jump.source, jump.target): jump for jump in _with_future([bad_end, to_far, to_near, good_end])}
    assert found[10, 80].future > 5 * found[10, 40].future, "from there only a bad jump leads back"
    assert found[60, 2].future < found[120, 2].future


def test_lengths_and_steps() -> None:
    assert jump_length(300, 30.0) == 9
    assert jump_length(24, 30.0) == 4
    assert ordinary_step(np.zeros((5, 5), np.float32)) > 0


JUMPS = (Jump(40, 60, 5, 0.5, 1.0), Jump(50, 10, 5, 0.2, 0.4), Jump(90, 30, 5, 1.0, 1.4))


def walk(count: int, seed: int = 0, step: float = 1.0, variety: float = 0.5) -> list[tuple[float, float | None, int]]:
    playhead, random = Playhead(JUMPS, 30.0), np.random.default_rng(seed)
    moments = [playhead.advance(step, float(random.random()), variety) for _ in range(count)]
    return [(moment.position, moment.other, moment.jump) for moment in moments]


def test_a_playhead_never_leaves_the_clip() -> None:
    for step in (0.37, 1.0, 1.8):
        places = walk(20_000, step=step)
        assert max(place for place, _, _ in places) <= 90 + 5 + 2 * step
        assert min(place for place, _, _ in places) >= 0
        assert {jump for _, _, jump in places} == {-1, 0, 1, 2}, "every jump is taken at times"


def test_a_playhead_runs_on_and_jumps_smoothly() -> None:
    playhead = Playhead(JUMPS, 30.0)
    assert playhead.advance(1.0, 0.0, 0.5).position == 0
    moments = [playhead.advance(1.0, 0.999, 0.5) for _ in range(100)]  # it jumps only where it must
    places = [moment.position for moment in moments]
    assert places[:94] == [float(number + 1) for number in range(94)]
    shares = [moment.share for moment in moments if moment.jump == 2]
    assert shares[0] == 0
    assert shares == sorted(shares)
    others = [moment.other for moment in moments if moment.jump == 2]
    assert others == [30.0 + number for number in range(5)]
    assert places[94] == 35.0, "it goes on where the other side is"


def test_draws_decide() -> None:
    assert walk(3000) == walk(3000)
    assert walk(3000) != walk(3000, seed=1)
    taken = len([None for _, _, jump in walk(9000, variety=0.9) if jump >= 0])
    assert taken > 1.2 * len([None for _, _, jump in walk(9000, variety=0.1) if jump >= 0])


def test_without_variety_the_best_loop_repeats() -> None:
    taken = {jump for _, _, jump in walk(2000, variety=0.0)}
    assert taken == {-1, 1}


def test_a_speed_of_zero_holds_the_frame() -> None:
    playhead = Playhead(JUMPS, 30.0)
    for _ in range(30):
        playhead.advance(1.0, 0.999, 0.5)
    assert len({playhead.advance(0.0, 0.0, 1.0) for _ in range(50)}) == 1


def test_a_jump_ends_although_nothing_moves() -> None:
    playhead = Playhead(JUMPS, 30.0)
    moments = [playhead.advance(1.0, 0.999, 0.5) for _ in range(93)]
    assert moments[-1].jump == 2
    moments = [playhead.advance(0.0, 0.999, 0.5) for _ in range(10)]
    assert moments[-1].jump == -1, "two moments are not frozen over each other"
    assert moments[-1].position == moments[0].other


@pytest.mark.parametrize("count", [12, 13, 20, 40])
def test_short_clips_play_on(count: int) -> None:
    distance = distances(circling(count, 6))
    jumps = find_jumps(distance, 30.0) or (find_dissolve(distance, 30.0),)
    playhead, random = Playhead(jumps, 30.0), np.random.default_rng(0)
    for _ in range(2000):
        moment = playhead.advance(1.0, float(random.random()), 0.5)
        assert 0 <= moment.position <= count


def two_circles(count: int, apart: float) -> np.ndarray:
    """Return descriptions (N, 3) of a clip that circles, and goes on circling beside it from its middle on."""
    found = circling(count, 30)
    found[count // 2 :, 2] = apart
    return found


def seen_frames(jumps: tuple[Jump, ...], count: int) -> set[int]:
    """Return which frames are seen in the second half of twenty minutes."""
    playhead, random = Playhead(jumps, 30.0), np.random.default_rng(0)
    places = [int(playhead.advance(1.0, float(random.random()), 0.5).position) for _ in range(36_000)]
    return {min(place, count - 1) for place in places[18_000:]}


def test_no_part_of_a_clip_is_a_trap() -> None:
    """At the end it would circle for ever: there is a way back, a long dissolve, and all is seen again."""
    count = 540
    jumps = find_jumps(distances(two_circles(count, 0.8)), 30.0)
    ways = [jump for jump in jumps if jump.length == 30]
    assert ways, "a second long"
    assert all(LIMIT < jump.cost <= WAY_LIMIT for jump in ways)
    landings = [jump.target + jump.length for jump in jumps]
    assert all(earliest(jumps, landing) <= count // 4 for landing in landings)
    assert len(seen_frames(jumps, count)) > 0.9 * count


def test_without_a_way_back_the_end_is_left_out() -> None:
    jumps = find_jumps(distances(two_circles(540, 40.0)), 30.0)  # nothing there is like the beginning
    assert jumps
    assert max(jump.source for jump in jumps) < 270
    assert all(jump.length == 9 for jump in jumps)


def test_the_first_frame_that_can_be_reached() -> None:
    assert earliest(JUMPS, 0) == 0, "playing on does not lead back"
    assert earliest(JUMPS, 45) == 15, "by the jump from 50 to 10"
    assert earliest(JUMPS, 60) == 15, "by that from 90 to 30, and then the same"
    assert earliest(JUMPS, 95) == 95


def test_what_was_seen_just_now_is_jumped_to_less() -> None:
    """There is one good jump back near the beginning, and none from what follows it but at the end."""
    jumps = (Jump(60, 20, 5, 0.5, 1.0), Jump(200, 10, 5, 0.6, 1.2))
    playhead, random = Playhead(jumps, 30.0), np.random.default_rng(0)
    places = [playhead.advance(1.0, float(random.random()), 0.5).position for _ in range(9000)]
    assert np.mean([place > 65 for place in places]) > 0.5
