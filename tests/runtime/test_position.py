"""Going on elsewhere: the frames that follow a position are the same in another generator of the same bundle."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from runtime import Generator
from runtime.bundle.reader import write_manifest
from runtime.chain import Chain, FrameSource
from runtime.clips.playhead import Playhead
from runtime.position import Position
from tests import flowing, moving, tiny
from tests.runtime import prompted, trailing
from tests.runtime.clips.clip_of_waves import waves
from tests.runtime.compositing.test_composite import build_matte
from tests.runtime.conftest import RENEWAL

ENGINES = ("onnxruntime", "openvino")
FRAMES = waves(120, period=31.7)
Prepare = Callable[[FrameSource], object]


@pytest.fixture(scope="session")
def moving_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of schema 2 that sharpens pictures, makes them up, plays clips, and renews scenes every 12 frames."""
    folder = moving.build(tmp_path_factory.mktemp("bundles") / "moving", renewal=RENEWAL)
    value = json.loads((folder / "bundle.json").read_text())
    write_manifest(folder, value | {"frame": value["frame"] | {"sharpness": 2.0}})
    return folder


def open_bundle(bundle: Path, engine: str = "onnxruntime") -> Generator:
    return Generator.open(bundle, engine=engine, precision="fp32", seed=3)


def take(generator: FrameSource, count: int) -> list[np.ndarray]:
    return [frame.copy() for frame in islice(generator, count)]


def are_same(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return all(np.array_equal(one, two) for one, two in zip(first, second, strict=True))


def check_goes_on(make: Callable[[], FrameSource], prepare: Prepare, before: int, count: int = 40) -> Position:
    """Compare the frames after `before` ones with those of another generator that goes on there."""
    with make() as first, make() as second:
        prepare(first)
        take(first, before)
        position = first.position()
        prepare(second)
        second.go_to(position)
        assert second.frame_index == position.frame_index == before
        expected = take(first, count)
        assert are_same(expected, take(second, count))
        assert not are_same(expected[:-1], expected[1:]), "nothing moves, so nothing was compared"
    return position


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("before", [0, 1, 30])
def test_frames_follow_a_position(bundle: Path, engine: str, before: int) -> None:
    def prepare(generator: FrameSource) -> None:
        generator.condition(seed=6)
        generator.set_control("sway", 3)

    position = check_goes_on(lambda: open_bundle(bundle, engine), prepare, before)
    assert position.states.keys() == {"wave", "clock"}
    assert position.states["clock"][0, 0] == before


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("before", [1, 5, 20])
def test_frames_of_schema_2_follow_a_position(moving_bundle: Path, engine: str, before: int) -> None:
    """A picture becomes its sharpened copy over its first 8 frames, and does so only once."""
    fine = moving.picture_of(128, 72)
    fine[::2, ::2] = 255 - fine[::2, ::2]

    def prepare(generator: Generator) -> list[np.ndarray]:
        generator.condition(image=fine)
        generator.set_control("x_a", 1.5)
        generator.set_control("share", 1)
        return take(generator, before)

    with open_bundle(moving_bundle, engine) as first, open_bundle(moving_bundle, engine) as second:
        begin = prepare(first)
        position = first.position()
        assert position.picture_age == min(before, 8)
        prepare(second)
        second.go_to(position)
        later = take(first, 10)
        assert are_same(later, take(second, 10))
        assert not np.array_equal(begin[0], later[-1]), "nothing is sharpened"


# Renewals cross-fade in the frames 12 to 15, 24 to 27 ...; side b plays after the first, the third ...
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("before", [11, 12, 16, 24, 33, 43, 60])
def test_a_scene_goes_on_to_renew_itself(prompted_bundle: Path, engine: str, before: int) -> None:
    position = check_goes_on(lambda: open_bundle(prompted_bundle, engine), lambda it: it.condition(seed=6), before)
    assert position.renewal_age == before - 1
    assert position.side == "ab"[(before - 1) // 12 % 2]


def test_pictures_that_are_made_up_go_on_to_renew_themselves(moving_bundle: Path) -> None:
    check_goes_on(lambda: open_bundle(moving_bundle), lambda it: it.condition(seed=6), 32)


def test_a_text_is_kept_and_the_control_of_the_renewal_counts(prompted_bundle: Path) -> None:
    def prepare(generator: FrameSource) -> None:
        generator.condition(text="storm", seed=6)
        generator.set_control("drift", 1.5)

    position = check_goes_on(lambda: open_bundle(prompted_bundle), prepare, 31)
    assert position.renewal_age == 45


def test_a_scene_that_does_not_renew_itself_has_no_age(prompted_bundle: Path) -> None:
    picture = np.full((prompted.HEIGHT, prompted.WIDTH, 3), 90, np.uint8)
    position = check_goes_on(lambda: open_bundle(prompted_bundle), lambda it: it.condition(image=picture), 20)
    assert position.renewal_age == 0


def test_what_fades_in_is_there_at_once(prompted_bundle: Path) -> None:
    pictures = [np.full((prompted.HEIGHT, prompted.WIDTH, 3), level, np.uint8) for level in (40, 200)]
    with open_bundle(prompted_bundle) as first, open_bundle(prompted_bundle) as second:
        first.condition(image=pictures[0])
        take(first, 5)
        first.condition(image=pictures[1], dissolve_s=10 / 30)
        take(first, 3)
        position = first.position()
        assert position.side == "b"
        second.condition(image=pictures[1])
        second.go_to(position)
        assert next(first).mean() < 130 < 190 < next(second).mean()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("fades", [0, 1])
def test_a_clip_goes_on_from_its_place(moving_bundle: Path, engine: str, fades: int) -> None:
    """Also where it was faded to: the draws of the jumps depend on the side that plays."""
    with open_bundle(moving_bundle, engine) as first, open_bundle(moving_bundle, engine) as second:
        clip = first.prepare(clip=FRAMES)
        if fades:
            first.condition(image=moving.picture_of(128, 72))
            take(first, 5)
        first.take(clip, dissolve_s=fades * 4 / 30)
        take(first, 200)
        position = first.position()
        assert position.clip is not None
        second.take(clip, dissolve_s=0)
        second.go_to(position)
        expected = take(first, 200)
        assert are_same(expected, take(second, 200))
    with open_bundle(moving_bundle, engine) as anew:
        anew.take(clip, dissolve_s=0)
        assert not are_same(expected, take(anew, 200)), "the place makes no difference"


@pytest.mark.parametrize("number", [1, 5, 30])
def test_frames_are_skipped_after_a_position(prompted_bundle: Path, number: int) -> None:
    with open_bundle(prompted_bundle) as first, open_bundle(prompted_bundle) as second:
        for generator in (first, second):
            generator.condition(seed=6)
        take(first, 17)
        second.go_to(first.position())
        second.skip(number)
        take(first, number)
        assert are_same(take(first, 30), take(second, 30))


def test_a_generator_that_has_made_frames_goes_on_as_well(prompted_bundle: Path) -> None:
    with open_bundle(prompted_bundle) as first, open_bundle(prompted_bundle) as second:
        for generator in (first, second):
            generator.condition(seed=6)
        take(first, 40)
        take(second, 9)
        second.go_to(first.position())
        assert are_same(take(first, 30), take(second, 30))


def test_the_scene_of_the_position_s_seed_is_made_where_there_is_none(prompted_bundle: Path) -> None:
    with open_bundle(prompted_bundle) as first, Generator.open(prompted_bundle, engine="onnxruntime", seed=4) as second:
        take(first, 20)
        second.go_to(first.position())
        assert are_same(take(first, 20), take(second, 20))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_chain_goes_on(prompted_bundle: Path, tmp_path: Path, engine: str) -> None:
    matte = build_matte(tmp_path / "matte")

    def make() -> Chain:
        return Chain.open([prompted_bundle, matte], engine=engine, precision="fp32", seed=3)

    check_goes_on(make, lambda it: it.condition(seed=6), 17, 30)


def test_later_links_of_a_chain_begin_anew(prompted_bundle: Path, tmp_path: Path) -> None:
    trail = trailing.build(tmp_path / "trailing")
    how = {"engine": "onnxruntime", "precision": "fp32", "seed": 3}
    with (
        Chain.open([prompted_bundle, trail], **how) as chain,
        open_bundle(prompted_bundle) as first,
        Generator.open(trail, engine="onnxruntime", precision="fp32", seed=3) as second,
    ):
        for generator in (chain, first):
            generator.condition(seed=6)
        take(first, 17)
        chain.go_to(first.position())
        assert [link.frame_index for link in chain.links] == [17, 17]
        for frame in take(chain, 20):
            second.feed_live(next(first))
            assert np.array_equal(frame, next(second))


def test_a_position_belongs_to_its_owner(bundle: Path) -> None:
    with open_bundle(bundle) as generator:
        take(generator, 3)
        position = generator.position()
        before = position.states["wave"].copy()
        take(generator, 3)
        assert np.array_equal(position.states["wave"], before)
        generator.go_to(position)
        take(generator, 3)
        assert np.array_equal(position.states["wave"], before)


def test_a_position_of_another_bundle_is_refused(bundle: Path, prompted_bundle: Path, tmp_path: Path) -> None:
    larger = tiny.build(tmp_path / "larger", width=96)
    with open_bundle(bundle) as generator, open_bundle(prompted_bundle) as other:
        take(generator, 4)
        with pytest.raises(ValueError, match=r"^the position has the states level; expected clock, wave: it is of ano"):
            generator.go_to(other.position())
        position = generator.position()
        wave = position.states["wave"]
        for wrong in (np.zeros((1, 2, 3), np.float32), wave.astype(np.float64)):
            with pytest.raises(ValueError, match=rf"^the state wave .* is {wrong.dtype} \(1, 2, .\), expected float32"):
                generator.go_to(replace(position, states={**position.states, "wave": wrong}))
        with pytest.raises(ValueError, match="the position has the states none"):
            generator.go_to(replace(position, states={}))
        with pytest.raises(ValueError, match="seed"):
            generator.go_to(replace(position, seed=-1))
        assert (generator.frame_index, next(generator)[0, 0, 0]) == (4, 4), "it goes on as it was"
    with open_bundle(larger) as generator, open_bundle(bundle) as other:
        generator.go_to(other.position())  # which has the same states


def test_a_place_in_a_clip_has_all_values(moving_bundle: Path) -> None:
    assert "_position" in Playhead((), 30.0).place
    with open_bundle(moving_bundle) as generator:
        generator.condition(clip=FRAMES)
        take(generator, 3)
        position = generator.position()
        with pytest.raises(ValueError, match=r"^a place in a clip has _head, .*; got _position$"):
            generator.go_to(replace(position, clip={"_position": 3.0}))


def test_a_closed_generator_is_nowhere(bundle: Path) -> None:
    generator = open_bundle(bundle)
    position = generator.position()
    generator.close()
    for act in (generator.position, lambda: generator.go_to(position)):
        with pytest.raises(ValueError, match=r"^this generator is closed$"):
            act()


def test_what_was_drawn_goes_on(tmp_path: Path) -> None:
    folder = flowing.build(tmp_path / "flowing", reads_hints=True)
    picture = moving.picture_of(flowing.WIDTH, flowing.HEIGHT)
    hints = {"vectors": [[0.5, 0.5, 0.1, 0.0]]}
    check_goes_on(lambda: open_bundle(folder), lambda it: it.condition(image=picture, hints=hints), 15, 12)
