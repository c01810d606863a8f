"""All tasks on one encoder: weights, gradients, processes, and what a new task takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning.fabric import Fabric
from torch import Tensor

from tests.training.fake_clips import FakeClips
from tests.training.tasks.test_task import CAPTIONS, make_config, make_draw, moving_shapes
from tests.training.words_fixture import make_words
from training.checkpoint import HINTS
from training.config import Config, config_from_dict
from training.data.words import WordVectors
from training.model.generator import VideoGenerator
from training.model.trunk import Levels
from training.stages.losses import DivergenceError
from training.stages.pretrain import Pretrainer, PretrainStage, measures_of, middle_offsets, stilled
from training.tasks.table import TASKS
from training.tasks.task import Clips, Draw, PretrainingTask, TaskEvaluation, TaskMeasure, Views

ALL = {"order": 0.2, "position": 0.3, "reconstruction": 1.0, "alignment": 0.5}
# Oscillators that stand still: an L1 term would teach them to (see `Reconstruction.rolled`).
STILL = ("to_modes.", "step.log_rate", "step.log_damping", "noise_to_hidden.weight")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> WordVectors:
    return WordVectors.open(make_words(tmp_path_factory.mktemp("pretrain") / "words", CAPTIONS))


def make_pretrainer(words: WordVectors, **weights: float) -> Pretrainer:
    torch.manual_seed(0)
    return Pretrainer(make_config(**weights), None, words)


def test_a_pretraining_without_tasks_is_refused() -> None:
    with pytest.raises(ValueError, match="every pretraining task has weight 0: give one of order, position"):
        Pretrainer(make_config())


def test_only_tasks_with_a_weight_are_on(words: WordVectors) -> None:
    pretrainer = make_pretrainer(words, position=0.5, alignment=1.0)
    assert pretrainer.weights == {"position": 0.5, "alignment": 1.0}
    assert [task.name for task in pretrainer.each_task()] == ["position", "alignment"]
    assert all(TASKS[name].create(make_config(), None, words).name == name for name in TASKS)


@pytest.mark.parametrize("name", list(TASKS))
def test_each_task_alone_reaches_the_whole_encoder(words: WordVectors, name: str) -> None:
    pretrainer = make_pretrainer(words, **{name: 1.0})
    pretrainer(moving_shapes(4, noise=0.05), make_draw(4))[0].backward()
    starved = []
    for key, parameter in pretrainer.generator.condition.encoder.trunk.named_parameters():
        assert parameter.requires_grad
        gradient = parameter.grad
        if gradient is None or not (torch.isfinite(gradient).all() and gradient.abs().sum() > 0):
            starved.append(key)
    assert not starved


@pytest.mark.parametrize("names", [("order",), ("position",), ("alignment",), ("order", "position", "alignment")])
def test_what_no_loss_reaches_is_frozen(words: WordVectors, names: tuple[str, ...]) -> None:
    pretrainer = make_pretrainer(words, **dict.fromkeys(names, 1.0))
    trunk = {id(parameter) for parameter in pretrainer.generator.condition.encoder.trunk.parameters()}
    assert all(p.requires_grad == (id(p) in trunk) for p in pretrainer.generator.parameters())
    pretrainer(moving_shapes(2, noise=0.05), make_draw(2))[0].backward()
    # A distributed engine waits for every gradient.
    assert not [key for key, p in pretrainer.named_parameters() if p.requires_grad and p.grad is None]


def test_with_all_tasks_every_parameter_gets_a_gradient(words: WordVectors) -> None:
    pretrainer = make_pretrainer(words, **ALL)
    with torch.no_grad():  # modulations start at zero, which keeps what feeds them from learning for one step
        for key, parameter in pretrainer.named_parameters():
            if "modulation" in key:
                parameter.normal_(0, 0.01)
    pretrainer(moving_shapes(4, noise=0.05), make_draw(4))[0].backward()
    starved = []
    for key, parameter in pretrainer.named_parameters():
        if HINTS in key:
            assert not parameter.requires_grad, "without hints nothing reaches them"
            continue
        assert parameter.requires_grad
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        if not parameter.grad.abs().sum() > 0:
            starved.append(key)
    assert not [key for key in starved if not any(part in key for part in STILL)]


def test_the_loss_is_the_weighted_sum_of_the_tasks(words: WordVectors) -> None:
    pretrainer = make_pretrainer(words, **ALL)
    clips = moving_shapes(4, noise=0.05)
    with torch.no_grad():
        total, figures = pretrainer(clips, make_draw(4))
        alone = {}
        for task in pretrainer.each_task():
            draw = make_draw(4).fork(task.name)
            views = task.views(clips, draw)
            levels = pretrainer.generator.condition.encoder.trunk(views.frames, views.previous)
            alone[task.name], found = task.loss(pretrainer.generator, levels, views, clips, draw)
            for key, value in found.items():
                assert figures[f"{task.name}/{key}"].item() == pytest.approx(value.item(), rel=1e-3, abs=1e-4), key
    assert list(alone) == list(ALL)
    assert total.item() == pytest.approx(sum(ALL[name] * loss.item() for name, loss in alone.items()), rel=1e-4)
    assert not any(value.requires_grad for value in figures.values())


def test_the_loss_of_two_processes_is_that_of_one(words: WordVectors) -> None:
    weights = {name: weight for name, weight in ALL.items() if name != "alignment"}  # which has to see all clips
    pretrainer = make_pretrainer(words, **weights)
    clips = moving_shapes(4, noise=0.05)
    whole = pretrainer(clips, Draw((1,), 4, 0, 4))[0]
    whole.backward()
    trained = [p for p in pretrainer.parameters() if p.requires_grad]  # not the layers that read hints
    expected = [p.grad.clone() for p in trained]
    pretrainer.zero_grad()
    parts = []
    for rank in range(2):
        own = slice(2 * rank, 2 * rank + 2)
        rows = Clips(clips.frames[own], clips.flow[own], clips.offsets, *(part[own] for part in clips[3:]))
        loss = pretrainer(rows, Draw((1,), 4, 2 * rank, 2))[0]
        (loss / 2).backward()
        parts.append(loss.item())
    assert whole.item() == pytest.approx(sum(parts) / 2, rel=1e-5)
    for parameter, gradient in zip(trained, expected, strict=True):
        assert torch.allclose(parameter.grad, gradient, atol=1e-4 * float(gradient.abs().max()) + 1e-6)


class Brightness(PretrainingTask):
    """How bright is the first frame? Has nothing of its own to train."""

    name = "brightness"
    weight = 0.5

    def __init__(self, config: Config) -> None:
        super().__init__()

    def views(self, clips: Clips, draw: Draw) -> Views:
        return Views.pictures(clips.frames[:, 0], light=clips.frames[:, 0].mean(dim=(1, 2, 3)))

    def loss(
        self, generator: VideoGenerator, levels: Levels, views: Views, clips: Clips, draw: Draw
    ) -> tuple[Tensor, dict[str, Tensor]]:
        loss = (levels.x32.mean(dim=(1, 2, 3)) - views.truth["light"]).square().mean()
        return loss, {"loss": loss}

    def measure(self, held: TaskEvaluation) -> list[TaskMeasure]:
        return [TaskMeasure(self.name, "error", 0.0, "lower")]


@pytest.fixture
def fifth_task(monkeypatch: pytest.MonkeyPatch) -> Config:
    """Return a configuration with a task that was added to the table."""
    monkeypatch.setitem(TASKS, "brightness", Brightness)
    return make_config(order=1.0, brightness=2.0)


def test_a_fifth_task_is_a_class_and_a_line_in_the_table(fifth_task: Config) -> None:
    assert config_from_dict({}).pretrain.weights["brightness"] == Brightness.weight
    pretrainer = Pretrainer(fifth_task)
    assert pretrainer.weights == {"order": 1.0, "brightness": 2.0}
    clips = moving_shapes(2)
    loss, figures = pretrainer(clips, make_draw(2))
    loss.backward()
    expected = figures["order/loss"] + figures["order/arrow_loss"] + 2 * figures["brightness/loss"]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    held = TaskEvaluation(pretrainer.generator, [clips], 0)
    assert {measure.task for measure in measures_of(pretrainer, held)} == {"order", "brightness"}


def test_a_task_without_parameters_can_be_resumed(fifth_task: Config) -> None:
    stage = PretrainStage(fifth_task)
    modules = {name: module.state_dict() for name, module in stage.modules.items()}
    stage.check(Path("pretrain.pt"), {"config": fifth_task.to_dict(), "modules": modules})


def test_a_checkpoint_of_other_tasks_is_refused(words: WordVectors) -> None:
    trained = PretrainStage(make_config(order=1.0, position=1.0))
    modules = {name: module.state_dict() for name, module in trained.modules.items()}
    content = {"config": trained.config.to_dict(), "modules": modules}
    PretrainStage(make_config(order=0.5, position=2.0)).check(Path("pretrain.pt"), content)
    with pytest.raises(ValueError, match=r"was trained on order, position, the configuration asks for order"):
        PretrainStage(make_config(order=1.0)).check(Path("pretrain.pt"), content)


def test_decay_leaves_alone_what_no_loss_reaches(words: WordVectors) -> None:
    stage = PretrainStage(make_config(**ALL), None, words)
    step = stage.pretrainer.generator.step
    decayed = {
        id(p): group["weight_decay"]
        for g in stage.optimisers.values()
        for group in g.param_groups
        for p in group["params"]
    }
    assert decayed[id(step.log_rate)] == 0
    assert decayed[id(step.log_damping)] == 0
    task = stage.pretrainer.tasks["alignment"]
    assert decayed[id(task.log_scale)] == 0
    assert decayed[id(step.update.weight)] > 0


def test_offsets_are_four_frames_at_an_equal_distance_and_one_farther_ahead() -> None:
    config = make_config(order=1.0)
    config = replace(config, pretrain=replace(config.pretrain, stride_min=2, stride_max=7))  # up to a horizon of 24
    stage = PretrainStage(config)
    offsets = [stage.offsets(step) for step in range(200)]
    assert offsets == [stage.offsets(step) for step in range(200)]
    assert {tuple(found[:4]) for found in offsets} == {(0, s, 2 * s, 3 * s) for s in range(2, 8)}
    assert all(found[3] < found[-1] <= 24 for found in offsets)
    assert middle_offsets(config) == [0, 4, 8, 12, 24]


def test_what_reads_captions_later_has_a_gradient_already() -> None:
    config = make_config(reconstruction=1.0)
    pretrainer = Pretrainer(replace(config, model=replace(config.model, text_dimensions=8)))
    pretrainer(moving_shapes(3, noise=0.05), make_draw(3))[0].backward()
    # A distributed engine waits for every gradient; this one is zero.
    assert not [key for key, p in pretrainer.named_parameters() if p.requires_grad and p.grad is None]
    assert pretrainer.generator.condition.painter.from_text.weight.grad.abs().max() == 0


def test_stilled_clips_show_their_first_frame_and_move_nowhere() -> None:
    clips = moving_shapes(2)._replace(sway=torch.ones(2, 1, 16, 16))
    still = stilled(clips)
    assert torch.equal(still.frames, clips.frames[:, :1].expand(-1, 4, -1, -1, -1))
    assert still.flow.abs().max() == still.sway.abs().max() == 0
    assert still[2:6] == clips[2:6]
    assert clips.flow.abs().max() > 0
    assert not torch.equal(clips.frames[:, 0], clips.frames[:, 3])


@pytest.mark.parametrize("still", [False, True])
def test_a_stage_trains_on_clips_that_move_unless_told_otherwise(still: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config(reconstruction=1.0, still=still)
    stage = PretrainStage(replace(config, run=replace(config.run, precision="fp32")))
    stage.setup(Fabric(accelerator="cpu", devices=1))
    seen: list[Clips] = []
    model = stage.model
    monkeypatch.setattr(stage, "model", lambda clips, draw: (seen.append(clips), model(clips, draw))[1])
    offsets = stage.offsets(0)
    stage.update(FakeClips(64).draw(0, stage.batch, offsets), offsets, 0)
    (clips,) = seen
    assert torch.equal(clips.frames[:, 0], clips.frames[:, 2]) == still
    assert (clips.flow.abs().max() == 0) == still
    assert (clips.sway.abs().max() == 0) == still


def test_all_processes_turn_back_when_one_diverges(monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config(position=1.0)
    stage = PretrainStage(replace(config, run=replace(config.run, precision="fp32")))
    stage.setup(Fabric(accelerator="cpu", devices=1))
    before = {key: value.clone() for key, value in stage.pretrainer.state_dict().items()}
    offsets = stage.offsets(0)
    batch = FakeClips(64).draw(0, stage.batch, offsets)
    # The loss of this process is a number; the mean over all is none.
    monkeypatch.setattr(stage.fabric, "all_reduce", lambda value, reduce_op: value * torch.nan)
    with pytest.raises(DivergenceError, match="pretrain diverged at iteration 0: its loss is nan"):
        stage.update(batch, offsets, 0)
    assert all(torch.equal(value, before[key]) for key, value in stage.pretrainer.state_dict().items())
    monkeypatch.undo()
    stage.update(batch, offsets, 0)
    assert any(not torch.equal(value, before[key]) for key, value in stage.pretrainer.state_dict().items())


def test_a_rewind_halves_the_rate_that_is_learned_at() -> None:
    stage = PretrainStage(make_config(position=1.0))
    stage.setup(Fabric(accelerator="cpu", devices=1))
    content, rates = stage.extra_state(), []
    for _ in range(3):
        offsets = stage.offsets(0)
        stage.update(FakeClips(64).draw(0, stage.batch, offsets), offsets, 0)
        rates.append(stage.optimisers["all"].param_groups[0]["lr"])
        stage.load_extra_state(content)
        stage.slow_down()
    assert rates[1:] == [pytest.approx(rates[0] / 2), pytest.approx(rates[0] / 4)]
