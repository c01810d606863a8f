"""Noise: pinned values, statistics, independence of streams and frames, and invalid seeds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from runtime.noise import CODES, FRAMES, check_seed, normals

# Made by a plain Python Philox 4x64-10 (which gives Random123's known answers) and the math module, without NumPy.
PINNED = {
    (0, FRAMES, 0): [0.15853384137153625, 2.982879400253296, -1.9256919622421265, -0.8249255418777466],
    (7, FRAMES, 1): [0.2913329303264618, -0.4309677481651306, -1.3915674686431885, -1.5772831439971924],
    (7, CODES, 0): [-0.3401113450527191, 0.3665957450866699, -0.5645986199378967, 1.0001918077468872],
    (2**64 - 1, FRAMES, 10**6): [-0.1594330370426178, 1.2073521614074707, 1.678006887435913, -1.4160819053649902],
}


@pytest.mark.parametrize("place", PINNED)
def test_values_are_those_of_the_contract(place: tuple[int, int, int]) -> None:
    values = normals(*place, 4)
    assert values.dtype == np.float32
    # One unit in the last place is left to the machine's own log and cos.
    np.testing.assert_allclose(values, PINNED[place], rtol=2e-7)


def test_a_short_draw_is_the_start_of_a_long_one() -> None:
    long = normals(3, FRAMES, 5, 200)
    for count in (0, 1, 7, 64, 199):
        assert np.array_equal(normals(3, FRAMES, 5, count), long[:count])


def test_many_values_are_standard_normal() -> None:
    values = np.concatenate([normals(11, FRAMES, frame, 500) for frame in range(200)]).astype(np.float64)
    error = 1 / math.sqrt(values.size)
    assert abs(values.mean()) < 4 * error
    assert abs(values.var() - 1) < 4 * math.sqrt(2) * error
    assert abs((values**4).mean() - 3) < 4 * math.sqrt(96) * error
    assert abs((np.abs(values) < 1).mean() - 0.6827) < 4 * 0.47 * error


def test_frames_streams_and_seeds_are_independent() -> None:
    draws = [normals(seed, stream, frame, 4000) for seed in (0, 1) for stream in (0, 1) for frame in (0, 1)]
    correlation = np.corrcoef(draws) - np.eye(len(draws))
    assert np.abs(correlation).max() < 5 / math.sqrt(4000)


def test_neighbours_within_a_draw_are_independent() -> None:
    values = normals(5, FRAMES, 0, 40000)
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 5 / math.sqrt(40000)


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, True, "7", None])
def test_invalid_seeds_are_refused(seed: object) -> None:
    with pytest.raises(ValueError, match="a seed must be"):
        check_seed(seed)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [0, 2**64 - 1, np.int64(5)])
def test_valid_seeds_pass(seed: int) -> None:
    assert check_seed(seed) == int(seed)
