"""Motion hints: how vectors are spread, what brushes do, and that no hint changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from training.checkpoint import HINTS, load_weights
from training.model.generator import MAX_FLOW, ConditionMemory, FrameEncoder, Shape, VideoGenerator
from training.model.hints import CHANNELS, hint_maps, spread

SHAPE = Shape(64, 96, 4, 16, encoder_scale=0.25)
CELLS = (8, 12)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def hints_of(*vectors: tuple[int, int, float, float]) -> Tensor:
    """Return hints (1, 5, 8, 12) with vectors (row, column, x, y)."""
    hints = torch.zeros(1, CHANNELS, *CELLS)
    for row, column, x, y in vectors:
        hints[0, :3, row, column] = torch.tensor([x, y, 1.0])
    return hints


def trained_encoder() -> FrameEncoder:
    """Return an encoder in whose hint layers every weight has a say."""
    torch.manual_seed(0)
    encoder = FrameEncoder(SHAPE).eval()
    for weight in encoder.hints.parameters():
        torch.nn.init.normal_(weight, 0, 0.1)
    return encoder


def picture() -> Tensor:
    return torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def equal(one: ConditionMemory, other: ConditionMemory) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_one_vector_reaches_every_place_and_fades() -> None:
    hints = torch.zeros(1, CHANNELS, 40, 40)
    hints[0, :3, 20, 20] = torch.tensor([2.0, -1.0, 1.0])
    motion, nearness = spread(hints)
    assert motion.shape == (1, 2, 40, 40)
    expected = torch.tensor([2.0, -1.0]).reshape(1, 2, 1, 1).expand_as(motion)
    torch.testing.assert_close(motion, expected)
    assert nearness[0, :, 20, 20].tolist() == pytest.approx([1.0, 1.0, 1.0])
    assert (nearness[0, 2] > 0).sum() == 25, "a box of 3 cells twice reaches 2 cells"
    assert (nearness[0, :-1] >= nearness[0, 1:] - 1e-6).all(), "coarser scales reach farther"


def test_every_vector_rules_its_own_surroundings() -> None:
    motion, _ = spread(hints_of((2, 1, 3.0, 0.0), (5, 10, -3.0, 1.0)))
    assert motion[0, :, 2, 1].tolist() == [3.0, 0.0]
    assert motion[0, :, 5, 10].tolist() == [-3.0, 1.0]
    assert motion[0, 0, 2, 2] > 2
    assert motion[0, 0, 5, 9] < -2


def test_numbers_where_no_vector_is_given_are_ignored() -> None:
    hints = hints_of((2, 1, 3.0, 0.0))
    noisy = hints.clone()
    noisy[:, :2] += 7 * (1 - noisy[:, 2:3])
    for one, other in zip(hint_maps(hints), hint_maps(noisy), strict=True):
        torch.testing.assert_close(one, other)


@torch.no_grad()
def test_no_hint_changes_nothing_whatever_was_learned() -> None:
    encoder, image = trained_encoder(), picture()
    assert equal(encoder(image, hints=torch.zeros(1, CHANNELS, *CELLS)), encoder(image))
    assert not equal(encoder(image, hints=hints_of((3, 4, 2.0, 0.0))), encoder(image))
    brushed = torch.zeros(1, CHANNELS, *CELLS)
    brushed[:, 4, :4] = 1
    assert not torch.equal(encoder(image, hints=brushed).modes, encoder(image).modes), "sway may follow a brush"


@torch.no_grad()
def test_one_clip_of_a_batch_has_hints_and_the_other_has_none() -> None:
    encoder, image = trained_encoder(), picture().expand(2, -1, -1, -1)
    hints = torch.cat([hints_of((3, 4, 2.0, 0.0)), torch.zeros(1, CHANNELS, *CELLS)])
    told, bare = encoder(image, hints=hints), encoder(image)
    torch.testing.assert_close(told.flow[1], bare.flow[1])
    assert not torch.allclose(told.flow[0], bare.flow[0])


@torch.no_grad()
def test_an_untrained_generator_follows_the_spread_vectors() -> None:
    torch.manual_seed(0)
    encoder, image = FrameEncoder(SHAPE).eval(), picture()
    flow = encoder(image, hints=hints_of((3, 4, 4.0, -2.0))).flow
    assert flow[0, 0].mean() == pytest.approx(4.0, abs=1.0)
    assert flow[0, 1].mean() == pytest.approx(-2.0, abs=1.0)
    fast = encoder(image, hints=hints_of((3, 4, 100.0, 0.0))).flow
    assert fast[:, :2].abs().max() <= MAX_FLOW


@torch.no_grad()
def test_the_still_brush_holds_and_the_moving_brush_frees() -> None:
    encoder, image = trained_encoder(), picture()
    hints = torch.zeros(1, CHANNELS, *CELLS)
    hints[:, 3, :, :4] = 1
    hints[:, 4, :, 8:] = 1
    free = encoder(image, hints=hints).flow[0, 2]  # (16, 24)
    assert free[:, :7].abs().max() == 0
    assert free[:, 17:].min() == pytest.approx(1.0)
    assert 0 < free[:, 10:14].min() <= free[:, 10:14].max() < 1, "elsewhere the network decides"
    hints[:, 3:] = 1
    assert encoder(image, hints=hints).flow[0, 2].max() == 0, "under both, nothing moves"


@torch.no_grad()
def test_weights_from_before_hints_are_continued(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    torch.manual_seed(0)
    before = VideoGenerator(SHAPE).eval()
    old = {name: value for name, value in before.state_dict().items() if HINTS not in name}
    torch.manual_seed(1)
    after = VideoGenerator(SHAPE).eval()
    path = tmp_path / "finetune.pt"
    load_weights(after, old, path)
    load_weights(after, old, path)
    said = capsys.readouterr().out
    assert said == f"{path} was trained without motion hints: the layers that read them start untrained\n"
    image = picture()
    memories = [generator.condition.encoder(image) for generator in (before, after)]
    assert equal(*memories)
    zeros = torch.zeros(1, CHANNELS, *CELLS)
    assert equal(after.condition.encoder(image, hints=zeros), memories[0])
    del old["step.log_rate"]
    with pytest.raises(ValueError, match="are not those of the model that it describes"):
        load_weights(after, old, path)


def test_half_of_the_hint_weights_are_a_damaged_checkpoint(tmp_path: Path) -> None:
    generator = VideoGenerator(SHAPE)
    weights = {name: value for name, value in generator.state_dict().items() if "hints.to4" not in name}
    with pytest.raises(ValueError, match="it is damaged"):
        load_weights(generator, weights, tmp_path / "finetune.pt")
