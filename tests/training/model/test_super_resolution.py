"""Super-resolution of live video: what it starts as, what it brings along, and when it does not."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from training.model.super_resolution import LiveState, SuperResolver

CONTROLS = torch.tensor([[1.0, 0.0, 1.0]])


def texture(height: int, width: int, seed: int = 0) -> Tensor:
    """Return a grey picture (1, 3, height, width) with waves of 6 to 20 pixels."""
    random = torch.Generator().manual_seed(seed)
    noise = torch.rand(1, 1, height // 4 + 4, width // 4 + 4, generator=random)
    smooth = F.interpolate(noise, scale_factor=4.0, mode="bicubic")[:, :, 8 : 8 + height, 8 : 8 + width]
    return smooth.clamp(0, 1).expand(1, 3, height, width)


def silent(height: int, width: int) -> SuperResolver:
    """Return a network that adds nothing."""
    network = SuperResolver(height, width, 8, 1).eval().requires_grad_(False)
    network.last.weight.zero_()
    return network


@pytest.mark.parametrize("size", [(32, 48), (36, 52)])
def test_without_what_the_network_adds_it_is_bicubic_enlargement(size: tuple[int, int]) -> None:
    network, frame = silent(*size), texture(*size)
    large, state = network(frame, network.initial_state(1), CONTROLS)
    cubic = F.interpolate(frame, scale_factor=2.0, mode="bicubic").clamp(0, 1)
    inner = (..., slice(8, -8), slice(8, -8))
    torch.testing.assert_close(large[inner], cubic[inner], atol=1e-5, rtol=0)
    assert large.shape == (1, 3, 2 * size[0], 2 * size[1])
    assert [side % 8 for part in state for side in part.shape[2:]] == [0] * 4


def test_detail_is_brought_to_where_it_has_moved() -> None:
    """A large frame that moves by 2 small pixels: its detail is found again at the new place."""
    height, width = 64, 96
    whole = texture(2 * height, 2 * width + 8, seed=3)
    fine = 0.1 * torch.rand(1, 1, 2 * height, 2 * width + 8, generator=torch.Generator().manual_seed(4))
    before, after = (whole[..., start : start + 2 * width] for start in (4, 0))
    small = [F.avg_pool2d(part[:, :1], 2) for part in (before, after)]
    network = silent(height, width)
    state = LiveState(small[0], before[:, :1] + fine[..., 4 : 4 + 2 * width])
    smooth = network.enlarged(small[1])
    brought = network.brought(small[1], smooth, state, torch.ones(1, 1, 1, 1))
    found = F.pixel_shuffle(brought[:, :16], 4)
    wanted = after[:, :1] + fine[..., : 2 * width] - smooth
    unmoved = before[:, :1] + fine[..., 4 : 4 + 2 * width] - smooth
    inner = (..., slice(16, -16), slice(16, -16))
    assert (found - wanted)[inner].abs().mean() < 0.4 * (unmoved - wanted)[inner].abs().mean()
    assert brought[:, 16:, 6:-6, 6:-6].mean() > 0.5


def test_after_a_cut_nothing_is_brought() -> None:
    network, after = silent(64, 96), texture(64, 96, seed=2)[:, :1]
    state = LiveState(1 - after, torch.rand(1, 1, 128, 192))
    brought = network.brought(after, network.enlarged(after), state, torch.ones(1, 1, 1, 1))
    assert brought[:, 16:].mean() < 0.1
    assert brought[:, :16].abs().mean() < 0.02


def test_controls_act_on_what_is_shown_and_not_on_what_is_remembered() -> None:
    torch.manual_seed(0)
    network = SuperResolver(32, 48, 8, 1).eval().requires_grad_(False)
    network.last.weight.mul_(20)
    frame, start = texture(32, 48), network.initial_state(1)
    made = {
        controls: network(frame, start, torch.tensor([controls]))
        for controls in ((1.0, 0.0, 1.0), (0.0, 0.0, 1.0), (1.0, 1.0, 1.0))
    }
    plain, without, sharp = (frame for frame, _ in made.values())
    torch.testing.assert_close(without, silent(32, 48)(frame, start, CONTROLS)[0], atol=1e-5, rtol=0)
    assert (plain - without).abs().mean() > 0.005
    assert (sharp - plain).abs().mean() > 0.005
    for _, state in made.values():
        assert torch.equal(state.large, made[1.0, 0.0, 1.0][1].large)
    _, state = made[1.0, 0.0, 1.0]
    remembering, forgetting = (network(frame, state, torch.tensor([[1.0, 0.0, memory]]))[0] for memory in (1.0, 0.0))
    assert (remembering - forgetting).abs().mean() > 1e-4
    torch.testing.assert_close(forgetting, network(frame, start, torch.tensor([[1.0, 0.0, 0.0]]))[0])
