"""Scores of motion with hints: what is right has no error, and standing still has an error of 1."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from training.model.generator import FrameEncoder, Shape
from training.tasks.hint_scores import _Sums, hint_scores


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def flow_of(count: int = 4) -> Tensor:
    """Return flow (count, 2, 16, 16): the left half moves by (2, 1), the right half is still."""
    flow = torch.zeros(count, 2, 16, 16)
    flow[:, 0, :, :8], flow[:, 1, :, :8] = 2, 1
    return flow


def test_the_truth_has_no_error_and_standing_still_has_one() -> None:
    right = _Sums.of(flow_of(), flow_of()).score("network", 3)
    assert (right.error, right.error_moving, right.clips) == (0, 0, 4)
    assert right.cosine == pytest.approx(1.0)
    still = _Sums.of(torch.zeros(4, 2, 16, 16), flow_of()).score("network", 3)
    assert (still.error, still.error_moving, still.cosine) == (pytest.approx(1), pytest.approx(1), 0)
    back = _Sums.of(-flow_of(), flow_of()).score("network", 3)
    assert (back.error, back.cosine) == (pytest.approx(2), pytest.approx(-1))


def test_what_moves_where_nothing_does_counts_only_over_all_places() -> None:
    made = flow_of()
    made[:, 0, :, 8:] = 2
    score = _Sums.of(made, flow_of()).score("network", 3)
    assert score.error == pytest.approx(2 / 5**0.5)
    assert score.error_moving == 0


def test_clips_that_stand_still_have_no_cosine() -> None:
    flow = torch.cat([flow_of(2), torch.zeros(2, 2, 16, 16)])
    assert _Sums.of(flow, flow).score("network", 1).cosine == pytest.approx(1.0)


def test_every_number_of_vectors_has_a_score_and_equal_seeds_give_equal_ones() -> None:
    torch.manual_seed(0)
    encoder = FrameEncoder(Shape(64, 64, 4, encoder_scale=0.25)).eval()
    pictures = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    batches = [(pictures, flow_of())]
    scores = hint_scores(encoder, batches, 0, (0, 1, 8))
    assert [(score.method, score.vectors) for score in scores] == [
        ("network", 0), ("network", 1), ("interpolation", 1), ("network", 8), ("interpolation", 8),
    ]  # fmt: skip
    assert scores == hint_scores(encoder, batches, 0, (0, 1, 8))
    assert scores != hint_scores(encoder, batches, 1, (0, 1, 8))
    assert scores[4].error < scores[2].error
    assert scores[4].cosine > 0.9
