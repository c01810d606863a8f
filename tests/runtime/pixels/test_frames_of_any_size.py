"""Frames of any even size from moves at the work size, on real engines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtime import Generator
from runtime.golden import psnr_db
from runtime.pixels.picture_inputs import PictureInputs
from runtime.pixels.planes import shifted_copies, to_planes
from runtime.pixels.stage import plane_sets
from runtime.prompts.hints import Hints, Vector
from tests import flowing, moving, tiny
from tests.runtime.clips.clip_of_waves import waves
from tests.streaming.doubles import WAIT_S, to_i420

SIZES = [(128, 72), (64, 32), (130, 74), (72, 128), (66, 66)]  # the sides of some chroma planes are odd


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return moving.build(tmp_path_factory.mktemp("moving") / "moving")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_what_does_not_move_is_the_picture(bundle: Path, size: tuple[int, int], engine: str) -> None:
    picture = moving.picture_of(*size)
    for pixels, wanted in (("rgb", picture), ("i420", to_i420(picture))):
        with Generator.open(bundle, engine=engine, precision="fp32", pixels=pixels, size=size) as generator:
            assert (generator.width, generator.height) == size
            generator.condition(image=picture)
            frame = next(generator)
        assert frame.shape == wanted.shape
        assert np.abs(frame.astype(int) - wanted).max() <= (0 if pixels == "rgb" else 1)


@pytest.mark.parametrize(("x", "y"), [(8, 0), (0, -6), (5, 3)])
def test_whole_pixels_are_moved_exactly(bundle: Path, x: int, y: int) -> None:
    picture = moving.picture_of(128, 64)
    with Generator.open(bundle, engine="onnxruntime", size=(128, 64)) as generator:
        generator.condition(image=picture)
        generator.set_control("x_a", x / 2)  # the frame is twice the work size
        generator.set_control("y_a", y / 2)
        generator.set_control("share", 1)
        frame = next(generator)
    moved = np.roll(picture, (y, x), axis=(0, 1))
    inside = slice(8, -8)
    assert np.array_equal(frame[inside, inside], moved[inside, inside])
    mirrored = np.pad(picture, ((8, 8), (8, 8), (0, 0)), mode="symmetric")
    assert np.array_equal(frame, mirrored[8 - y : 72 - y, 8 - x : 136 - x]), "beyond an edge it is mirrored"


def test_the_share_blends_the_phases(bundle: Path) -> None:
    picture = moving.picture_of(128, 64)
    with Generator.open(bundle, engine="onnxruntime", size=(128, 64)) as generator:
        generator.condition(image=picture)
        generator.set_control("x_b", 4)
        frames = []
        for share in (0, 1, 0.25):
            generator.set_control("share", share)
            frames.append(next(generator).astype(float))
    assert np.array_equal(frames[1], picture)
    assert np.abs(frames[2] - (0.75 * frames[0] + 0.25 * frames[1])).max() <= 1


def test_the_shape_closest_to_the_frame_is_used(bundle: Path) -> None:
    for size, file in (((128, 72), "step-64x32.onnx"), ((72, 128), "step-32x64.onnx"), ((64, 66), "step-32x64.onnx")):
        with Generator.open(bundle, engine="onnxruntime", size=size) as generator:
            assert generator.manifest.step.file == file


def test_without_a_prompt_a_picture_is_made_up_and_enlarged(bundle: Path) -> None:
    with Generator.open(bundle, engine="onnxruntime", seed=3) as generator:
        assert generator.takes == ("image", "clip", "past", "seed")
        frame = next(generator).copy()
        generator.condition(seed=4)
        assert frame.shape == (72, 128, 3)
        assert frame.std(axis=(0, 1)).max() == 0
        assert not np.array_equal(next(generator), frame)


def test_a_clip_goes_on_from_its_last_frame(bundle: Path) -> None:
    clip = np.stack([moving.picture_of(128, 72, seed) for seed in range(3)])
    with Generator.open(bundle, engine="onnxruntime") as generator:
        generator.condition(past=clip)
        assert np.array_equal(next(generator), clip[-1])
        generator.condition(past=clip, image=clip[0])
        assert np.array_equal(next(generator), clip[0])


@pytest.mark.parametrize("pixels", ["rgb", "i420"])
def test_a_dissolve_blends_the_pictures(bundle: Path, pixels: str) -> None:
    one, two = moving.picture_of(128, 72, 1), moving.picture_of(128, 72, 2)
    with Generator.open(bundle, engine="onnxruntime", pixels=pixels) as generator:
        first, second = generator.prepare(image=one), generator.prepare(image=two)
        for scene, before, after in ((second, one, two), (first, two, one), (second, one, two)):
            generator.take(first if before is one else second, dissolve_s=0)
            next(generator)
            generator.take(scene, dissolve_s=4 / 30)
            for share in (0.25, 0.5, 0.75, 1.0, 1.0):
                wanted = before + share * (after.astype(float) - before)
                wanted = wanted if pixels == "rgb" else to_i420(wanted.round().astype(np.uint8)).astype(float)
                assert np.abs(next(generator) - wanted).max() <= 2


def test_a_skipped_dissolve_ends_the_same(bundle: Path) -> None:
    frames = []
    for skipped in (0, 5):
        with Generator.open(bundle, engine="onnxruntime", seed=1) as generator:
            generator.condition(image=moving.picture_of(128, 72, 1))
            next(generator)
            generator.take(generator.prepare(image=moving.picture_of(128, 72, 2)), dissolve_s=0.3)
            generator.skip(skipped)
            frames.append([next(generator).copy() for _ in range(12 - skipped)][-1])
    assert np.array_equal(*frames)


def test_a_scene_belongs_to_a_frame_size(bundle: Path) -> None:
    with Generator.open(bundle, engine="onnxruntime") as one:
        scene = one.prepare(seed=1)
    with (
        Generator.open(bundle, engine="onnxruntime", size=(130, 72)) as other,
        pytest.raises(ValueError, match="made by another generator"),
    ):
        other.take(scene)


@pytest.mark.parametrize("size", [(1281, 720), (1280, 721), (8, 8), (1280, 4098)])
def test_sizes_that_no_frame_has_are_refused(bundle: Path, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="width and height must be even, from 16 to 4096"):
        Generator.open(bundle, size=size)


def test_a_bundle_of_schema_1_has_one_size(tmp_path: Path) -> None:
    path = tiny.build(tmp_path / "tiny")
    Generator.open(path, engine="onnxruntime", size=(64, 48)).close()
    with pytest.raises(ValueError, match=r"tiny makes frames of 64x48 only, got the size 128x72"):
        Generator.open(path, size=(128, 72))


def test_engines_agree(bundle: Path) -> None:
    frames = []
    for engine in ("onnxruntime", "openvino"):
        with Generator.open(bundle, engine=engine, precision="fp32", pixels="i420", size=(130, 74)) as generator:
            generator.condition(image=moving.picture_of(130, 74))
            for name, value in (("x_a", 1.3), ("y_a", -0.7), ("x_b", -2.1), ("y_b", 0.4), ("share", 0.3)):
                generator.set_control(name, value)
            frames.append(next(generator).copy())
    assert psnr_db(*frames) > 55


@pytest.mark.parametrize("pixels", ["rgb", "i420"])
def test_copies_are_shifted_by_the_pixels_of_a_block(pixels: str) -> None:
    sets = plane_sets(10, 6, pixels)
    for item, planes in zip(sets, to_planes(moving.picture_of(10, 6), sets).values(), strict=True):
        copies = shifted_copies(planes)
        assert copies.shape == item.shape
        for y in (0, 1):
            for x in (0, 1):
                assert np.array_equal(copies[:, y, x], planes[:, y : y + item.rows, x : x + item.columns])


def test_what_a_mask_hides_stands_still_and_bars_do_too(bundle: Path) -> None:
    picture = moving.picture_of(64, 72)
    mask = np.zeros((72, 64), np.uint8)
    mask[:36] = 255
    with Generator.open(bundle, engine="onnxruntime", size=(128, 72)) as generator:
        generator.fit = "contain"
        generator.condition(image=picture, moving=mask)
        generator.set_control("y_a", 3)
        generator.set_control("share", 1)
        first = next(generator)
        assert np.array_equal(first[48:, 32:96], picture[48:])
        assert not np.array_equal(first[8:24, 32:96], picture[8:24])
        assert first[:, :20].max() == first[:, 108:].max() == 0
        with pytest.raises(ValueError, match="pictures fit by cover, contain, blur, got 'crop'"):
            generator.fit = "crop"


def test_a_generator_without_masks_refuses_one(tmp_path: Path) -> None:
    with (
        Generator.open(tiny.build(tmp_path / "tiny"), engine="onnxruntime") as generator,
        pytest.raises(ValueError, match="tiny takes no mask of what may move: leave it out"),
    ):
        generator.condition(image=moving.picture_of(64, 48), moving=np.zeros((4, 4), np.uint8))


def wait_for_half(generator: Generator) -> np.ndarray:
    """Return the first frame with half the detail, once its graph has been compiled."""
    generator.detail = "half"
    next(generator)  # begins to compile it
    compiled = generator._step._half
    assert compiled is not None
    compiled.result(WAIT_S)
    return next(generator).copy()


@pytest.mark.parametrize("pixels", ["rgb", "i420"])
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("size", [(128, 72), (130, 74)])
def test_half_the_detail_is_the_same_frame_softer(
    bundle: Path, engine: str, pixels: str, size: tuple[int, int]
) -> None:
    fine = moving.picture_of(*size)
    fine[::2, ::2] = 255 - fine[::2, ::2]  # detail that is lost
    with Generator.open(bundle, engine=engine, precision="fp32", pixels=pixels, size=size) as generator:
        assert generator.has_half_detail
        generator.condition(image=fine)
        half = wait_for_half(generator)
        count = generator._step._active.read("next_count").item()
        assert count == generator.frame_index, "the state goes on"
        generator.detail = "full"
        full = next(generator).copy()
        assert full.shape == half.shape
        lines = size[1] if pixels == "i420" else None
        blocks = [
            frame[:lines]
            .astype(float)[: size[1] // 2 * 2, : size[0] // 2 * 2]
            .reshape(size[1] // 2, 2, size[0] // 2, 2, -1)
            for frame in (full, half)
        ]
        wanted, found = (block.mean(axis=(1, 3)) for block in blocks)
        assert np.abs(found - wanted)[2:-2, 2:-2].mean() < 6
        assert blocks[1].std(axis=(1, 3)).mean() < 0.3 * blocks[0].std(axis=(1, 3)).mean()
        assert generator._step._active.read("next_count").item() == generator.frame_index


def test_a_bundle_of_schema_1_has_full_detail_only(tmp_path: Path) -> None:
    with Generator.open(tiny.build(tmp_path / "tiny"), engine="onnxruntime") as generator:
        before = next(generator).copy()
        generator.detail = "half"
        assert not generator.has_half_detail
        assert next(generator).shape == before.shape
        with pytest.raises(ValueError, match="""the detail is "full" or "half", got 'low'"""):
            generator.detail = "low"


def test_a_picture_whose_motion_is_drawn_again_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    write = PictureInputs._write
    monkeypatch.setattr(PictureInputs, "_write", lambda *given: (written.append(given[1]), write(*given))[1])
    picture = moving.picture_of(flowing.WIDTH, flowing.HEIGHT)
    with Generator.open(flowing.build(tmp_path / "flowing"), engine="onnxruntime") as generator:
        generator.condition(image=picture)
        generator.skip(12)
        before = len(written)
        generator.take(generator.prepare(hints=Hints((Vector(0.5, 0.5, 0.1, 0.0),))), dissolve_s=0.5)
        generator.skip(4)
        assert len(written) == before + 1, "both scenes show one picture"
        generator.take(generator.prepare(image=picture), dissolve_s=0.5)
        generator.skip(4)
        assert len(written) > before + 4, "another scene has a picture of its own"


def test_a_picture_that_fades_in_over_a_clip_is_sharpened_from_the_start(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be seen to become sharp otherwise; only a picture that is cut to begins as it is."""
    shares: list[float] = []
    write = PictureInputs._write
    monkeypatch.setattr(PictureInputs, "_write", lambda *given: (shares.append(given[4]), write(*given))[1])
    with Generator.open(bundle, engine="onnxruntime") as generator:
        clip, picture = generator.prepare(clip=waves(60)), generator.prepare(image=moving.picture_of(128, 72))
        for frames, expected in ((4, {1.0}), (0, {number / 8 for number in range(9)})):
            generator.take(clip, dissolve_s=0.0)
            next(generator)
            shares.clear()
            generator.take(picture, dissolve_s=frames / 30)
            generator.skip(12)
            assert set(shares) == expected
