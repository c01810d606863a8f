from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import pictures
from benchmarks.__main__ import main
from tests import tiny


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny bundle, and few columns."""
    monkeypatch.setattr(pictures, "COLUMNS", (1, 4, 9))
    monkeypatch.setattr(pictures, "MOTION_SECONDS", 0.2)
    return tiny.build(tmp_path / "tiny")


def test_a_sheet_and_a_clip(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet, motion = tmp_path / "sheet.png", tmp_path / "motion.webp"
    arguments = ["pictures", str(bundle), "--seeds", "1,2", "--engine", "onnxruntime"]
    assert main([*arguments, "--sheet", str(sheet), "--motion", str(motion)]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [(show["seed"], [item["frame"] for item in show["frames"]]) for show in result["shows"]] == [
        (1, [1, 4, 9]),
        (2, [1, 4, 9]),
    ]
    assert all(item["motion"] > 0 for show in result["shows"] for item in show["frames"][1:])
    with Image.open(sheet) as picture, Image.open(motion) as clip:
        width, height = clip.width // 2, clip.height
        assert picture.size == (112 + 3 * width, 24 + 2 * height)
        assert clip.n_frames >= 2  # type: ignore[attr-defined]


def test_shows_of_one_seed_are_side_by_side(bundle: Path, tmp_path: Path) -> None:
    motion = tmp_path / "motion.webp"
    arguments = ["pictures", *[str(bundle)] * 5, "--seeds", "1", "--engine", "onnxruntime", "--motion", str(motion)]
    assert main(arguments) == 0
    with Image.open(motion) as clip:
        frame = np.asarray(clip.convert("RGB"))
    height, width = frame.shape[0] // 2, frame.shape[1] // 4
    assert frame[:height, :width].std() > 1
    assert frame[height:, :width].std() > 1
    assert frame[height:, width + 16 :].mean() < 2  # five in rows of four leave three places dark


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--seeds", "1,x"], "--seeds is '1,x', expected whole numbers with commas between them"),
        (["--sheet", "sheet.bmp"], "--sheet is sheet.bmp, expected a name that ends in .png"),
        (["--motion", "clip.mp4"], "--motion is clip.mp4, expected a name that ends in .webp or .gif or .png"),
    ],
)
def test_bad_arguments(arguments: list[str], sentence: str, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pictures", str(bundle), *arguments]) == 2
    assert sentence in capsys.readouterr().err
