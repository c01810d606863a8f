"""Spatio-temporal position: exact truth, a walk that comes home, and a network that finds every place again."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.training.tasks.test_task import SIDE, make_config, make_draw, moving_shapes
from training.stages.pretrain import Pretrainer
from training.tasks import position as module
from training.tasks.position import (
    CELL,
    FRAMES,
    PositionTask,
    bent,
    cell_centres,
    cross_entropy_at,
    moved,
    random_displacement,
    soft_argmax,
    walk_probabilities,
)
from training.tasks.task import TaskEvaluation, Views

CELLS = SIDE // CELL
STEPS = 80


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def task() -> PositionTask:
    torch.manual_seed(0)
    return PositionTask(make_config())


def places(batch: int) -> Tensor:
    """Return pictures (B, 3, H, W) whose colour tells the place: red is x / W, green y / H."""
    y, x = torch.meshgrid(*[(torch.arange(SIDE) + 0.5) / SIDE] * 2, indexing="ij")
    return torch.stack([x, y, torch.zeros_like(x)]).expand(batch, -1, -1, -1)


def at(picture: Tensor, positions: Tensor) -> Tensor:
    """Return the colours (B, P, 3) of pictures (B, 3, H, W) at positions (B, P, 2) in cells, read between pixels."""
    grid = 2 * positions[:, None] / torch.tensor([picture.shape[3], picture.shape[2]]) * CELL - 1
    return F.grid_sample(picture, grid, align_corners=False)[:, :, 0].permute(0, 2, 1)


def one_hot(names: list[list[int]], rows: int, columns: int) -> Tensor:
    """Return embeddings (1, T, P, h, w) in which cell p of frame t has the name names[t][p]."""
    size = rows * columns
    return torch.eye(size)[torch.tensor(names)].transpose(1, 2).reshape(1, len(names), size, rows, columns)


def test_cell_centres_count_x_first() -> None:
    assert cell_centres(2, 3).tolist() == [[0.5, 0.5], [1.5, 0.5], [2.5, 0.5], [0.5, 1.5], [1.5, 1.5], [2.5, 1.5]]


def test_a_picture_moves_right_and_down_and_repeats_its_edge() -> None:
    picture = torch.arange(12.0).reshape(1, 1, 3, 4).expand(2, 3, -1, -1)
    seen = moved(picture, torch.tensor([[1, 2], [-1, 0]]))
    assert seen[0, 0].tolist() == [[0, 0, 1, 2], [0, 0, 1, 2], [0, 0, 1, 2]]
    assert seen[1, 2].tolist() == [[1, 2, 3, 3], [5, 6, 7, 7], [9, 10, 11, 11]]


def test_bending_by_a_constant_is_moving() -> None:
    picture = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    move = torch.tensor([[3, 1], [-2, 4]])
    displacement = move.float().reshape(2, 2, 1, 1).expand(-1, -1, 16, 24)
    inner = (..., slice(5, -5), slice(5, -5))
    assert torch.allclose(bent(picture, displacement)[inner], moved(picture, move)[inner], atol=1e-4)
    assert torch.allclose(bent(picture, torch.zeros(2, 2, 16, 24)), picture, atol=1e-5)


def test_displacements_are_bounded_smooth_and_hardly_ever_fold() -> None:
    displacement = random_displacement(make_draw(300), SIDE, SIDE)
    assert displacement.shape == (300, 2, SIDE, SIDE)
    length = displacement.norm(dim=1)
    # The corner is 45 px from the centre; turn and scale move it by 22, the shift by 18, the bend by 8.
    assert length.max() < 50
    assert 5 < length.mean() < 20
    across, down = displacement.diff(dim=3)[:, :, :-1], displacement.diff(dim=2)[:, :, :, :-1]
    assert torch.cat([across, down]).abs().max() < 1.5
    area = (1 - across[:, 0]) * (1 - down[:, 1]) - across[:, 1] * down[:, 0]
    assert (area <= 0).float().mean() < 0.005
    still = random_displacement(make_draw(300), SIDE, SIDE).mean(dim=(0, 2, 3))
    assert still.abs().max() < 1.5  # no direction is preferred


def test_a_walk_over_names_ends_where_the_name_is() -> None:
    home = list(range(6))
    moves = [home, [1, 0, 3, 2, 5, 4], [5, 4, 3, 2, 1, 0], [2, 3, 4, 5, 0, 1]]
    walk = walk_probabilities(one_hot([*moves, home], 2, 3))
    assert torch.allclose(walk[0], torch.eye(6), atol=1e-5)
    ends = [4, 2, 0, 1, 5, 3]
    walk = walk_probabilities(one_hot([*moves, ends], 2, 3))
    assert torch.allclose(walk[0], torch.eye(6)[ends].T, atol=1e-5)
    assert torch.allclose(walk.sum(dim=2), torch.ones(1, 6))


def test_a_dropped_edge_is_not_walked() -> None:
    names = [[0, 1]] * 5
    keep = torch.ones(1, 6, 2, 2, dtype=torch.bool)
    keep[0, 5, 0, 0] = False  # the last step from cell 0 to itself
    walk = walk_probabilities(one_hot(names, 1, 2), keep)
    assert torch.allclose(walk[0], torch.tensor([[0.0, 1.0], [0.0, 1.0]]), atol=1e-5)


def test_cross_entropy_shares_a_position_between_cells() -> None:
    probabilities = torch.tensor([[[0.25, 0.75], [0.5, 0.5]]])
    positions = torch.tensor([[[1.0, 0.5], [0.5, 0.5]]])  # between the two cells; the middle of the first
    between, first = -(math.log(0.25) + math.log(0.75)) / 2, -math.log(0.5)

    def loss(*valid: list[bool]) -> float:
        count = len(valid)
        return cross_entropy_at(
            probabilities.expand(count, -1, -1), positions.expand(count, -1, -1), torch.tensor(valid), 1, 2
        ).item()

    assert loss([True, True]) == pytest.approx((between + first) / 2)
    assert loss([True, False]) == pytest.approx(between)
    assert loss([True, False], [False, False]) == pytest.approx(between / 2)
    edge = torch.tensor([[[2.0, 1.0], [0.0, 0.0]]])  # beyond the outer centres the outer cell alone counts
    found = cross_entropy_at(probabilities, edge, torch.ones(1, 2, dtype=torch.bool), 1, 2).item()
    assert found == pytest.approx(-(math.log(0.75) + math.log(0.5)) / 2)
    # A quarter across and a quarter down in four cells: 9/16, 3/16, 3/16, 1/16.
    four = torch.tensor([0.1, 0.2, 0.3, 0.4]).expand(1, 4, -1)
    found = cross_entropy_at(four, torch.full((1, 4, 2), 0.75), torch.ones(1, 4, dtype=torch.bool), 2, 2).item()
    expected = -(9 * math.log(0.1) + 3 * math.log(0.2) + 3 * math.log(0.3) + math.log(0.4)) / 16
    assert found == pytest.approx(expected, rel=1e-5)


def test_the_soft_argmax_averages_around_the_best_cell_alone() -> None:
    probabilities = torch.zeros(1, 3, 3 * 5)
    probabilities[0, 0, 7] = 1  # row 1, column 2
    probabilities[0, 1, [7, 8]] = torch.tensor([0.5, 0.5])
    probabilities[0, 2, [0, 6, 4]] = torch.tensor([0.45, 0.15, 0.4])  # the last one is far away
    expected = torch.tensor([[[2.5, 1.5], [3.0, 1.5], [0.75, 0.75]]])
    assert torch.allclose(soft_argmax(probabilities, 3, 5), expected)


def test_template_matching_finds_a_known_move(task: PositionTask) -> None:
    reference = moving_shapes(1, noise=0.1).frames[0, 0]
    centres = cell_centres(CELLS, CELLS)
    for move in ([0, 0], [5, -3]):
        picture = moved(reference[None], torch.tensor([move]))[0]
        found = task.match_templates(picture, reference)
        expected = centres - torch.tensor(move) / CELL
        inner = ((expected > 1.7) & (expected < CELLS - 1.7) & (centres > 1.7) & (centres < CELLS - 1.7)).all(dim=1)
        assert inner.sum() >= 9
        assert torch.allclose(found[inner], expected[inner], atol=1e-4)
    flat = task.match_templates(torch.full((3, SIDE, SIDE), 0.5), reference)
    assert ((flat >= 0) & (flat <= CELLS)).all()


def test_the_truth_of_the_views_is_what_the_pictures_show(task: PositionTask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "recoloured", lambda frames, draw: frames)
    clips = moving_shapes(16, noise=0.1)
    clips.frames[:] = places(16)[:, None]
    views = task.views(clips, make_draw(16))
    frames = views.frames.unflatten(0, (16, FRAMES + 2))
    assert views.previous.tolist() == list(range(16 * (FRAMES + 2)))  # every frame by itself
    first, shifted, distorted = frames[:, 0], frames[:, FRAMES], frames[:, FRAMES + 1]
    is_mirrored = first[:, 0, 0, 0] > 0.5
    assert 3 < is_mirrored.sum() < 13
    still, source, target = (views.truth[name] for name in ("still", "source", "target"))
    assert torch.allclose(at(first, still)[..., 1] * CELLS, still[..., 1], atol=1e-4)
    # Half a cell from the edge, where sampling has nothing to read beyond.
    safe = ((source > 0.5) & (source < CELLS - 0.5)).all(dim=2)
    assert safe.float().mean() > 0.4
    error = SIDE * (at(distorted, still) - at(first, source))[safe].abs()
    assert error.max() < 0.5
    assert error.mean() < 0.05  # pixels
    home = task.inside(target)
    assert torch.allclose(at(shifted, target)[home], at(first, still)[home], atol=1e-5)
    assert ((target - still) == (target - still).round()).all()
    assert (target - still).flatten(1).unique(dim=0).shape[0] > 8


def test_inside_is_the_picture_and_not_its_far_edge(task: PositionTask) -> None:
    asked = torch.tensor([[[0.0, 0.0], [7.99, 7.99], [8.0, 4.0], [4.0, -0.01]]])
    assert task.inside(asked).tolist() == [[True, True, False, False]]


def test_errors_are_pixels_and_arriving_is_the_right_cell(task: PositionTask) -> None:
    probabilities = torch.eye(64)[None]
    centres = cell_centres(8, 8)[None]
    assert task.errors(probabilities, centres).max() == 0
    assert task.errors(probabilities, centres + torch.tensor([0.375, 0.5]))[0, 9].item() == pytest.approx(5)  # 3 and 4
    assert task.arrived(probabilities, centres).all()
    assert not task.arrived(probabilities, centres + torch.tensor([1.0, 0.0])).any()


def test_every_parameter_of_the_encoder_gets_a_gradient() -> None:
    torch.manual_seed(0)
    pretrainer = Pretrainer(make_config(position=1.0))
    pretrainer(moving_shapes(2, noise=0.1), make_draw(2))[0].backward()
    starved = [
        name for name, parameter in pretrainer.generator.condition.encoder.trunk.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0
    ]  # fmt: skip
    assert not starved


def test_the_network_finds_every_place_again(monkeypatch: pytest.MonkeyPatch) -> None:
    # Of six steps without a tenth of their edges only half keep the right path: every walk could not come home.
    monkeypatch.setattr(module, "DROPPED", 0.0)
    torch.manual_seed(0)
    pretrainer = Pretrainer(make_config(0.5, position=1.0))
    task, trunk = pretrainer.tasks["position"], pretrainer.generator.condition.encoder.trunk
    assert isinstance(task, PositionTask)
    clips = moving_shapes(4, offsets=(0, 1, 2, 3), noise=0.05)
    views = task.views(clips, make_draw(4))

    def answers() -> tuple[float, float]:
        with torch.no_grad():
            walk, tracks = task.answers(trunk(views.frames, views.previous))
        source, target = views.truth["source"], views.truth["target"]
        error = task.errors(tracks, source)[task.inside(source)]
        return error.mean().item(), task.arrived(walk, target)[task.inside(target)].float().mean().item()

    assert answers()[0] > 4
    optimiser = torch.optim.AdamW((p for p in pretrainer.parameters() if p.requires_grad), 2e-3, betas=(0.9, 0.99))
    for step in range(STEPS):
        optimiser.param_groups[0]["lr"] = 2e-3 * min(1, (step + 1) / 10) * (1 - 0.9 * step / STEPS)
        levels = trunk(views.frames, views.previous)
        loss, _ = task.loss(pretrainer.generator, levels, views, clips, make_draw(4, step))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(pretrainer.parameters(), 1.0)
        optimiser.step()
    error, home = answers()
    assert error < 1.0
    assert home > 0.95
    # Other moves, bends and colours of the same clips.
    held = TaskEvaluation(pretrainer.generator, [clips], seed=99)
    track, beside_still, walks = task.measure(held)
    assert (track.name, track.unit, walks.name) == ("track error", "px", "walks that come home")
    assert track.value < beside_still.baseline
    assert track.value < 0.3 * track.chance
    assert walks.value > 0.5 > 10 * walks.chance
    assert [m.to_dict() for m in task.measure(held)] == [m.to_dict() for m in (track, beside_still, walks)]
    picture, sentence = task.pictures(held)["tracks"]
    assert (picture.ndim, picture.shape[0] % SIDE, str(picture.dtype)) == (3, 0, "uint8")
    assert picture.shape[0] == picture.shape[1]  # four clips of four frames
    assert sentence.endswith(".")


def test_a_clip_whose_bend_leaves_the_picture_counts_nothing(task: PositionTask) -> None:
    clips = moving_shapes(2, noise=0.1)
    views = task.views(clips, make_draw(2))
    views.truth["source"] = torch.full_like(views.truth["source"], -5.0)
    views.truth["target"] = torch.full_like(views.truth["target"], -5.0)
    from training.model.trunk import Trunk

    levels = Trunk(0.25)(views.frames, views.previous)
    loss, figures = task.loss(None, levels, views, clips, make_draw(2))  # type: ignore[arg-type]
    assert loss == 0
    assert all(torch.isfinite(value) for value in figures.values())
    assert isinstance(views, Views)
