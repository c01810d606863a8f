"""Video-text alignment: InfoNCE by hand, captions that are equal, and a network that finds every caption."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from tests.training.tasks.test_task import CAPTIONS, SIDE, make_config, make_draw, moving_shapes
from tests.training.words_fixture import make_words
from training.data.words import WordVectors
from training.model.trunk import Levels, Trunk
from training.stages.pretrain import Pretrainer
from training.tasks.alignment import (
    EMBEDDING,
    AlignmentTask,
    colour_statistics,
    hash_of,
    info_nce,
    left_out_regression,
    recall,
    shared_out,
)
from training.tasks.task import TaskEvaluation

STEPS = 80


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> WordVectors:
    return WordVectors.open(make_words(tmp_path_factory.mktemp("alignment") / "words", CAPTIONS, dimensions=16))


@pytest.fixture
def task(words: WordVectors) -> AlignmentTask:
    torch.manual_seed(0)
    return AlignmentTask(make_config(alignment=1.0), words)


def test_without_words_there_is_a_sentence_that_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"python -m training words .* --words WORDS, or set pretrain\.alignment to 0"):
        AlignmentTask(make_config(alignment=1.0), None)
    with pytest.raises(ValueError, match="the alignment task needs word vectors"):
        Pretrainer(make_config(alignment=1.0))


def test_info_nce_of_two_pairs_by_hand() -> None:
    unit, keys = torch.eye(2), torch.tensor([5, 7])
    for scale in (1.0, 3.0):
        loss = info_nce(unit, unit, keys, torch.tensor(scale))
        assert loss.item() == pytest.approx(math.log(1 + math.exp(-scale)), rel=1e-5)
    swapped = info_nce(unit, unit.flip(0), keys, torch.tensor(3.0))
    assert swapped.item() == pytest.approx(math.log(1 + math.exp(3)), rel=1e-5)
    # Clips to texts and texts to clips are different questions: two clips that look alike.
    clips, texts = torch.tensor([[1.0, 0], [1, 0]]), torch.eye(2)
    to_text = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(1))) / 2
    expected = (to_text + math.log(2)) / 2
    assert info_nce(clips, texts, keys, torch.tensor(1.0)).item() == pytest.approx(expected, rel=1e-5)


def test_equal_captions_are_equally_right() -> None:
    assert shared_out(torch.tensor([[True, True, False], [False, False, True]])).tolist() == [[0.5, 0.5, 0], [0, 0, 1]]
    unit = torch.eye(2)
    loss = info_nce(unit, unit, torch.tensor([7, 7]), torch.tensor(3.0))
    assert loss.item() == pytest.approx(math.log(1 + math.exp(3)) - 1.5, rel=1e-5)
    same = torch.tensor([[1.0, 0], [1, 0]])
    assert info_nce(same, same, torch.tensor([7, 7]), torch.tensor(3.0)).item() == pytest.approx(math.log(2), rel=1e-5)


def test_recall_counts_a_right_answer_among_the_best() -> None:
    scores = torch.tensor([[0.9, 0.1, 0.5], [0.2, 0.8, 0.9], [0.3, 0.2, 0.1], [0.1, 0.2, 0.3]])
    right = torch.eye(3, dtype=torch.bool)[[0, 1, 2, 1]]
    right[3, 0] = True  # two right answers
    assert recall(scores, right, 1) == pytest.approx(1 / 4)
    assert recall(scores, right, 2) == pytest.approx(3 / 4)
    assert recall(scores, right, 3) == 1
    assert recall(scores, right, 10) == 1


def test_a_hash_is_equal_for_equal_texts_alone() -> None:
    assert hash_of("a candle") == hash_of("a " + "candle")
    texts = [
        *CAPTIONS, "", "a", "b", "ab", "ba", "Ä", "a" * 600, "a" * 600 + "b", "a" * 512 + "c",
        "a.......b", "i.......a",  # eight letters apart
        "x" + "." * 60 + "y", "y" + "." * 60 + "x",
    ]  # fmt: skip
    hashes = [hash_of(text) for text in texts]
    assert len(set(hashes)) == len(texts)
    assert torch.tensor(hashes).tolist() == hashes  # they fit into int64
    assert min(hashes) >= 0


def test_regression_leaves_the_own_group_out() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(60, 3)
    targets = inputs @ torch.randn(3, 2) + 5
    groups = [f"scene {index % 6}" for index in range(60)]
    assert torch.allclose(left_out_regression(inputs, targets, groups, ridge=1e-4), targets, atol=1e-2)
    own = torch.tensor([group == "scene 2" for group in groups])
    wrong = torch.where(own[:, None], torch.tensor(1000.0), targets)
    predicted = left_out_regression(inputs, wrong, groups, ridge=1e-4)
    assert torch.allclose(predicted[own], targets[own], atol=1e-2)
    assert not torch.allclose(predicted[~own], targets[~own], atol=1.0)
    # By hand: the other group's two rows have mean 2 and a spread of sqrt(2); with a ridge of 1 the slope is halved.
    predicted = left_out_regression(
        torch.tensor([[1.0], [3], [5], [7]]), torch.tensor([[1.0], [3], [9], [9]]), list("aabb")
    )
    assert predicted[2].item() == pytest.approx(2 + (3 / math.sqrt(2)) * (math.sqrt(2) / 2), rel=1e-4)


def test_regression_bears_groups_of_one_clip() -> None:
    predicted = left_out_regression(torch.rand(2, 3), torch.tensor([[1.0], [2.0]]), ["a", "b"])
    assert predicted.flatten().tolist() == [0, 0]  # one other row is too few to learn from
    assert torch.isfinite(left_out_regression(torch.rand(2, 3), torch.ones(2, 1), ["a", "a"])).all()


def test_colour_statistics_are_of_the_upper_and_the_lower_half() -> None:
    frames = torch.zeros(1, 2, 3, 4, 2)
    frames[:, :, 0, :2] = 1.0  # red above
    frames[:, :, 1, 2:, 0] = 1.0  # green below left
    statistics = colour_statistics(frames)[0]
    assert statistics[:6].tolist() == [1, 0, 0, 0.5, 0, 0]
    assert statistics[6:].tolist() == pytest.approx([0, 0, 0, math.sqrt(4 * 0.25 / 3), 0, 0])


def test_embeddings_are_of_unit_length_and_forgive_unknown_words(task: AlignmentTask) -> None:
    texts = task.embed_texts(["a red square", "unheard of", ""])
    assert texts.shape == (3, EMBEDDING)
    assert torch.allclose(texts.norm(dim=1), torch.ones(3), atol=1e-5)
    assert torch.allclose(texts[1], texts[2])
    levels = Levels(*(torch.rand(8, channels, 4, 4) for channels in Trunk(0.25, 0).channels))
    clips = task.embed_clips(levels)
    assert clips.shape == (2, EMBEDDING)
    assert torch.allclose(clips.norm(dim=1), torch.ones(2), atol=1e-5)
    assert torch.allclose(task.embed_clips(levels.rows(4, 8))[0], clips[1], atol=1e-6)


def test_the_loss_is_the_info_nce_of_the_batch(task: AlignmentTask, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = moving_shapes(2)._replace(captions=["a red square", "a red square"])
    same = F.normalize(torch.ones(2, EMBEDDING), dim=1)
    monkeypatch.setattr(task, "embed_clips", lambda levels, kept=None: same)
    monkeypatch.setattr(task, "embed_texts", lambda texts: same)
    levels = Levels(*[torch.zeros(8, 1, 1, 1)] * 4)
    loss, figures = task.loss(None, levels, None, clips, make_draw(2))  # type: ignore[arg-type]
    assert loss.item() == pytest.approx(math.log(2), rel=1e-5)
    assert figures["accuracy"] == 1


def test_words_are_left_out_but_never_all(task: AlignmentTask, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def embed(texts: list[str]) -> torch.Tensor:
        asked.extend(texts)
        return F.normalize(torch.ones(len(texts), EMBEDDING), dim=1)

    monkeypatch.setattr(task, "embed_texts", embed)
    levels = Levels(*(torch.zeros(8 * 4, channels, 2, 2) for channels in Trunk(0.25, 0).channels))
    clips = moving_shapes(8)._replace(captions=["sea", "one two three four"] * 4)
    for step in range(25):
        task.loss(None, levels, None, clips, make_draw(8, step))  # type: ignore[arg-type]
    assert set(asked[::2]) == {"sea"}
    lengths = [len(text.split()) for text in asked[1::2]]
    assert 2.6 < sum(lengths) / len(lengths) < 3.4  # a quarter of the words is left out
    assert min(lengths) > 0
    assert all(text in "one two three four" or "  " not in text for text in asked)


def test_the_network_finds_the_caption_of_every_clip(words: WordVectors) -> None:
    torch.manual_seed(0)
    pretrainer = Pretrainer(make_config(0.5, alignment=1.0), None, words)
    task = pretrainer.tasks["alignment"]
    assert isinstance(task, AlignmentTask)
    clips = moving_shapes(8)
    held = TaskEvaluation(pretrainer.generator, [clips], seed=99)
    optimiser = torch.optim.AdamW((p for p in pretrainer.parameters() if p.requires_grad), 2e-3, betas=(0.9, 0.99))
    for step in range(STEPS):
        optimiser.param_groups[0]["lr"] = 2e-3 * min(1, (step + 1) / 10) * (1 - 0.9 * step / STEPS)
        loss, _ = pretrainer(clips, make_draw(8, step))  # moved and coloured anew, other words left out
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(pretrainer.parameters(), 1.0)
        optimiser.step()
    first, fifth = task.measure(held)
    assert (first.name, fifth.name) == ("retrieval R@1", "retrieval R@5")
    assert first.value == 1
    assert fifth.value == 1
    assert (first.chance, fifth.chance) == (1 / 8, 5 / 8)
    sheet, _ = task.pictures(held)["neighbours"]
    assert (sheet.ndim, str(sheet.dtype)) == (3, "uint8")
    assert sheet.shape[0] * (6 * SIDE + 8) == sheet.shape[1] * 8 * SIDE  # eight captions, five neighbours each


def test_words_are_not_part_of_a_checkpoint(task: AlignmentTask, tmp_path: Path) -> None:
    assert {name.split(".")[0] for name in task.state_dict()} == {"of_clip", "of_text", "log_scale"}
