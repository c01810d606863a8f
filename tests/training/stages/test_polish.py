"""Polishing: codes give their pictures back, everything else stays, and a run goes on where it stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from tests.training.fake_clips import CAPTIONS, FakeClips
from training import loop
from training.checkpoint import load_checkpoint, load_generator, save_checkpoint
from training.config import Config, FootageConfig, PolishConfig, PretrainConfig, RunConfig
from training.model.generator import Shape, VideoGenerator
from training.stages.command import require_not_polished
from training.stages.finetune import MIXTURE, in_proportion
from training.stages.losses import DivergenceError
from training.stages.polish import PolishStage

FACTS: dict[str, Any] = {"data": "here", "words": "", "footage": [], "vocabulary": []}
CONFIG = Config(
    model=Shape(64, 64, 4, 16, text_dimensions=8, components=4, encoder_scale=0.25),
    footage=FootageConfig(short_side=72, crop_min=64, crop_max=72, horizon_frames=12),
    pretrain=PretrainConfig(stride_max=3),
    polish=PolishConfig(iterations=4, batch=4, learning_rate=2e-3, code_learning_rate=0.1),
    run=RunConfig(precision="fp32", log_every=2, checkpoint_every=2),
)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(loop, "write_samples", lambda *arguments: None)


@pytest.fixture(scope="module")
def fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fine-tuned checkpoint, as far as polishing looks at it."""
    torch.manual_seed(3)
    generator = VideoGenerator(CONFIG.model)
    prior = generator.condition.prior
    prior.means.normal_()
    prior.spreads.fill_(0.2)
    prior.texts.copy_(nn.functional.normalize(torch.randn_like(prior.texts)))
    path = tmp_path_factory.mktemp("tuned") / "finetune.pt"
    ema = {f"generator.{key}": value for key, value in generator.state_dict().items()}
    facts = {**FACTS, "words": "words of fine-tuning", "vocabulary": list(CAPTIONS)}
    save_checkpoint(path, {"stage": "finetune", "iteration": 9, "config": CONFIG.to_dict(), "ema": ema, **facts})
    return path


class SquaredDistance(nn.Module):
    """Stands in for LPIPS."""

    def forward(self, made: Tensor, real: Tensor) -> Tensor:
        return (made - real).square().mean()


def make_stage(tuned: Path, fabric: Fabric, config: Config = CONFIG, look: Any = None) -> PolishStage:
    clips: Any = FakeClips(64)
    torch.manual_seed(0)
    stage = PolishStage(config, tuned, look, clips)
    stage.setup(fabric)
    return stage


def go(stage: PolishStage, fabric: Fabric, out: Path) -> dict[str, Any]:
    clips: Any = FakeClips(64)
    loop.train(stage, stage.config, fabric, clips, clips, out, FACTS | stage.facts, {})
    return load_checkpoint(out / "polish.pt")


def test_codes_learn_to_give_their_own_frames_back(tuned: Path, fabric: Fabric) -> None:
    config = replace(CONFIG, polish=replace(CONFIG.polish, iterations=60))
    stage = make_stage(tuned, fabric, config, SquaredDistance())
    clips = FakeClips(64)
    numbers = in_proportion(clips, 4, MIXTURE)  # type: ignore[arg-type]
    frames = clips.collate(numbers, [0])[0].frames[:, 0]
    torch.testing.assert_close(stage.pictures, frames)
    metrics = []
    for iteration in range(60):
        torch.manual_seed(iteration)
        metrics.append(stage.update(clips.draw(iteration, stage.batch, [0]), [0], iteration))
    assert set(metrics[0]) == {"l1", "look", "psnr", "psnr_parts"}
    first, last = (sum(found["psnr"] for found in part) / 10 for part in (metrics[:10], metrics[-10:]))
    assert last > first + 0.5
    # Each code its own frame, not any frame: the right one is the nearest.
    with torch.no_grad():
        nothing = torch.zeros(4, 3, 64, 64)
        made = stage.painter(nothing, nothing[:, :1], stage.table.means, stage.prior.texts)
    distance = (made[:, None] - frames[None].float() / 255).abs().mean(dim=(2, 3, 4))
    assert distance.argmin(dim=1).tolist() == [0, 1, 2, 3]


def test_nothing_but_the_painter_and_its_codes_changes(tuned: Path, fabric: Fabric, tmp_path: Path) -> None:
    content = go(make_stage(tuned, fabric), fabric, tmp_path)
    before, after = load_checkpoint(tuned)["ema"], content["ema"]
    changed = {key for key, value in before.items() if not torch.equal(value, after[key])}
    assert changed
    prior = "generator.condition.prior."
    allowed = ("generator.condition.painter.", f"{prior}means", f"{prior}spreads")
    assert all(key.startswith(allowed) for key in changed)
    assert {f"{prior}means", f"{prior}spreads"} <= changed
    torch.testing.assert_close(after[f"{prior}spreads"], CONFIG.polish.jitter * before[f"{prior}spreads"])
    torch.testing.assert_close(after[f"{prior}means"], after["table.means"])
    generator, _, facts = load_generator(tmp_path)  # polish.pt is what a run is known by
    assert (facts["stage"], facts["iteration"]) == ("polish", 4)
    assert facts["words"] == "words of fine-tuning"
    assert facts["vocabulary"] == list(CAPTIONS)
    torch.testing.assert_close(generator.condition.prior.means, after["table.means"])


def test_a_stopped_run_equals_one_that_never_stopped(
    tuned: Path, fabric: Fabric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = go(make_stage(tuned, fabric), fabric, tmp_path / "whole")
    stopped = make_stage(tuned, fabric)
    update = stopped.update

    def stop(batch: Any, offsets: list[int], iteration: int) -> dict[str, float]:
        if iteration == 3:
            raise KeyboardInterrupt
        return update(batch, offsets, iteration)

    monkeypatch.setattr(stopped, "update", stop)
    with pytest.raises(KeyboardInterrupt):
        go(stopped, fabric, tmp_path / "parts")
    assert load_checkpoint(tmp_path / "parts/polish.pt")["iteration"] == 2
    parts = go(make_stage(tuned, fabric), fabric, tmp_path / "parts")
    assert parts["iteration"] == whole["iteration"] == 4
    for key, value in whole["ema"].items():
        torch.testing.assert_close(parts["ema"][key], value)


def test_a_stage_of_another_source_or_model_is_refused(tuned: Path, fabric: Fabric, tmp_path: Path) -> None:
    content = go(make_stage(tuned, fabric), fabric, tmp_path)
    other = tmp_path / "other.pt"
    save_checkpoint(other, load_checkpoint(tuned) | {"iteration": 10})
    with pytest.raises(ValueError, match=r"polish.pt started from finetune 9, .* of finetune 10: delete it"):
        make_stage(other, fabric).check(tmp_path / "polish.pt", content)
    with pytest.raises(ValueError, match=r"trained with model\.components = 4, the configuration says 5"):
        make_stage(tuned, fabric, replace(CONFIG, model=replace(CONFIG.model, components=5)))
    save_checkpoint(other, load_checkpoint(tuned) | {"stage": "pretrain"})
    with pytest.raises(ValueError, match="of the stage pretrain, expected finetune: run finetune first"):
        make_stage(other, fabric)


def test_how_it_is_played_may_change(tuned: Path, fabric: Fabric) -> None:
    played = replace(CONFIG.model, pace=0.5, mixing=0.9, period_frames=20)
    assert make_stage(tuned, fabric, replace(CONFIG, model=played)).generator.shape.pace == 0.5


def test_several_processes_are_refused(tuned: Path, fabric: Fabric) -> None:
    class Two:
        world_size = 2

    stage = make_stage(tuned, fabric)
    two: Any = Two()
    with pytest.raises(ValueError, match=r"polish was started in 2 processes; .* without torchrun"):
        stage.setup(two)


def test_divergence_is_noticed(tuned: Path, fabric: Fabric) -> None:
    stage = make_stage(tuned, fabric)
    with torch.no_grad():
        stage.table.means.fill_(float("nan"))
    with pytest.raises(DivergenceError, match="polish"):
        stage.update(FakeClips(64).draw(0, 1, [0]), [0], 0)
    stage.slow_down()
    assert stage.rate == 0.5


def test_more_fine_tuning_is_refused_while_something_was_polished_from_less(tuned: Path, tmp_path: Path) -> None:
    require_not_polished(tmp_path, 9)
    (tmp_path / "polish.pt").touch()
    (tmp_path / "finetune.pt").write_bytes(tuned.read_bytes())
    require_not_polished(tmp_path, 9)
    with pytest.raises(ValueError, match=r"has a polish.pt, which more fine-tuning would outdate: delete it"):
        require_not_polished(tmp_path, 10)


def test_a_setting_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"polish\.iterations is 0 and polish\.batch 4, expected 1 or more"):
        PolishConfig(iterations=0)
