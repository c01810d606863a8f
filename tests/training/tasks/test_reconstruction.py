"""Reconstruction from parts: what is hidden stays hidden, and a network that completes it nevertheless."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training.tasks.test_task import SIDE, make_config, make_draw, moving_shapes
from training.model.generator import VideoGenerator
from training.model.painter import num_codes
from training.model.trunk import Levels
from training.stages.pretrain import Pretrainer
from training.tasks.reconstruction import (
    BLOCK,
    FRAMES,
    ReconstructionTask,
    draw_tubes,
    mean_psnr,
    nearest_visible,
    to_float,
    to_uint8,
)
from training.tasks.task import Clips, Draw, TaskEvaluation

STEPS = 70


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def task() -> ReconstructionTask:
    torch.manual_seed(0)
    return ReconstructionTask(make_config(reconstruction=1.0)).requires_grad_(False)


@pytest.fixture(scope="module")
def generator() -> VideoGenerator:
    torch.manual_seed(0)
    return VideoGenerator(make_config().model).eval().requires_grad_(False)


def half_hidden(count: int) -> Tensor:
    """Return tubes (B, 1, H, W) whose right half is hidden."""
    tubes = torch.ones(count, 1, SIDE, SIDE)
    tubes[..., SIDE // 2 :] = 0
    return tubes


def test_tubes_hide_an_exact_share_in_whole_blocks() -> None:
    seen = draw_tubes(make_draw(50), SIDE, 96, 0.75, 0.75)
    assert seen.shape == (50, 1, SIDE, 96)
    blocks = seen.unfold(2, BLOCK, BLOCK).unfold(3, BLOCK, BLOCK).flatten(4)
    assert torch.equal(blocks.amin(dim=4), blocks.amax(dim=4))
    assert blocks[..., 0].flatten(1).sum(dim=1).tolist() == [6] * 50  # of 4 x 6
    assert (seen.mean(dim=0) > 0).all()  # no block is always hidden
    shares = 1 - draw_tubes(make_draw(500), SIDE, SIDE, 0.5, 0.9).mean(dim=(1, 2, 3))
    assert 0.5 <= shares.min() <= 0.51
    assert 0.85 <= shares.max() <= 0.91
    assert draw_tubes(make_draw(20), SIDE, SIDE, 0.999, 0.999).flatten(1).sum(dim=1).tolist() == [BLOCK**2] * 20
    assert draw_tubes(make_draw(20), SIDE, SIDE, 0.0, 0.0).min() == 1


def test_seen_lays_the_clips_in_parts_first_and_shows_only_their_parts(task: ReconstructionTask) -> None:
    clips = moving_shapes(3)
    given, parts = torch.tensor([True, False, False]), torch.tensor([False, False, True])
    views = task.seen(clips, given, parts, half_hidden(3))
    assert views.previous.tolist() == [0, 0, 1, 2, 4, 5]
    assert views.truth["parts"].tolist() == [False, False, True]
    half = SIDE // 2
    assert torch.equal(views.frames[:4, ..., :half], clips.frames[2, ..., :half])
    assert (views.frames[:4, ..., half:] == 0.5).all()
    assert torch.equal(views.frames[4:], clips.frames[:2, 0])
    mask = views.truth["mask"]
    assert (mask[0] == 1).all()
    assert (mask[1] == 0).all()
    assert torch.equal(mask[2], half_hidden(1)[0])


@pytest.mark.parametrize("world", [1, 2, 5])
def test_places_in_the_global_batch_decide_what_is_given(task: ReconstructionTask, world: int) -> None:
    count = 20 // world
    shares = []
    for rank in range(world):
        views = task.views(moving_shapes(count), Draw(("test",), 20, rank * count, count))
        shares += views.truth["mask"].mean(dim=(1, 2, 3)).tolist()
    assert shares[:7] == [1] * 7  # 0.35 of 20
    assert all(0.05 < share < 0.26 for share in shares[7:13])  # 0.30 of 20, of which 0.75 to 0.9 is hidden
    assert shares[13:] == [0] * 7


def test_what_is_mirrored_moves_and_sways_the_other_way_round(task: ReconstructionTask) -> None:
    clips = moving_shapes(20)
    ramp = torch.arange(16.0).expand(20, 1, 16, 16)  # more sway on the right
    clips = clips._replace(sway=ramp, flow=ramp.expand(-1, 2, -1, -1))
    truth = task.views(clips, make_draw(20)).truth
    is_flipped = (truth["sway"] == ramp.flip(-1)).flatten(1).all(dim=1)
    assert 0 < is_flipped.sum() < truth["parts"].sum()
    assert not (is_flipped & ~truth["parts"]).any()
    assert torch.equal(truth["sway"][~is_flipped], ramp[~is_flipped])
    assert torch.equal(truth["flow"][is_flipped][:, 0], -ramp[is_flipped][:, 0].flip(-1))
    assert torch.equal(truth["flow"][is_flipped][:, 1], ramp[is_flipped][:, 0].flip(-1))
    assert torch.equal(truth["flow"][~is_flipped][:, 0], ramp[~is_flipped][:, 0])


def test_a_code_is_made_of_all_frames_of_a_clip_in_parts_and_of_one_of_the_others(
    task: ReconstructionTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task.code_head, "forward", lambda x8, x16, x32: (x16.flatten(1), x32.flatten(1)))
    rows = torch.tensor([1.0, 2, 3, 6, 10, 20]).reshape(6, 1, 1, 1)  # a clip in parts, then two pictures
    levels = Levels(rows, rows, rows, 100 * rows)
    mean, logvar = task.codes(levels, torch.tensor([False, True, False]))
    assert mean.flatten().tolist() == [10, 3, 20]
    assert logvar.flatten().tolist() == [1000, 300, 2000]
    mean, _ = task.codes(Levels(*[rows[4:]] * 4), torch.tensor([False, False]))
    assert mean.flatten().tolist() == [10, 20]
    mean, _ = task.codes(Levels(*[rows[:4]] * 4), torch.tensor([True]))
    assert mean.flatten().tolist() == [3]


def test_rolled_frames_are_those_of_the_step_without_noise(task: ReconstructionTask, generator: VideoGenerator) -> None:
    image = moving_shapes(2).frames[:, 0]
    memory = generator.condition.from_code(image, torch.ones(2, 1, SIDE, SIDE), torch.zeros(2, num_codes(SIDE, SIDE)))
    rolled = task.rolled(generator, memory, [1, 3])
    state, control = generator.step.initial_state(2), torch.tensor([[1.0, 0.0, 0.0]]).expand(2, -1)
    made = []
    for _ in range(3):
        frame, state = generator.step(memory, state, torch.zeros(2, generator.shape.num_noise), control)
        made.append(frame)
    assert torch.equal(rolled, torch.stack([made[0], made[2]], dim=1))


def test_hidden_pixels_change_nothing(task: ReconstructionTask, generator: VideoGenerator) -> None:
    clips = moving_shapes(2)
    tubes = half_hidden(2)
    other = clips._replace(frames=torch.where(tubes[:, None] > 0.5, clips.frames, 1 - clips.frames))
    parts = torch.tensor([True, False])  # the second clip has the content code alone, which sees its whole first frame
    made = []
    for each in (clips, other):
        views = task.seen(each, torch.zeros(2, dtype=torch.bool), parts, tubes)
        levels = generator.condition.encoder.trunk(views.frames, views.previous)
        made.append(task.completed(generator, levels, views, each))
    assert made[0].shape == (2, FRAMES, 3, SIDE, SIDE)
    assert torch.equal(made[0][0], made[1][0])
    assert not torch.equal(made[0][1], made[1][1])
    assert torch.equal(made[0][0, 0, ..., : SIDE // 2], clips.frames[0, 0, ..., : SIDE // 2])


def test_the_loss_is_the_weighted_sum_of_its_figures(generator: VideoGenerator) -> None:
    config = make_config(reconstruction=1.0, flow=0.5, sway=0.75, kl=0.25, perceptual=2.0)
    torch.manual_seed(0)
    task = ReconstructionTask(config, perceptual=_Distance())  # type: ignore[arg-type]
    assert not any("perceptual" in name for name in task.state_dict())
    clips, draw = moving_shapes(3), make_draw(3)
    views = task.views(clips, draw)
    levels = generator.condition.encoder.trunk(views.frames, views.previous)
    loss, figures = task.loss(generator, levels, views, clips, draw)
    assert figures["look"] == 3
    expected = figures["clip"] + figures["picture"] + 2 * 3 + 0.5 * figures["flow"] + 0.25 * figures["kl"]
    expected = expected + 0.75 * figures["sway"]
    assert figures["sway"] > 0
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


class _Distance:
    def forward(self, made: Tensor, real: Tensor) -> Tensor:
        return made.new_tensor(3.0)


def test_the_nearest_visible_pixel_is_copied() -> None:
    pixels = np.zeros((3, 6, 3), np.uint8)
    pixels[:, 0], pixels[:, 5], pixels[:, 1:5] = 10, 20, 99
    visible = np.zeros((3, 6), bool)
    visible[:, [0, 5]] = True
    filled = nearest_visible(pixels, visible)
    assert filled[1, :, 0].tolist() == [10, 10, 10, 20, 20, 20]
    assert np.array_equal(filled[0], filled[2])
    assert np.array_equal(nearest_visible(pixels, np.ones((3, 6), bool)), pixels)


def test_psnr_is_averaged_in_decibels() -> None:
    assert mean_psnr([torch.tensor(0.01), torch.tensor(0.0001)]) == pytest.approx(30)
    assert mean_psnr([torch.tensor(0.0)]) == pytest.approx(80)
    picture = torch.tensor([0.0, 51 / 255, 1.2]).reshape(3, 1, 1)
    assert to_uint8(picture).tolist() == [[[0, 51, 255]]]
    assert to_float(to_uint8(picture)).flatten().tolist() == pytest.approx([0, 0.2, 1])


def hidden_psnr(made: Tensor, real: Tensor, mask: Tensor) -> float:
    """Return the PSNR of the hidden parts of pictures (B, 3, H, W); mask is (B, 1, H, W)."""
    hidden = (mask < 0.5).expand_as(real)
    return mean_psnr([(m - r)[h].square().mean() for m, r, h in zip(made, real, hidden, strict=True)])


def test_the_network_completes_what_it_cannot_see() -> None:
    torch.manual_seed(0)
    config = make_config(reconstruction=1.0, given=0.0, masked=1.0, mask_min=0.75, mask_max=0.75)
    pretrainer = Pretrainer(config)
    task, generator = pretrainer.tasks["reconstruction"], pretrainer.generator
    assert isinstance(task, ReconstructionTask)
    clips = moving_shapes(2, offsets=(0, 1, 2, 3))
    views = task.views(clips, make_draw(2))
    clips = clips._replace(frames=views.truth["frames"])  # as they were mirrored and coloured
    mask = views.truth["mask"]
    trunk = generator.condition.encoder.trunk
    optimiser = torch.optim.AdamW(pretrainer.parameters(), 1e-3, betas=(0.9, 0.99))
    for step in range(STEPS):
        optimiser.param_groups[0]["lr"] = 1e-3 * min(1, (step + 1) / 10) * (1 - 0.9 * step / STEPS)
        levels = trunk(views.frames, views.previous)
        loss, _ = task.loss(generator, levels, views, clips, make_draw(2, step))  # the code's noise is always new
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(pretrainer.parameters(), 1.0)
        optimiser.step()
    with torch.no_grad():
        made = task.completed(generator, trunk(views.frames, views.previous), views, clips)
    for time in range(FRAMES):
        real = clips.frames[:, time]
        copied = torch.stack([
            to_float(nearest_visible(to_uint8(picture), seen[0].numpy() > 0.5))
            for picture, seen in zip(real, mask, strict=True)
        ])  # fmt: skip
        ours, theirs = hidden_psnr(made[:, time], real, mask), hidden_psnr(copied, real, mask)
        assert ours > theirs + 3, f"frame {time}: {ours:.1f} dB, copied {theirs:.1f} dB"
    held = TaskEvaluation(generator, [clips], seed=99)
    measures = task.measure(held)
    assert [m.name for m in measures[::2]] == ["hidden parts, first frame", "hidden parts, later frames"]
    assert {(m.unit, m.better, m.chance) for m in measures} == {("dB", "higher", None)}
    assert [m.to_dict() for m in task.measure(held)] == [m.to_dict() for m in measures]
    sheet, _ = task.pictures(held)["reconstruction"]
    assert (sheet.ndim, str(sheet.dtype)) == (3, "uint8")
    assert sheet.shape[0] * 5 == sheet.shape[1] * 2  # two clips, five pictures each


def test_measures_are_of_hidden_pixels_alone(
    task: ReconstructionTask, generator: VideoGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = moving_shapes(2)

    def completed(generator: VideoGenerator, levels: Levels, views: object, clips: Clips) -> Tensor:
        mask = views.truth["mask"][:, None]  # type: ignore[attr-defined]
        off = torch.tensor([0.1, 0.01, 0.01, 0.01]).reshape(1, 4, 1, 1, 1)
        return clips.frames + off * (1 - mask) + 0.7 * mask

    monkeypatch.setattr(task, "completed", completed)
    first, _, later, _ = task.measure(TaskEvaluation(generator, [clips, clips], seed=1))
    assert first.value == pytest.approx(20, abs=0.01)
    assert later.value == pytest.approx(40, abs=0.01)
    assert dataclasses.is_dataclass(first)
