"""Drawn motion in a real generator: frames move as drawn, and the picture stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from runtime import BundleError, Generator
from runtime.bundle.manifest import Manifest
from runtime.prompts.hints import Hints, Stroke, Vector
from runtime.scenes.cross_fade import SceneTimeline
from tests import flowing, moving, tiny

RIGHT = Hints((Vector(0.3, 0.5, 0.2, 0.0),), (Stroke("moving", 0.5, ((0.5, 0.5),)),))
STILL = Stroke("still", 0.12, ((0.5, 0.0), (0.5, 1.0)))


@pytest.fixture(scope="module", params=[False, True], ids=["flow", "hints"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose motion the runtime draws, or whose condition graph reads hints itself."""
    return flowing.build(tmp_path_factory.mktemp("flowing") / "flowing", reads_hints=request.param)


@pytest.fixture
def generator(bundle: Path) -> Iterator[Generator]:
    with Generator.open(bundle, engine="onnxruntime", seed=3) as generator:
        generator.condition(image=moving.picture_of(flowing.WIDTH, flowing.HEIGHT))
        yield generator


def after(generator: Generator, count: int) -> np.ndarray:
    """Return the last one of some frames."""
    return [next(generator).copy() for _ in range(count)][-1].astype(int)


def test_what_is_under_an_arrow_moves_by_its_length_in_a_second(generator: Generator) -> None:
    picture = after(generator, 1)
    assert np.array_equal(after(generator, 3), picture), "nothing moves until somebody draws"
    generator.reset()
    generator.condition(image=picture.astype(np.uint8), hints=RIGHT)
    second = after(generator, flowing.FPS + 1)
    # 0.2 of 128 pixels: a place between two cells of the drawn motion.
    row, column = 36, 44
    patch, best = np.s_[row - 2 : row + 3, column - 2 : column + 3], None
    for shift in range(-10, 41):
        moved = picture[row - 2 : row + 3, column - 2 - shift : column + 3 - shift]
        error = np.abs(second[patch] - moved).mean()
        best = min(best or (error, shift), (error, shift))
    assert best is not None
    assert best[1] == pytest.approx(0.2 * flowing.WIDTH, abs=1)
    assert best[0] < 3


def test_drawing_keeps_the_picture_and_can_be_undone(generator: Generator) -> None:
    picture = after(generator, 1)
    first = generator.shown_scene
    assert first is not None
    assert not first.hints
    generator.condition(hints=RIGHT, dissolve_s=0.5)
    moved = after(generator, 8)
    assert np.abs(moved - picture).mean() > 2
    shown = generator.shown_scene
    assert shown is not None
    assert shown.hints == RIGHT
    for name in first.tensors:
        same = np.array_equal(shown.tensors[name], first.tensors[name])
        assert same == (name != "flow"), "only the motion is new"
    generator.condition(hints=Hints((), (STILL,)))
    assert np.array_equal(after(generator, 1), picture), "they replace the ones before"
    generator.condition(hints={})
    assert generator.shown_scene is not None
    assert np.array_equal(generator.shown_scene.tensors["flow"], first.tensors["flow"])


def test_frozen_places_do_not_change(generator: Generator) -> None:
    picture = after(generator, 1)
    generator.take(generator.prepare(hints=Hints(RIGHT.vectors, (*RIGHT.strokes, STILL))), dissolve_s=0.3)
    frame = after(generator, 12)
    assert np.array_equal(frame[:, 56:72], picture[:, 56:72])
    assert np.abs(frame[24:44, 20:40] - picture[24:44, 20:40]).mean() > 2


def test_texts_seeds_and_pictures_carry_hints(generator: Generator) -> None:
    other = moving.picture_of(flowing.WIDTH, flowing.HEIGHT, 7)
    generator.condition(image=other, hints=RIGHT)
    assert np.array_equal(after(generator, 1), other)
    assert np.abs(after(generator, 5) - other).mean() > 2
    scene = generator.prepare(seed=5, hints=RIGHT)
    assert (scene.seed, scene.hints) == (5, RIGHT)
    plain = generator.prepare(seed=5)
    assert np.array_equal(generator.redraw(plain, RIGHT).tensors["flow"], scene.tensors["flow"])


def test_hints_are_checked_before_a_scene_is_made(generator: Generator, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="an arrow is"):
        generator.check(hints={"vectors": [[1]]})
    with pytest.raises(ValueError, match="cannot be read"):
        generator.prepare(seed=1, hints=tmp_path / "none.json")
    generator.check(hints={})


@pytest.mark.parametrize("build", [tiny.build, moving.build])
def test_a_bundle_without_drawable_motion_says_so(build: object, tmp_path: Path) -> None:
    path = build(tmp_path / "bundle")  # type: ignore[operator]
    with Generator.open(path, engine="onnxruntime") as generator:
        assert not generator.takes_hints
        next(generator)
        for hints in (RIGHT, {}):
            with pytest.raises(ValueError, match="takes no hints: its motion cannot be drawn, leave them out"):
                generator.check(hints=hints)
        with pytest.raises(ValueError, match="takes no hints"):
            generator.condition(hints=RIGHT)


def test_a_renewing_scene_keeps_its_picture_while_motion_is_drawn_over_it(tmp_path: Path) -> None:
    renewal = {"every_frames": 4, "dissolve_frames": 2, "correlation": 0.5}
    bundle = flowing.build(tmp_path / "renewing", renewal=renewal)
    with Generator.open(bundle, engine="onnxruntime", seed=3) as generator:
        generator.condition(seed=3)
        first = after(generator, 1)
        later = after(generator, 7)  # frame 8: the scene has been renewed
        assert not np.array_equal(later, first)
        generator.condition(hints=RIGHT)
        assert np.array_equal(after(generator, 12), later), "the picture that was seen, plain, for three more renewals"
        generator.condition(hints={})
        assert not np.array_equal(after(generator, 12), later), "without hints it renews itself again"
        assert generator.scene is not None
        assert generator.scene.seed == 3


def test_the_timeline_knows_the_renewal_that_is_shown(generator: Generator) -> None:
    timeline = SceneTimeline(None)
    assert timeline.shown is None
    one, two = generator.prepare(seed=1), generator.prepare(seed=2)
    timeline.take(one, 0)
    assert timeline.shown is one
    timeline.advance()
    assert timeline.shown is one
    timeline.take(two, 4)
    assert timeline.shown is two
    timeline.rewind(keep=False)
    assert timeline.shown is None


def test_cells_of_hints_are_squares(bundle: Path) -> None:
    with Generator.open(bundle, engine="onnxruntime") as generator:
        value = generator.manifest.to_json()
    inputs = value["graphs"]["shapes"][0]["condition"]["inputs"]
    if inputs[-1]["role"] != "hints":
        inputs.append({"name": "hints", "dtype": "float32", "shape": [1, 5, 8, 16], "role": "hints"})
    Manifest.parse(value)
    for shape, sentence in (([1, 4, 8, 16], r"must have the shape \(1, 5, h, w\)"), ([1, 5, 8, 8], "expected squares")):
        inputs[-1]["shape"] = shape
        with pytest.raises(BundleError, match=sentence):
            Manifest.parse(value)
