"""`python -m export scenes`: pictures and masks go into a bundle, or nothing does."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export import scenes
from export.scenes import add_scenes
from runtime import BundleError, Generator
from runtime.bundle.reader import open_bundle
from runtime.prompts.bundle_scenes import load_scene
from runtime.prompts.hints import Hints, Vector
from tests import flowing, moving, tiny

LEFT = "areas = [[[0, 0], [0.5, 0], [0.5, 1], [0, 1]]]\nfeather = 0"
HEAD = 'title = "a test"\npicture = "a.png"\ncredit = "the tests"\nlicence = "CC0-1.0"'


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(scenes, "SIZE", (128, 72))
    Image.fromarray(moving.picture_of(160, 90)).save(tmp_path / "a.png")
    Image.fromarray(np.tile(np.uint8([0, 255]), (9, 8))).save(tmp_path / "mask.png")
    return moving.build(tmp_path / "moving")


def write(folder: Path, *tables: str) -> Path:
    path = folder / "scenes.toml"
    path.write_text("\n".join(f"[[scene]]\n{table}" for table in tables))
    return path


def test_scenes_are_added_replaced_and_shown(bundle: Path, tmp_path: Path) -> None:
    file = write(
        tmp_path,
        f'name = "left"\n{HEAD}\n{LEFT}',
        f'name = "free"\n{HEAD}',
        f'name = "png"\n{HEAD}\nmoving = "mask.png"',
    )
    add_scenes(bundle, file, tmp_path)
    add_scenes(bundle, write(tmp_path, f'name = "free"\n{HEAD.replace("a test", "again")}'), tmp_path)
    manifest = open_bundle(bundle).manifest
    assert [(scene.name, scene.title, bool(scene.moving)) for scene in manifest.scenes] == [
        ("left", "a test", True), ("png", "a test", True), ("free", "again", False),
    ]  # fmt: skip
    add_scenes(bundle, write(tmp_path, f'name = "png"\n{HEAD}'), tmp_path)
    assert not (bundle / "scenes" / "png-moving.png").exists(), "what is replaced leaves nothing behind"
    assert {scene.credit for scene in manifest.scenes} == {"the tests"}
    picture, mask, _ = load_scene(bundle, manifest, "left")
    assert mask is not None
    assert mask[:, : mask.shape[1] // 2].min() == 255
    assert mask[:, mask.shape[1] // 2 + 1 :].max() == 0
    with Generator.open(bundle, engine="onnxruntime") as generator:
        generator.condition(scene="left")
        assert np.array_equal(next(generator), picture)
        for name, value in (("x_a", 8), ("share", 1)):
            generator.set_control(name, value)
        frame = next(generator)
        assert np.array_equal(frame[:, 84:], picture[:, 84:]), "what must not move stands still"
        assert np.abs(frame[:, 24:56].astype(int) - picture[:, 24:56]).mean() > 1
        with pytest.raises(ValueError, match=r'moving has no scene "lft" \(did you mean "left"'):
            generator.condition(scene="lft")
        with pytest.raises(ValueError, match="has an image and a mask of its own"):
            generator.check(scene="left", image=picture)
        thumbnail = Image.open(io.BytesIO(generator.scene_thumbnail("left")))
        assert thumbnail.size == (128, 72)


def test_drawn_motion_goes_with_a_scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "SIZE", (flowing.WIDTH, flowing.HEIGHT))
    Image.fromarray(moving.picture_of(flowing.WIDTH, flowing.HEIGHT)).save(tmp_path / "a.png")
    drawn = Hints((Vector(0.5, 0.5, 0.2, 0.0), Vector(0.1, 0.5, 0.2, 0.0)))
    (tmp_path / "a.json").write_text(json.dumps(drawn.to_json()))
    bundle = flowing.build(tmp_path / "flowing")
    add_scenes(bundle, write(tmp_path, f'name = "drawn"\n{HEAD}\nhints = "a.json"', f'name = "free"\n{HEAD}'), tmp_path)
    manifest = open_bundle(bundle).manifest
    assert [scene.hints for scene in manifest.scenes] == ["scenes/drawn-hints.json", ""]
    assert load_scene(bundle, manifest, "drawn")[2] == drawn
    with Generator.open(bundle, engine="onnxruntime") as generator:
        assert generator.prepare(scene="drawn").hints == drawn
        assert not generator.prepare(scene="free").hints
        other = Hints((Vector(0.2, 0.2, 0.0, 0.1),))
        assert generator.prepare(scene="drawn", hints=other).hints == other, "those that are given come first"
        assert not generator.prepare(scene="drawn", hints={}).hints
    with Generator.open(bundle, engine="onnxruntime", size=(64, 64)) as generator:
        placed = generator.prepare(scene="drawn").hints
        assert placed.vectors == (Vector(0.5, 0.5, 0.4, 0.0),), "cropped like the picture"
    add_scenes(bundle, write(tmp_path, f'name = "drawn"\n{HEAD}'), tmp_path)
    assert not (bundle / "scenes" / "drawn-hints.json").exists()
    in_place = "hints = { vectors = [[0.1, 0.5, 0.2, 0]] }"
    add_scenes(bundle, write(tmp_path, f'name = "placed"\n{HEAD}\n{in_place}'), tmp_path)
    assert load_scene(bundle, open_bundle(bundle).manifest, "placed")[2] == Hints((Vector(0.1, 0.5, 0.2, 0.0),))
    plain = moving.build(tmp_path / "plain")
    add_scenes(plain, write(tmp_path, f'name = "drawn"\n{HEAD}\nhints = "a.json"'), tmp_path)
    with Generator.open(plain, engine="onnxruntime") as generator:
        assert not generator.prepare(scene="drawn").hints, "a bundle that takes no hints plays the scene without"


def test_damaged_hints_of_a_scene_are_refused(tmp_path: Path, bundle: Path) -> None:
    (tmp_path / "a.json").write_text('{"vectors": [[0, 0, 0, 9]]}')
    with pytest.raises(ValueError, match=r"a\.json: dx and dy of an arrow must be numbers from -2 to 2, got 9"):
        add_scenes(bundle, write(tmp_path, f'name = "a"\n{HEAD}\nhints = "a.json"'), tmp_path)


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (HEAD, 'the scene "?" needs the text "name"'),
        (f'name = "a"\n{HEAD}\nmovin = "x"', 'the scene "a" has the unknown key "movin"'),
        (f'name = "a"\n{HEAD}\nareas = [[[0, 0], [1, 1]]]', "give three points or more, each x and y from 0 to 1"),
        (f'name = "a"\n{HEAD}\nmoving = "m.png"\n{LEFT}', "has both moving and areas: leave one out"),
        (f'name = "a"\n{HEAD.replace("a.png", "b.png")}', "there is no image file"),
        (f'name = "All"\n{HEAD}', "has a wrong name: use small letters, digits and -, at most 40"),
        (f'name = "../x"\n{HEAD}', "has a wrong name"),
        (f'name = "a"\n{HEAD}\nareas = [["x", "y", "z"]]', "has a wrong area"),
        (f'name = "a"\n{HEAD}\nfeather = "x"', "has a wrong value"),
        (f'name = "a"\n{HEAD}\nhints = 1', "has a wrong value: moving is a file, hints a file or a table"),
        (f'name = "all"\n{HEAD}', 'the name "all" is taken'),
        ("name = ", "cannot be read as TOML"),
    ],
)
def test_what_is_wrong_leaves_the_bundle_as_it_was(bundle: Path, tmp_path: Path, table: str, sentence: str) -> None:
    before = {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    with pytest.raises((ValueError, BundleError), match=sentence.replace("?", r"\?").replace("(", r"\(")):
        add_scenes(bundle, write(tmp_path, table), tmp_path)
    assert {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()} == before


def test_a_bundle_of_schema_1_has_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is of schema 1, which has no scenes"):
        add_scenes(tiny.build(tmp_path / "tiny"), write(tmp_path, HEAD), tmp_path)
