"""Holes for training: their size, their ways, and that they depend on the draws alone."""

from __future__ import annotations

import numpy as np
import pytest

from training.data.holes import KINDS, LEAST, MOST, draw_holes


@pytest.mark.parametrize("kind", KINDS)
def test_holes_are_a_part_of_the_frame_and_depend_on_the_draws_alone(kind: str) -> None:
    shares = []
    for seed in range(60):
        one, again = (draw_holes(kind, 9, 96, 160, np.random.default_rng(seed)) for _ in range(2))
        assert np.array_equal(one, again)
        assert one.dtype == np.uint8
        assert one.shape == (9, 96, 160)
        assert set(np.unique(one)) == {0, 255}
        shares.append(np.mean(one == 0, axis=(1, 2)).max())
    assert min(shares) > LEAST / 4  # a part of a hole may be outside
    assert max(shares) < 2 * MOST
    assert np.mean(shares) > LEAST


def test_a_still_hole_stands_and_a_moving_one_shows_most_of_what_it_hides() -> None:
    still = draw_holes("still", 9, 96, 160, np.random.default_rng(3))
    assert np.array_equal(still[0], still[-1])
    hidden = [draw_holes("moving", 9, 96, 160, np.random.default_rng(seed)) == 0 for seed in range(20)]
    always = [clip.all(axis=0)[clip[4]].mean() for clip in hidden]
    assert np.mean(always) < 0.15
    assert max(always) < 0.5


def test_an_appearing_hole_comes_into_a_whole_picture() -> None:
    for seed in range(20):
        hidden = (draw_holes("appearing", 12, 96, 160, np.random.default_rng(seed)) == 0).any(axis=(1, 2))
        first = int(hidden.argmax())
        assert 3 <= first < 9
        assert hidden[first:].all()


def test_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="a hole is one of still, moving, appearing, got round"):
        draw_holes("round", 3, 32, 32, np.random.default_rng(0))
