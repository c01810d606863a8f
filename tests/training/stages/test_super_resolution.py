"""Training of super-resolution: it learns, resumes exactly, refuses what does not fit, and becomes a bundle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from export.__main__ import COMMANDS
from export.from_super_resolution import run as write_bundle
from runtime.generator import Generator
from tests.training.data.test_live_clips import write_video
from training.__main__ import parser, run
from training.checkpoint import load_checkpoint
from training.stages import super_resolution
from training.stages.super_resolution import load_super_resolution

CONFIG = str(Path(__file__).parents[3] / "training/configs/enlarge-2x.toml")
SMALL = ("iterations=4", "batch=2", "side=64", "frames=3", "clips=2", "channels=4", "layers=1", "critic_scale=0.25",
         "warm_up=1", "penalty_every=1", "judged=2", "adversarial=0.003", "remembers=true")  # fmt: skip


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for number in range(6):
        write_video(folder / f"{number}.mp4", number)
    return folder


@pytest.fixture(scope="module")
def trained(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained")
    start(videos, out, "iterations=60", "learning_rate=0.01", "channels=8", "adversarial=0", every=30)
    return out


def start(videos: Path, out: Path, *changes: str, every: int = 100) -> None:
    settings = [f"super_resolution.{change}" for change in (*SMALL, *changes)]
    settings += ["run.log_every=2", f"run.checkpoint_every={every}", "run.precision=fp32"]
    words = [word for setting in settings for word in ("--set", setting)]
    run(parser().parse_args(["super-resolution", CONFIG, "--data", str(videos), "--out", str(out), *words]))


def test_a_run_leaves_a_checkpoint_figures_and_a_picture(videos: Path, tmp_path: Path) -> None:
    start(videos, tmp_path)
    network, facts = load_super_resolution(tmp_path / "super_resolution.pt", 48, 32)
    assert [name for name, _, _ in facts["footage"]] == ["0.mp4", "1.mp4", "2.mp4", "3.mp4", "5.mp4"]
    assert facts["held"] == ["4.mp4"]
    assert network(torch.rand(1, 3, 32, 48), network.initial_state(1), torch.ones(1, 3))[0].shape == (1, 3, 64, 96)
    assert not network.training
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [2, 4]
    assert {"error", "change", "critic", "matching", "discriminator"} <= set(lines[-1])
    (held_out,) = (json.loads(line) for line in (tmp_path / "heldout.jsonl").read_text().splitlines())
    assert held_out["psnr_bicubic"] > 10
    assert (tmp_path / "samples" / "super_resolution-000004.png").is_file()


def test_it_learns(trained: Path) -> None:
    first, last = (json.loads(line) for line in (trained / "heldout.jsonl").read_text().splitlines())
    assert last["psnr_ours"] > first["psnr_ours"]
    assert last["change_ours"] < first["change_ours"]
    assert last["psnr_bicubic"] == first["psnr_bicubic"]


def test_a_resumed_run_has_the_same_weights(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start(videos, tmp_path / "whole", every=2)
    save = super_resolution._Training.save

    def stop_after_saving(training: super_resolution._Training, done: int) -> None:
        save(training, done)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(super_resolution._Training, "save", stop_after_saving)
        with pytest.raises(KeyboardInterrupt):
            start(videos, tmp_path / "parts", every=2)
    start(videos, tmp_path / "parts", every=2)
    whole, parts = (load_checkpoint(tmp_path / name / "super_resolution.pt") for name in ("whole", "parts"))
    for name, value in whole["ema"].items():
        assert torch.equal(parts["ema"][name], value), name


def test_the_critic_begins_with_the_encoder_of_a_bundle(
    videos: Path, text_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[torch.Tensor] = []

    def remember(training: super_resolution._Training) -> None:
        begun.append(training.critic.trunk.stem.weight.detach().clone())

    monkeypatch.setattr(super_resolution._Training, "run", remember)
    from training.stages.adaptation import open_start

    start_of = open_start(text_bundle)
    words = ["--data", str(videos), "--out", str(tmp_path), "--start", str(text_bundle)]
    scale = start_of.settings["model"]["encoder_scale"]
    settings = [f"super_resolution.{change}" for change in (*SMALL, f"critic_scale={scale}")]
    run(parser().parse_args(["super-resolution", CONFIG, *words, *(w for s in settings for w in ("--set", s))]))
    assert torch.equal(begun[0], start_of.weights["condition.encoder.trunk.stem.weight"])


def test_what_does_not_fit_is_refused(videos: Path, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"super_resolution\.pt is of other settings or footage: name another --out"):
        start(videos, trained, "channels=4")
    with pytest.raises(ValueError, match=r"super_resolution\.side is 50, expected a multiple of 32"):
        start(videos, tmp_path, "side=50")
    with pytest.raises(ValueError, match=r"super_resolution\.frames is 2 and judged 2, expected 3 or more frames"):
        start(videos, tmp_path, "frames=2")
    few = tmp_path / "few"
    few.mkdir()
    write_video(few / "one.mp4", 1)
    with pytest.raises(ValueError, match="1 scenes are too few: every fifth is held out"):
        start(few, tmp_path / "another")


def test_it_becomes_a_bundle_of_any_size(trained: Path, tmp_path: Path) -> None:
    assert COMMANDS["enlarge"] == "export.from_super_resolution"
    out = write_bundle([str(trained), "--out", str(tmp_path / "enlarge"), "--live", "52x36", "--fps", "25"])
    assert "5 videos" in (out / "NOTICE").read_text()
    frame = np.random.default_rng(0).integers(0, 256, (36, 52, 3), np.uint8)
    with Generator.open(out, engine="onnxruntime", precision="fp32") as generator:
        assert (generator.width, generator.height) == (104, 72)
        assert {name: control.default for name, control in generator.manifest.controls.items()} == {
            "strength": 1, "sharpness": 0, "memory": 1,
        }  # fmt: skip
        assert (
            generator.manifest.controls["memory"].description == "how much of the last frame's detail is brought along"
        )
        generator.feed_live(frame)
        first, second = next(generator).copy(), next(generator).copy()
        generator.set_control("memory", 0)
        forgetting = next(generator).copy()
    network, _ = load_super_resolution(trained / "super_resolution.pt", 52, 36)
    small = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255
    wanted, _ = network(small, network.initial_state(1), torch.tensor([[1.0, 0.0, 1.0]]))
    assert np.abs(first - (wanted[0].permute(1, 2, 0) * 255).numpy()).max() < 1.5
    assert not np.array_equal(first, second)
    assert np.abs(forgetting.astype(int) - first).max() <= 1
    with pytest.raises(ValueError, match=r"--live is 16x16, expected 32 to 2048 by 32 to 2048"):
        write_bundle([str(trained), "--out", str(tmp_path / "other"), "--live", "16x16"])
