"""Temporal order: twelve classes, a fair baseline, and a network that learns to sort."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
import torch.nn.functional as F

from tests.training.tasks.test_task import SIDE, make_config, make_draw, moving_shapes
from training.model.trunk import Levels, Trunk
from training.stages.pretrain import Pretrainer
from training.tasks import order as module
from training.tasks.order import ORDERS, OrderTask, order_class, shortest_path_class
from training.tasks.task import TaskEvaluation

STEPS = 90
EVERY = torch.tensor(list(permutations(range(4))))  # (24, 4)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def test_twelve_classes_cover_the_twenty_four_orders_in_pairs() -> None:
    classes = order_class(EVERY)
    assert ORDERS.shape == (12, 4)
    assert order_class(ORDERS).tolist() == list(range(12))
    assert classes.bincount().tolist() == [2] * 12
    # Two orders are one class if the one is the other in time run backwards: who looks at frames 1 2 3 0 of a video
    # sees frames 2 1 0 3 of its reverse. Their slots the other way round, 0 3 2 1, are another question.
    assert torch.equal(classes, order_class(3 - EVERY))
    one, reverse, slots = order_class(torch.tensor([[1, 2, 3, 0], [2, 1, 0, 3], [0, 3, 2, 1]])).tolist()
    assert one == reverse != slots


def test_the_shortest_path_sorts_a_gradient_that_moves_evenly() -> None:
    x = torch.arange(SIDE, dtype=torch.float32)
    frames = torch.stack([0.5 + (x - 4 * time) / 200 for time in range(4)])  # a ramp that moves right
    frames = frames[:, None, None].expand(-1, 3, SIDE, -1)
    assert torch.equal(shortest_path_class(frames[EVERY]), order_class(EVERY))


def test_views_hold_every_clip_shuffled_and_straight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "recoloured", lambda frames, draw: frames)
    monkeypatch.setattr(module, "SPLIT", 0.0)
    clips = moving_shapes(8)
    clips.frames[:] = (torch.arange(4) / 4).reshape(1, 4, 1, 1, 1)  # each frame shows its number
    views = OrderTask(make_config()).views(clips, make_draw(8))
    shown = (4 * views.frames[:, 0, 0, 0]).round().long().reshape(16, 4)
    assert views.previous.tolist()[:6] == [0, 0, 1, 2, 4, 4]
    assert torch.equal(order_class(shown[:8]), views.truth["order"])
    assert len(views.truth["order"].unique()) > 3
    backwards = [[3, 2, 1, 0] if back else [0, 1, 2, 3] for back in views.truth["backwards"].tolist()]
    assert shown[8:].tolist() == backwards
    assert 0 < views.truth["backwards"].sum() < 8


def test_the_loss_is_the_two_cross_entropies(monkeypatch: pytest.MonkeyPatch) -> None:
    task = OrderTask(make_config())
    clips = moving_shapes(2)
    views = task.views(clips, make_draw(2))
    views.truth["order"], views.truth["backwards"] = torch.tensor([3, 0]), torch.tensor([1.0, 0.0])
    order = torch.zeros(2, 12)
    order[0, 3] = 2.0
    monkeypatch.setattr(task, "logits", lambda levels: (order, torch.tensor([0.0, 1.0])))
    loss, figures = task.loss(None, None, views, clips, make_draw(2))  # type: ignore[arg-type]
    log = torch.log(torch.tensor([torch.e**2 + 11, 12.0, 2.0, 1 + torch.e]))
    assert figures["loss"].item() == pytest.approx(((log[0] - 2 + log[1]) / 2).item())
    assert figures["arrow_loss"].item() == pytest.approx(((log[2] + log[3]) / 2).item())
    assert loss.item() == pytest.approx((figures["loss"] + figures["arrow_loss"]).item())
    assert figures["accuracy"] == 1  # of equal logits the first counts, and the second clip's class is 0
    assert figures["arrow_accuracy"] == 0


def test_the_order_is_judged_on_shuffled_and_the_direction_on_straight_clips() -> None:
    torch.manual_seed(0)
    config = make_config()
    task, channels = OrderTask(config), Trunk(0.25, 0).channels
    sizes = (16, 8, 4, 2)
    levels = Levels(*(torch.rand(16, c, size, size) for c, size in zip(channels, sizes, strict=True)))
    order, arrow = task.logits(levels)
    assert (order.shape, arrow.shape) == ((2, 12), (2,))
    for row, changes_order, changes_arrow in ((1, [True, False], [False] * 2), (15, [False] * 2, [False, True])):
        other = Levels(*(level.clone() for level in levels))
        for level in other:
            level[row] += 1
        moved_order, moved_arrow = task.logits(other)
        assert ((moved_order - order).abs().amax(dim=1) > 1e-6).tolist() == changes_order
        assert ((moved_arrow - arrow).abs() > 1e-6).tolist() == changes_arrow


def test_the_network_learns_to_sort_clips_that_it_has_not_seen_in_that_order() -> None:
    torch.manual_seed(0)
    pretrainer = Pretrainer(make_config(order=1.0))
    clips = moving_shapes(2)
    small = F.avg_pool3d(clips.frames, (1, 2, 2))  # half the side: a fifth of the time
    clips = clips._replace(frames=small.repeat(4, 1, 1, 1, 1))
    optimiser = torch.optim.AdamW((p for p in pretrainer.parameters() if p.requires_grad), 3e-3, betas=(0.9, 0.99))
    for step in range(STEPS):
        optimiser.param_groups[0]["lr"] = 3e-3 * min(1, (step + 1) / 10) * (1 - 0.9 * step / STEPS)
        loss, _ = pretrainer(clips, make_draw(8, step))  # shuffled, moved and coloured anew in every step
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(pretrainer.parameters(), 1.0)
        optimiser.step()
    task = pretrainer.tasks["order"]
    split, plain, arrow = task.measure(TaskEvaluation(pretrainer.generator, [clips], seed=99))
    assert [m.name for m in (split, plain, arrow)] == [
        "order accuracy, split colours",
        "order accuracy, all colours",
        "arrow accuracy",
    ]
    assert plain.value > 0.9
    assert arrow.value > 0.8  # of eight clips
    assert (split.chance, plain.chance, arrow.chance) == (1 / 12, 1 / 12, 0.5)
    assert plain.baseline == 1  # squares that move evenly: the shortest path is the right one


def test_split_clips_show_each_frame_in_one_of_its_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "recoloured", lambda frames, draw: frames)
    clips = moving_shapes(8)
    clips.frames[:] = torch.tensor([0.1, 0.5, 0.9]).reshape(1, 1, 3, 1, 1)
    task = OrderTask(make_config())
    shown = task.shown(clips, make_draw(8), 1.0).frames
    assert torch.equal(shown[:, 0], shown[:, 1])
    assert torch.equal(shown[:, 0], shown[:, 2])
    assert len(shown[:, 0, 0, 0].unique()) == 3
    whole = task.shown(clips, make_draw(8), 0.0).frames
    assert torch.equal(whole, clips.frames[0, :1].expand_as(whole))
    half = task.views(clips, make_draw(8)).frames
    grey = (half[:, 0] == half[:, 2]).flatten(1).all(dim=1).reshape(16, 4)
    assert torch.equal(grey.all(dim=1), grey.any(dim=1))  # of a clip all frames or none
    assert torch.equal(grey[:8], grey[8:])
    assert 0 < grey[:8, 0].sum() < 8
