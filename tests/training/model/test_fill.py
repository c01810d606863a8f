"""The fill of holes: what is seen stays, what was seen comes back in place, and a cut is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.training.model.test_super_resolution import texture
from training.model.fill import PAINTED, Filled, Filler, reduction
from training.stages.adaptation import open_start

LANDSCAPE = Path(__file__).parents[3] / "bundles/landscape"
HEIGHT, WIDTH = 64, 96
ALL, NONE = torch.ones(1, 1), torch.zeros(1, 1)
HOLE = (..., slice(20, 44), slice(36, 60))


@pytest.fixture(scope="module")
def network() -> Filler:
    """A network that paints nothing but the smooth fill."""
    return silent(HEIGHT, WIDTH)


def silent(height: int, width: int) -> Filler:
    torch.manual_seed(0)
    network = Filler(height, width).eval().requires_grad_(False)
    network.last.weight.zero_()
    return network


def holed(height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    mask = torch.ones(1, 1, height, width)
    mask[HOLE] = 0
    return mask


def played(network: Filler, frames: list[Tensor], masks: list[Tensor], memory: Tensor = ALL) -> Filled:
    state = network.initial_state(1)
    for frame, mask in zip(frames, masks, strict=True):
        filled = network(frame, mask, state, memory)
        state = filled.state
    return filled


@pytest.mark.parametrize("size", [(64, 96), (50, 70), (300, 520)])
def test_what_is_seen_is_untouched_at_any_size(size: tuple[int, int]) -> None:
    network, frame = silent(*size), texture(*size)
    filled = played(network, [frame, frame], [holed(*size)] * 2)
    assert filled.frame.shape == frame.shape
    outside = holed(*size).expand_as(frame) > 0
    torch.testing.assert_close(filled.frame[outside], frame[outside], atol=1e-6, rtol=0)
    assert [reduction(*size), reduction(256, 9000), reduction(257, 300), reduction(720, 1280)] == [
        2 if size[0] == 300 else 1, 1, 2, 3,
    ]  # fmt: skip


def test_what_a_frame_says_in_a_hole_does_not_matter(network: Filler) -> None:
    frame, other = texture(HEIGHT, WIDTH), texture(HEIGHT, WIDTH)
    other = torch.where(holed() > 0, other, 1 - other)
    one, two = (played(network, [picture] * 3, [holed()] * 3) for picture in (frame, other))
    torch.testing.assert_close(one.frame, two.frame)


def test_what_was_seen_comes_back_where_nothing_moves(network: Filler) -> None:
    frame = texture(HEIGHT, WIDTH, seed=1)
    filled = played(network, [frame] + [frame] * 30, [torch.ones(1, 1, HEIGHT, WIDTH)] + [holed()] * 30)
    assert (filled.frame - frame)[HOLE].abs().max() < 1e-3  # and does not fade
    assert filled.trust[HOLE].min() > 0.99
    forgotten = played(network, [frame] * 3, [torch.ones(1, 1, HEIGHT, WIDTH)] + [holed()] * 2, NONE)
    assert (forgotten.frame - frame)[HOLE].abs().mean() > 0.02
    smooth = played(network, [frame], [holed()])
    torch.testing.assert_close(forgotten.frame, smooth.frame)


def test_what_was_seen_moves_with_the_picture_around_the_hole(network: Filler) -> None:
    whole = F.interpolate(texture(HEIGHT // 4, WIDTH // 4 + 8, seed=2), scale_factor=4.0, mode="bicubic")
    frames = [whole[..., start : start + WIDTH] for start in range(0, 16, 2)]
    masks = [torch.ones(1, 1, HEIGHT, WIDTH)] + [holed()] * (len(frames) - 1)
    filled = played(network, frames, masks)
    unmoved = (frames[0] - frames[-1])[HOLE].abs().mean()
    assert (filled.frame - frames[-1])[HOLE].abs().mean() < 0.3 * unmoved


def test_something_that_moves_beside_a_hole_does_not_take_the_background_along(network: Filler) -> None:
    still = texture(HEIGHT, WIDTH, seed=3)
    passer_by = texture(HEIGHT, WIDTH, seed=4)
    frames = []
    for number in range(6):
        frame = still.clone()
        frame[..., 18 + 2 * number : 34 + 2 * number] = passer_by[..., :16]  # touches the hole's left part
        frames.append(frame)
    covered = holed()
    covered[..., 20:44, 30:50] = 0
    filled = played(network, [still, *frames], [torch.ones(1, 1, HEIGHT, WIDTH)] + [covered] * 6)
    right = (..., slice(22, 42), slice(50, 59))
    assert (filled.frame - still)[right].abs().mean() < 0.1 * (still - passer_by)[right].abs().mean()


def test_light_that_changes_is_taken_on(network: Filler) -> None:
    """Over eight frames it becomes brighter by 0.16; what is remembered would be off by that."""
    frame = texture(HEIGHT, WIDTH, seed=5) * 0.7 + 0.1
    frames = [frame + 0.02 * number for number in range(9)]
    filled = played(network, frames, [torch.ones(1, 1, HEIGHT, WIDTH)] + [holed()] * 8)
    assert (filled.frame - frames[-1])[HOLE].abs().mean() < 0.03


def test_after_a_cut_nothing_is_believed(network: Filler) -> None:
    before, after = texture(HEIGHT, WIDTH, seed=6), 1 - texture(HEIGHT, WIDTH, seed=6)
    filled = played(network, [before, after], [torch.ones(1, 1, HEIGHT, WIDTH), holed()])
    kept = played(network, [after, after], [torch.ones(1, 1, HEIGHT, WIDTH), holed()])
    assert filled.trust[HOLE].mean() < 0.35
    assert kept.trust[HOLE].mean() > 0.99


def test_a_mask_that_hides_everything_is_survived(network: Filler) -> None:
    frame, nothing = texture(HEIGHT, WIDTH), torch.zeros(1, 1, HEIGHT, WIDTH)
    filled = played(network, [frame] * 5, [nothing] * 5)
    assert bool(torch.isfinite(filled.frame).all())
    assert filled.frame.std() < 0.2
    assert float(filled.state.trust.max()) <= PAINTED + 1e-6


def test_a_start_gives_encoder_and_painter() -> None:
    weights = open_start(LANDSCAPE).weights
    network = Filler(64, 64)
    network.start_from(weights)
    assert torch.equal(network.trunk.stem.weight, weights["condition.encoder.trunk.stem.weight"])
    assert torch.equal(network.merge16.weight, weights["condition.painter.merge16.weight"])
    assert torch.equal(network.merge8.weight, weights["condition.painter.merge8.weight"][:, :96])
    with pytest.raises(ValueError, match="the encoder of --start has other channels"):
        network.start_from({**weights, "condition.encoder.trunk.stem.weight": torch.zeros(8, 12, 3, 3)})
