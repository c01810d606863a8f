"""A person over frames, cut out by a bundle whose matte is its live input."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from runtime import EngineError
from runtime.bundle.reader import write_manifest
from runtime.compositing.composite import Composite
from tests import tiny

SIZE = (64, 48)
BEHIND = np.full((72, 64), 90, np.uint8)


def build_matte(folder: Path) -> Path:
    """Write a bundle whose frames are its live input, and return its folder."""
    folder.mkdir()
    graph = tiny.GraphBuilder()
    planar = graph.add("Transpose", graph.add("Cast", "live", to=TensorProto.FLOAT), perm=[0, 3, 1, 2])
    graph.add("Mul", planar, graph.constant(1 / 255), out="picture")
    levels = graph.add("Add", graph.add("Mul", "picture", graph.constant(255)), graph.constant(0.5))
    graph.add("Cast", graph.add("Transpose", levels, perm=[0, 2, 3, 1]), to=TensorProto.UINT8, out="rgb")
    inputs = [tiny.tensor("live", "uint8", (1, 24, 32, 3), "live")]
    outputs = [tiny.tensor("rgb", "uint8", (1, 24, 32, 3), "frame", pixels="rgb")]
    onnx.save(graph.to_model(inputs, outputs), folder / "step.onnx")
    step = {"file": "step.onnx", "inputs": inputs, "outputs": outputs, "picture": "picture"}
    write_manifest(folder, {**tiny.manifest_json({"step": step}, 32, 24, "30", None), "controls": []})
    return folder


@pytest.fixture(scope="module")
def matte(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_matte(tmp_path_factory.mktemp("composite") / "matte")


@pytest.fixture
def composite(matte: Path) -> Iterator[Composite]:
    with Composite.open(matte, *SIZE, engine="onnxruntime", threads=1) as composite:
        yield composite


def half_white() -> np.ndarray:
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, :32] = 255
    return picture


def settled(composite: Composite) -> np.ndarray:
    for _ in range(8):
        frame = composite.over(BEHIND).copy()
    return frame


def test_the_frame_itself_comes_before_the_first_live_frame(composite: Composite) -> None:
    assert composite.over(BEHIND) is BEHIND


def test_a_person_stands_before_the_frame(composite: Composite) -> None:
    composite.feed_live(half_white())
    frame = settled(composite)
    assert frame.shape == BEHIND.shape
    assert np.all(frame[:48, :20] == 235), "white, in limited range"
    assert np.all(frame[:48, 44:] == 90)
    chroma = frame[48:].reshape(2, 24, 32)
    assert np.all(chroma[:, :, :10] == 128)
    assert np.all(chroma[:, :, 22:] == 90)


def test_the_person_may_be_mirrored(composite: Composite) -> None:
    composite.is_mirrored = True
    composite.feed_live(half_white())
    frame = settled(composite)
    assert np.all(frame[:48, :20] == 90)
    assert np.all(frame[:48, 44:] == 235)


def test_a_colour_or_the_blurred_input_may_be_behind(composite: Composite) -> None:
    assert composite.needs_show
    composite.behind = "green"
    assert not composite.needs_show
    composite.feed_live(half_white())
    frame = settled(composite)
    assert np.all(frame[:48, :20] == 235)
    green = frame[:48, 44:]
    assert np.all(green == green[0, 0])
    assert green[0, 0] == 129, "BT.709"
    composite.behind = "0000ff"
    assert settled(composite)[:48, 44:].max() < 40
    composite.behind = "blur"
    stripes = np.zeros((48, 64, 3), np.uint8)
    stripes[:, 40::4] = 40  # too dark for a person
    composite.feed_live(stripes)
    blurred = settled(composite)[:48, 44:]
    assert blurred.std() < 0.3 * np.where(np.arange(20) % 4 == 0, 50, 16).std()
    composite.behind = "show"
    assert np.all(settled(composite)[:48, :30] == 90)
    with pytest.raises(ValueError, match="behind the person is show, blur, green or a colour as RRGGBB, got 'grene'"):
        composite.behind = "grene"


def test_pictures_of_any_size_are_fitted(composite: Composite) -> None:
    composite.feed_live(np.full((30, 90, 3), 255, np.uint8))
    assert np.all(settled(composite)[:48] == 235)


def test_controls_change_the_edge(composite: Composite) -> None:
    ramp = np.linspace(255, 0, 64).astype(np.uint8)
    composite.feed_live(np.repeat(np.repeat(ramp[None], 48, axis=0)[..., None], 3, axis=2))
    composite.set_control("matte.feather", 1.0)
    wide = settled(composite)[24]
    composite.set_control("matte.feather", 0.0)
    hard = settled(composite)[24]
    assert composite.controls["matte.feather"] == 0.0

    assert np.all(hard[44:] == 90), "nothing is left of the person where the matte is below the threshold"
    assert np.any(wide[44:56] != 90)
    assert np.array_equal(hard[:36], np.round(16 + ramp[:36] / 255 * 219)), "and all of it where the matte is above"
    for name, value, sentence in (
        ("matte.feather", 2.0, "must be from 0.0 to 1.0, got 2.0"),
        ("matte.fether", 0.5, "there is no control matte.fether; expected matte.feather"),
        ("matte.feather", float("nan"), "must be from"),
    ):
        with pytest.raises(ValueError, match=sentence):
            composite.set_control(name, value)


def test_rgb_frames_work_too(matte: Path) -> None:
    behind = np.full((48, 64, 3), 90, np.uint8)
    with Composite.open(matte, *SIZE, pixels="rgb", engine="onnxruntime", threads=1) as composite:
        composite.feed_live(half_white())
        for _ in range(8):
            frame = composite.over(behind)
        assert np.all(frame[:, :20] == 255)
        assert np.all(frame[:, 44:] == 90)


def test_a_bundle_that_is_no_matte_and_an_odd_size_are_refused(matte: Path, prompted_bundle: Path) -> None:
    with pytest.raises(ValueError, match="is no matte: it must turn a live input into frames"):
        Composite.open(prompted_bundle, *SIZE, engine="onnxruntime")
    with pytest.raises(ValueError, match="width and height must be even"):
        Composite.open(matte, 63, 48, engine="onnxruntime")


def test_the_matte_runs_once_per_live_frame(composite: Composite, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []
    step = composite._matte._step
    run = step.run
    monkeypatch.setattr(step, "run", lambda: (runs.append(1), run()))
    composite.feed_live(half_white())
    first = settled(composite)
    assert len(runs) == 1
    composite.feed_live(half_white()[:, ::-1])
    assert not np.array_equal(settled(composite), first)
    assert len(runs) == 2


def test_a_picture_may_be_behind(composite: Composite) -> None:
    with pytest.raises(ValueError, match="got 'picture'"):
        composite.behind = "picture"
    composite.feed_behind(np.full((48, 64, 3), 255, np.uint8))
    assert composite.needs_show, "it has not been chosen yet"
    composite.behind = "picture"
    assert not composite.needs_show
    assert np.all(composite.over(BEHIND)[:48] == 235)
    composite.feed_live(np.zeros((48, 64, 3), np.uint8))
    composite.feed_behind(np.zeros((20, 30, 3), np.uint8))
    assert np.all(settled(composite)[:48] == 16)


def test_without_a_live_input_there_is_neither_a_person_nor_a_blur(composite: Composite) -> None:
    composite.behind = "blur"
    composite.feed_live(half_white())
    assert not composite.needs_show
    assert not np.array_equal(settled(composite), BEHIND)
    assert composite.person_share == pytest.approx(0.5)
    composite.feed_live(half_white())
    composite.forget_live()
    assert composite.needs_show
    assert composite.over(BEHIND) is BEHIND
    assert composite.person_share == 0
    composite.feed_live(half_white())
    assert not np.array_equal(settled(composite), BEHIND)


@pytest.mark.parametrize("feather", [0.5, 1.0])
@pytest.mark.parametrize("threshold", [0.1, 0.35, 0.9])
def test_nobody_is_invisible_and_a_person_is_solid(composite: Composite, feather: float, threshold: float) -> None:
    composite.set_control("matte.feather", feather)
    composite.set_control("matte.threshold", threshold)
    composite.feed_live(half_white())
    frame = settled(composite)
    assert np.all(frame[:48, :20] == 235)
    assert np.all(frame[:48, 44:] == 90)


def test_a_person_may_stand_small_in_the_corner(composite: Composite) -> None:
    composite.set_control("matte.x", 0.25)
    composite.set_control("matte.size", 0.5)
    composite.feed_live(np.full((48, 64, 3), 255, np.uint8))
    frame = settled(composite)
    expected = BEHIND.copy()
    expected[24:48, 32:] = 235
    chroma = expected[48:].reshape(2, 24, 32)
    chroma[:, 12:, 16:] = 128
    assert np.abs(frame.astype(int) - expected).max() <= 1, "the picture is resized, which rounds"
    assert np.array_equal(frame[:24], BEHIND[:24])
    composite.set_control("matte.size", 2.0)
    composite.set_control("matte.x", 0.0)
    composite.set_control("matte.y", 1.0)
    composite.feed_live(np.full((48, 64, 3), 255, np.uint8))
    frame = settled(composite)
    assert np.all(frame[:48] >= 234), "twice as large and moved down by a frame, it still fills the frame"
    composite.set_control("matte.x", 1.0)
    composite.set_control("matte.size", 0.5)
    composite.feed_live(np.full((48, 64, 3), 255, np.uint8))
    assert np.array_equal(settled(composite), BEHIND), "outside the frame"


@pytest.mark.parametrize("pixels", ["rgb", "i420"])
def test_light_from_behind_is_seen_at_the_edge_and_tone_everywhere(matte: Path, pixels: str) -> None:
    bright = np.full((48, 64, 3), 250, np.uint8)
    behind = bright if pixels == "rgb" else np.concatenate([np.full((48, 64), 230, np.uint8), BEHIND[48:]])
    figure = np.zeros((48, 64, 3), np.uint8)
    figure[:, :32] = 200  # a grey that the matte takes for a person

    def shown(**values: float) -> np.ndarray:
        with Composite.open(matte, *SIZE, pixels=pixels, engine="onnxruntime", threads=1) as composite:
            for name, value in values.items():
                composite.set_control(f"matte.{name}", value)
            composite.feed_live(figure)
            for _ in range(8):
                frame = composite.over(behind).copy()
        return frame[:48, :, 0].astype(int) if pixels == "rgb" else frame[:48].astype(int)

    plain, wrapped, toned = shown(), shown(wrap=1.0), shown(tone=0.5)
    assert np.all(np.abs(wrapped - plain)[:, :10] <= 1), "deep inside nothing changes"
    assert np.all(wrapped[:, 30] > plain[:, 30] + 4)
    assert np.array_equal(wrapped[:, 40:], plain[:, 40:])
    assert np.all(toned[:, :20] > plain[:, :20] + 15)
    assert np.array_equal(toned[:, 40:], plain[:, 40:])


def test_the_lit_stage_continues_where_the_other_one_stands(composite: Composite) -> None:
    composite.feed_live(half_white())
    before = settled(composite)
    composite.set_control("matte.wrap", 1e-6)
    composite.feed_live(half_white())
    assert np.abs(composite.over(BEHIND).astype(int) - before).max() <= 1
    assert composite._is_lit
    composite.set_control("matte.wrap", 0.0)
    composite.feed_live(half_white())
    assert np.array_equal(composite.over(BEHIND), before)
    assert not composite._is_lit


def test_a_person_is_shown_only_with_its_own_matte(composite: Composite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the matte of a new live frame fails, that frame is not shown, not even through the old matte."""
    composite.feed_live(np.zeros((48, 64, 3), np.uint8))
    settled(composite)
    written: list[str] = []
    monkeypatch.setattr(composite._stages[False], "write", lambda name, value: written.append(name))

    def fail() -> None:
        raise EngineError("the graphics card is gone")

    monkeypatch.setattr(composite._matte._step, "run", fail)
    composite.feed_live(half_white())
    with pytest.raises(EngineError):
        composite.over(BEHIND)
    assert written == []
