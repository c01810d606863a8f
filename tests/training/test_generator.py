from __future__ import annotations

import pytest
import torch

from training.discriminator import Discriminator, augment
from training.generator import Memory, Shape, State, Step, VideoGenerator, dissolve
from training.layers import Warp
from training.painter import KEYS, ContentPrior, Painter, filled_in, num_code_noise, num_codes

SHAPE = Shape(height=64, width=96, num_modes=4, period_frames=16)
STILL = torch.tensor([[1.0, 0.0, 0.0]])


@pytest.fixture(scope="module")
def generator() -> VideoGenerator:
    torch.manual_seed(0)
    return VideoGenerator(SHAPE).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def memory(generator: VideoGenerator) -> Memory:
    torch.manual_seed(1)
    image = torch.rand(1, 3, 64, 96)
    return generator.condition.from_code(image, torch.ones(1, 1, 64, 96), torch.zeros(1, num_codes(64, 96)))


def test_a_warp_moves_the_content_right_and_down() -> None:
    picture = torch.zeros(1, 1, 8, 12)
    picture[0, 0, 3, 4] = 1
    displacement = torch.tensor([2.0, 1.0]).reshape(1, 2, 1, 1).expand(1, 2, 8, 12)
    moved = Warp(8, 12, 8, 12)(picture, displacement)
    assert moved[0, 0, 4, 6].item() == pytest.approx(1, abs=1e-4)
    assert moved.sum().item() == pytest.approx(1, abs=1e-3)


def test_displacements_are_in_pixels_of_the_frame_at_every_resolution() -> None:
    picture = torch.zeros(1, 1, 4, 6)
    picture[0, 0, 1, 1] = 1
    displacement = torch.tensor([4.0, 0.0]).reshape(1, 2, 1, 1).expand(1, 2, 4, 6)
    moved = Warp(4, 6, 16, 24)(picture, displacement)  # a quarter of the frame: 4 pixels are one cell
    assert moved[0, 0, 1, 2].item() == pytest.approx(1, abs=1e-4)


def test_the_painter_gives_back_what_it_was_given() -> None:
    torch.manual_seed(0)
    painter = Painter(64, 96)
    image, mask = torch.rand(2, 3, 64, 96), torch.zeros(2, 1, 64, 96)
    mask[:, :, :, :48] = 1
    painted = painter(image, mask, torch.randn(2, num_codes(64, 96)))
    assert torch.equal(painted[..., :48], image[..., :48])
    assert (painted[..., 48:] - image[..., 48:]).abs().max() > 0.1
    assert 0 <= painted.min() <= painted.max() <= 1
    hidden = painter(torch.rand(2, 3, 64, 96) * (1 - mask) + image * mask, mask, torch.zeros(2, num_codes(64, 96)))
    again = painter(image, mask, torch.zeros(2, num_codes(64, 96)))
    assert torch.equal(hidden, again), "what the mask hides must not reach the painter"


def test_codes_change_what_is_painted() -> None:
    torch.manual_seed(0)
    painter = Painter(64, 96)
    nothing = torch.zeros(2, 3, 64, 96)
    painted = painter(nothing, nothing[:, :1], torch.randn(2, num_codes(64, 96)))
    assert (painted[0] - painted[1]).abs().max() > 1e-4  # untrained; equal pictures would differ by 0


def test_the_prior_draws_from_its_components() -> None:
    torch.manual_seed(0)
    prior = ContentPrior(64, 64)
    prior.means.copy_(torch.randn_like(prior.means))
    prior.spreads.fill_(0.1)
    codes = prior(torch.randn(64, num_code_noise(64, 64)))
    nearest = torch.cdist(codes, prior.means).min(dim=1)
    alone = nearest.values < 0.2 * num_codes(64, 64) ** 0.5  # twice the spread: the component has the say alone
    assert alone.float().mean() > 0.4
    assert len(set(nearest.indices.tolist())) > 30, "different noise chooses different components"
    exact = torch.zeros(1, num_code_noise(64, 64))
    exact[0, :KEYS] = 5 * prior.keys[7]
    assert torch.allclose(prior(exact)[0], prior.means[7], atol=0.05)


def test_a_still_memory_at_clock_zero_shows_the_anchor(generator: VideoGenerator, memory: Memory) -> None:
    step = generator.step
    state = step.initial_state(1)
    still = memory._replace(flow=memory.flow * 0, modes=memory.modes * 0)
    frame = step.render(still, state, STILL)
    # An untrained decoder opens its mask by sigmoid(-2) at most, so the anchor shows through.
    assert (frame - memory.picture).abs().mean() < 0.15


def test_transport_follows_the_flow_and_wind_adds_to_it(generator: VideoGenerator, memory: Memory) -> None:
    flow = torch.zeros_like(memory.flow)
    flow[:, 0], flow[:, 2] = 0.5, 1.0  # half a pixel per frame to the right, free everywhere
    moving = memory._replace(flow=flow)
    path = generator.step.transport(moving, STILL, torch.tensor([[6.0]]))
    assert torch.allclose(path[:, 0], torch.full_like(path[:, 0], 3.0), atol=1e-4)
    assert torch.allclose(path[:, 1], torch.zeros_like(path[:, 1]), atol=1e-4)
    blown = generator.step.transport(moving, torch.tensor([[1.0, 0.0, -0.25]]), torch.tensor([[4.0]]))
    assert torch.allclose(blown[:, 1], torch.full_like(blown[:, 1], -1.0), atol=1e-4)
    held = generator.step.transport(
        moving._replace(flow=flow * torch.tensor([1.0, 1, 0]).reshape(1, 3, 1, 1)), STILL, torch.tensor([[6.0]])
    )
    assert held.abs().max() == 0, "what is not free to move must stay"


def test_the_midpoint_rule_keeps_a_vortex_round(generator: VideoGenerator, memory: Memory) -> None:
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(24.0), indexing="ij")
    x, y = (x - 11.5) * 4, (y - 7.5) * 4  # pixels of the frame, from the centre
    flow = torch.stack([-0.1 * y, 0.1 * x, torch.ones_like(x)])[None]
    path = generator.step.transport(memory._replace(flow=flow), STILL, torch.tensor([[6.0]]))[0]
    inside = (x**2 + y**2 < 20**2) & (x**2 + y**2 > 8**2)
    # Where the content came from lies on the same circle; a straight step of 0.6 rad would be 17 % off.
    radius = torch.sqrt((x - path[0]) ** 2 + (y - path[1]) ** 2)
    error = (radius / torch.sqrt(x**2 + y**2) - 1)[inside].abs().max()
    assert error < 0.03


def test_states_stay_bounded_and_oscillators_of_unit_variance(generator: VideoGenerator, memory: Memory) -> None:
    step = generator.step
    random = torch.Generator().manual_seed(0)
    state = step.initial_state(1)
    seen = []
    for _ in range(1500):
        state = step.advance(memory, state, torch.randn(1, SHAPE.num_noise, generator=random), STILL)
        seen.append(state.oscillators)
        assert 0 <= state.clock.item() < 1
    assert state.hidden.abs().max() <= 1
    spread = torch.cat(seen[300:]).std(dim=0)
    assert ((spread > 0.6) & (spread < 1.4)).all(), spread


def test_motion_zero_holds_the_picture_and_motion_two_runs_twice_as_fast(
    generator: VideoGenerator, memory: Memory
) -> None:
    step = generator.step
    torch.manual_seed(3)
    start = State(torch.randn(1, 8), torch.rand(1, 1) * 0.4, torch.rand(1, 32, 8, 12) - 0.5)
    noise = torch.randn(1, SHAPE.num_noise)
    held = step.advance(memory, start, noise, torch.zeros(1, 3))
    assert torch.allclose(held.oscillators, start.oscillators, atol=1e-3)
    assert torch.equal(held.clock, start.clock)
    assert torch.allclose(held.hidden, start.hidden, atol=1e-6)
    fast = step.advance(memory, start, noise, torch.tensor([[2.0, 0.0, 0.0]]))
    assert (fast.clock - start.clock).item() == pytest.approx(2 / SHAPE.period_frames, abs=1e-6)


def test_dissolve_goes_from_a_to_b(memory: Memory) -> None:
    other = Memory(*(part + 1 for part in memory))
    assert all(torch.equal(a, b) for a, b in zip(dissolve(memory, other, torch.zeros(1)), memory, strict=True))
    middle = dissolve(memory, other, torch.tensor([0.25]))
    assert torch.allclose(middle.flow, memory.flow + 0.25, atol=1e-6)


def test_gradients_reach_every_part() -> None:
    torch.manual_seed(0)
    generator = VideoGenerator(SHAPE)
    noise = torch.randn(2, num_code_noise(64, 96))
    memory = generator.condition(torch.rand(2, 3, 64, 96), torch.zeros(2, 1, 64, 96), noise)
    state = generator.step.initial_state(2)
    for _ in range(3):
        frame, state = generator.step(memory, state, torch.randn(2, SHAPE.num_noise), STILL.expand(2, -1))
    frame.square().mean().backward()
    without = [
        name for name, value in generator.named_parameters() if value.grad is None or not value.grad.isfinite().all()
    ]
    assert not without


@pytest.mark.parametrize(("height", "width"), [(100, 128), (128, 90), (32, 128)])
def test_sizes_that_do_not_fit_are_refused(height: int, width: int) -> None:
    with pytest.raises(ValueError, match="expected multiples of 32 from 64 up"):
        Shape(height=height, width=width)


def test_the_noise_of_the_contract_is_what_the_step_takes() -> None:
    assert SHAPE.num_noise == 2 * 4 + 16
    assert Step(SHAPE).initial_state(3).hidden.shape == (3, 32, 8, 12)


def test_augmentation_treats_all_frames_of_a_clip_alike() -> None:
    torch.manual_seed(0)
    frame = torch.rand(3, 1, 3, 32, 32)
    changed = augment(frame.expand(-1, 4, -1, -1, -1), torch.Generator().manual_seed(5))
    assert changed.shape == (3, 4, 3, 32, 32)
    assert torch.allclose(changed, changed[:, :1].expand_as(changed), atol=1e-6)
    assert (changed[:, 0] - frame[:, 0]).abs().mean() > 0.01


def test_the_critic_learns_to_tell_moving_from_frozen_clips() -> None:
    torch.manual_seed(0)
    critic = Discriminator(8)
    optimiser = torch.optim.Adam(critic.parameters(), 2e-3)
    still = torch.rand(8, 1, 3, 32, 32).expand(-1, 4, -1, -1, -1)
    moving = torch.stack([torch.roll(still[:, 0], shift, dims=-1) for shift in (0, 1, 2, 5)], dim=1)
    for _ in range(40):
        loss = torch.nn.functional.softplus(critic(still)[0] - critic(moving)[0]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.1


def test_hidden_places_are_filled_from_what_is_seen_around_them() -> None:
    image = torch.zeros(1, 3, 64, 96)
    image[:, 0, :, :48], image[:, 1, :, 48:] = 0.8, 0.4  # the left half red, the right half green
    mask = torch.ones(1, 1, 64, 96)
    mask[:, :, 24:40, 8:24] = 0  # a hole in the red half
    hidden = mask.clone()
    filled = filled_in(image * mask + 5.0 * (1 - mask), hidden)  # what stands in the hole must not matter
    assert (filled - image).abs()[:, :, mask[0, 0] == 1].max() < 2e-3
    assert (filled[0, :, 24:40, 8:24] - torch.tensor([0.8, 0.0, 0.0])[:, None, None]).abs().max() < 0.05
    assert torch.allclose(filled_in(image, torch.zeros_like(mask)), torch.full_like(image, 0.5), atol=1e-4)
