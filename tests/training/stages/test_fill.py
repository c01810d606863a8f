"""Training of the fill: it learns, resumes exactly, refuses what does not fit, and becomes a bundle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from export.__main__ import COMMANDS
from export.from_fill import run as write_bundle
from runtime.chain import Chain
from runtime.generator import Generator
from runtime.golden import golden_mask
from runtime.prompts.hints import Stroke
from tests.training.data.test_live_clips import write_video
from training.__main__ import parser, run
from training.checkpoint import load_checkpoint
from training.stages import fill
from training.stages.fill import load_fill

CONFIG = str(Path(__file__).parents[3] / "training/configs/fill.toml")
SMALL = ("iterations=4", "batch=3", "side=64", "short=96", "frames=3", "clips=2", "look=0", "critic_scale=0.25",
         "warm_up=2", "penalty_every=1", "judged=2", "adversarial=0.003")  # fmt: skip


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for number in range(6):
        write_video(folder / f"{number}.mp4", number)
    return folder


@pytest.fixture(scope="module")
def trained(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained")
    start(videos, out, "iterations=40", "learning_rate=0.002", "adversarial=0", every=20)
    return out


def start(videos: Path, out: Path, *changes: str, every: int = 100) -> None:
    settings = [f"fill.{change}" for change in (*SMALL, *changes)]
    settings += ["run.log_every=2", f"run.checkpoint_every={every}", "run.precision=fp32"]
    words = [word for setting in settings for word in ("--set", setting)]
    run(parser().parse_args(["fill", CONFIG, "--data", str(videos), "--out", str(out), *words]))


def test_a_run_leaves_a_checkpoint_figures_and_a_picture(videos: Path, tmp_path: Path) -> None:
    start(videos, tmp_path)
    network, facts = load_fill(tmp_path / "fill.pt", 48, 32)
    assert facts["held"] == ["4.mp4"]
    assert not network.training
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {"error", "change", "painted", "critic", "matching", "discriminator"} <= set(lines[-1])
    (held_out,) = (json.loads(line) for line in (tmp_path / "heldout.jsonl").read_text().splitlines())
    assert {f"psnr_{name}_{kind}" for name in ("ours", "smooth") for kind in ("still", "moving", "appearing")} <= set(
        held_out
    )
    assert (tmp_path / "samples" / "fill-000004.png").is_file()


def test_it_learns(trained: Path) -> None:
    first, last = (json.loads(line) for line in (trained / "heldout.jsonl").read_text().splitlines())
    assert last["psnr_smooth_still"] == first["psnr_smooth_still"]
    assert last["psnr_ours_still"] > first["psnr_ours_still"]


def test_a_resumed_run_has_the_same_weights(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start(videos, tmp_path / "whole", every=2)
    save = fill._Training.save

    def stop_after_saving(training: fill._Training, done: int) -> None:
        save(training, done)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fill._Training, "save", stop_after_saving)
        with pytest.raises(KeyboardInterrupt):
            start(videos, tmp_path / "parts", every=2)
    start(videos, tmp_path / "parts", every=2)
    whole, parts = (load_checkpoint(tmp_path / name / "fill.pt") for name in ("whole", "parts"))
    for name, value in whole["ema"].items():
        assert torch.equal(parts["ema"][name], value), name


def test_what_does_not_fit_is_refused(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"fill\.short is 32, expected at least fill\.side, 64"):
        start(videos, tmp_path, "short=32")
    with pytest.raises(ValueError, match=r"fill\.look compares features of an encoder: name one with --start"):
        start(videos, tmp_path, "look=0.2")
    with pytest.raises(ValueError, match="no checkpoint at"):
        write_bundle([str(tmp_path), "--out", str(tmp_path / "fill")])


def test_it_becomes_a_bundle_that_fills_what_is_painted(trained: Path, tmp_path: Path) -> None:
    assert COMMANDS["fill"] == "export.from_fill"
    out = write_bundle([str(trained), "--out", str(tmp_path / "fill"), "--live", "72x50", "--fps", "25"])
    assert "5 videos" in (out / "NOTICE").read_text()
    random = np.random.default_rng(0)
    frames = [random.integers(0, 256, (50, 72, 3), np.uint8) for _ in range(3)]
    with Generator.open(out, engine="onnxruntime", precision="fp32") as generator:
        assert generator.takes_mask
        network, _ = load_fill(trained / "fill.pt", 72, 50)
        state = network.initial_state(1)
        for number, frame in enumerate(frames):
            mask = golden_mask(number, 50, 72)
            generator.feed_live(frame, mask)
            made = next(generator).copy()
            picture = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255
            filled = network(picture, torch.from_numpy(mask)[None, None].float() / 255, state, torch.ones(1, 1))
            state = filled.state
            assert np.abs(made - (filled.frame[0].permute(1, 2, 0) * 255).numpy()).max() < 1.5
        hole = generator.open_hole(None)
        generator.reset()
        generator.feed_live(frames[0])
        assert np.array_equal(next(generator), frames[0])
        hole.strokes = [Stroke("hole", 0.2, ((0.5, 0.5),))]
        generator.reset()  # else what was seen comes back
        generator.feed_live(frames[0])
        painted = next(generator)
        is_same = (painted == frames[0]).all(axis=2)
        assert 0.05 < 1 - is_same.mean() < 0.4
        assert not is_same[20:30, 30:42].all()
        assert is_same[:8].all()


def test_without_a_training_the_rest_is_filled_smoothly(tmp_path: Path) -> None:
    out = write_bundle(["--out", str(tmp_path / "fill"), "--live", "64x48"])
    assert not (out / "NOTICE").exists()
    assert (out / "step.onnx").stat().st_size < 200_000
    frame = np.random.default_rng(0).integers(100, 156, (48, 64, 3), np.uint8)
    mask = np.full((48, 64), 255, np.uint8)
    mask[16:32, 20:40] = 0
    with Generator.open(out, engine="onnxruntime", precision="fp32") as generator:
        generator.feed_live(frame, mask)
        smooth = next(generator).copy()
        generator.feed_live(frame)
        assert np.array_equal(next(generator), frame)
        generator.feed_live(frame, mask)
        remembered = next(generator).copy()
    hole = mask == 0
    assert smooth[hole].std() < 0.5 * frame[hole].std()
    assert np.abs(smooth[hole].mean() - 128) < 5
    assert np.abs(remembered[hole].astype(int) - frame[hole]).max() <= 1


def test_in_a_chain_the_frames_of_the_link_before_are_filled(tmp_path: Path) -> None:
    first, second = (
        write_bundle(["--out", str(tmp_path / name), "--live", "64x48", "--name", name]) for name in ("first", "second")
    )
    frame = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)
    with Chain.open([first, second], engine="onnxruntime", precision="fp32") as chain:
        assert chain.takes_mask
        assert chain.hole is None
        hole = chain.open_hole(None)
        chain.hole = None
        chain.feed_live(frame)
        assert np.array_equal(next(chain), frame)
        chain.hole = hole
        hole.strokes = [Stroke("hole", 0.15, ((0.5, 0.5),))]
        chain.reset()
        chain.feed_live(frame)
        assert 0.02 < (next(chain) != frame).any(axis=2).mean() < 0.3
