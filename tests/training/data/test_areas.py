"""What may move and what stands still: the file, crops with their marks, and the loss."""

from __future__ import annotations

import tomllib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.training.data.test_pictures import write_photo
from training.data.areas import MOVES, STANDS, UNSAID, AreaSampler, area_error, marks_of, read_areas, whole_pictures

ROOT = Path(__file__).parents[3]
HALVES = '[[picture]]\nfile = "0.png"\ncells = ["MMSS", "MMSS"]\n'


def write_halves(folder: Path) -> Path:
    """Write a picture whose left half is blue and moves, and whose right half is brown and stands still."""
    pixels = np.zeros((96, 192, 3), np.uint8)
    pixels[:, :96], pixels[:, 96:] = (200, 90, 30), (30, 60, 110)
    assert cv2.imwrite(str(folder / "0.png"), pixels)
    (folder / "areas.toml").write_text(HALVES)
    return folder / "areas.toml"


def test_the_shipped_file_names_no_picture_that_measures() -> None:
    entries = tomllib.loads((ROOT / "examples/moving-areas.toml").read_text())["picture"]
    measured = tomllib.loads((ROOT / "examples/photo-areas.toml").read_text())["photo"]
    names = [entry["file"] for entry in entries]
    assert len(set(names)) == len(names) > 70
    assert not set(names) & {entry["file"] for entry in measured}
    assert all(len(entry["cells"]) == 9 and {len(row) for row in entry["cells"]} == {16} for entry in entries)


def test_marks_follow_their_crops(tmp_path: Path) -> None:
    sampler = AreaSampler(read_areas(write_halves(tmp_path), [tmp_path], 64), 64, 5)
    pictures, marks = sampler.batch(3, 16)
    assert pictures.shape == (16, 3, 64, 64)
    assert marks.shape == (16, 16, 16)
    small = torch.nn.functional.avg_pool2d(pictures, 4)
    is_blue = small[:, 2] > small[:, 0]
    moves = marks == MOVES
    borders = (is_blue != moves).float().mean()
    assert borders < 0.04, "marks are not where the picture is blue"
    assert 0.2 < float(moves.float().mean()) < 0.8
    again, same = sampler.batch(3, 16)
    assert torch.equal(again, pictures)
    assert torch.equal(same, marks)
    assert not torch.equal(sampler.batch(4, 16)[0], pictures)


def test_whole_pictures_become_squares(tmp_path: Path) -> None:
    marked = read_areas(write_halves(tmp_path), [tmp_path], 64)
    assert whole_pictures(marked, 64).shape == (1, 3, 64, 64)
    assert marks_of(marked, 64).tolist() == [[[MOVES] * 8 + [STANDS] * 8] * 16]


def test_only_pictures_that_are_named_are_read(tmp_path: Path) -> None:
    file = write_halves(tmp_path)
    write_photo(tmp_path / "1.png", 1)
    file.write_text(HALVES + '[[picture]]\nfile = "missing.png"\ncells = ["."]\n')
    found = read_areas(file, [tmp_path], 64)
    assert [item.picture.name for item in found] == ["0.png"]
    assert found[0].cells.tolist() == [[MOVES, MOVES, STANDS, STANDS]] * 2


def test_both_kinds_weigh_the_same_and_what_is_not_said_nothing() -> None:
    marks = torch.full((1, 4, 4), UNSAID, dtype=torch.int8)
    marks[0, 0, 0], marks[0, 1:, :] = MOVES, STANDS
    half = torch.full((1, 1, 4, 4), 0.5)
    assert float(area_error(half, marks)) == pytest.approx(np.log(2), rel=1e-5)
    wrong_once = torch.zeros(1, 1, 4, 4)  # all stands still: one of thirteen places is wrong, and half of the error
    assert float(area_error(wrong_once, marks)) == pytest.approx(-0.5 * np.log(1e-4), rel=1e-3)
    right = (marks == MOVES).float()[:, None]
    right[0, 0, 0, 1] = 0.5  # where nothing is said
    assert float(area_error(right, marks)) < 1e-3


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("picture = 3", r"areas\.toml has no \[\[picture\]\]"),
        ("[[picture]]\nfile = ", r"areas\.toml cannot be read as TOML"),
        ('[[picture]]\nfile = "0.png"', r"has a \[\[picture\]\] without file or cells"),
        ('[[picture]]\nfile = "0.png"\ncells = ["MS", "M"]', r"the cells of 0\.png are not rows of one length"),
        ('[[picture]]\nfile = "0.png"\ncells = ["MX"]', r'the cells of 0\.png have the mark "X", expected "M", "S"'),
        ('[[picture]]\nfile = "9.png"\ncells = ["M"]', "has no picture that was named with sides of at least 64"),
    ],
)
def test_wrong_files_are_refused_in_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    write_halves(tmp_path).write_text(text)
    with pytest.raises(ValueError, match=sentence):
        read_areas(tmp_path / "areas.toml", [tmp_path], 64)
