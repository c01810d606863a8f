"""Super-resolution beside other methods."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.quality import super_resolution
from tests.training.data.test_live_clips import write_video
from training.checkpoint import save_checkpoint
from training.model.super_resolution import SuperResolver


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos, and a network that adds nothing to bicubic enlargement."""
    folder = tmp_path_factory.mktemp("super")
    (folder / "videos").mkdir()
    for number in range(3):
        write_video(folder / "videos" / f"{number}.mp4", number, (320, 200))
    network = SuperResolver(32, 32, 4, 1)
    network.last.weight.data.zero_()
    network.last.bias.data[16:] = -20  # the gate is closed
    settings = {"super_resolution": {"channels": 4, "layers": 1, "remembers": True}}
    content = {"stage": "super_resolution", "iteration": 1, "config": settings, "ema": network.state_dict()}
    facts = {"footage": [("2.mp4", "", "")], "clips": {"2.mp4": 1}, "held": ["0.mp4", "1.mp4"]}
    save_checkpoint(folder / "super_resolution.pt", content | facts)
    return folder


def options(folder: Path, *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    super_resolution.add_arguments(parser)
    return parser.parse_args([str(folder), "--data", str(folder / "videos"), "--frames", "7", *words])


def test_methods_are_compared_on_what_was_held_out(folder: Path) -> None:
    report = super_resolution.run(options(folder, "--sheet", str(folder / "sheet.png"), "--beside", str(folder)))
    methods = report.result["methods"]
    each = ["bicubic", "Lanczos", "ours", "ours, memory 0", folder.name]
    assert list(methods) == [f"{name}, {condition}" for condition in ("clean", "stream") for name in each]
    assert report.result["videos"] == {"0.mp4": "320x192", "1.mp4": "320x192"}
    for condition in ("clean", "stream"):
        bicubic, ours = methods[f"bicubic, {condition}"], methods[f"ours, {condition}"]
        assert bicubic["psnr_db"]["mean"] > 25
        assert ours["psnr_db_less_bicubic"]["mean"] == pytest.approx(0, abs=0.2)
        assert ours["flicker"]["mean"] == pytest.approx(bicubic["flicker"]["mean"], rel=0.1)
    assert methods["bicubic, stream"]["psnr_db"]["mean"] < methods["bicubic, clean"]["psnr_db"]["mean"]
    with Image.open(folder / "sheet.png") as sheet:
        assert sheet.size == (2 * 160, 7 * 160)
    assert "| ours, clean | " in super_resolution.to_markdown(report.result)


def test_flicker_is_change_that_the_original_does_not_have() -> None:
    random = np.random.default_rng(0)
    real = np.repeat(random.integers(40, 200, (1, 32, 32, 3), np.uint8), 8, axis=0)
    steady, restless = real + np.uint8(5), real + random.integers(0, 11, real.shape, np.uint8)
    assert super_resolution.measure(steady, real, None)["flicker"] == 0
    assert super_resolution.measure(restless, real, None)["flicker"] > 1


def test_bad_arguments_are_one_sentence(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--frames must be 6 or more"):
        super_resolution.run(options(folder, "--frames", "3"))
    wrong = options(folder)
    wrong.data = [tmp_path]
    with pytest.raises(ValueError, match="none of the held-out videos is in --data"):
        super_resolution.run(wrong)
