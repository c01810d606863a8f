"""The shared causal encoder: what it sees of the past, and what it never sees."""

from __future__ import annotations

import pytest
import torch

from training.model.trunk import CHANNELS, Levels, Trunk, causal_shift, previous_rows


@pytest.fixture(scope="module")
def trunk() -> Trunk:
    torch.manual_seed(0)
    return Trunk(0.5, 1).eval().requires_grad_(False)


def count_parameters(trunk: Trunk) -> int:
    return sum(parameter.numel() for parameter in trunk.parameters())


def test_previous_rows_chains_the_frames_of_every_clip() -> None:
    assert previous_rows(2, 3).tolist() == [0, 0, 1, 3, 3, 4]
    assert previous_rows(3, 1).tolist() == [0, 1, 2]
    assert previous_rows(0, 4).tolist() == []


def test_causal_shift_takes_an_eighth_of_the_channels_from_the_frame_before() -> None:
    # Three frames of 16 channels of one pixel: channel c of frame n is 100 n + c.
    x = (100.0 * torch.arange(3)[:, None] + torch.arange(16)).reshape(3, 16, 1, 1)
    shifted = causal_shift(x, torch.tensor([0, 0, 1]))[:, :, 0, 0]
    assert shifted[:, :2].tolist() == [[0, 1], [0, 1], [100, 101]]
    assert torch.equal(shifted[:, 2:], x[:, 2:, 0, 0])
    assert causal_shift(x, None) is x


def test_a_picture_alone_is_a_clip_that_stands_still(trunk: Trunk) -> None:
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    alone = trunk(picture)
    clip = trunk(picture.expand(4, -1, -1, -1), previous_rows(1, 4))
    for one, four in zip(alone, clip, strict=True):
        assert torch.allclose(one.expand_as(four), four, atol=1e-5)


def test_no_frame_sees_a_later_one_or_another_clip(trunk: Trunk) -> None:
    frames = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    changed = frames.clone()
    changed[2] = 1 - changed[2]  # the third frame of the first of two clips
    before, after = (trunk(each, previous_rows(2, 4)) for each in (frames, changed))
    for one, two in zip(before, after, strict=True):
        differs = (one - two).abs().amax(dim=(1, 2, 3)) > 1e-5
        assert differs.tolist()[:3] == [False, False, True]
        assert not differs[4:].any()
    # Each level has a block, and one block looks one frame back.
    assert (before.x4[3] - after.x4[3]).abs().max() > 1e-4
    assert (before.x32[3] - after.x32[3]).abs().max() > 1e-4


def test_each_block_reaches_one_frame_further_back() -> None:
    torch.manual_seed(0)
    frames = torch.rand(4, 3, 64, 64)
    changed = torch.cat([1 - frames[:1], frames[1:]])
    for depth, reach in ((1, 1), (2, 2)):
        trunk = Trunk(0.25, depth).eval().requires_grad_(False)
        levels = [trunk(each, previous_rows(1, 4)).x4 for each in (frames, changed)]
        seen = (levels[0] - levels[1]).abs().amax(dim=(1, 2, 3)) > 0
        assert seen.tolist() == [time <= reach for time in range(4)]


def test_levels_are_a_quarter_to_a_thirty_second_of_the_size(trunk: Trunk) -> None:
    levels = trunk(torch.rand(3, 3, 64, 96))
    assert trunk.channels == (24, 32, 48, 48)
    assert [tuple(level.shape) for level in levels] == [(3, 24, 16, 24), (3, 32, 8, 12), (3, 48, 4, 6), (3, 48, 2, 3)]
    rows = levels.rows(1, 3)
    assert isinstance(rows, Levels)
    assert all(torch.equal(some, every[1:3]) for some, every in zip(rows, levels, strict=True))


def test_scale_multiplies_channels_and_depth_adds_blocks() -> None:
    assert Trunk().channels == CHANNELS[1:]
    small = count_parameters(Trunk())
    with torch.device("meta"):
        large = Trunk(10.0)
        deep = Trunk(1.0, 3)
    assert large.channels == tuple(10 * channels for channels in CHANNELS[1:])
    assert 97 < count_parameters(large) / small < 101
    # A block is two 3x3 convolutions of C to C channels with biases.
    block = sum(2 * (9 * channels * channels + channels) for channels in CHANNELS[1:])
    assert count_parameters(deep) - small == 2 * block
    assert all(channels % 8 == 0 for scale in (0.25, 0.3, 0.7, 1.1) for channels in Trunk(scale, 0).channels)
