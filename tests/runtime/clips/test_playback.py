"""Clips in a real generator: frames, seeds, cross-fades with pictures, controls, skipping."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest

from runtime import EngineError, Generator
from runtime.clips import step_flows
from runtime.clips.clip_frames import read_clip
from runtime.clips.endless import ClipReader, EndlessClip, describe_by_colour, head_of, make_endless
from runtime.clips.playhead import Moment
from tests import moving, tiny
from tests.runtime.clips.clip_of_waves import waves, write
from tests.runtime.clips.test_alignment import texture
from tests.streaming.doubles import WAIT_S

SIZE = (128, 72)
FRAMES = waves(90)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return moving.build(tmp_path_factory.mktemp("moving") / "moving")


@pytest.fixture
def generator(bundle: Path) -> Generator:
    with Generator.open(bundle, engine="onnxruntime", size=SIZE, seed=3) as opened:
        yield opened


def numbers(frames: list[np.ndarray]) -> list[int]:
    """Return which frame of the clip each frame is, -1 for none."""
    return [next((n for n, own in enumerate(FRAMES[:30]) if np.array_equal(own, frame)), -1) for frame in frames]


def take(generator: Generator, count: int) -> list[np.ndarray]:
    return [frame.copy() for frame in islice(generator, count)]


def test_a_clip_plays_its_own_frames_for_ever(generator: Generator, tmp_path: Path) -> None:
    generator.condition(clip=write(tmp_path / "a.mkv", FRAMES))
    clip = generator.scene.clip if generator.scene is not None else None
    assert clip is not None
    assert clip.is_seamless
    assert "places to jump unseen" in clip.summary
    frames = take(generator, 400)
    assert numbers(frames[:20]) == list(range(20))
    own = [number for number in numbers(frames) if number >= 0]
    assert len(own) > 300, "most frames are the clip's own"
    changes = [np.abs(one.astype(int) - two).mean() for one, two in pairwise(frames)]
    ordinary = max(np.abs(one.astype(int) - two).mean() for one, two in pairwise(FRAMES))
    assert max(changes) <= 1.3 * ordinary, "no jump is seen"


def test_the_same_seed_plays_the_same_frames(bundle: Path) -> None:
    runs, clip = [], waves(120, period=31.7)
    for seed in (3, 3, 4):
        with Generator.open(bundle, engine="onnxruntime", size=SIZE, seed=seed) as generator:
            generator.condition(clip=clip)
            runs.append(np.stack(take(generator, 300)))
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_reset_and_skip(generator: Generator) -> None:
    generator.condition(clip=FRAMES)
    first = take(generator, 150)
    generator.reset()
    assert all(np.array_equal(one, two) for one, two in zip(first, take(generator, 150), strict=True))
    generator.reset()
    generator.skip(100)
    assert all(np.array_equal(one, two) for one, two in zip(first[100:], take(generator, 50), strict=True))


def test_a_clip_and_a_picture_dissolve(generator: Generator) -> None:
    picture = moving.picture_of(*SIZE)
    generator.condition(image=picture)
    assert np.array_equal(next(generator), picture)
    generator.take(generator.prepare(clip=FRAMES), dissolve_s=4 / 30)
    shares = [0.25, 0.5, 0.75]
    for number, (share, frame) in enumerate(zip(shares, take(generator, 3), strict=True)):
        wanted = (1 - share) * picture.astype(float) + share * FRAMES[number]
        assert np.abs(frame - wanted).max() <= 1
    assert numbers(take(generator, 5)) == [3, 4, 5, 6, 7]
    generator.take(generator.prepare(image=picture), dissolve_s=4 / 30)
    frame = next(generator)
    assert np.abs(frame - (0.75 * FRAMES[8].astype(float) + 0.25 * picture)).max() <= 1
    take(generator, 3)
    assert np.array_equal(next(generator), picture)


def test_two_clips_dissolve(generator: Generator) -> None:
    other = 255 - FRAMES
    generator.condition(clip=FRAMES)
    take(generator, 2)
    generator.take(generator.prepare(clip=other), dissolve_s=2 / 30)
    assert np.abs(next(generator) - 0.5 * (FRAMES[2].astype(float) + other[0])).max() <= 1
    assert np.array_equal(next(generator), other[1])


def test_a_control_is_the_speed(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.frame_inputs.SPEED", "share")  # as the test bundle has no control "motion"
    generator.condition(clip=FRAMES)
    generator.set_control("share", 1)
    assert numbers(take(generator, 4)) == [0, 1, 2, 3]
    generator.set_control("share", 0)
    assert numbers(take(generator, 3)) == [3, 3, 3]


def test_slow_motion_shows_what_lies_between(tmp_path: Path) -> None:
    sharp = [np.repeat(np.roll(texture(3), 6 * time, axis=1)[..., None], 3, axis=2) for time in range(16)]
    reader = ClipReader((224, 128), (224, 128), 30.0, "rgb", describe_by_colour)
    clip = reader.read(np.stack(sharp), "cover")
    shown = clip.shown(Moment(4.5))
    assert (shown.first, shown.second) == (4, 5)
    assert shown.moves is not None
    inside = (slice(4, -4), slice(8, -8))
    assert shown.moves[0, 0][inside].mean() == pytest.approx(3, abs=0.4), "the first frame by half of the way"
    assert shown.moves[0, 2][inside].mean() == pytest.approx(-3, abs=0.4)
    assert np.all(shown.moves[0, 4] == 0.5)
    assert clip.shown(Moment(5.0)).moves is None, "whole frames are shown as they are"
    assert clip.clip.small.size == 0, "what was compared is not kept"


def test_the_flow_is_found_in_the_background_or_when_it_is_needed(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is shown does not depend on which of them was first."""
    asked, aligned = [], step_flows.align
    monkeypatch.setattr(step_flows, "align", lambda *pair: (asked.append(1), aligned(*pair))[1])
    clip = make_endless(read_clip(FRAMES, SIZE, (64, 32), fps=30.0))
    assert not asked
    found = clip.shown(Moment(4.5)).moves
    assert len(asked) == 1
    clip.find_steps()
    assert len(asked) == len(FRAMES) - 1, "each once"
    assert np.array_equal(found, clip.shown(Moment(4.5)).moves)
    assert len(clip.steps) == len(clip.steps[:]) == len(FRAMES) - 1
    other = make_endless(read_clip(FRAMES, SIZE, (64, 32), fps=30.0))
    other.find_steps()
    assert np.array_equal(found, other.shown(Moment(4.5)).moves)
    asked.clear()
    with Generator.open(bundle, engine="onnxruntime", size=SIZE) as generator:
        generator.condition(clip=FRAMES)
        assert generator._conditioner is not None
        generator._conditioner._aligning.submit(lambda: None).result(WAIT_S)
        assert len(asked) == len(FRAMES) - 1, "in the background, as soon as the clip has been read"


def test_closing_gives_up_a_clip_that_is_being_prepared(bundle: Path) -> None:
    generator = Generator.open(bundle, engine="onnxruntime", size=SIZE, seed=3)
    next(generator)
    reader = generator._clip_reader
    assert reader is not None
    began, failed = threading.Event(), []

    def describe(small: np.ndarray) -> np.ndarray:
        began.set()
        generator_closes.wait(WAIT_S)
        return describe_by_colour(small)

    generator_closes = threading.Event()
    generator._clip_reader = reader._replace(describe=describe)

    def prepare() -> None:
        try:
            generator.prepare(clip=FRAMES)
        except ValueError as error:
            failed.append(str(error))

    thread = threading.Thread(target=prepare)
    thread.start()
    assert began.wait(WAIT_S)
    closing = threading.Thread(target=generator.close)
    closing.start()
    assert generator._conditioner is not None
    generator._conditioner._closing.result(WAIT_S)
    generator_closes.set()
    for one in (thread, closing):
        one.join(WAIT_S)
        assert not one.is_alive()
    assert failed == ["this generator is closed"]


def test_variety_is_a_control(generator: Generator) -> None:
    assert "variety" in {spec.name for spec in generator.control_specs}
    assert generator.controls["variety"] == 0.5
    generator.set_control("variety", 0)
    generator.condition(clip=FRAMES)
    frames = take(generator, 600)
    later = [np.array_equal(frames[300 + number], frames[300 + number + shift]) for shift in range(20, 90)
             for number in range(0, 90, 9)]  # fmt: skip
    by_shift = np.array(later).reshape(70, 10).all(axis=1)
    assert by_shift.any(), "one loop repeats"
    for value in (-0.1, 1.1):
        with pytest.raises(ValueError, match="variety must be from"):
            generator.check_control("variety", value)


def test_what_does_not_go_with_a_clip_is_refused(generator: Generator, tmp_path: Path) -> None:
    picture = moving.picture_of(*SIZE)
    with pytest.raises(ValueError, match="a clip plays on with its own frames, got image as well"):
        generator.condition(clip=FRAMES, image=picture)
    with pytest.raises(ValueError, match="there is no clip file"):
        generator.check(clip=tmp_path / "none.mp4")
    with pytest.raises(ValueError, match="at least 12"):
        generator.condition(clip=FRAMES[:5])


def test_other_bundles_take_a_clip_as_the_past(tmp_path: Path) -> None:
    folder = tiny.build(tmp_path / "tiny")
    with Generator.open(folder, engine="onnxruntime") as generator:
        assert "variety" not in generator.controls
        assert generator._clip_reader is None


def test_another_engine_goes_on_with_the_clip(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Generator.open(bundle, engine="openvino,onnxruntime", precision="fp32", size=SIZE, seed=3) as generator:
        generator.condition(clip=FRAMES)
        before = take(generator, 5)
        assert generator._clips is not None
        stage = generator._clips._stage
        assert stage is not None, "it was opened before it was needed"
        said: list[str] = []
        generator.on_fall_back = said.append

        def fail() -> None:
            raise EngineError("the stage failed")

        monkeypatch.setattr(stage, "run", fail)
        later = take(generator, 400)
        assert generator.engine == "onnxruntime"
        assert len(said) == 1
    assert numbers(before + later[:10]) == list(range(15)), "the clip goes on where it was"


def test_a_scene_that_is_a_clip_can_be_taken_again(bundle: Path) -> None:
    with Generator.open(bundle, engine="onnxruntime", size=SIZE, seed=3) as first:
        first.condition(clip=FRAMES)
        scene = first.scene
        take(first, 40)
        with Generator.open(bundle, engine="onnxruntime", size=SIZE, seed=3) as second:
            assert scene is not None
            second.take(scene, dissolve_s=0)
            assert numbers(take(second, 5)) == [0, 1, 2, 3, 4]
        with (
            Generator.open(bundle, engine="onnxruntime", size=(64, 36)) as other,
            pytest.raises(ValueError, match="another generator"),
        ):
            other.take(scene)


def test_a_clip_keeps_its_speed_at_another_rate_of_the_show(bundle: Path, tmp_path: Path) -> None:
    clip = write(tmp_path / "a.mkv", FRAMES, fps=15)
    for fps, expected in ((15.0, [0, 1, 2, 3]), (7.5, [0, 2, 4, 6])):
        with Generator.open(bundle, engine="onnxruntime", size=SIZE, fps=fps) as generator:
            generator.condition(clip=clip)
            assert numbers(take(generator, 4)) == expected


@pytest.mark.parametrize("variety", [0.0, 1.0])
def test_a_clip_begins_before_all_of_it_has_been_read(bundle: Path, variety: float) -> None:
    """It is played as if all of it had been known from the start, and waited for only where that matters."""
    clip, heads = waves(200, period=31.7), []
    reader = ClipReader(SIZE, (64, 32), 30.0, "rgb", describe_by_colour)
    whole = reader.read(clip, "cover", on_head=heads.append)
    assert whole.clip.head == len(heads[0].frames) == 60, "two seconds"
    assert np.array_equal(heads[0].frames, clip[:60])
    runs: list[list[np.ndarray]] = []
    for later in (False, True):
        coming: Future[EndlessClip] = Future()
        with Generator.open(bundle, engine="onnxruntime", size=SIZE, seed=3) as generator:
            generator.set_control("variety", variety)
            generator.condition(clip=head_of(heads[0], coming) if later else whole)
            frames = take(generator, 57)
            coming.set_result(whole)
            runs.append(frames + take(generator, 300))
    assert np.array_equal(runs[0][:60], clip[:60])
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0][60:200], clip[60:200]), "it jumps later on"


def test_a_clip_that_does_not_begin_well_has_no_head() -> None:
    reader = ClipReader(SIZE, (64, 32), 30.0, "rgb", describe_by_colour)
    short, still = waves(100), np.concatenate([np.repeat(waves(1), 61, axis=0), waves(100)])
    cut = np.concatenate([waves(30), 255 - waves(120)])
    for clip, frames in ((short, 100), (still, 161), (cut, 120)):
        found = reader.read(clip, "cover", on_head=lambda _: pytest.fail("there is no head"))
        assert (found.clip.head, len(found.clip.frames)) == (0, frames)
    late = np.concatenate([waves(70), 255 - waves(120)])
    found = reader.read(late, "cover")
    assert (found.clip.head, len(found.clip.frames)) == (60, 70), "it was being played already"
