"""The shipped bundles on every engine that is here: the real ONNX Runtime, OpenVINO and TensorRT-RTX builder."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image, ImageDraw, ImageFilter

from runtime import Generator
from runtime.bundle.reader import open_bundle, read_manifest
from runtime.clips.stage import build_clip_stage
from runtime.compositing.stage import build_composite_stage
from runtime.engines.table import open_engine
from runtime.engines.tensorrt_builder import PORTABLE, build
from runtime.golden import GoldenResult, check_golden, golden_size, load_golden, psnr_db
from runtime.prompts.bundle_scenes import load_scene
from runtime.prompts.images import load_image, load_mask
from tests.export.rtx import require_builds

ALL = sorted((Path(__file__).parent.parent / "bundles").iterdir())
BUNDLES = [path for path in ALL if path.name not in ("areas", "enlarge", "fill", "person")]  # our own generators
PERSON = ALL[0].parent / "person"
AREAS = ALL[0].parent / "areas"
ENLARGE = ALL[0].parent / "enlarge"
FILL = ALL[0].parent / "fill"
every_bundle = pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every engine is compiled once."""
    return tmp_path_factory.mktemp("engines")


def replay(generator: Generator, folder: Path, files: int | None) -> list[GoldenResult]:
    """Return what `check_golden` returns of the first files, but make no more than two frames before each golden one.

    What follows skipped frames is what would have followed had they been made: see tests/runtime/test_skip.py.
    """
    results = []
    for spec in generator.manifest.golden[:files]:
        content = load_golden(folder, spec, generator.manifest)
        generator.reset(seed=spec.seed)
        if spec.image or spec.clip or spec.text is not None:
            generator.condition(image=content.image, past=content.clip, text=spec.text, seed=spec.seed)
        for number, wanted in zip(spec.frames, content.frames, strict=True):
            generator.skip(max(0, number - 3 - generator.frame_index))
            while generator.frame_index < number - 1:
                next(generator)
            results.append(GoldenResult(spec.file, number, psnr_db(next(generator), wanted)))
    return results


def small(bundle: Path) -> tuple[int, int]:
    """Return the size of a bundle's golden frames."""
    return golden_size(read_manifest(bundle))


def test_bundles_ship() -> None:
    assert {path.name for path in ALL} == {"areas", "enlarge", "fill", "landscape", "person", "satellite"}
    for path in ALL:
        files = [file for file in path.rglob("*") if file.is_file() and not {"engines", "scenes"} & set(file.parts)]
        assert sum(file.stat().st_size for file in files) < 10e6, f"{path.name} is over 10 MB"


@every_bundle
@pytest.mark.parametrize(
    ("engine", "precision", "gate_db"),
    [("onnxruntime", "fp32", 60), ("onnxruntime", "fp16", 35), ("openvino", "fp32", 60), ("openvino", "bf16", 40)],
)
def test_golden_frames_are_reproduced(bundle: Path, engine: str, precision: str, gate_db: int, cache: Path) -> None:
    if precision not in open_engine(engine).precisions():
        pytest.skip(f"this CPU has no {precision}")
    with Generator.open(
        bundle, engine=engine, precision=precision, renewal=False, cache_dir=cache, threads=1, size=small(bundle)
    ) as generator:
        files = None if precision == "fp32" else 1  # what is given is another graph's business, in FP32 everywhere
        results = replay(generator, bundle, files)
    manifest = generator.manifest
    expected = [(spec.file, number) for spec in manifest.golden[:files] for number in spec.frames]
    assert [(result.file, result.frame) for result in results] == expected
    assert manifest.golden[0].frames == (1, 10, 100, 300)
    assert manifest.condition is not None
    for role in ("image", "clip", "text"):  # whatever can be given has been
        takes = manifest.prompt_input(role) is not None
        assert takes == any(getattr(spec, role) not in (False, None) for spec in manifest.golden), role
    worst = min(results, key=lambda result: result.psnr_db)
    assert worst.psnr_db >= gate_db, worst


@every_bundle
def test_tensorrt_rtx_builds_every_graph_mostly_in_half_precision(bundle: Path, tmp_path: Path) -> None:
    entries = require_builds(bundle, tmp_path / bundle.name)
    found = [(entry["graph"], entry["precision"]) for entry in entries]
    steps = [(f"step, {pixels}", precision) for pixels in ("rgb", "i420") for precision in ("fp32", "fp16")]
    paint = [] if read_manifest(bundle).paint is None else [("paint", "fp32")]
    assert found == [("condition", "fp32"), *paint, *steps]
    for entry in entries:
        assert entry["half_convolutions"] == (entry["convolutions"] if entry["precision"] == "fp16" else 0)
        assert entry["convolutions"] >= 3
        assert entry["size_bytes"] > 100_000


@every_bundle
def test_it_moves_stays_in_range_and_renews_itself(bundle: Path, cache: Path) -> None:
    with Generator.open(bundle, seed=3, cache_dir=cache, threads=1, size=small(bundle)) as generator:
        renewal = generator.manifest.renewal
        assert renewal is not None
        frames = [next(generator).astype(np.float32) for _ in range(30)]
        generator.skip(renewal.every_frames + renewal.dissolve_frames + 1 - generator.frame_index)
        renewed = next(generator).astype(np.float32)
    motion = np.array([np.abs(b - a).mean() for a, b in pairwise(frames)])
    assert np.median(motion) > 0.1, "the picture stands still"
    assert motion.max() < 40, "the picture jumps"
    assert all(frame.std() > 5 for frame in [*frames[::15], renewed]), "the picture has gone flat"
    assert np.abs(renewed - frames[1]).mean() > 2, "the scene has not renewed itself"


@every_bundle
def test_seeds_give_different_pictures_and_the_same_seed_the_same(bundle: Path, cache: Path) -> None:
    with Generator.open(
        bundle, engine="onnxruntime", seed=5, cache_dir=cache, threads=1, size=small(bundle)
    ) as generator:

        def tenth(seed: int) -> np.ndarray:
            generator.reset(seed)
            generator.skip(9)
            return next(generator).copy()

        first, other, again = tenth(5), tenth(6), tenth(5)
    assert np.array_equal(first, again)
    assert np.abs(first.astype(int) - other.astype(int)).mean() > 3


@every_bundle
def test_a_picture_is_animated(bundle: Path, cache: Path) -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (8, 8, 3)).astype(np.uint8)
    with Generator.open(bundle, engine="onnxruntime", cache_dir=cache, threads=1, size=small(bundle)) as generator:
        picture = np.kron(coarse, np.ones((generator.height // 8, generator.width // 8, 1))).astype(np.uint8)
        generator.condition(image=picture, seed=1)
        first = next(generator).astype(np.float32)
        generator.skip(18)
        last = next(generator).astype(np.float32)
    assert np.corrcoef(first.ravel(), picture.ravel())[0, 1] > 0.9
    assert np.abs(last - first).mean() > 0.2


@every_bundle
def test_a_clip_goes_on_and_a_text_chooses(bundle: Path, cache: Path) -> None:
    with Generator.open(bundle, engine="onnxruntime", cache_dir=cache, threads=1, size=small(bundle)) as generator:
        if "past" not in generator.takes:
            pytest.skip("it takes no clip")
        rng = np.random.default_rng(0)
        coarse = rng.integers(0, 255, (8, 8, 3)).astype(np.uint8)
        scene = coarse.repeat(generator.height // 8, axis=0).repeat(generator.width // 8, axis=1)
        clip = np.stack([np.roll(scene, 2 * time, axis=1) for time in range(4)])
        generator.condition(past=clip, seed=1)
        first = next(generator).astype(np.float32)
        assert np.corrcoef(first.ravel(), clip[-1].ravel())[0, 1] > 0.9
        if "text" not in generator.takes:
            return
        firsts = []
        for text in ("a waterfall", "a burning candle"):
            generator.reset(seed=3)
            generator.condition(text=text, seed=3)
            firsts.append(next(generator).astype(np.float32))
        assert np.abs(firsts[0] - firsts[1]).mean() > 2


@every_bundle
def test_a_watermark_has_its_place(bundle: Path) -> None:
    opened = open_bundle(bundle)
    if opened.manifest.shapes:
        return  # its place is the pixel stage
    picture = opened.manifest.step.picture
    value = next(value for value in opened.step.graph.output if value.name == picture)
    assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_every_scene_begins_with_its_picture_and_moves_where_it_may(cache: Path) -> None:
    bundle = BUNDLES[0]
    assert bundle.name == "landscape"
    with Generator.open(bundle, engine="onnxruntime", seed=3, cache_dir=cache, size=(320, 180)) as generator:
        scenes = generator.manifest.scenes
        assert len(scenes) >= 6
        for scene in scenes:
            assert scene.licence == "CC0-1.0"
            picture, moving, _ = load_scene(bundle, generator.manifest, scene.name)
            assert moving is not None
            shown, mask = load_image(picture, 320, 180), load_mask(moving, 320, 180)[..., 0]
            generator.reset(seed=3)
            generator.condition(scene=scene.name)
            assert np.array_equal(next(generator), shown), scene.name
            generator.skip(58)
            change = np.abs(next(generator).astype(float) - shown).mean(axis=2)
            assert change[mask > 250].mean() > 0.3, scene.name
            assert change[mask < 5].mean() < 0.1 * change[mask > 250].mean(), scene.name


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_the_matte_reproduces_its_golden_frames(engine: str, cache: Path) -> None:
    results = check_golden(PERSON, engine, "fp32", cache_dir=cache)
    assert len(results) > 1
    assert min(result.psnr_db for result in results) >= 60


def test_the_matte_finds_a_person_and_nothing_else(cache: Path) -> None:
    """A figure of skin colour before a plain wall, drawn here: head, neck and shoulders."""
    figure = Image.new("RGB", (256, 144), (90, 120, 150))
    draw = ImageDraw.Draw(figure)
    draw.ellipse((60, 100, 196, 240), fill=(40, 40, 60))
    draw.rectangle((114, 84, 142, 110), fill=(205, 160, 130))
    draw.ellipse((98, 22, 158, 98), fill=(220, 175, 145))
    draw.pieslice((94, 14, 162, 78), 180, 360, fill=(60, 40, 30))
    for x in (114, 140):
        draw.ellipse((x - 5, 52, x + 5, 58), fill=(250, 250, 250))
        draw.ellipse((x - 2, 53, x + 2, 57), fill=(40, 30, 30))
    draw.arc((116, 66, 140, 82), 20, 160, fill=(150, 60, 60), width=3)
    with Generator.open(PERSON, engine="onnxruntime", cache_dir=cache, threads=1) as generator:
        generator.feed_live(np.asarray(figure.filter(ImageFilter.GaussianBlur(1))))
        matte = next(generator)[..., 0].copy()
        generator.feed_live(np.full((144, 256, 3), 120, np.uint8))
        empty = next(generator)[..., 0]
    assert matte[30:90, 110:146].mean() > 200
    assert matte[:, :40].mean() < 20
    assert empty.mean() < 20


def test_tensorrt_rtx_builds_the_matte(tmp_path: Path) -> None:
    found = [(entry["graph"], entry["precision"]) for entry in require_builds(PERSON, tmp_path / "person")]
    assert found == [(f"step, {pixels}", precision) for pixels in ("rgb", "i420") for precision in ("fp32", "fp16")]


@pytest.mark.parametrize(
    ("scene", "least"), [("lake", 160), ("city", 160), ("pier", 240), ("arena", 240), ("river", 110)]
)
def test_what_stands_still_is_found_in_photographs_that_trained_nothing(scene: str, least: int, cache: Path) -> None:
    """The scenes of landscape, whose masks were drawn by hand, are not among the pictures of the training."""
    scenes = ALL[0].parent / "landscape" / "scenes"
    with Image.open(scenes / f"{scene}.jpg") as photograph, Image.open(scenes / f"{scene}-moving.png") as drawn:
        picture = np.asarray(photograph.convert("RGB").resize((320, 320)))
        mask = np.asarray(drawn.convert("L").resize((80, 80)))
    with Generator.open(AREAS, engine="onnxruntime", precision="fp32", cache_dir=cache, threads=1) as generator:
        generator.feed_live(picture)
        free = next(generator)[..., 0]
    assert free[mask > 250].mean() > least
    assert free[mask < 5].mean() < 40


def test_tensorrt_rtx_builds_what_says_what_may_move(tmp_path: Path) -> None:
    found = [(entry["graph"], entry["precision"]) for entry in require_builds(AREAS, tmp_path / "areas")]
    assert found == [(f"step, {pixels}", precision) for pixels in ("rgb", "i420") for precision in ("fp32", "fp16")]


@pytest.mark.parametrize("bundle", [ENLARGE, FILL], ids=lambda path: path.name)
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_golden_frames_of_live_networks_are_reproduced(engine: str, bundle: Path, cache: Path) -> None:
    results = check_golden(bundle, engine, "fp32", cache_dir=cache)
    assert len(results) > 1
    assert min(result.psnr_db for result in results) >= 60


def test_small_frames_become_large_ones_with_more_detail(cache: Path) -> None:
    """A photograph that was held out of its training: a window that drifts, halved and enlarged."""
    with Image.open(ALL[0].parent / "landscape" / "scenes" / "lake.jpg") as photograph:
        large = [
            photograph.convert("RGB").transform(
                (1280, 720), Image.Transform.AFFINE, (1, 0, 1.3 * t, 0, 1, 0.7 * t), Image.Resampling.BICUBIC
            )
            for t in range(6)
        ]
    with Generator.open(ENLARGE, engine="openvino", precision="fp32", cache_dir=cache, threads=1) as generator:
        assert (generator.width, generator.height) == (1280, 720)
        for frame in large:
            small = frame.resize((640, 360), Image.Resampling.BOX)
            generator.feed_live(np.asarray(small))
            made = next(generator).copy()
        generator.set_control("strength", 0)
        smooth = next(generator).copy()
        wanted = np.asarray(large[-1])
    assert (
        psnr_db(made, wanted) > psnr_db(np.asarray(small.resize((1280, 720), Image.Resampling.BICUBIC)), wanted) + 0.3
    )
    assert psnr_db(made, wanted) > psnr_db(smooth, wanted) + 0.3


def drifting(count: int) -> list[np.ndarray]:
    """Return frames of a window of 640 x 360 that drifts over a photograph which no network of ours has seen."""
    with Image.open(ALL[0].parent / "landscape" / "scenes" / "lake.jpg") as photograph:
        small = photograph.convert("RGB").resize((960, 540), Image.Resampling.BOX)
    return [
        np.asarray(
            small.transform(
                (640, 360), Image.Transform.AFFINE, (1, 0, 100 + 1.5 * t, 0, 1, 120 + 0.5 * t), Image.Resampling.BICUBIC
            )
        )
        for t in range(count)
    ]


def test_what_was_behind_a_passer_by_comes_back_and_the_rest_is_painted(cache: Path) -> None:
    """A box of 140 x 160 goes over a drifting photograph; grey, or the picture from before, would be far off."""
    frames = drifting(16)
    with Generator.open(FILL, engine="openvino", precision="fp32", cache_dir=cache, threads=1) as generator:
        found = {}
        for memory in (1, 0):
            generator.reset()
            generator.set_control("memory", memory)
            for number, frame in enumerate(frames):
                mask = np.full((360, 640), 255, np.uint8)
                left = 40 + 25 * number
                mask[120:280, left : left + 140] = 0
                generator.feed_live(np.where(mask[..., np.newaxis] > 0, frame, 127).astype(np.uint8), mask)
                made = next(generator).copy()
            hole = mask == 0
            assert np.abs(made[~hole].astype(int) - frames[-1][~hole]).max() <= 1, "what is seen stays"
            found[memory] = psnr_db(made[hole], frames[-1][hole])
        unmoved = psnr_db(frames[0][hole], frames[-1][hole])
        assert found[1] > max(found[0], unmoved) + 4
        assert found[1] > 22


def test_a_hole_is_filled_without_fading(cache: Path) -> None:
    """A still picture of which a part is hidden after the first frame: it neither fades nor wanders."""
    frame = drifting(1)[0]
    mask = np.full((360, 640), 255, np.uint8)
    mask[100:220, 250:400] = 0
    with Generator.open(FILL, engine="openvino", precision="fp32", cache_dir=cache, threads=1) as generator:
        generator.feed_live(frame)
        next(generator)
        for _ in range(60):
            generator.feed_live(frame, mask)
            made = next(generator)
        assert psnr_db(made[mask == 0], frame[mask == 0]) > 45


@pytest.mark.parametrize("bundle", [ENLARGE, FILL], ids=lambda path: path.name)
def test_tensorrt_rtx_builds_live_networks(bundle: Path, tmp_path: Path) -> None:
    found = [(entry["graph"], entry["precision"]) for entry in require_builds(bundle, tmp_path / bundle.name)]
    assert found == [(f"step, {pixels}", precision) for pixels in ("rgb", "i420") for precision in ("fp32", "fp16")]


@pytest.mark.parametrize("is_lit", [False, True])
@pytest.mark.parametrize("pixels", ["rgb", "i420"])
def test_tensorrt_rtx_builds_the_compositing_stage(pixels: str, is_lit: bool) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed", exc_type=ImportError)
    graph = build_composite_stage(1280, 720, pixels, (256, 144), is_lit=is_lit).SerializeToString()
    assert len(build(graph, "tensorrt-rtx", PORTABLE, name="composite").plan) > 10_000


@pytest.mark.parametrize("pixels", ["rgb", "i420"])
def test_tensorrt_rtx_builds_the_clip_stage(pixels: str) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed", exc_type=ImportError)
    graph = build_clip_stage(1280, 720, pixels, (112, 64), 4).SerializeToString()
    assert len(build(graph, "tensorrt-rtx", PORTABLE, name="clip").plan) > 10_000
