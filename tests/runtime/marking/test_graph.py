"""The mark in every graph that makes frames: exactly what NumPy makes of the unmarked frame, once and not twice."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from runtime import BundleError, Generator
from runtime.bundle.pruning import prune
from runtime.bundle.reader import open_bundle
from runtime.bundle.tensors import TensorSpec
from runtime.chain import Chain
from runtime.compositing.composite import Composite
from runtime.engines import tensorrt_builder
from runtime.engines.engine import Program
from runtime.engines.table import open_engine
from runtime.errors import EngineError
from runtime.marking.frame_marker import EngineSettings, FrameMarker
from runtime.marking.graph import mark_frame, with_mark
from runtime.marking.marked_bundle import marked
from runtime.marking.plane import PLANE, make_plane, plane_input
from runtime.pixels.assemble import with_size
from tests import moving
from tests.runtime import trailing
from tests.runtime.clips.clip_of_waves import waves
from tests.runtime.compositing.test_composite import build_matte

ENGINES = ("onnxruntime", "openvino")
PIXELS = ("rgb", "i420")
PAYLOAD = 0xC0FFEE123456
SIZE = (154, 90)  # of no multiple of a cell


@pytest.fixture(scope="module")
def moving_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return moving.build(tmp_path_factory.mktemp("marking") / "moving")


@pytest.fixture(scope="module")
def matte(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_matte(tmp_path_factory.mktemp("marking") / "matte")


def by_hand(frame: np.ndarray, pixels: str, payload: int = PAYLOAD) -> np.ndarray:
    """Return what an unmarked frame is with the mark."""
    spec = TensorSpec("frame", "uint8", (1, *frame.shape), "frame", pixels=pixels)
    return mark_frame(frame, make_plane(payload, spec), pixels)


def check_same(plain: Iterator[np.ndarray], found: Iterator[np.ndarray], pixels: str, count: int = 4) -> None:
    for one, two in islice(zip(plain, found, strict=True), count):
        wanted = by_hand(one, pixels)
        assert np.array_equal(two, wanted)
        assert np.count_nonzero(two != one) > 0.2 * wanted.size / (3 if pixels == "rgb" else 1.5), "nothing was marked"


@pytest.mark.parametrize("pixels", PIXELS)
@pytest.mark.parametrize("engine", ENGINES)
def test_the_pixel_stage_marks(moving_bundle: Path, engine: str, pixels: str) -> None:
    how = {"engine": engine, "precision": "fp32", "pixels": pixels, "size": SIZE, "seed": 3}
    with Generator.open(moving_bundle, **how) as plain, Generator.open(moving_bundle, mark=PAYLOAD, **how) as generator:
        for one in (plain, generator):
            one.condition(image=moving.picture_of(*SIZE))
        check_same(plain, generator, pixels)
        plain.skip(3)
        generator.skip(3)
        check_same(plain, generator, pixels, 2)


def test_frames_of_half_the_detail_are_marked(moving_bundle: Path) -> None:
    bundle = with_size(open_bundle(moving_bundle), SIZE, "i420")
    changed = marked(bundle, PAYLOAD, "i420")
    assert bundle.build_half is not None
    assert changed.build_half is not None
    frames = []
    for one in (bundle, changed):
        assert one.build_half is not None
        graph = one.manifest.step
        program = Program(prune(one.build_half(), [item.name for item in graph.outputs]), graph.inputs, graph.outputs)
        session = open_engine("onnxruntime").open(program, "fp32", 1, None)
        random = np.random.default_rng(0)
        for item in graph.inputs:
            if item.role == "picture":
                session.write(item.name, (255 * random.random(item.shape)).astype(np.float32))
            elif item.name == PLANE:
                session.write(PLANE, changed.plane)
        session.run()
        frames.append(session.read(graph.outputs_of("frame")[0].name)[0])
    assert np.array_equal(frames[1], by_hand(frames[0], "i420"))


@pytest.mark.parametrize("pixels", PIXELS)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_bundle_of_schema_1_is_marked(bundle: Path, engine: str, pixels: str) -> None:
    how = {"engine": engine, "precision": "fp32", "pixels": pixels, "seed": 3}
    with Generator.open(bundle, **how) as plain, Generator.open(bundle, mark=PAYLOAD, **how) as generator:
        check_same(plain, generator, pixels)


@pytest.mark.parametrize("engine", ENGINES)
def test_clips_and_dissolves_are_marked_once(moving_bundle: Path, engine: str) -> None:
    how = {"engine": engine, "precision": "fp32", "size": (128, 72), "seed": 3}
    clip, picture = waves(90), moving.picture_of(128, 72)
    with Generator.open(moving_bundle, **how) as plain, Generator.open(moving_bundle, mark=PAYLOAD, **how) as generator:
        for one in (plain, generator):
            one.condition(image=picture)
        check_same(plain, generator, "rgb", 2)
        for scene, count in (({"clip": clip}, 12), ({"clip": 255 - clip}, 12), ({"image": picture}, 12)):
            for one in (plain, generator):
                one.take(one.prepare(**scene), dissolve_s=4 / 30)
            check_same(plain, generator, "rgb", count)


@pytest.mark.parametrize("pixels", PIXELS)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_composite_marks_with_and_without_a_person(matte: Path, engine: str, pixels: str) -> None:
    shape = (48, 64, 3) if pixels == "rgb" else (72, 64)
    behind = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    person = np.zeros((48, 64, 3), np.uint8)
    person[:, :32] = 200
    how = {"engine": engine, "threads": 1, "pixels": pixels}
    with (
        Composite.open(matte, 64, 48, **how) as plain,
        Composite.open(matte, 64, 48, mark=PAYLOAD, **how) as composite,
    ):
        assert np.array_equal(composite.over(behind), by_hand(behind, pixels))
        for light in (0.0, 0.5):
            for one in (plain, composite):
                one.set_control("matte.wrap", light)
                one.feed_live(person)
            for _ in range(3):
                assert np.array_equal(composite.over(behind), by_hand(plain.over(behind), pixels))
        assert np.array_equal(composite.marked(behind), by_hand(behind, pixels))
        assert plain.marked(behind) is behind


def test_only_the_last_link_of_a_chain_marks(bundle: Path, tmp_path: Path) -> None:
    paths = [bundle, trailing.build(tmp_path / "trailing")]
    how = {"engine": "onnxruntime", "precision": "fp32", "seed": 3}
    with Chain.open(paths, **how) as plain, Chain.open(paths, mark=PAYLOAD, **how) as chain:
        check_same(plain, chain, "rgb", 6)


def test_a_chain_without_its_last_link_is_still_marked(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [bundle, trailing.build(tmp_path / "trailing")]
    said: list[str] = []
    how = {"engine": "onnxruntime", "precision": "fp32", "seed": 3}
    with Chain.open(paths, **how) as plain, Chain.open(paths, mark=PAYLOAD, **how) as chain:
        for one in (plain, chain):
            one.on_left_out = said.append

            def fail(_frame: object, one: Chain = one) -> None:
                raise EngineError("broken")

            monkeypatch.setattr(one._links[-1], "make", fail)
        check_same(plain, chain, "rgb", 3)
    assert len(said) == 2


def test_zeros_change_nothing(moving_bundle: Path) -> None:
    how = {"engine": "openvino", "size": SIZE, "seed": 3}
    with Generator.open(moving_bundle, **how) as plain, Generator.open(moving_bundle, mark=PAYLOAD, **how) as generator:
        generator._frame_inputs._plane = np.zeros_like(generator._frame_inputs._plane)
        for one, two in islice(zip(plain, generator, strict=True), 4):
            assert np.array_equal(one, two)


@pytest.mark.parametrize("pixels", PIXELS)
def test_a_graph_that_ends_in_something_else_is_marked(pixels: str) -> None:
    shape = (1, 16, 24, 3) if pixels == "rgb" else (1, 24, 24)
    frame = TensorSpec("frame", "uint8", shape, "frame", pixels=pixels)
    shown = TensorSpec("shown", "uint8", shape, "live")
    node = helper.make_node("Identity", ["shown"], ["frame"])
    sides = [[helper.make_tensor_value_info(item.name, TensorProto.UINT8, shape)] for item in (shown, frame)]
    model = helper.make_model(
        helper.make_graph([node], "same", *sides), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    changed = with_mark(model, frame)
    onnx.checker.check_model(changed, full_check=True)
    program = Program(changed.SerializeToString(), (shown, plane_input(frame)), (frame,))
    session = open_engine("onnxruntime").open(program, "fp32", 1, None)
    picture = np.random.default_rng(1).integers(0, 256, shape[1:], np.uint8)
    session.write("shown", picture[np.newaxis])
    session.write(PLANE, make_plane(PAYLOAD, frame))
    session.run()
    assert np.array_equal(session.read("frame")[0], by_hand(picture, pixels))


def test_names_of_the_mark_are_refused() -> None:
    shown = helper.make_tensor_value_info(PLANE, TensorProto.UINT8, (1, 16, 16, 3))
    frame = helper.make_tensor_value_info("frame", TensorProto.UINT8, (1, 16, 16, 3))
    model = helper.make_model(
        helper.make_graph([helper.make_node("Identity", [PLANE], ["frame"])], "x", [shown], [frame])
    )
    with pytest.raises(BundleError, match=r"begins with mark\."):
        with_mark(model, TensorSpec("frame", "uint8", (1, 16, 16, 3), "frame", pixels="rgb"))


@pytest.mark.parametrize("pixels", PIXELS)
def test_dark_and_flat_areas_are_marked_less(pixels: str) -> None:
    changes = []
    noise = np.random.default_rng(2).integers(-40, 41, (128, 128))
    for level, texture in ((20, 0), (140, 0), (140, 1)):
        luma = np.clip(level + texture * noise, 0, 255).astype(np.uint8)
        picture = np.repeat(luma[..., np.newaxis], 3, axis=2)
        if pixels == "i420":
            picture = np.concatenate([luma, np.full((64, 128), 128, np.uint8)])
        changes.append(float(np.abs(by_hand(picture, pixels).astype(int) - picture).mean()))
    assert 0 < changes[0] < 0.8 * changes[1] < 0.6 * changes[2]


def test_brightness_at_its_limits_does_not_wrap_around() -> None:
    for level in (0, 255):
        picture = np.full((72, 64), level, np.uint8)
        assert np.abs(by_hand(picture, "i420").astype(int) - picture).max() <= 3


@pytest.mark.parametrize("pixels", PIXELS)
def test_other_frames_are_marked_by_an_engine_or_without(pixels: str) -> None:
    frame = np.random.default_rng(3).integers(0, 256, (48, 64, 3) if pixels == "rgb" else (72, 64), np.uint8)
    with_engine = FrameMarker.of_payload(PAYLOAD, 64, 48, pixels, EngineSettings(open_engine("openvino"), 1, None))
    without = FrameMarker.of_payload(PAYLOAD, 64, 48, pixels)
    for _ in range(2):
        assert np.array_equal(with_engine(frame), by_hand(frame, pixels))
        assert np.array_equal(without(frame), by_hand(frame, pixels))
    with_engine.close()


def test_other_frames_are_marked_when_the_engine_has_failed() -> None:
    class Broken:
        def open(self, *_: object) -> None:
            raise EngineError("broken")

    frame, said = np.full((72, 64), 100, np.uint8), []
    settings = EngineSettings(Broken(), 1, None)  # type: ignore[arg-type]
    marker = FrameMarker.of_payload(PAYLOAD, 64, 48, "i420", settings, said.append)
    for _ in range(2):
        assert np.array_equal(marker(frame), by_hand(frame, "i420"))
    assert said == ["the mark is added without the engine from now on, which takes longer: broken"]
    with pytest.raises(EngineError, match="broken"):
        FrameMarker.of_payload(PAYLOAD, 64, 48, "i420", settings)(frame)


def test_a_clip_goes_on_when_the_markers_engine_has_failed(
    moving_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no other engine here, and the mark does not need one."""

    def fail(*_: object) -> None:
        raise EngineError("broken")

    how = {"engine": "onnxruntime", "precision": "fp32", "size": (128, 72), "seed": 3}
    said: list[str] = []
    clip = waves(90)
    monkeypatch.setattr(FrameMarker, "_open", fail)
    with Generator.open(moving_bundle, **how) as plain, Generator.open(moving_bundle, mark=PAYLOAD, **how) as generator:
        generator.on_fall_back = said.append
        for one in (plain, generator):
            one.condition(clip=clip)
        check_same(plain, generator, "rgb", 4)
    assert said == ["the mark is added without the engine from now on, which takes longer: broken"]


def test_a_wrong_payload_is_one_sentence(bundle: Path) -> None:
    with pytest.raises(ValueError, match=r"from 0 to 2\*\*48 - 1, got -1"):
        Generator.open(bundle, mark=-1)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("pixels", PIXELS)
def test_tensorrt_rtx_builds_it(moving_bundle: Path, tmp_path: Path, pixels: str, precision: str) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed", exc_type=ImportError)
    changed = marked(with_size(open_bundle(moving_bundle), SIZE, pixels), PAYLOAD, pixels)
    graph = prune(changed.step, [item.name for item in changed.manifest.step.outputs])
    if precision == "fp16":
        from runtime.engines.fp16 import to_half

        graph = to_half(onnx.load_from_string(graph)).SerializeToString()
    built = tensorrt_builder.build(
        graph, "tensorrt-rtx", tensorrt_builder.PORTABLE, name="step", cache_dir=tmp_path, is_private=False
    )
    assert len(built.plan) > 1000
