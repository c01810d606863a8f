"""Hints sampled from true flow: how many, where, and what they say."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from training.data.hints import (
    MAX_VECTORS,
    SPEEDS,
    exact_hints,
    fastest,
    repaced,
    sample_hints,
    still_and_moving,
    stroke_over,
    tells_direction,
)
from training.tasks.task import Draw

CLIPS = 400


def make_draw(count: int = CLIPS, first: int = 0, total: int = 0, seed: int = 0) -> Draw:
    return Draw((seed, "test"), total or count, first, count)


def half_moving(count: int = CLIPS) -> Tensor:
    """Return flow (count, 2, 32, 32): the left half moves by (3, -1), the right half is still."""
    flow = torch.zeros(count, 2, 32, 32)
    flow[:, 0, :, :16], flow[:, 1, :, :16] = 3, -1
    return flow


def test_some_clips_have_none_and_the_others_up_to_eight_vectors() -> None:
    hints = sample_hints(half_moving(), make_draw())
    assert hints.shape == (CLIPS, 5, 16, 16)
    assert hints.dtype == torch.float32
    assert set(hints[:, 2:].unique().tolist()) == {0.0, 1.0}
    counts = hints[:, 2].sum(dim=(1, 2))
    assert set(counts.tolist()) == set(range(MAX_VECTORS + 1))
    empty = (hints.abs().amax(dim=(1, 2, 3)) == 0).float().mean().item()
    assert 0.35 < empty < 0.5
    assert (hints[:, :2] * (1 - hints[:, 2:3])).abs().max() == 0, "numbers only where a vector is"
    with_some = sample_hints(half_moving(), make_draw(), none=0.0)
    assert (with_some.abs().amax(dim=(1, 2, 3)) == 0).float().mean() < 0.15


def test_vectors_say_the_flow_with_a_little_noise_and_prefer_what_moves() -> None:
    hints = sample_hints(half_moving(), make_draw())
    given = hints[:, 2] > 0
    assert given[..., :8].sum() > 4 * given[..., 8:].sum() > 0
    left = hints[:, :2, :, :8].permute(0, 2, 3, 1)[given[..., :8]]  # (N, 2)
    right = hints[:, :2, :, 8:].permute(0, 2, 3, 1)[given[..., 8:]]
    assert left.mean(dim=0).tolist() == pytest.approx([3.0, -1.0], abs=0.1)
    assert 0.2 < left[:, 0].std() < 0.6
    assert 0.02 < right.std() < 0.2


def test_strokes_are_over_what_they_say() -> None:
    hints = sample_hints(half_moving(), make_draw(), none=0.0)
    still, moving = hints[:, 3], hints[:, 4]
    assert still[..., 8:].sum() > 0
    assert still[..., :8].sum() == 0
    assert moving[..., :8].sum() > 0
    assert moving[..., 8:].sum() == 0
    stroked = (still.amax(dim=(1, 2)) > 0).float().mean().item()
    assert 0.25 < stroked < 0.45
    sizes = moving.sum(dim=(1, 2))
    assert sizes.max() > 3 * sizes[sizes > 0].min()


def test_a_region_that_is_empty_has_no_stroke() -> None:
    assert stroke_over(torch.zeros(3, 8, 8), make_draw(3)).sum() == 0
    still, moving = still_and_moving(torch.zeros(1, 2, 8, 8))
    assert still.min() == 1
    assert moving.max() == 0


def test_still_clips_have_vectors_that_say_stillness() -> None:
    hints = exact_hints(torch.zeros(4, 2, 16, 16), 3, make_draw(4))
    assert hints[:, 2].sum(dim=(1, 2)).tolist() == [3, 3, 3, 3]
    assert hints[:, :2].abs().max() == 0
    assert not tells_direction(hints).any()


@pytest.mark.parametrize("count", [0, 1, 8])
def test_exact_hints_are_the_flow_itself(count: int) -> None:
    hints = exact_hints(half_moving(20), count, make_draw(20))
    assert hints[:, 2].sum(dim=(1, 2)).tolist() == [count] * 20
    true = torch.nn.functional.avg_pool2d(half_moving(20), 2) * hints[:, 2:3]
    assert torch.equal(hints[:, :2], true)
    assert hints[:, 3:].abs().max() == 0


def test_equal_keys_give_equal_hints_whatever_the_number_of_processes() -> None:
    whole = sample_hints(half_moving(8), make_draw(8))
    parts = [sample_hints(half_moving(4), make_draw(4, first, 8)) for first in (0, 4)]
    assert torch.equal(whole, torch.cat(parts))
    assert not torch.equal(whole, sample_hints(half_moving(8), make_draw(8, seed=1)))


def test_a_vector_tells_the_direction_only_if_it_moves() -> None:
    hints = torch.zeros(3, 5, 4, 4)
    hints[0, :3, 1, 1] = torch.tensor([0.0, 2.0, 1.0])
    hints[1, :3, 1, 1] = torch.tensor([0.03, 0.0, 1.0])
    hints[2, :3, 1, 1] = torch.tensor([5.0, 0.0, 0.0])  # no vector is given there
    assert tells_direction(hints).tolist() == [True, False, False]


def test_told_clips_are_played_at_any_speed_and_the_others_as_they_are() -> None:
    flow = 0.1 * half_moving()
    hints = sample_hints(flow, make_draw())
    faster, told = repaced(flow, hints, make_draw(seed=2))
    is_told = tells_direction(hints)
    assert torch.equal(faster[~is_told], flow[~is_told])
    assert torch.equal(told[~is_told], hints[~is_told])
    assert torch.equal(told[:, 2:], hints[:, 2:])
    speeds = fastest(told[is_told])
    assert speeds.min() == pytest.approx(SPEEDS[0], abs=0.05)
    assert speeds.max() == pytest.approx(SPEEDS[1], abs=0.3)
    factor = faster[is_told][:, 0, 0, 0] / flow[is_told][:, 0, 0, 0]
    torch.testing.assert_close(speeds, factor * fastest(hints[is_told]))
