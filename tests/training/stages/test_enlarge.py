"""The enlarger's training: resumes exactly, refuses what does not fit, and learns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.training.data.test_pictures import write_photo
from training.__main__ import parser, run
from training.checkpoint import load_checkpoint
from training.stages import enlarge
from training.stages.enlarge import load_enlarger

CONFIG = str(Path(__file__).parents[3] / "training/configs/landscape.toml")
SMALL = (
    "iterations=4", "batch=2", "side=64", "channels=4", "layers=1", "critic_scale=0.25", "warm_up=1", "penalty_every=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(6):
        write_photo(folder / f"{number}.png", number)
    return folder


def start(photos: Path, out: Path, *changes: str, every: int = 100) -> None:
    settings = [f"enlarge.{change}" for change in (*SMALL, *changes)]
    settings += ["run.log_every=2", f"run.checkpoint_every={every}"]
    words = [word for setting in settings for word in ("--set", setting)]
    run(parser().parse_args(["enlarge", CONFIG, "--photos", str(photos), "--out", str(out), *words]))


def test_a_run_leaves_a_checkpoint_figures_and_a_picture(photos: Path, tmp_path: Path) -> None:
    start(photos, tmp_path)
    enlarger, footage = load_enlarger(tmp_path / "enlarge.pt")
    assert [name for name, _, _ in footage] == ["0.png", "1.png", "2.png", "3.png", "5.png"]
    assert load_checkpoint(tmp_path / "enlarge.pt")["held"] == ["4.png"]
    assert enlarger(torch.rand(1, 3, 8, 8)).shape == (1, 3, 32, 32)
    assert not enlarger.training
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [2, 4]
    assert {"l1", "critic", "lead"} <= set(lines[-1])
    (held_out,) = (json.loads(line) for line in (tmp_path / "heldout.jsonl").read_text().splitlines())
    assert held_out["psnr_bicubic"] > 10
    assert (tmp_path / "samples" / "enlarge-000004.png").is_file()


def test_a_resumed_run_has_the_same_weights(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start(photos, tmp_path / "whole", every=2)
    save = enlarge._Training._save

    def stop_after_saving(training: enlarge._Training, done: int) -> None:
        save(training, done)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(enlarge._Training, "_save", stop_after_saving)
        with pytest.raises(KeyboardInterrupt):
            start(photos, tmp_path / "parts", every=2)
    assert load_checkpoint(tmp_path / "parts" / "enlarge.pt")["iteration"] == 2
    start(photos, tmp_path / "parts", every=2)
    whole, parts = (load_checkpoint(tmp_path / name / "enlarge.pt") for name in ("whole", "parts"))
    for name, value in whole["ema"].items():
        assert torch.equal(parts["ema"][name], value), name


def test_other_settings_and_too_few_scenes_are_refused(photos: Path, tmp_path: Path) -> None:
    start(photos, tmp_path / "run")
    with pytest.raises(ValueError, match=r"enlarge\.pt is of other settings or pictures: name another --out"):
        start(photos, tmp_path / "run", "channels=8")
    few = tmp_path / "few"
    few.mkdir()
    write_photo(few / "one.png", 1)
    with pytest.raises(ValueError, match="1 scenes are too few: every fifth is held out"):
        start(few, tmp_path / "another")
    with pytest.raises(ValueError, match=r"enlarge\.side is 50, expected a multiple of 32"):
        start(photos, tmp_path / "another", "side=50")


def test_it_learns(photos: Path, tmp_path: Path) -> None:
    settings = ["iterations=40", "batch=4", "channels=8", "layers=2", "adversarial=0"]
    start(photos, tmp_path, *settings, every=1)
    lines = [json.loads(line) for line in (tmp_path / "heldout.jsonl").read_text().splitlines()]
    assert len(lines) == 40
    assert lines[-1]["psnr_ours"] > lines[0]["psnr_ours"] + 0.5
    assert lines[-1]["psnr_bicubic"] == lines[0]["psnr_bicubic"]
