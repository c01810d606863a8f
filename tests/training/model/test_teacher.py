"""The frozen teacher: what pretraining learned comes back, and nothing of it moves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.training.tasks.test_task import CAPTIONS, SIDE, make_config, moving_shapes
from tests.training.words_fixture import make_words
from training.data.words import WordVectors
from training.model.teacher import FRAMES, Teacher
from training.stages.pretrain import Pretrainer
from training.tasks.position import CELL, cell_centres, moved

CELLS = SIDE // CELL


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> WordVectors:
    return WordVectors.open(make_words(tmp_path_factory.mktemp("teacher") / "words", CAPTIONS))


def pretrained(words: WordVectors | None, **weights: float) -> dict[str, Tensor]:
    """Return the weights of a pretrainer, as a checkpoint has them."""
    torch.manual_seed(0)
    return Pretrainer(make_config(**weights), None, words).state_dict()


def test_it_is_what_was_pretrained_and_frozen(words: WordVectors) -> None:
    weights = pretrained(words, position=1.0, alignment=1.0, order=1.0)
    teacher = Teacher.from_checkpoint(make_config(), weights, words)
    assert not teacher.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    found = teacher.state_dict()
    places = {"trunk.": "generator.condition.encoder.trunk."}
    places |= {f"{name}.": f"tasks.{name}." for name in ("position", "alignment")}
    for key, value in found.items():
        own = next(prefix for prefix in places if key.startswith(prefix))
        assert torch.equal(value, weights[places[own] + key.removeprefix(own)]), key
    assert {key.split(".")[0] for key in found} == {"trunk", "position", "alignment"}


def test_a_head_that_was_not_trained_is_not_there(words: WordVectors) -> None:
    order = Teacher.from_checkpoint(make_config(), pretrained(None, order=1.0), words)
    assert order.position is None
    assert order.alignment is None
    both = pretrained(words, position=1.0, alignment=1.0)
    mute = Teacher.from_checkpoint(make_config(), both, None)
    assert mute.position is not None
    assert mute.alignment is None, "nobody can read captions without words"


def test_words_of_another_size_are_one_sentence(words: WordVectors, tmp_path: Path) -> None:
    other = WordVectors.open(make_words(tmp_path / "words", CAPTIONS, dimensions=12))
    weights = pretrained(words, alignment=1.0)
    with pytest.raises(ValueError, match="trained with word vectors of 16 values and these have 12: pass the --words"):
        Teacher.from_checkpoint(make_config(), weights, other)
    Teacher.from_checkpoint(make_config(), pretrained(None, position=1.0), other)  # nothing reads them there


@pytest.fixture(scope="module")
def tracker() -> Teacher:
    """A teacher that looks at the fine levels alone: what they see moves as the picture moves, without training."""
    weights = pretrained(None, position=1.0)
    for name in ("wide", "whole"):
        weights[f"tasks.position.{name}.weight"].zero_()
        weights[f"tasks.position.{name}.bias"].zero_()
    return Teacher.from_checkpoint(make_config(), weights, None)


def test_tracks_of_a_picture_moved_by_whole_cells(tracker: Teacher) -> None:
    first = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    moves = torch.tensor([[1, 0], [-1, 2]])  # cells, x first
    clips = torch.stack([first, first, moved(first, CELL * moves), first], dim=1)
    levels = tracker(clips, alone=True)
    centres = cell_centres(CELLS, CELLS)
    tracks = tracker.tracks(levels, 2, 1, 2)
    assert tracks.shape == (2, CELLS * CELLS, 2)
    target = centres + moves[:, None]
    inside = ((target > 1) & (target < CELLS - 1) & (centres > 1) & (centres < CELLS - 1)).all(dim=2)
    assert inside.float().mean() > 0.3
    # What lies at a cell is found where it has gone; around it the soft argmax averages a little.
    assert (tracks - target).norm(dim=2)[inside].mean() < 0.35
    still = tracker.tracks(levels, 2, 1, 3)
    assert (still - centres).norm(dim=2).mean() < 0.35
    assert tracker.tracks(levels, 1, 1, 2).shape[0] == 1, "of the first clips alone"


def test_a_frame_alone_does_not_see_the_one_before_it(tracker: Teacher) -> None:
    clips = torch.rand(1, FRAMES, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    other = clips.clone()
    other[:, 1] = 1 - other[:, 1]
    alone, chained = ([tracker(each, alone=way) for each in (clips, other)] for way in (True, False))
    assert torch.allclose(alone[0].x8[2], alone[1].x8[2], atol=1e-6)
    assert not torch.allclose(chained[0].x8[2], chained[1].x8[2], atol=1e-4)
    assert torch.allclose(chained[0].x8[0], alone[0].x8[0], atol=1e-5), "the first frame has none before it"


def test_gradients_reach_the_pictures_and_not_the_teacher(words: WordVectors) -> None:
    teacher = Teacher.from_checkpoint(make_config(), pretrained(words, position=1.0, alignment=1.0), words)
    clips = moving_shapes(2, noise=0.1).frames.requires_grad_(True)
    (teacher.tracks(teacher(clips, alone=True), 2, 1, 3).square().mean()).backward()
    assert clips.grad is not None
    assert clips.grad[:, 1].abs().sum() > 0
    assert clips.grad[:, 3].abs().sum() > 0
    clips.grad = None
    teacher.misfit(teacher(clips), list(CAPTIONS[:2])).backward()
    assert clips.grad is not None
    assert (clips.grad.abs().flatten(1).sum(dim=1) > 0).all()
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_misfit_is_lower_for_the_right_captions_and_equal_ones_are_all_right(words: WordVectors) -> None:
    teacher = Teacher.from_checkpoint(make_config(), pretrained(words, alignment=1.0), words)
    assert teacher.alignment is not None
    texts = teacher.alignment.embed_texts(list(CAPTIONS[:4]))
    teacher.alignment.embed_clips = lambda levels: texts  # type: ignore[method-assign]
    levels = teacher(moving_shapes(4).frames)
    right = teacher.misfit(levels, list(CAPTIONS[:4]))
    wrong = teacher.misfit(levels, [*CAPTIONS[1:4], CAPTIONS[0]])
    assert right < wrong
    scores = teacher.alignment.log_scale.exp() * texts @ texts.T
    assert right.item() == pytest.approx(-torch.log_softmax(scores, dim=1).diagonal().mean().item(), rel=1e-4)
    same = teacher.misfit(levels, [CAPTIONS[0]] * 4)
    assert same.item() == pytest.approx(torch.log(torch.tensor(4.0)).item(), rel=1e-4), "no caption tells them apart"
