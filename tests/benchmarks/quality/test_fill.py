"""The fill beside other methods."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.quality import fill
from tests.training.data.test_live_clips import write_video
from training.checkpoint import save_checkpoint
from training.model.fill import Filler


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos, and a network that paints nothing on a smooth fill."""
    folder = tmp_path_factory.mktemp("fill")
    (folder / "videos").mkdir()
    for number in range(3):
        write_video(folder / "videos" / f"{number}.mp4", number, (160, 96))
    network = Filler(64, 64)
    network.last.weight.data.zero_()
    content = {"stage": "fill", "iteration": 1, "config": {"fill": {"remembers": True}}, "ema": network.state_dict()}
    facts = {"footage": [("2.mp4", "", "")], "clips": {"2.mp4": 1}, "held": ["0.mp4", "1.mp4"]}
    save_checkpoint(folder / "fill.pt", content | facts)
    return folder


def options(folder: Path, *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    fill.add_arguments(parser)
    return parser.parse_args([str(folder), "--data", str(folder / "videos"), "--frames", "8", *words])


def test_methods_are_compared_in_three_kinds_of_holes(folder: Path) -> None:
    report = fill.run(options(folder, "--sheet", str(folder / "sheet.png"), "--beside", str(folder)))
    methods = report.result["methods"]
    each = ["Telea", "Navier-Stokes", "copy", "median", "ours", "ours, memory 0", "ours, nothing painted", folder.name]
    assert sorted(methods) == sorted(f"{name}, {kind}" for kind in ("still", "moving", "appearing") for name in each)
    assert report.result["videos"] == {"0.mp4": "160x96", "1.mp4": "160x96"}
    for kind in ("moving", "appearing"):
        ours, forgetting = (methods[f"{name}, {kind}"]["psnr_db"]["mean"] for name in ("ours", "ours, memory 0"))
        assert ours > forgetting + 0.5, kind
    assert methods["copy, still"]["psnr_db"] == methods["Telea, still"]["psnr_db"], "nothing was ever seen there"
    with Image.open(folder / "sheet.png") as sheet:
        assert sheet.size == (10 * 160, 2 * 96)
    assert "| ours, still | " in fill.to_markdown(report.result)


def test_only_holes_are_measured() -> None:
    random = np.random.default_rng(0)
    real = np.repeat(random.integers(40, 200, (1, 32, 32, 3), np.uint8), 8, axis=0)
    masks = np.full((8, 32, 32), 255, np.uint8)
    masks[:, 8:16, 8:16] = 0
    outside, inside = real.copy(), real.copy()
    outside[:, :8], inside[:, 8:16, 8:16] = 0, 120
    assert fill.measure(outside, real, masks, None)["psnr_db"] > 60
    assert fill.measure(inside, real, masks, None)["psnr_db"] < 20
    assert fill.measure(inside, real, masks, None)["flicker"] == 0
    restless = inside + random.integers(0, 11, inside.shape, np.uint8)
    assert fill.measure(restless, real, masks, None)["flicker"] > 1


def test_copying_and_the_median_know_what_was_seen_before() -> None:
    real = np.repeat(np.random.default_rng(1).integers(0, 256, (1, 32, 32, 3), np.uint8), 6, axis=0)
    masks = np.full((6, 32, 32), 255, np.uint8)
    masks[3:, 8:16, 8:16] = 0
    seen = real * (masks[..., np.newaxis] > 0)
    assert np.array_equal(fill.copied(seen, masks), real)
    assert np.array_equal(fill.median(seen, masks), real)


def test_bad_arguments_are_one_sentence(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--frames must be 8 or more"):
        fill.run(options(folder, "--frames", "3"))
    wrong = options(folder)
    wrong.data = [tmp_path]
    with pytest.raises(ValueError, match="none of the held-out videos is in --data"):
        fill.run(wrong)
