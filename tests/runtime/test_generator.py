"""The generator's face, on real engines and the tiny bundle."""

from __future__ import annotations

import itertools
import json
import shutil
import threading
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from runtime import EngineError, Generator, Manifest
from runtime.engines.onnxruntime import OnnxRuntimeSession
from runtime.golden import psnr_db
from tests import tiny
from tests.fakes import fake_generator

ENGINES = ("onnxruntime", "openvino")


def frames_of(bundle: Path, count: int, *, engine: str = "onnxruntime", **options: object) -> np.ndarray:
    """Return the first frames of a show."""
    with Generator.open(bundle, engine=engine, precision="fp32", **options) as generator:  # type: ignore[arg-type]
        return np.stack([frame.copy() for frame in itertools.islice(generator, count)])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_show_has_frames_in_order(bundle: Path, engine: str) -> None:
    with Generator.open(bundle, engine=engine, precision="fp32") as generator:
        assert (generator.width, generator.height, generator.fps) == (64, 48, Fraction(30))
        assert (generator.engine, generator.precision, generator.pixels) == (engine, "fp32", "rgb")
        assert engine in generator.engine_reason
        assert (generator.engine, generator.precision) == (engine, "fp32")
        assert generator.manifest.name == "tiny"
        for index in range(5):
            assert generator.frame_index == index
            frame = next(generator)
            assert frame.shape == (48, 64, 3)
            assert frame.dtype == np.uint8
            assert (frame[:8, :8] == index).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_seed_means_the_same_frames(renewing_bundle: Path, engine: str) -> None:
    first = frames_of(renewing_bundle, 40, engine=engine, seed=3)
    assert np.array_equal(first, frames_of(renewing_bundle, 40, engine=engine, seed=3))
    assert not np.array_equal(first, frames_of(renewing_bundle, 40, engine=engine, seed=4))


def test_two_engines_show_the_same(renewing_bundle: Path) -> None:
    one, other = (frames_of(renewing_bundle, 40, engine=engine, seed=3) for engine in ENGINES)
    assert min(psnr_db(a, b) for a, b in zip(one, other, strict=True)) >= 60


@pytest.mark.parametrize("engine", ENGINES)
def test_a_reset_show_is_the_same_show(renewing_bundle: Path, engine: str) -> None:
    with Generator.open(renewing_bundle, engine=engine, precision="fp32", seed=1) as generator:
        generator.condition(seed=5)
        first = [frame.copy() for frame in itertools.islice(generator, 30)]
        generator.reset()
        again = [frame.copy() for frame in itertools.islice(generator, 30)]
    assert np.array_equal(first, again)


def test_without_a_prompt_the_generators_own_seed_makes_the_scene(bundle: Path) -> None:
    with Generator.open(bundle, engine="onnxruntime", seed=4) as generator:
        generator.condition(seed=4)
        asked = next(generator).copy()
    assert np.array_equal(frames_of(bundle, 1, seed=4)[0], asked)


def test_i420_is_bt709_of_the_rgb_frames(bundle: Path) -> None:
    rgb = frames_of(bundle, 3)[2].astype(np.float64)
    planes = frames_of(bundle, 3, pixels="i420")[2]
    assert planes.shape == (72, 64)
    red, green, blue = np.moveaxis(rgb / 255, -1, 0)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    chroma = [(blue - luma) / 1.8556, (red - luma) / 1.5748]
    halves = [128 + 224 * plane.reshape(24, 2, 32, 2).mean((1, 3)) for plane in chroma]
    assert np.abs(planes[:48] - (16 + 219 * luma)).max() <= 1
    assert np.abs(planes[48:].reshape(2, 24, 32) - halves).max() <= 1


def test_a_picture_is_shown(bundle: Path) -> None:
    picture = np.zeros((96, 128, 3), np.uint8)
    picture[..., 2] = 200
    with Generator.open(bundle, engine="onnxruntime") as generator:
        generator.set_control("sway", 0)
        generator.condition(image=picture)
        shown = next(generator).copy()
        generator.condition(seed=2)
        made = next(generator)
        assert np.abs(made[16:32, 16:48].astype(int) - (0, 0, 200)).max() > 40
    # The style adds up to 0.1 at most, and the last convolution darkens the border.
    assert np.abs(shown[16:32, 16:48].astype(int) - (0, 0, 200)).max() < 40


def test_controls_move_the_picture_and_are_checked(bundle: Path) -> None:
    with Generator.open(bundle, engine="onnxruntime") as generator:
        assert generator.controls == {"sway": 1.5, "drift": 0}
        generator.set_control("sway", 0)
        before = next(generator).copy()
        generator.set_control("drift", 4)
        assert generator.controls["drift"] == 4
        after = next(generator).copy()
        assert np.array_equal(before[20:40, 16:60], after[16:36, 12:56])  # 4 pixels each way
        with pytest.raises(ValueError, match=r"drift must be from -8.0 to 8.0, got 8.1"):
            generator.set_control("drift", 8.1)
        with pytest.raises(ValueError, match="drift must be from"):
            generator.set_control("drift", float("nan"))
        for value in ("x", None):
            with pytest.raises(ValueError, match="drift must be a number, got"):
                generator.set_control("drift", value)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r'no control "swya" \(did you mean "sway"\?\)'):
            generator.set_control("swya", 1)
        assert generator.controls == {"sway": 0, "drift": 4}


@pytest.mark.parametrize("engine", ENGINES)
def test_preparing_beside_the_show_does_not_change_it(bundle: Path, engine: str) -> None:
    alone = frames_of(bundle, 40, engine=engine)
    with Generator.open(bundle, engine=engine, precision="fp32") as generator:
        memories = []
        thread = threading.Thread(target=lambda: memories.extend(generator.prepare(seed=seed) for seed in range(6)))
        next(generator)
        thread.start()
        rest = [frame.copy() for frame in itertools.islice(generator, 39)]
        thread.join()
        assert np.array_equal(rest, alone[1:])
        assert [memory.seed for memory in memories] == list(range(6))
        generator.take(memories[5], dissolve_s=0)
        assert not np.array_equal(next(generator), rest[-1])


def test_a_bundle_without_memories_takes_no_prompt(live_bundle: Path) -> None:
    with Generator.open(live_bundle, engine="onnxruntime") as generator:
        assert next(generator).shape == (48, 64, 3)
        for call in (generator.condition, generator.prepare):
            with pytest.raises(ValueError, match="takes no prompt"):
                call(seed=1)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_live_frame_shows_where_its_mask_is_set(live_bundle: Path, engine: str) -> None:
    live = np.full((48, 64, 3), (10, 120, 230), np.uint8)
    mask = np.zeros((48, 64), np.uint8)
    mask[:, 32:] = 255
    with Generator.open(live_bundle, engine=engine, precision="fp32") as generator:
        generator.set_control("sway", 0)
        before = next(generator).copy()
        generator.feed_live(live, mask)
        half = next(generator).copy()
        assert np.array_equal(half[8:, :32], before[8:, :32])
        assert np.array_equal(half[8:, 32:], live[8:, 32:])
        live[:] = 0  # the generator has its own copy
        assert np.array_equal(next(generator)[8:], half[8:])
        generator.feed_live(np.zeros((96, 128, 3), np.uint8))
        assert next(generator)[8:].max() == 0


def test_live_input_is_checked(bundle: Path, live_bundle: Path) -> None:
    frame = np.zeros((48, 64, 3), np.uint8)
    with Generator.open(live_bundle, engine="onnxruntime") as generator:
        for mask in (np.zeros((64, 48), np.uint8), np.zeros((48, 64)), np.zeros(3072, np.uint8)):
            with pytest.raises(ValueError, match="a mask must be uint8"):
                generator.feed_live(frame, mask)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="an image array must be"):
            generator.feed_live(frame[..., 0])
    with Generator.open(bundle, engine="onnxruntime") as generator, pytest.raises(ValueError, match="no live input"):
        generator.feed_live(frame)


def test_closing_ends_the_show_and_can_be_done_twice(bundle: Path) -> None:
    generator = Generator.open(bundle, engine="onnxruntime")
    next(generator)
    generator.close()
    generator.close()
    for call in (lambda: next(generator), lambda: generator.prepare(seed=1)):
        with pytest.raises(ValueError, match="closed"):
            call()


def test_closing_closes_both_sessions(bundle: Path) -> None:
    manifest = Manifest.parse(json.loads((bundle / "bundle.json").read_text()))
    generator, engine = fake_generator(manifest)
    with generator:
        next(generator)
    assert [session.is_closed for session in engine.sessions] == [True, True]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"engine": "onnxrutime"}, ValueError, 'no engine "onnxrutime" .did you mean "onnxruntime"'),
        ({"precision": "fp23"}, ValueError, 'no precision "fp23" .did you mean "fp32"'),
        ({"pixels": "rgba"}, ValueError, 'no frames in "rgba" .did you mean "rgb"'),
        ({"threads": 0}, ValueError, "threads must be at least 1, got 0"),
        ({"seed": -1}, ValueError, "a seed must be at least 0"),
        ({"seed": 2**64}, ValueError, "a seed must be at least 0"),
        ({"engine": "onnxruntime", "precision": "bf16"}, EngineError, "onnxruntime cannot run in bf16"),
    ],
)
def test_bad_options_are_refused(bundle: Path, options: dict[str, object], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        Generator.open(bundle, **options)  # type: ignore[arg-type]


def test_bad_prompts_are_refused(bundle: Path) -> None:
    with Generator.open(bundle, engine="onnxruntime") as generator:
        for seed in (-1, 2**64):
            with pytest.raises(ValueError, match="a seed must be at least 0"):
                generator.condition(seed=seed)
            with pytest.raises(ValueError, match="a seed must be at least 0"):
                generator.reset(seed=seed)
        with pytest.raises(ValueError, match="there is no image file"):
            generator.condition(image="nowhere.png")


def test_unsupported_prompts_of_a_graph_are_refused(tmp_path: Path) -> None:
    folder = tiny.build(tmp_path / "tiny")
    value = json.loads((folder / "bundle.json").read_text())
    inputs = value["graphs"]["condition"]["inputs"]
    without_noise = Manifest.parse(value | {"graphs": _with_inputs(value, [*inputs[:3]])})
    generator, _ = fake_generator(without_noise)
    with pytest.raises(ValueError, match="makes nothing without an image"):
        next(generator)
    with pytest.raises(ValueError, match="takes no seed"):
        generator.condition(seed=1)
    without_image = Manifest.parse(value | {"graphs": _with_inputs(value, inputs[3:])})
    generator, _ = fake_generator(without_image)
    with pytest.raises(ValueError, match="takes no image"):
        generator.condition(image=np.zeros((48, 64, 3), np.uint8))


def _with_inputs(value: dict, inputs: list) -> dict:
    graphs = value["graphs"]
    return graphs | {"condition": graphs["condition"] | {"inputs": inputs}}


def test_masks_and_flags_state_the_given_inputs(bundle: Path) -> None:
    generator, engine = fake_generator(Manifest.parse(json.loads((bundle / "bundle.json").read_text())))
    generator.prepare(seed=1)
    generator.prepare(image=np.full((48, 64, 3), 7, np.uint8))
    condition = engine.sessions[1]
    assert [float(value.max()) for _, value in condition.written("image_mask")] == [0, 255]
    assert [float(value[0, 0]) for _, value in condition.written("flags")] == [0, 1]
    assert [int(value.max()) for _, value in condition.written("image")] == [0, 7]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_show_plays_in_another_thread(bundle: Path, engine: str) -> None:
    shown: list[np.ndarray] = []
    with Generator.open(bundle, engine=engine, precision="fp32") as generator:
        thread = threading.Thread(target=lambda: shown.extend(f.copy() for f in itertools.islice(generator, 5)))
        thread.start()
        thread.join()
    assert np.array_equal(shown, frames_of(bundle, 5, engine=engine))


def test_files_that_are_deleted_or_replaced_change_nothing_of_a_running_show(
    prompted_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shows = []
    for is_deleted in (False, True):
        copy = shutil.copytree(prompted_bundle, tmp_path / "copy")
        with Generator.open(copy, engine="onnxruntime,openvino", precision="fp32", threads=1, seed=1) as generator:
            if is_deleted:
                shutil.rmtree(copy)
                (copy / "text").mkdir(parents=True)
                (copy / "step.onnx").write_bytes(b"another")
            frames = [frame.copy() for frame in itertools.islice(generator, 14)]  # a renewal is at 12
            generator.condition(text="storm")
            generator.skip(3)
            frames += [frame.copy() for frame in itertools.islice(generator, 3)]
            with monkeypatch.context() as patch:
                patch.setattr(OnnxRuntimeSession, "run", fail)
                frames += [frame.copy() for frame in itertools.islice(generator, 3)]
            assert generator.engine == "openvino"
        shows.append(np.stack(frames))
        shutil.rmtree(copy)
    assert np.array_equal(*shows)


def fail(session: OnnxRuntimeSession) -> None:
    raise EngineError("onnxruntime failed: the device is gone")


def test_too_little_memory_to_open_a_bundle_is_one_sentence(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("runtime.bundle.reader.parse_graph", exhausted)
    with pytest.raises(EngineError, match=r"there is not enough memory to open .*tiny"):
        Generator.open(bundle)
    monkeypatch.undo()
    monkeypatch.setattr("runtime.engines.engine.aligned_zeros", exhausted)
    with pytest.raises(EngineError, match="onnxruntime cannot open the graphs: there is not enough memory"):
        Generator.open(bundle, engine="onnxruntime")
    monkeypatch.undo()

    def unloadable(*_: object, **__: object) -> None:
        raise ImportError("failed to map segment from shared object")

    monkeypatch.setattr("runtime.engines.onnxruntime.OnnxRuntimeSession", unloadable)
    with pytest.raises(EngineError, match="onnxruntime cannot open the graphs: failed to map"):
        Generator.open(bundle, engine="onnxruntime")
    monkeypatch.undo()
    monkeypatch.setattr("runtime.engines.openvino._core", unloadable)
    with pytest.raises(EngineError, match="openvino is installed and cannot be loaded: failed to map"):
        Generator.open(bundle, engine="openvino")
    with Generator.open(bundle, engine="openvino,onnxruntime") as generator:
        assert generator.engine == "onnxruntime"
