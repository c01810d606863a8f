"""Controls that act on scenes: how fast they renew themselves, and which seed makes them."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from runtime import EngineError, Generator, Manifest
from runtime.engines.engine import Array, Program
from runtime.noise import CODES, normals
from runtime.prompts.text_encoder import open_text_encoder
from tests.fakes import Compute, FakeEngine, count_frames, fake_generator
from tests.runtime import prompted

WAIT_S = 30.0


@pytest.fixture
def manifest(prompted_bundle: Path) -> Manifest:
    """The manifest of a bundle that renews itself every 12 frames, over 4, and has every kind of control."""
    return Manifest.parse(json.loads((prompted_bundle / "bundle.json").read_text()))


@pytest.fixture
def stage(prompted_bundle: Path, manifest: Manifest) -> Iterator[tuple[Generator, FakeEngine]]:
    """A generator of fake sessions whose memories hold their content codes, and its engine."""
    generator, engine = fake_generator(
        manifest, mark, open_text_encoder=lambda: open_text_encoder(prompted_bundle, manifest)
    )
    with generator:
        yield generator, engine


def mark(program: Program, inputs: dict[str, Array], run: int) -> dict[str, Array]:
    """Compute a memory that holds the first value of its content code everywhere; frames are counted."""
    if "code" not in inputs:
        return count_frames(program, inputs, run)
    return {"scene": np.full((1, 3, prompted.HEIGHT, prompted.WIDTH), inputs["code"][0, 0], np.float32)}


def code_of(seed: int) -> float:
    """Return what `mark` writes for a seed."""
    return float(normals(seed, CODES, 0, prompted.CODE)[0])


def play(generator: Generator, frames: int) -> None:
    """Ask for some frames."""
    for _ in range(frames):
        next(generator)


def mixes(engine: FakeEngine) -> list[float]:
    """Return the mix of every frame."""
    return [float(value[0]) for _, value in engine.sessions[0].written("mix")]


def switches(engine: FakeEngine) -> list[int]:
    """Return the frames before which a memory was written."""
    return sorted(run for side in "ab" for run, _ in engine.sessions[0].written(f"{side}_scene"))


def shown(engine: FakeEngine) -> float:
    """Return the mark of the memory that was written last."""
    writes = [item for side in "ab" for item in engine.sessions[0].written(f"{side}_scene")]
    return float(max(writes, key=lambda item: item[0])[1][0, 0, 0, 0])


def settle(generator: Generator) -> None:
    """Wait until everything that was asked of the background before is done: jobs are done one after another."""
    assert generator._conditioner is not None
    generator._conditioner._background.submit(lambda: None).result(WAIT_S)


@pytest.mark.parametrize(
    ("rate", "expected"),
    [(0, [0]), (1, [0, 12, 24, 36]), (2, [0, 6, 12, 18, 24, 30, 36]), (0.5, [0, 24]), (0.75, [0, 16, 32])],
)
def test_the_rate_of_renewal_is_steered(stage: tuple[Generator, FakeEngine], rate: float, expected: list[int]) -> None:
    generator, engine = stage
    generator.set_control("drift", rate)
    play(generator, 40)
    assert switches(engine) == expected


def test_a_rate_counts_from_the_next_frame_on(stage: tuple[Generator, FakeEngine]) -> None:
    generator, engine = stage
    play(generator, 7)  # the scene is 6 frames old
    generator.set_control("drift", 0)
    play(generator, 20)
    generator.set_control("drift", 3)
    play(generator, 6)
    assert switches(engine) == [0, 28, 32]  # it is 9 frames old at 27, 12 at 28, 24 at 32


def test_a_rate_that_is_too_high_piles_nothing_up(stage: tuple[Generator, FakeEngine]) -> None:
    generator, engine = stage
    generator.set_control("drift", 4)  # every 3 frames, but a dissolve takes 4
    play(generator, 40)
    assert switches(engine) == [0, 3, *range(7, 40, 4)]
    generator.set_control("drift", 1)
    play(generator, 40)
    late = [run for run in switches(engine) if run >= 40]
    assert len(late) <= 5  # one that waited, and then one every 12 frames
    assert all(later - earlier == 12 for earlier, later in itertools.pairwise(late[1:]))


def test_the_renewal_is_no_value_of_the_step_graph(stage: tuple[Generator, FakeEngine]) -> None:
    generator, engine = stage
    generator.set_control("drift", 3)
    generator.set_control("gain", 0.5)
    play(generator, 1)
    assert [value.tolist() for _, value in engine.sessions[0].written("gain")] == [[[0.5]]]
    assert generator.controls == {"gain": 0.5, "drift": 3, "seed": 0}


def test_a_seed_dissolves_in_over_a_second_and_renews_itself(stage: tuple[Generator, FakeEngine]) -> None:
    generator, engine = stage
    generator.set_control("drift", 0)
    play(generator, 3)
    generator.set_control("seed", 7)
    assert generator.controls["seed"] == 7
    settle(generator)
    play(generator, 32)
    assert mixes(engine) == [0] * 3 + [float(np.float32(number / 30)) for number in range(1, 31)] + [1, 1]
    assert shown(engine) == pytest.approx(code_of(7))
    generator.set_control("drift", 1)
    play(generator, 20)
    assert len(switches(engine)) == 3


def test_a_seed_keeps_the_text_that_plays(stage: tuple[Generator, FakeEngine]) -> None:
    generator, engine = stage
    generator.condition(text="the storm")
    play(generator, 1)
    generator.set_control("seed", 7)
    settle(generator)
    play(generator, 1)
    words = [value for _, value in engine.sessions[1].written("words")]
    assert np.array_equal(words[0], words[-1])
    assert words[0].any()
    assert generator.text == "the storm"
    generator.condition(image=np.zeros((16, 32, 3), np.uint8))
    generator.set_control("seed", 8)  # the picture that waits has no text
    settle(generator)
    assert not engine.sessions[1].written("words")[-1][1].any()


def test_a_seed_before_the_first_frame_is_the_first_scene(stage: tuple[Generator, FakeEngine]) -> None:
    generator, engine = stage
    generator.condition(text="the storm")
    generator.set_control("seed", 7)
    play(generator, 2)
    assert mixes(engine) == [0, 0]
    assert switches(engine) == [0]
    assert shown(engine) == pytest.approx(code_of(7))
    assert generator.text == "the storm"


def held(release: threading.Event, begun: threading.Event) -> Compute:
    """Return a `mark` whose memory of the seed 1 waits for `release`."""

    def compute(program: Program, inputs: dict[str, Array], run: int) -> dict[str, Array]:
        if "code" in inputs and inputs["code"][0, 0] == np.float32(code_of(1)):
            begun.set()
            assert release.wait(WAIT_S)
        return mark(program, inputs, run)

    return compute


def test_the_show_goes_on_while_a_seed_is_prepared_and_only_the_last_one_is_made(manifest: Manifest) -> None:
    release, begun = threading.Event(), threading.Event()
    generator, engine = fake_generator(manifest, held(release, begun), renewal=False)
    play(generator, 1)
    generator.set_control("seed", 1)
    assert begun.wait(WAIT_S)
    for seed in (2, 3, 4, 5):
        generator.set_control("seed", seed)
    play(generator, 10)
    assert set(mixes(engine)) == {0}
    release.set()
    settle(generator)
    play(generator, 1)
    generator.close()
    assert shown(engine) == pytest.approx(code_of(5))
    assert engine.sessions[1].num_runs == 3  # the first scene, the seed that had begun, and the last one


def test_a_scene_taken_meanwhile_replaces_the_seed(manifest: Manifest) -> None:
    release, begun = threading.Event(), threading.Event()
    generator, engine = fake_generator(manifest, held(release, begun), renewal=False)
    memory = generator.prepare(seed=9)
    play(generator, 1)
    generator.set_control("seed", 1)
    generator.take(memory, dissolve_s=0)
    release.set()
    settle(generator)
    play(generator, 5)
    generator.close()
    assert shown(engine) == pytest.approx(code_of(9))
    assert switches(engine) == [0, 1]


def test_a_seed_that_fails_surfaces_in_the_show_once(manifest: Manifest) -> None:
    def compute(program: Program, inputs: dict[str, Array], run: int) -> dict[str, Array]:
        if "code" in inputs and inputs["code"][0, 0] == normals(3, CODES, 0, prompted.CODE)[0]:
            raise EngineError("the device is gone")
        return mark(program, inputs, run)

    generator, engine = fake_generator(manifest, compute, renewal=False)
    play(generator, 1)
    generator.set_control("seed", 3)
    settle(generator)
    with pytest.raises(EngineError, match="the device is gone"):
        next(generator)
    play(generator, 3)
    generator.close()
    assert switches(engine) == [0]


def test_a_reset_keeps_a_seed_that_is_coming_and_a_new_seed_drops_it(manifest: Manifest) -> None:
    for seed, expected in ((None, 7), (4, 4)):
        generator, engine = fake_generator(manifest, mark, renewal=False)
        play(generator, 1)
        generator.set_control("seed", 7)
        generator.reset(seed=seed)
        play(generator, 1)
        generator.close()
        assert shown(engine) == pytest.approx(code_of(expected))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("seed", 1.5, "seed is a seed and must be a whole number, got 1.5"),
        ("seed", 10000, "seed must be from 0 to 9999, got 10000"),
        ("seed", float("nan"), "seed must be from 0 to 9999, got nan"),
        ("drift", -0.1, "drift must be from 0 to 4, got -0.1"),
        ("drfit", 1, r'there is no control "drfit" \(did you mean "drift"\?\)'),
    ],
)
def test_a_bad_value_is_refused_and_changes_nothing(
    stage: tuple[Generator, FakeEngine], name: str, value: float, message: str
) -> None:
    generator, engine = stage
    for call in (generator.set_control, generator.check_control):
        with pytest.raises(ValueError, match=message):
            call(name, value)
    assert generator.controls == {"gain": 1, "drift": 1, "seed": 0}
    assert engine.sessions[1].num_runs == 0


def test_checking_a_control_sets_nothing(stage: tuple[Generator, FakeEngine]) -> None:
    generator, engine = stage
    generator.check_control("seed", 5)
    generator.check_control("gain", 2)
    assert generator.controls == {"gain": 1, "drift": 1, "seed": 0}
    assert engine.sessions[1].num_runs == 0


def test_a_closed_generator_takes_no_seed(manifest: Manifest) -> None:
    generator, _ = fake_generator(manifest)
    generator.close()
    with pytest.raises(ValueError, match="closed"):
        generator.set_control("seed", 1)
