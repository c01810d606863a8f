"""Photographs with areas that must move and areas that must not."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.quality import photos
from tests import moving, reddish

LANDSCAPE = Path(__file__).parents[3] / "bundles" / "landscape"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photograph, and its areas."""
    folder = tmp_path_factory.mktemp("photos")
    Image.fromarray(moving.picture_of(96, 64)).save(folder / "lake.png")
    (folder / "areas.toml").write_text(
        '[[photo]]\nfile = "lake.png"\nmoving = [[[0, 0], [0.4, 0], [0.4, 1], [0, 1]]]\n'
        "still = [[[0.7, 0], [1, 0], [1, 1], [0.7, 1]]]\n"
    )
    return folder


def options(folder: Path, *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    photos.add_arguments(parser)
    always = ["--areas", str(folder / "areas.toml"), "--width", "96", "--frames", "21", "--engine", "onnxruntime"]
    return parser.parse_args([str(LANDSCAPE), *always, *words])


def test_motion_is_where_the_mask_allows_it(folder: Path) -> None:
    report = photos.run(options(folder, "--sheet", str(folder / "sheet.png")))
    (found,) = report.result["photos"].values()
    assert found["first_db"] is None, "frame 1 is the photograph"
    assert found["with_mask"]["moving"] > 0.5
    assert found["with_mask"]["still"] < 0.01 * found["with_mask"]["moving"]
    assert found["without_mask"]["still"] > 0.2
    assert 0.3 < found["laplacian"][0] <= found["laplacian_mean"] <= found["laplacian"][1] < 2
    with Image.open(folder / "sheet.png") as sheet:
        assert sheet.size == (4 * 320, 213)
    table = photos.to_markdown(report.result)
    assert "| lake | every value equal |" in table
    assert any(row[0] == "must not / must move, with mask" and row[1] == "0.000" for row in report.rows)


def test_a_network_says_what_may_move_without_a_mask(folder: Path, tmp_path: Path) -> None:
    """The left part of the photograph is red, and the network lets what is red move."""
    pixels = moving.picture_of(96, 64) // 2
    pixels[:, :48, 0] |= 128
    pixels[:, 48:, 0] &= 127
    Image.fromarray(pixels).save(tmp_path / "lake.png")
    network = str(reddish.build(tmp_path / "reddish"))
    report = photos.run(options(folder, "--photos", str(tmp_path), "--network", network))
    (found,) = report.result["photos"].values()
    assert found["without_mask"]["moving"] > 0.2
    assert found["without_mask"]["ratio"] < 0.01
    assert report.result["network"] == "reddish"


def test_the_laplacian_measures_the_finest_detail() -> None:
    random = np.random.default_rng(0)
    sharp = random.integers(0, 256, (32, 32, 3), np.uint8)
    soft = np.asarray(Image.fromarray(sharp).resize((16, 16)).resize((32, 32)))
    assert photos.laplacian(soft) < 0.3 * photos.laplacian(sharp)
    assert photos.laplacian(np.full((8, 8, 3), 7, np.uint8)) == 0


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("photo = 3", "cannot be read|needs a file|has no"),
        ('[[photo]]\nfile = "a.png"\nmoving = [[[0, 0], [1, 1]]]\nstill = [[[0, 0], [1, 0], [1, 1]]]', "needs a file"),
        ('[[photo]]\nfile = "a.png"\nmoving = []\nstill = [[[0, 0], [1, 0], [1, 1]]]', "needs a file"),
        ("", r"has no \[\[photo\]\] tables"),
        ("[[photo", "cannot be read as TOML"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "areas.toml").write_text(text)
    with pytest.raises(ValueError, match=sentence):
        photos.read_areas(tmp_path / "areas.toml")


def test_a_missing_photograph_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no picture that can be read"):
        photos.run(options(folder, "--photos", str(tmp_path)))
