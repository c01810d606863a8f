from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from training.model.generator import (
    CLIP,
    SPREADING,
    ConditionMemory,
    MotionMemory,
    Shape,
    StepModel,
    StepState,
    VideoGenerator,
    detail_of,
    dissolve,
    phase_field,
)
from training.model.layers import Warp
from training.model.painter import num_code_noise, num_codes

SHAPE = Shape(height=64, width=96, num_modes=4, period_frames=16)
STILL = torch.tensor([[1.0, 0.0, 0.0]])


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def generator() -> VideoGenerator:
    torch.manual_seed(0)
    return VideoGenerator(SHAPE).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def memory(generator: VideoGenerator) -> ConditionMemory:
    torch.manual_seed(1)
    image = torch.rand(1, 3, 64, 96)
    return generator.condition.from_code(image, torch.ones(1, 1, 64, 96), torch.zeros(1, num_codes(64, 96)))


def silence(step: StepModel) -> StepModel:
    """Take out what is learned of a step: no recurrent displacement."""
    step.to_displacement.weight.zero_()
    step.to_displacement.bias.zero_()
    return step


@pytest.fixture(scope="module")
def silent(generator: VideoGenerator) -> StepModel:
    return silence(copy.deepcopy(generator.step))


def psnr(one: Tensor, two: Tensor) -> float:
    return float(-10 * (one - two).square().mean().clamp(min=1e-12).log10())


def texture(seed: int, side: tuple[int, int] = (64, 96)) -> Tensor:
    """Return a picture (1, 3, H, W) of detail about 0.5 that is independent from pixel to pixel."""
    return 0.5 + 0.1 * torch.randn(1, 3, *side, generator=torch.Generator().manual_seed(seed)).clamp(-3, 3)


def smooth_picture(seed: int, height: int = 64, width: int = 96) -> Tensor:
    coarse = torch.rand(1, 3, height // 16, width // 16, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)


def drifting(memory: ConditionMemory, picture: Tensor, x: float, y: float = 0.0) -> ConditionMemory:
    """Return a memory of a picture that flows by (x, y) pixels per frame everywhere and does not sway."""
    flow = torch.zeros_like(memory.flow)
    flow[:, 0], flow[:, 1], flow[:, 2] = x, y, 1.0
    return memory._replace(picture=picture, flow=flow, modes=torch.zeros_like(memory.modes))


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


def test_the_state_at_the_start_shows_the_anchor(
    generator: VideoGenerator, silent: StepModel, memory: ConditionMemory
) -> None:
    moving = drifting(memory, texture(3), 1.5, -0.5)  # detail of single pixels: half a pixel off would blur it
    start = silent.initial_state(1)
    assert psnr(silent.render(moving, start, STILL), moving.picture) > 60
    assert psnr(generator.step.render(moving, start, STILL), moving.picture) > 60, "what is learned moves nothing yet"
    # The first frame of a show is one step away from it: smooth pictures have hardly moved.
    calm = drifting(memory, smooth_picture(4), 0.5)
    first, state = silent(calm, start, torch.randn(1, SHAPE.num_noise), STILL)
    assert 28 < psnr(first, calm.picture) < 60
    assert state.clock.tolist() == [[pytest.approx(1 / 16), pytest.approx(1 / 16 / SPREADING)]]


def test_places_clocks_drift_apart_and_stay_apart(silent: StepModel, memory: ConditionMemory) -> None:
    phases = phase_field(16, 24)
    assert phases.shape == (1, 1, 16, 24)
    assert phases.abs().max() <= 0.25
    assert phases.std() > 0.05
    steps = (phases[..., 1:] - phases[..., :-1]).abs().max(), (phases[..., 1:, :] - phases[..., :-1, :]).abs().max()
    assert max(steps) < 0.04, "neighbours' clocks must be near, or the picture tears"
    assert torch.equal(phases[..., :8, :12], phase_field(8, 12)), "a crop has the clocks of its corner"
    state, spreads = silent.initial_state(1), []
    for _ in range(int(3 * SPREADING * SHAPE.period_frames)):
        state = silent.advance(memory, state, torch.zeros(1, SHAPE.num_noise), STILL)
        spreads.append(state.clock[0, 1].item())
    assert spreads == sorted(spreads)
    assert spreads[SHAPE.period_frames - 1] == pytest.approx(1 / SPREADING)
    assert spreads[-1] == 1.0
    # With all clocks at 0 the anchor shows; with clocks apart it shows where a place's own clock is at 0 alone.
    moving = drifting(memory, texture(5), 2.0)
    together = StepState(torch.zeros(1, 8), torch.zeros(1, 2), torch.zeros(1, 32, 8, 12))
    apart = together._replace(clock=torch.tensor([[0.0, 1.0]]))
    off = (silent.render(moving, apart, STILL) - moving.picture).abs().mean(dim=1)
    ahead = F.interpolate(phases, size=(64, 96), mode="bilinear")[:, 0].abs()
    assert (silent.render(moving, together, STILL) - moving.picture).abs().max() < 2e-3
    assert off[ahead > 0.12].mean() > 8 * off[ahead < 0.004].mean()


def test_two_phases_cross_fade_in_part_of_their_life(silent: StepModel, memory: ConditionMemory) -> None:
    moving = drifting(memory, texture(6), 1.0)  # halfway the phases are 4 pixels ahead and 4 behind: whole ones

    def frame(clock: float) -> Tensor:
        state = StepState(torch.zeros(1, 8), torch.tensor([[clock, 0.0]]), torch.zeros(1, 32, 8, 12))
        return silent.render(moving, state, STILL)

    def detail(picture: Tensor) -> float:
        inside = picture - F.interpolate(F.avg_pool2d(picture, 8), scale_factor=8.0, mode="bilinear")
        return float(inside[..., 8:-8, 16:-16].std())

    assert detail(frame(0.125)) == pytest.approx(detail(moving.picture), rel=0.07)  # one phase alone, two pixels on
    assert detail(frame(0.25)) == pytest.approx(0.71 * detail(moving.picture), rel=0.07)  # both
    assert psnr(frame(0.25), moving.picture) < 25, "it has moved"
    # Where nothing flows both phases are the anchor.
    resting = drifting(memory, texture(6), 0.0)
    halfway = StepState(torch.zeros(1, 8), torch.tensor([[0.25, 0.0]]), torch.zeros(1, 32, 8, 12))
    assert psnr(silent.render(resting, halfway, STILL), resting.picture) > 60


def test_transport_follows_the_flow_and_wind_adds_to_it(generator: VideoGenerator, memory: ConditionMemory) -> None:
    flow = torch.zeros_like(memory.flow)
    flow[:, 0], flow[:, 2] = 0.5, 1.0  # half a pixel per frame to the right, free everywhere
    moving = memory._replace(flow=flow)
    path = generator.step.transport(moving, STILL, torch.full((1, 1, 16, 24), 6.0))
    assert torch.allclose(path[:, 0], torch.full_like(path[:, 0], 3.0), atol=1e-4)
    assert torch.allclose(path[:, 1], torch.zeros_like(path[:, 1]), atol=1e-4)
    blown = generator.step.transport(moving, torch.tensor([[1.0, 0.0, -0.25]]), torch.full((1, 1, 16, 24), 4.0))
    assert torch.allclose(blown[:, 1], torch.full_like(blown[:, 1], -1.0), atol=1e-4)
    free = torch.tensor([1.0, 1, 0]).reshape(1, 3, 1, 1)
    held = generator.step.transport(moving._replace(flow=flow * free), STILL, torch.full((1, 1, 16, 24), 6.0))
    assert held.abs().max() == 0, "what is not free to move must stay"
    # Every place has an age of its own.
    ages = torch.zeros(1, 1, 16, 24)
    ages[..., 12:] = 8.0
    path = generator.step.transport(moving, STILL, ages)
    assert path[..., :12].abs().max() == 0
    assert torch.allclose(path[:, 0, :, 12:], torch.full((1, 16, 12), 4.0), atol=1e-4)


def test_the_midpoint_rule_keeps_a_vortex_round(generator: VideoGenerator, memory: ConditionMemory) -> None:
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(24.0), indexing="ij")
    x, y = (x - 11.5) * 4, (y - 7.5) * 4  # pixels of the frame, from the centre
    flow = torch.stack([-0.1 * y, 0.1 * x, torch.ones_like(x)])[None]
    path = generator.step.transport(memory._replace(flow=flow), STILL, torch.full((1, 1, 16, 24), 6.0))[0]
    inside = (x**2 + y**2 < 20**2) & (x**2 + y**2 > 8**2)
    # Where the content came from lies on the same circle; a straight step of 0.6 rad would be 17 % off.
    radius = torch.sqrt((x - path[0]) ** 2 + (y - path[1]) ** 2)
    error = (radius / torch.sqrt(x**2 + y**2) - 1)[inside].abs().max()
    assert error < 0.03


def test_states_stay_bounded_and_oscillators_of_unit_variance(
    generator: VideoGenerator, memory: ConditionMemory
) -> None:
    step = generator.step
    random = torch.Generator().manual_seed(0)
    state = step.initial_state(1)
    seen = []
    for _ in range(1500):
        state = step.advance(memory, state, torch.randn(1, SHAPE.num_noise, generator=random), STILL)
        seen.append(state.oscillators)
        assert 0 <= state.clock[0, 0].item() < 1
        assert 0 <= state.clock[0, 1].item() <= 1
    assert state.hidden.abs().max() <= 1
    spread = torch.cat(seen[300:]).std(dim=0)
    assert ((spread > 0.6) & (spread < 1.4)).all(), spread


def test_motion_zero_holds_the_picture_and_motion_two_runs_twice_as_fast(
    generator: VideoGenerator, memory: ConditionMemory
) -> None:
    step = generator.step
    torch.manual_seed(3)
    start = StepState(torch.randn(1, 8), torch.rand(1, 2) * 0.4, torch.rand(1, 32, 8, 12) - 0.5)
    noise = torch.randn(1, SHAPE.num_noise)
    held = step.advance(memory, start, noise, torch.zeros(1, 3))
    assert torch.allclose(held.oscillators, start.oscillators, atol=1e-3)
    assert torch.equal(held.clock, start.clock)
    assert torch.allclose(held.hidden, start.hidden, atol=1e-6)
    fast = step.advance(memory, start, noise, torch.tensor([[2.0, 0.0, 0.0]]))
    moved = (fast.clock - start.clock)[0].tolist()
    assert moved == [pytest.approx(2 / 16, abs=1e-6), pytest.approx(2 / 16 / SPREADING, abs=1e-6)]


def test_the_pace_is_what_motion_1_plays_at_and_wind_keeps_its_unit(memory: ConditionMemory) -> None:
    slow, own = (VideoGenerator(Shape(64, 96, 4, 16, pace=pace)).step.eval() for pace in (0.5, 1.0))
    slow.load_state_dict(own.state_dict())
    state, noise = own.initial_state(1), torch.randn(1, SHAPE.num_noise)
    paced, learned = torch.tensor([[1.0, 0.3, -0.2]]), torch.tensor([[0.5, 0.6, -0.4]])
    with torch.no_grad():
        for a, b in zip(slow(memory, state, noise, paced)[1], own(memory, state, noise, learned)[1], strict=True):
            torch.testing.assert_close(a, b)
        torch.testing.assert_close(slow(memory, state, noise, paced)[0], own(memory, state, noise, learned)[0])
        # At half the pace a phase lives twice as long, and wind at twice the strength per frame of its life.
        assert torch.allclose(slow.paced(paced)[:, 0] * slow.paced(paced)[:, 1], torch.tensor([0.3]))
    with pytest.raises(ValueError, match=r"pace is 0\.0, expected 0\.1 to 10"):
        Shape(64, 64, pace=0.0)


def test_only_what_is_made_up_is_sharpened_before_it_is_played() -> None:
    plain, sharp = (
        VideoGenerator(Shape(64, 96, 4, 16, painted_sharpness=gain)).condition.eval() for gain in (1.0, 1.5)
    )
    sharp.load_state_dict(plain.state_dict())
    image, clip = torch.rand(1, 3, 64, 96), torch.zeros(1, CLIP, 3, 64, 96)
    mask = torch.zeros(1, 1, 64, 96)
    mask[..., :48] = 1
    noise = torch.randn(1, num_code_noise(64, 96))
    with torch.no_grad():
        one, two = (part(image, mask, clip, torch.zeros(1, 1), noise) for part in (plain, sharp))
    torch.testing.assert_close(two.picture[..., :48], image[..., :48])
    expected = one.picture + 0.5 * detail_of(one.picture)
    torch.testing.assert_close(two.picture[..., 48:], expected[..., 48:].clamp(0, 1))
    assert not torch.allclose(one.picture[..., 48:], two.picture[..., 48:])
    torch.testing.assert_close(one.flow, two.flow)


def test_gains_on_detail_have_a_range() -> None:
    with pytest.raises(ValueError, match=r"sharpness is 3\.0 .*expected 0\.5 to 2"):
        Shape(64, 64, sharpness=3.0)


@pytest.mark.parametrize("horizon", [8, 24])
def test_the_expected_sway_is_what_undamped_oscillators_swing_by(
    generator: VideoGenerator, memory: ConditionMemory, horizon: int
) -> None:
    step, count, random = generator.step, 3000, torch.Generator().manual_seed(0)
    modes = 3 * torch.randn(1, 16, 1, 1, generator=random).expand(1, 16, 2, 2)
    swinging = ConditionMemory(*memory[:2], modes=modes.contiguous(), flow=memory.flow)
    many = swinging._replace(modes=swinging.modes.expand(count, -1, -1, -1))
    start = torch.randn(count, 2, 4, generator=random)  # (N, real or imaginary, K): unit variance
    turned = []
    for time in range(horizon + 1):
        angle = step.log_rate.exp() * time
        real = angle.cos() * start[:, 0] - angle.sin() * start[:, 1]
        imaginary = angle.sin() * start[:, 0] + angle.cos() * start[:, 1]
        state = StepState(torch.cat([real, imaginary], dim=1), torch.zeros(count, 2), torch.zeros(count, 32, 8, 12))
        turned.append(step.sway(many, state))
    away = torch.stack(turned)  # (T + 1, N, 2, h, w)
    time = torch.linspace(0, 1, horizon + 1).reshape(-1, 1, 1, 1, 1)
    line = away[0] + time * (away[-1] - away[0])
    measured = (away - line).square().sum(dim=2).mean(dim=(0, 1)).sqrt()
    expected = step.expected_sway(swinging, horizon)
    assert expected.shape == (1, 1, 2, 2)
    assert torch.allclose(expected[0, 0], measured, rtol=0.04)
    assert measured.min() > 0.05
    # Modes of twice the size swing twice as far; what hardly turns within the horizon hardly swings.
    double = step.expected_sway(swinging._replace(modes=2 * swinging.modes), horizon)
    assert torch.allclose(double, 2 * expected, rtol=1e-3)
    slow = torch.zeros_like(swinging.modes).reshape(1, 2, 4, 2, 2, 2)
    slow[:, :, 0] = 3.0  # 0.02 radians per frame
    quick = slow.roll(3, dims=2)  # 0.6
    parts = [step.expected_sway(swinging._replace(modes=part.reshape(1, 16, 2, 2)), horizon) for part in (slow, quick)]
    assert parts[0].max() < 0.2 * parts[1].min()


def conditioned(generator: VideoGenerator, **given: Tensor) -> ConditionMemory:
    """Return the memory of what is given: image, clip, noise, text; zeros for the rest."""
    height, width = generator.shape.height, generator.shape.width
    image, clip = given.get("image"), given.get("clip")
    noise = given.get("noise", torch.zeros(1, num_code_noise(height, width)))
    return generator.condition(
        torch.zeros(1, 3, height, width) if image is None else image,
        torch.full((1, 1, height, width), 0.0 if image is None else 1.0),
        torch.zeros(1, CLIP, 3, height, width) if clip is None else clip,
        torch.full((1, 1), 0.0 if clip is None else 1.0),
        noise,
        given.get("text"),
    )


def test_a_clip_that_stands_still_is_the_picture_alone_but_for_the_certainty_that_nothing_flows(
    generator: VideoGenerator,
) -> None:
    picture = smooth_picture(1)
    alone = conditioned(generator, image=picture)
    clip = picture[:, None].expand(-1, CLIP, -1, -1, -1)
    still = conditioned(generator, clip=clip)
    for slot in ("picture", "features8", "modes"):
        assert torch.allclose(getattr(alone, slot), getattr(still, slot), atol=1e-5), slot
    assert torch.equal(alone.picture, picture)
    seen = generator.condition.encoder.observed(clip)
    assert seen[:, :2].abs().max() < 1e-5
    assert seen[:, 2].max() > 0.5
    # What reads it is a few channels of one convolution; without them the flow is the same, too.
    deaf = copy.deepcopy(generator)
    deaf.condition.encoder.motion4.weight[:, -3:] = 0
    flows = conditioned(deaf, image=picture).flow, conditioned(deaf, clip=clip).flow
    assert torch.allclose(*flows, atol=1e-5)
    assert not torch.allclose(alone.flow, still.flow, atol=1e-5)


def test_a_clip_that_moves_is_read_and_its_last_frame_is_the_picture(generator: VideoGenerator) -> None:
    picture = texture(1)
    clip = torch.stack([picture.roll(3 * time - 9, dims=3) for time in range(CLIP)], dim=1)  # ends with the picture
    alone, moving = conditioned(generator, image=picture), conditioned(generator, clip=clip)
    assert torch.equal(moving.picture, picture)
    for slot in ("features8", "modes", "flow"):
        assert (getattr(moving, slot) - getattr(alone, slot)).abs().max() > 1e-4, slot  # untrained; equal to 1e-5 above
    backwards = conditioned(generator, clip=torch.cat([clip[:, :-1].flip(1), clip[:, -1:]], dim=1))
    assert (backwards.flow - moving.flow).abs().max() > 1e-4, "the order of the frames must count"
    # An image beside a clip is the picture; the clip then says how things move.
    other = smooth_picture(2)
    both = conditioned(generator, image=other, clip=clip)
    assert torch.equal(both.picture, other)
    assert (both.flow - conditioned(generator, image=other).flow).abs().max() > 1e-4
    # Noise paints where nothing is given, and nothing where something is.
    noise = torch.randn(1, num_code_noise(64, 96), generator=torch.Generator().manual_seed(2))
    assert torch.equal(conditioned(generator, clip=clip, noise=noise).picture, picture)


def test_of_a_batch_only_the_rows_with_a_past_read_theirs(generator: VideoGenerator) -> None:
    picture = smooth_picture(1).expand(2, -1, -1, -1)
    past = torch.rand(2, CLIP - 1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    codes, mask = torch.zeros(2, num_codes(64, 96)), torch.ones(2, 1, 64, 96)
    some = generator.condition.from_code(picture, mask, codes, None, past, torch.tensor([[1.0], [0.0]]))
    nothing = generator.condition.from_code(picture, mask, codes)
    assert (some.flow[0] - nothing.flow[0]).abs().max() > 1e-4
    for slot, one, two in zip(ConditionMemory._fields, some, nothing, strict=True):
        assert torch.allclose(one[1], two[1], atol=1e-5), slot


def test_text_reaches_the_painting_and_no_text_is_zeros() -> None:
    torch.manual_seed(0)
    generator = VideoGenerator(Shape(64, 64, 4, text_dimensions=8)).eval().requires_grad_(False)
    for name, weight in generator.condition.painter.named_parameters():
        if "modulation" in name:  # they start at zero: an untrained painter listens to nothing
            weight.normal_(0, 0.2)
    text = F.normalize(torch.randn(2, 1, 8), dim=2)
    silence, zeros = conditioned(generator), conditioned(generator, text=torch.zeros(1, 8))
    one, two = (conditioned(generator, text=part) for part in text)
    assert torch.equal(silence.picture, zeros.picture)
    assert (one.picture - silence.picture).abs().max() > 1e-4
    assert (one.picture - two.picture).abs().max() > 1e-4
    picture = smooth_picture(1, 64, 64)
    assert torch.equal(conditioned(generator, image=picture, text=text[0]).picture, picture)


def test_what_learned_on_a_crop_works_on_the_whole_frame() -> None:
    torch.manual_seed(0)
    shape = Shape(128, 128, 4, encoder_scale=0.25)
    part = VideoGenerator(shape, crop=64).eval().requires_grad_(False)
    whole = VideoGenerator(shape).eval().requires_grad_(False)
    whole.load_state_dict(part.state_dict())
    assert {key: value.shape for key, value in part.state_dict().items()} == {
        key: value.shape for key, value in whole.state_dict().items()
    }
    picture = torch.rand(1, 3, 128, 128)
    mask, codes = torch.ones(1, 1, 128, 128), torch.zeros(1, num_codes(128, 128))
    large = whole.condition.from_code(picture, mask, codes)
    window = picture[..., 32:96, 32:96]
    small = part.condition.from_code(window, mask[..., :64, :64], torch.zeros(1, num_codes(64, 64)))
    assert torch.equal(small.picture, window)
    # Four cells from the crop's border no convolution of the trunk's first level has seen its padding.
    fine, whole_fine = (some.condition.encoder.trunk(seen).x4 for some, seen in ((part, window), (whole, picture)))
    assert torch.allclose(fine[..., 4:-4, 4:-4], whole_fine[..., 12:20, 12:20], atol=1e-5)
    assert (fine[..., :1, :] - whole_fine[..., 8:9, 8:24]).abs().max() > 1e-3
    # Displacements are in pixels, whatever the size: the same flow moves the same detail to the same place.
    frames = []
    for generator, seen, left in ((part, small, 16), (whole, large, 48)):
        silence(generator.step)
        moving = drifting(seen, seen.picture, 1.0, 0.5)
        state = StepState(torch.zeros(1, 8), torch.tensor([[0.25, 0.0]]), generator.step.initial_state(1).hidden)
        state = generator.step.advance(moving, state, torch.zeros(1, shape.num_noise), STILL)
        frames.append(generator.step.render(moving, state, STILL)[..., left : left + 32, left : left + 32])
    # Clocks are counted from each one's own corner; they are together here.
    assert psnr(*frames) > 35


def test_dissolve_goes_from_a_to_b(memory: ConditionMemory) -> None:
    memory = MotionMemory(memory.features8, memory.modes, memory.flow)
    other = MotionMemory(*(part + 1 for part in memory))
    assert all(torch.equal(a, b) for a, b in zip(dissolve(memory, other, torch.zeros(1)), memory, strict=True))
    middle = dissolve(memory, other, torch.tensor([0.25]))
    assert torch.allclose(middle.flow, memory.flow + 0.25, atol=1e-6)


def test_gradients_reach_every_part() -> None:
    torch.manual_seed(0)
    generator = VideoGenerator(Shape(64, 96, 4, 16, text_dimensions=8))
    for name, weight in generator.named_parameters():
        if "modulation" in name or "hints.second8" in name:  # they start at zero: what feeds them learns a step later
            torch.nn.init.normal_(weight, 0, 0.01)
    generator.condition.prior.means.normal_()
    noise = torch.randn(2, num_code_noise(64, 96))
    image, clip = torch.rand(2, 3, 64, 96), torch.rand(2, CLIP, 3, 64, 96)
    mask, given = torch.zeros(2, 1, 64, 96), torch.tensor([[1.0], [0.0]])
    mask[1, :, :, :48] = 1  # the first row goes on from a clip, of the second one half is seen
    hints = torch.rand(2, 5, 8, 12).round()
    text = F.normalize(torch.randn(2, 8), dim=1)
    memory = generator.condition(image, mask, clip, given, noise, text, hints)
    state = generator.step.initial_state(2)
    for _ in range(3):
        frame, state = generator.step(memory, state, torch.randn(2, SHAPE.num_noise), STILL.expand(2, -1))
    frame.square().mean().backward()
    without = [
        name for name, value in generator.named_parameters()
        if value.grad is None or not value.grad.isfinite().all() or not value.grad.abs().sum() > 0
    ]  # fmt: skip
    assert not without


@pytest.mark.parametrize(("height", "width"), [(100, 128), (128, 90), (32, 128)])
def test_sizes_that_do_not_fit_are_refused(height: int, width: int) -> None:
    with pytest.raises(ValueError, match="expected multiples of 32 from 64 up"):
        Shape(height=height, width=width)


@pytest.mark.parametrize(
    "changes", [{"components": 1}, {"components": 5000}, {"mixing": 1.5}, {"text_dimensions": 5000}]
)
def test_a_prior_that_cannot_be_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected 2 to 4096, 0 to 1 and 0 to 4096") as caught:
        Shape(64, 64, **changes)  # type: ignore[arg-type]
    assert f"{next(iter(changes))} " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_noise_of_the_contract_is_what_the_step_takes() -> None:
    assert SHAPE.num_noise == 2 * 4 + 16
    assert StepModel(SHAPE).initial_state(3).hidden.shape == (3, 32, 8, 12)
