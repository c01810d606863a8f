"""Anticipation: how a picture will move, from the picture alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.training.tasks.test_task import make_config, make_draw, moving_shapes
from training.config import Config
from training.stages.pretrain import Pretrainer
from training.tasks.anticipation import SWAY, AnticipationTask
from training.tasks.task import Clips, TaskEvaluation


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def known_way(config: Config) -> Config:
    """Return the configuration of footage whose motion goes one way alone."""
    return replace(config, footage=replace(config.footage, either_way=False))


def clips_that_sway(count: int) -> Clips:
    sway = torch.zeros(count, 1, 16, 16)
    sway[:, :, :, 8:] = 1.5
    return moving_shapes(count)._replace(sway=sway)


def test_it_sees_the_first_frame_alone() -> None:
    task, clips = AnticipationTask(make_config(anticipation=1.0)), clips_that_sway(3)
    later = clips._replace(frames=torch.cat([clips.frames[:, :1], torch.rand_like(clips.frames[:, 1:])], dim=1))
    views, others = task.views(clips, make_draw(3)), task.views(later, make_draw(3))
    assert torch.equal(views.frames, others.frames)
    assert views.frames.shape == (3, 3, 64, 64)
    assert views.previous.tolist() == [0, 1, 2]
    assert (views.frames - clips.frames[:, 0]).abs().mean() > 0.01, "in other colours"
    assert torch.equal(views.truth["flow"], clips.flow)
    assert torch.equal(views.truth["sway"], clips.sway)


def test_the_loss_is_of_flow_and_swing_and_forgives_the_other_way_round() -> None:
    clips = clips_that_sway(3)
    mirrored = clips._replace(flow=clips.flow * torch.tensor([-1.0, 1.0]).reshape(1, 2, 1, 1))
    for config in (make_config(anticipation=1.0), known_way(make_config(anticipation=1.0))):
        torch.manual_seed(0)
        pretrainer = Pretrainer(config)
        with torch.no_grad():
            losses = [pretrainer(each, make_draw(3)) for each in (clips, mirrored)]
        total, figures = losses[0]
        assert set(figures) == {"anticipation/flow", "anticipation/sway"}
        expected = figures["anticipation/flow"] + SWAY * figures["anticipation/sway"]
        assert total.item() == pytest.approx(expected.item(), rel=1e-5)
        flows = [found["anticipation/flow"].item() for _, found in losses]
        assert (flows[0] == pytest.approx(flows[1], rel=1e-5)) == config.footage.either_way


def test_it_trains_the_heads_that_read_motion_and_not_the_painter() -> None:
    torch.manual_seed(0)
    pretrainer = Pretrainer(make_config(anticipation=1.0))
    pretrainer(clips_that_sway(3), make_draw(3))[0].backward()
    encoder = pretrainer.generator.condition.encoder
    for module in (encoder.trunk, encoder.to_flow, encoder.to_modes, encoder.motion4, encoder.motion8, encoder.up8):
        assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in module.parameters())
    assert all(value.grad is None for value in pretrainer.generator.condition.painter.parameters())


def test_hints_are_sampled_from_the_flow_and_say_the_way() -> None:
    config = make_config(anticipation=1.0)
    config = replace(config, pretrain=replace(config.pretrain, hints=True))
    task, clips = AnticipationTask(config), clips_that_sway(8)
    truth, again = task.views(clips, make_draw(8)).truth, task.views(clips, make_draw(8)).truth
    assert torch.equal(truth["hints"], again["hints"]), "the same for equal draws"
    assert truth["hints"].shape == (8, 5, 8, 8)
    assert truth["hints"][:, 2].sum() > 0
    torch.manual_seed(0)
    pretrainer = Pretrainer(config)
    pretrainer(clips, make_draw(8))[0].backward()
    hints = pretrainer.generator.condition.encoder.hints
    for layer in (hints.second8, hints.to4, hints.gate):
        assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in layer.parameters())
    memory = pretrainer.generator.condition.encoder(clips.frames[:, 0])
    mirrored = clips.flow * torch.tensor([-1.0, 1.0]).reshape(1, 2, 1, 1)
    told = torch.zeros(8, 5, 8, 8)
    told[:, 0, 4, 4], told[:, 2, 4, 4] = 2, 1
    memory = memory._replace(flow=torch.cat([clips.flow, torch.ones(8, 1, 16, 16)], dim=1))
    forgiven, _ = task.terms(pretrainer.generator, memory, mirrored, clips.sway)
    wrong, _ = task.terms(pretrainer.generator, memory, mirrored, clips.sway, told)
    assert wrong > forgiven + 0.1, "a vector tells which way is right"


def test_without_hints_their_layers_are_frozen_and_change_no_number() -> None:
    pretrainer = Pretrainer(make_config(anticipation=1.0))
    assert not any(value.requires_grad for value in pretrainer.generator.condition.encoder.hints.parameters())
    assert "hints" not in AnticipationTask(make_config(anticipation=1.0)).views(clips_that_sway(3), make_draw(3)).truth


def test_scores_with_hints_are_beside_interpolation() -> None:
    config = make_config(anticipation=1.0)
    config = replace(config, pretrain=replace(config.pretrain, hints=True))
    torch.manual_seed(0)
    pretrainer = Pretrainer(config)
    held = TaskEvaluation(pretrainer.generator, [clips_that_sway(4)], seed=0)
    measures = {measure.name: measure for measure in pretrainer.tasks["anticipation"].measure(held)}
    assert list(measures)[2:] == [f"flow error, {count} hints" for count in (0, 1, 3, 5, 8)]
    assert measures["flow error, 0 hints"].baseline_name == "standing still"
    assert measures["flow error, 8 hints"].baseline_name == "hints interpolated"
    assert measures["flow error, 8 hints"].baseline < 0.7 < measures["flow error, 0 hints"].value


def test_the_network_learns_what_moves_and_what_sways() -> None:
    torch.manual_seed(0)
    pretrainer = Pretrainer(known_way(make_config(0.5, anticipation=1.0)))
    task, clips = pretrainer.tasks["anticipation"], clips_that_sway(4)
    held = TaskEvaluation(pretrainer.generator, [clips], seed=0)
    before = task.measure(held)
    optimiser = torch.optim.AdamW((p for p in pretrainer.parameters() if p.requires_grad), 3e-3, betas=(0.9, 0.99))
    for step in range(60):
        loss, _ = pretrainer(clips, make_draw(4, step))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(pretrainer.parameters(), 1.0)
        optimiser.step()
    after = task.measure(held)
    assert [measure.name for measure in after] == ["flow error", "swing error"]
    for measure, was in zip(after, before, strict=True):
        assert (measure.better, measure.baseline_name) == ("lower", "standing still")
        assert measure.value < 0.6 * measure.baseline, measure.name
        assert measure.value < 0.7 * was.value
        assert measure.baseline == was.baseline
