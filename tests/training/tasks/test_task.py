"""What every task is given; and clips of moving shapes, whose motion is known, for the tests of the tasks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from training.config import Config, config_from_dict
from training.model.generator import Shape
from training.model.trunk import Levels, previous_rows
from training.tasks.table import TASKS
from training.tasks.task import (
    Clips,
    Draw,
    PretrainingTask,
    TaskEvaluation,
    TaskMeasure,
    Views,
    jittered,
    mirrored,
    recoloured,
)

SIDE = 64
MOVES = ((2, 0), (-2, 0), (0, 2), (0, -2), (2, 1), (-1, 2), (1, -2), (-2, -1))  # pixels per frame
CAPTIONS = (
    "a red square", "two blue balls", "green hills far away", "a candle burning", "deep snow falling", "the sea",
    "an old car", "white clouds",
)  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    """Keep to one core, as the machines that run the tests have few."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_config(scale: float = 0.25, **pretrain: float) -> Config:
    """Return a configuration of 64 x 64 in which only the tasks that are named have a weight."""
    shape = Shape(SIDE, SIDE, num_modes=4, period_frames=16, encoder_scale=scale)
    section = dict.fromkeys(TASKS, 0.0) | pretrain
    return dataclasses.replace(config_from_dict({"pretrain": section}), model=shape)


def moving_shapes(count: int, offsets: Sequence[int] = (0, 2, 4, 6), noise: float = 0.0, seed: int = 0) -> Clips:
    """Return clips of a square that moves over a still scene, each clip with its own scene, colour and motion.

    Args:
        count: clips.
        offsets: of the frames.
        noise: texture on scene and square.
        seed: of scenes and colours.
    """
    rng = np.random.default_rng(seed)
    frames, flow = np.zeros((count, len(offsets), 3, SIDE, SIDE), np.float32), np.zeros((count, 2, 16, 16), np.float32)
    for clip in range(count):
        coarse = torch.from_numpy(rng.uniform(0.1, 0.9, (1, 3, 4, 4)).astype(np.float32))
        scene = F.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear")[0].numpy() + rng.normal(
            0, noise, (3, SIDE, SIDE)
        )
        square = rng.uniform(0, 1, (3, 1, 1)) + rng.normal(0, 2 * noise, (3, 20, 20))
        dx, dy = MOVES[clip % len(MOVES)]
        flow[clip, :, 5:11, 5:11] = np.reshape((dx, dy), (2, 1, 1))
        for time, offset in enumerate(offsets):
            x, y = 22 + dx * offset, 22 + dy * offset
            frames[clip, time] = scene
            frames[clip, time, :, y : y + 20, x : x + 20] = square
    captions = [CAPTIONS[clip % len(CAPTIONS)] for clip in range(count)]
    return Clips(
        torch.from_numpy(frames.clip(0, 1)), torch.from_numpy(flow), list(offsets), captions, [""] * count,
        [f"{clip}.mp4" for clip in range(count)], torch.zeros(count, 1, 16, 16),
    )  # fmt: skip


def make_draw(count: int, *key: object) -> Draw:
    """Return the random numbers of a single process."""
    return Draw(("test", *key), count, 0, count)


def test_the_clips_of_the_tests_move_as_they_say() -> None:
    clips = moving_shapes(8)
    assert clips.frames.shape == (8, 4, 3, SIDE, SIDE)
    for frames, (dx, dy) in zip(clips.frames, MOVES, strict=True):
        first = frames[0, :, 22:42, 22:42]
        last = frames[3, :, 22 + 6 * dy : 42 + 6 * dy, 22 + 6 * dx : 42 + 6 * dx]
        assert torch.equal(first, last)


def test_clips_of_a_batch_are_floats_from_zero_to_one() -> None:
    from training.data.footage import Batch

    values = {
        "frames": torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 1, 3, 1, 1), "flow": torch.ones(1, 2, 1, 1),
        "captions": ["a"], "scenes": ["s"], "labels": ["l"], "names": ["n"],
        "sway": torch.full((1, 1, 1, 1), 2.0),
    }  # fmt: skip
    batch = Batch(**{name: values[name] for name in Batch._fields})
    clips = Clips.of(batch, range(0, 3, 2))
    assert clips.frames.flatten().tolist() == pytest.approx([0, 0.2, 1])
    assert (clips.offsets, clips.captions, clips.labels, clips.names) == ([0, 2], ["a"], ["l"], ["n"])
    assert clips.sway.item() == 2


@pytest.mark.parametrize("world", [2, 4])
def test_the_rows_of_all_processes_are_those_of_one(world: int) -> None:
    def numbers(draw: Draw) -> list[Tensor]:
        own = draw.fork("order")
        return [
            own.uniform(3, low=-1), own.normal(2, 2), own.integers(0, 5), own.permutations(4), own.uniform(),
            own.fork("deeper").normal(1), draw.uniform(2),
        ]  # fmt: skip

    alone = numbers(Draw((7, 3), 8, 0, 8))
    parts = [numbers(Draw((7, 3), 8, rank * 8 // world, 8 // world)) for rank in range(world)]
    for one, many in zip(alone, zip(*parts, strict=True), strict=True):
        assert torch.equal(one, torch.cat(many))
    assert alone[0].shape == (8, 3)
    assert alone[3].sort(dim=1).values.tolist() == [[0, 1, 2, 3]] * 8


def test_one_tasks_draws_never_move_anothers() -> None:
    draw = make_draw(4)
    expected = draw.fork("position").uniform(5)
    busy = make_draw(4)
    busy.normal(100)
    order = busy.fork("order")
    order.uniform(17)
    assert torch.equal(busy.fork("position").uniform(5), expected)
    assert not torch.equal(make_draw(4).fork("order").uniform(5), expected)
    assert not torch.equal(make_draw(4, "next step").fork("position").uniform(5), expected)


def test_draws_keep_to_their_ranges() -> None:
    draw = make_draw(1000)
    uniform, integers = draw.uniform(low=-0.5, high=2.0), draw.integers(3, 6, 2)
    assert -0.5 <= uniform.min() < -0.45 < 1.95 < uniform.max() <= 2.0
    assert uniform.dtype == torch.float32
    assert sorted(set(integers.flatten().tolist())) == [3, 4, 5]
    orders = draw.permutations(3).unique(dim=0, return_counts=True)[1]
    assert len(orders) == 6
    assert orders.min() > 110  # of 167


def test_joined_views_keep_every_frames_predecessor() -> None:
    clips, pictures = (
        Views.clips(torch.rand(2, 3, 3, 4, 4)),
        Views.pictures(torch.rand(2, 3, 4, 4), truth=torch.ones(2)),
    )
    assert clips.previous.tolist() == previous_rows(2, 3).tolist()
    assert pictures.previous.tolist() == [0, 1]
    assert list(pictures.truth) == ["truth"]
    joined = Views.joined([clips, pictures, clips])
    assert joined.previous.tolist() == [0, 0, 1, 3, 3, 4, 6, 7, 8, 8, 9, 11, 11, 12]
    assert torch.equal(joined.frames[6:8], pictures.frames)
    assert torch.equal(joined.frames[8:].reshape(2, 3, 3, 4, 4), clips.frames.reshape(2, 3, 3, 4, 4))


def test_mirroring_takes_half_of_the_clips_and_all_their_frames() -> None:
    frames = torch.rand(200, 3, 1, 2, 4)
    seen = mirrored(frames, make_draw(200))
    flipped = (seen == frames.flip(-1)).flatten(1).all(dim=1)
    assert ((seen == frames).flatten(1).all(dim=1) ^ flipped).all()
    assert 70 < flipped.sum() < 130


def test_recolouring_is_one_change_for_all_frames_of_a_clip() -> None:
    torch.manual_seed(0)
    grey = (0.4 + 0.2 * torch.rand(300, 4, 1, 8, 8)).expand(-1, -1, 3, -1, -1)
    seen = recoloured(grey, make_draw(300))
    # Grey stays grey, and the change is contrast * (x - mean) + mean + brightness: a line through all frames' values.
    assert torch.allclose(seen[:, :, 0], seen[:, :, 2], atol=1e-6)
    x, y = grey[:, :, 0].flatten(1), seen[:, :, 0].flatten(1)
    mean_x, mean_y = x.mean(dim=1, keepdim=True), y.mean(dim=1, keepdim=True)
    contrast = ((x - mean_x) * (y - mean_y)).sum(dim=1) / (x - mean_x).square().sum(dim=1)
    line = mean_y + contrast[:, None] * (x - mean_x)
    assert torch.allclose(line, y, atol=1e-4)
    brightness = (mean_y - mean_x)[:, 0]
    assert 0.7 - 1e-3 < contrast.min() < 0.75 < 1.25 < contrast.max() < 1.3 + 1e-3
    assert -0.151 < brightness.min() < -0.12 < 0.12 < brightness.max() < 0.151
    colourful = recoloured(torch.rand(50, 4, 3, 8, 8), make_draw(50))
    assert 0 <= colourful.min() <= colourful.max() <= 1


def test_jitter_moves_every_frame_on_its_own_by_whole_pixels() -> None:
    ramp = torch.stack(torch.meshgrid(torch.arange(12.0), torch.arange(16.0), indexing="ij"))  # (2, H, W): y and x
    frames = torch.cat([ramp, ramp[:1]])[None, None].expand(100, 4, -1, -1, -1)
    seen = jittered(frames, 2, make_draw(100))
    assert seen.shape == frames.shape
    moves = (seen - frames)[:, :, :2, 6, 8]
    assert sorted(set(moves[..., 0].flatten().tolist())) == [-2, -1, 0, 1, 2]
    assert sorted(set(moves[..., 1].flatten().tolist())) == [-2, -1, 0, 1, 2]
    expected = frames[:, :, :2] + moves[..., None, None]
    limits = torch.tensor([11.0, 15.0]).reshape(2, 1, 1)
    assert torch.equal(seen[:, :, :2], torch.minimum(expected.clamp(min=0), limits))  # the edge repeats
    assert (moves[:, 0] != moves[:, 1]).any()
    assert jittered(frames, 0, make_draw(100)) is frames


def test_held_out_views_are_the_same_whatever_the_encoder() -> None:
    from training.model.generator import VideoGenerator
    from training.tasks.order import OrderTask

    config = make_config()
    clips = moving_shapes(2)
    order = OrderTask(config)
    one = TaskEvaluation(VideoGenerator(config.model), [clips, clips], 3)
    two = one.by(VideoGenerator(config.model))
    with torch.no_grad():
        first, second = list(one.batches_of(order)), list(two.batches_of(order))
    for here, there in zip(first, second, strict=True):
        assert torch.equal(here.views.frames, there.views.frames)
        assert not torch.equal(here.levels.x32, there.levels.x32)
    assert not torch.equal(first[0].views.frames, first[1].views.frames)
    assert not torch.equal(
        next(TaskEvaluation(one.generator, [clips], 4).batches_of(order)).views.frames, first[0].views.frames
    )


def test_a_task_shows_no_pictures_unless_it_wants_to() -> None:
    config = make_config()
    assert PretrainingTask.pictures(None, TaskEvaluation(None, [], 0)) == {}  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"abstract methods.*loss.*measure.*views"):
        PretrainingTask()  # type: ignore[abstract]
    measure = TaskMeasure("order", "accuracy", 0.5, "higher", chance=0.1)
    assert measure.to_dict() == dataclasses.asdict(measure)
    assert config.pretrain.weights["order"] == 0
    assert Levels._fields == ("x4", "x8", "x16", "x32")
