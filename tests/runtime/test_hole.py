"""What of live frames is filled: a picture's white, strokes, and what a bundle finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.from_onnx.importer import ImportOptions, import_model
from runtime.generator import Generator
from runtime.hole import Hole, grown
from runtime.prompts.hints import Hints, Stroke, to_hints
from tests.export.from_onnx import foreign

FRAME = np.zeros((32, 48, 3), np.uint8)


def showing_its_input(path: Path, width: int, height: int) -> Path:
    """Make a bundle that shows its live input: it finds what is bright."""
    options = ImportOptions(roles=("picture=live:rgb,0..1", "frame=frame:0..1"), loop_frames=2)
    import_model(foreign.passing_on(path.with_suffix(".onnx"), width, height), path, options=options)
    return path


def test_a_pictures_white_is_filled_and_fitted_to_the_frame(tmp_path: Path) -> None:
    picture = np.zeros((64, 96), np.uint8)
    picture[20:40, 30:60] = 255
    Image.fromarray(picture).save(tmp_path / "logo.png")
    for given in (tmp_path / "logo.png", picture):
        with Hole.open(given, 48, 32) if isinstance(given, Path) else Hole(48, 32, given) as hole:
            mask = hole(FRAME)
        assert mask.dtype == np.uint8
        assert mask.shape == (32, 48)
        assert (mask[11:19, 16:29] == 0).all()
        assert (mask == 0).mean() == pytest.approx((picture > 0).mean(), abs=0.02)


def test_strokes_are_added_and_taken_back() -> None:
    with Hole(48, 32) as hole:
        assert (hole(FRAME) == 255).all()
        hole.strokes = Hints((), (Stroke("hole", 0.1, ((0.25, 0.5),)), Stroke("still", 0.5, ((0.5, 0.5),)))).strokes
        mask = hole(FRAME)
        assert mask[16, 12] == 0
        assert 0.02 < (mask == 0).mean() < 0.1
        hole.strokes = []
        assert (hole(FRAME) == 255).all()


def test_what_a_bundle_finds_is_filled_with_a_rim(tmp_path: Path) -> None:
    """A bundle that shows its input: what is bright in the frame is filled."""
    path = showing_its_input(tmp_path / "same", 64, 32)
    frame = np.zeros((64, 128, 3), np.uint8)
    frame[20:40, 40:80] = 255
    with Hole.open(path, 128, 64, engine="onnxruntime") as hole:
        mask = hole(frame)
        assert (mask[20:40, 40:80] == 0).all()
        assert mask[19, 39] == 0  # grown
        assert 1.0 < (mask == 0).sum() / (20 * 40) < 1.6
        assert (hole(np.zeros_like(frame)) == 255).all()


def test_what_is_found_in_the_middle_of_a_wider_frame_is_in_place(tmp_path: Path) -> None:
    """The bundle sees 4:3 of a frame of 2:1."""
    path = showing_its_input(tmp_path / "same", 64, 48)
    frame = np.zeros((96, 192, 3), np.uint8)
    frame[30:50, 130:150] = 255
    frame[:, :20] = 255  # beside what the bundle sees
    with Hole.open(path, 192, 96, engine="onnxruntime") as hole:
        mask = hole(frame)
    rows, columns = np.nonzero(mask == 0)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == pytest.approx((28, 51, 128, 151), abs=2)


def test_what_finds_nothing_is_refused(prompted_bundle: Path) -> None:
    with pytest.raises(ValueError, match="finds nothing in live frames"):
        Hole.open(prompted_bundle, 48, 32, engine="onnxruntime")
    with pytest.raises(ValueError, match="no-such-mask"):
        Hole.open("no-such-mask.png", 48, 32)
    with Generator.open(prompted_bundle, engine="onnxruntime") as generator:
        assert not generator.takes_mask
        assert generator.hole is None
        with pytest.raises(ValueError, match="fills no holes, as it has no live input with a mask: use bundles/fill"):
            generator.open_hole(None)
        with pytest.raises(ValueError, match="fills no holes, as it takes no mask"):
            generator.hole = Hole(48, 32)


def test_holes_belong_to_no_scene() -> None:
    with pytest.raises(ValueError, match="a stroke of the kind hole, which belongs to no scene"):
        to_hints({"strokes": [{"kind": "hole", "radius": 0.1, "points": [[0.5, 0.5]]}]})


def test_a_mask_grows_in_a_square() -> None:
    mask = np.zeros((9, 9), bool)
    mask[4, 4] = True
    assert np.argwhere(grown(mask, 2)).tolist() == [[y, x] for y in range(2, 7) for x in range(2, 7)]
    assert grown(mask, 99).all()
