"""The enlarger beside other methods."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.quality import enlarging
from tests.training.data.test_pictures import write_photo
from training.checkpoint import save_checkpoint
from training.model.enlarger import Enlarger


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Photographs, and an enlarger that does what bilinear enlargement does."""
    (tmp_path / "photos").mkdir()
    for number in range(6):
        write_photo(tmp_path / "photos" / f"{number}.png", number)
    enlarger = Enlarger(4, 1)
    enlarger.last.weight.data.zero_()
    settings = {"enlarge": {"channels": 4, "layers": 1}}
    content = {"stage": "enlarge", "iteration": 1, "config": settings, "ema": enlarger.state_dict(), "footage": []}
    save_checkpoint(tmp_path / "enlarge.pt", {**content, "held": ["4.png"]})
    return tmp_path


def options(folder: Path, *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    enlarging.add_arguments(parser)
    always = ["--photos", str(folder / "photos"), "--side", "64", "--pictures", "6"]
    return parser.parse_args([str(folder / "enlarge.pt"), *always, *words])


def test_methods_are_compared_on_what_was_held_out(folder: Path) -> None:
    report = enlarging.run(options(folder, "--sheet", str(folder / "sheet.png")))
    methods = report.result["methods"]
    assert list(methods) == ["bicubic", "Lanczos", "ours"]
    assert report.result["held_out"] == ["4.png"]
    for found in methods.values():
        psnr = found["psnr_db"]
        assert 15 < psnr["low"] <= psnr["mean"] <= psnr["high"] < 50
        assert 0.3 < found["ssim"]["mean"] < 1
    assert abs(methods["ours"]["psnr_db"]["mean"] - methods["bicubic"]["psnr_db"]["mean"]) < 4, "it is bilinear"
    with Image.open(folder / "sheet.png") as sheet:
        assert sheet.size == (6 * 64, 5 * 64)
    assert "| ours | " in enlarging.to_markdown(report.result)


def test_pictures_that_were_trained_on_are_refused(folder: Path) -> None:
    (folder / "photos" / "4.png").rename(folder / "photos" / "9.png")
    with pytest.raises(ValueError, match=r"\.png was not held out of this training"):
        enlarging.run(options(folder))


def test_a_wrong_size_and_a_missing_network_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="--side must be a multiple of 4"):
        enlarging.run(options(folder, "--side", "63"))
    with pytest.raises(ValueError, match=r"pip install ncnn|cannot be read as an ncnn network"):
        enlarging.run(options(folder, "--ncnn", str(folder / "none")))


def test_ssim_is_1_for_equal_pictures_and_falls_with_noise() -> None:
    random = np.random.default_rng(0)
    plain = np.asarray(Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).resize((64, 64)))
    noisy = np.clip(plain + random.normal(0, 25, plain.shape), 0, 255).astype(np.uint8)
    assert enlarging.ssim(plain, plain) == pytest.approx(1)
    assert enlarging.ssim(plain, noisy) < 0.8
