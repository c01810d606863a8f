"""The stage for hints: it learns to follow them, changes nothing else, and goes on where it stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric import Fabric

from tests.training.fake_clips import FakeClips
from training import loop
from training.checkpoint import HINTS, load_checkpoint, load_generator, save_checkpoint
from training.config import Config, FootageConfig, HintsConfig, RunConfig
from training.model.generator import Shape, VideoGenerator
from training.stages.hints import HintsStage
from training.start import checkpoint_start

FACTS: dict[str, Any] = {"data": "here", "words": "", "footage": [], "vocabulary": []}
CONFIG = Config(
    model=Shape(64, 64, 4, 16, components=4, encoder_scale=0.25),
    footage=FootageConfig(short_side=72, crop_min=64, crop_max=72, horizon_frames=12),
    hints=HintsConfig(iterations=4, batch=4, learning_rate=3e-3, past=0.5),
    run=RunConfig(precision="fp32", log_every=2, checkpoint_every=2),
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint from before hints."""
    torch.manual_seed(3)
    weights = VideoGenerator(CONFIG.model).state_dict()
    ema = {f"generator.{name}": value for name, value in weights.items() if HINTS not in name}
    path = tmp_path_factory.mktemp("tuned") / "finetune.pt"
    save_checkpoint(path, {"stage": "finetune", "iteration": 9, "config": CONFIG.to_dict(), "ema": ema, **FACTS})
    return path


def make_stage(tuned: Path, fabric: Fabric, config: Config = CONFIG) -> HintsStage:
    torch.manual_seed(0)
    stage = HintsStage(config, tuned)
    stage.setup(fabric)
    return stage


def go(stage: HintsStage, fabric: Fabric, out: Path) -> dict[str, Any]:
    clips: Any = FakeClips(64)
    loop.train(stage, stage.config, fabric, clips, clips, out, FACTS | stage.facts, {})
    return load_checkpoint(out / "hints.pt")


def test_it_learns_to_follow_hints(tuned: Path, fabric: Fabric) -> None:
    config = replace(CONFIG, hints=replace(CONFIG.hints, iterations=60, past=0.0))
    stage = make_stage(tuned, fabric, config)
    held: Any = FakeClips(64, seed=5)
    before = stage.held_out_figures(stage.averaged, held, 16)
    clips = FakeClips(64)
    for iteration in range(60):
        metrics = stage.update(clips.draw(iteration, stage.batch, [0]), [0], iteration)
    assert set(metrics) == {"flow", "sway", "gradient"}
    after = stage.held_out_figures(stage.averaged, held, 16)
    assert after["network 5 error"] < min(0.3, 0.8 * before["network 5 error"])
    assert after["network 5 cosine"] > 0.98
    assert after["network 0 error"] == before["network 0 error"], "without hints nothing has changed"


def test_nothing_but_the_layers_that_read_hints_changes(tuned: Path, fabric: Fabric, tmp_path: Path) -> None:
    content = go(make_stage(tuned, fabric), fabric, tmp_path)
    before, after = load_checkpoint(tuned)["ema"], content["ema"]
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    fresh = {name for name in after if name not in before}
    assert fresh
    assert all(HINTS in name for name in fresh)
    assert any(after[name].abs().sum() > 0 for name in fresh if "second8" in name)
    _, _, facts = load_generator(tmp_path)
    assert (facts["stage"], facts["iteration"]) == ("hints", 4)


def test_a_stopped_and_resumed_run_is_one_that_never_stopped(
    tuned: Path, fabric: Fabric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = go(make_stage(tuned, fabric), fabric, tmp_path / "whole")
    saved = loop.save_checkpoint

    def stop_after_first(path: Path, content: dict[str, object]) -> None:
        saved(path, content)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_checkpoint", stop_after_first)
    with pytest.raises(KeyboardInterrupt):
        go(make_stage(tuned, fabric), fabric, tmp_path / "parts")
    monkeypatch.setattr(loop, "save_checkpoint", saved)
    assert load_checkpoint(tmp_path / "parts" / "hints.pt")["iteration"] == 2
    parts = go(make_stage(tuned, fabric), fabric, tmp_path / "parts")
    assert parts["iteration"] == 4
    assert all(torch.equal(value, parts["ema"][name]) for name, value in whole["ema"].items())


def test_it_goes_on_only_from_the_same_weights(tuned: Path, fabric: Fabric, tmp_path: Path) -> None:
    go(make_stage(tuned, fabric), fabric, tmp_path)
    other = tmp_path / "other.pt"
    save_checkpoint(other, {**load_checkpoint(tuned), "iteration": 10})
    with pytest.raises(ValueError, match=r"started from finetune 9, the run's checkpoint is of finetune 10"):
        go(make_stage(other, fabric), fabric, tmp_path)


def test_it_refuses_another_model_and_several_processes(tuned: Path, fabric: Fabric) -> None:
    with pytest.raises(ValueError, match=r"model\.num_modes"):
        HintsStage(replace(CONFIG, model=replace(CONFIG.model, num_modes=5)), tuned)
    several: Any = type("Fabric", (), {"world_size": 2})
    with pytest.raises(ValueError, match="it runs in one"):
        HintsStage(CONFIG, tuned).setup(several)


def test_the_start_of_the_generator_is_remembered(tuned: Path, fabric: Fabric, tmp_path: Path) -> None:
    content = load_checkpoint(tuned)
    start = {"name": "landscape", "sha256": "0" * 64, "footage": [["sea 0", "MIT", "sea"]]}
    save_checkpoint(tmp_path / "finetune.pt", {**content, "start": start})
    stage = make_stage(tmp_path / "finetune.pt", fabric)
    assert go(stage, fabric, tmp_path)["start"] == start, "the manifest counts its footage"
    assert checkpoint_start(tmp_path / "hints.pt").footage == [("sea 0", "MIT", "sea")]
