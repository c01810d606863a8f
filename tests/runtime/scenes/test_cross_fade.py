"""Dissolves and renewals, frame by frame, on a generator of fake sessions."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime import EngineError, Generator, Manifest
from runtime.engines.engine import Array, Program
from runtime.noise import CODES, normals
from tests import tiny
from tests.fakes import FakeEngine, count_frames, fake_generator


@pytest.fixture
def manifest(renewing_bundle: Path) -> Manifest:
    """The manifest of a bundle that renews itself every 12 frames, over 4, with a correlation of 0.6."""
    return Manifest.parse(json.loads((renewing_bundle / "bundle.json").read_text()))


def mark_memories(program: Program, inputs: dict[str, Array], run: int) -> dict[str, Array]:
    """Compute a memory whose style slot holds the first values of its content code; frames are counted."""
    if "code" not in inputs:
        return count_frames(program, inputs, run)
    return {"style_slot": inputs["code"][0, :3].reshape(1, 3, 1, 1)}


def code_of(seed: int) -> Array:
    """Return what `mark_memories` writes for a seed."""
    return normals(seed, CODES, 0, tiny.CODE)[:3].reshape(1, 3, 1, 1)


def mixes(engine: FakeEngine) -> list[float]:
    """Return the mix of every frame."""
    return [float(value[0]) for _, value in engine.sessions[0].written("mix")]


def play(generator: Generator, frames: int) -> None:
    """Ask for some frames."""
    for _ in range(frames):
        next(generator)


def test_the_first_memory_is_a_cut_into_side_a(manifest: Manifest) -> None:
    generator, engine = fake_generator(manifest, mark_memories, renewal=False)
    generator.condition(seed=5)
    play(generator, 3)
    assert mixes(engine) == [0, 0, 0]
    ((run, written),) = engine.sessions[0].written("a_style_slot")
    assert run == 0
    assert np.array_equal(written, code_of(5))
    assert engine.sessions[0].written("b_style_slot") == []


def test_a_dissolve_ramps_to_b_and_the_next_one_back_to_a(manifest: Manifest) -> None:
    generator, engine = fake_generator(manifest, mark_memories, renewal=False)
    generator.condition(seed=1)
    play(generator, 2)
    generator.take(generator.prepare(seed=2), dissolve_s=4 / 30)
    play(generator, 6)
    generator.take(generator.prepare(seed=3), dissolve_s=2 / 30)
    play(generator, 3)
    assert mixes(engine) == [0, 0, 0.25, 0.5, 0.75, 1, 1, 1, 0.5, 0, 0]
    assert [run for run, _ in engine.sessions[0].written("b_style_slot")] == [2]
    assert [run for run, _ in engine.sessions[0].written("a_style_slot")] == [0, 8]
    assert np.array_equal(engine.sessions[0].written("a_style_slot")[1][1], code_of(3))


def test_no_dissolve_is_a_cut_at_the_next_frame(manifest: Manifest) -> None:
    generator, engine = fake_generator(manifest, mark_memories, renewal=False)
    play(generator, 1)
    generator.condition(seed=2)
    play(generator, 2)
    generator.condition(seed=3)
    play(generator, 1)
    assert mixes(engine) == [0, 1, 1, 0]


def test_of_the_memories_taken_during_a_dissolve_the_latest_waits_for_its_end(manifest: Manifest) -> None:
    generator, engine = fake_generator(manifest, mark_memories, renewal=False)
    play(generator, 1)
    generator.take(generator.prepare(seed=2), dissolve_s=4 / 30)
    play(generator, 2)
    generator.take(generator.prepare(seed=3), dissolve_s=0)
    generator.take(generator.prepare(seed=4), dissolve_s=2 / 30)
    play(generator, 5)
    assert mixes(engine) == [0, 0.25, 0.5, 0.75, 1, 0.5, 0, 0]
    assert [run for run, _ in engine.sessions[0].written("a_style_slot")] == [0, 5]
    assert np.array_equal(engine.sessions[0].written("a_style_slot")[1][1], code_of(4))


def test_a_seed_renews_itself_at_exactly_the_frames_of_the_contract(manifest: Manifest) -> None:
    generator, engine = fake_generator(manifest, mark_memories)
    generator.condition(seed=9)
    play(generator, 40)
    up, down = [0.25, 0.5, 0.75, 1], [0.75, 0.5, 0.25, 0]
    assert mixes(engine) == [0] * 12 + up + [1] * 8 + down + [0] * 8 + up
    generator.close()

    code = normals(9, CODES, 0, tiny.CODE).astype(np.float64)
    written = sorted(
        (run, tuple(value.ravel())) for side in "ab" for run, value in engine.sessions[0].written(f"{side}_style_slot")
    )
    for number, (run, value) in enumerate(written):
        if number > 0:
            code = 0.6 * code + 0.8 * normals(9, CODES, number, tiny.CODE)
        assert run == 12 * number
        assert value == tuple(code[:3].astype(np.float32))
    assert len(written) == 4


def test_renewals_count_from_the_frame_at_which_the_seed_was_taken(manifest: Manifest) -> None:
    generator, engine = fake_generator(manifest, mark_memories)
    play(generator, 7)
    generator.condition(seed=3)
    play(generator, 16)
    generator.close()
    assert mixes(engine) == [0] * 7 + [1] * 12 + [0.75, 0.5, 0.25, 0]


def test_a_picture_keeps_its_scene_and_ends_the_renewals(manifest: Manifest) -> None:
    generator, engine = fake_generator(manifest, mark_memories)
    play(generator, 3)
    generator.condition(image=np.zeros((48, 64, 3), np.uint8))
    play(generator, 40)
    generator.close()
    assert mixes(engine) == [0] * 3 + [1] * 40


def test_renewal_can_be_switched_off(manifest: Manifest) -> None:
    generator, engine = fake_generator(manifest, mark_memories, renewal=False)
    play(generator, 40)
    assert set(mixes(engine)) == {0}
    assert engine.sessions[1].num_runs == 1


def test_a_renewal_that_is_due_during_a_dissolve_waits_for_its_end(manifest: Manifest) -> None:
    generator, engine = fake_generator(manifest, mark_memories)
    play(generator, 1)
    generator.take(generator.prepare(seed=4), dissolve_s=16 / 30)
    play(generator, 20)
    generator.close()
    assert mixes(engine)[1:] == [*(n / 16 for n in range(1, 17)), 0.75, 0.5, 0.25, 0]


def test_a_renewal_that_is_not_ready_is_waited_for(manifest: Manifest) -> None:
    ready = threading.Event()
    waits: list[bool] = []

    def compute(program: Program, inputs: dict[str, Array], run: int) -> dict[str, Array]:
        if "code" in inputs and run > 0:
            waits.append(ready.wait(10))
        return mark_memories(program, inputs, run)

    generator, engine = fake_generator(manifest, compute)
    play(generator, 12)  # the show goes on while the next memory is being made
    assert engine.sessions[1].num_runs == 1
    threading.Timer(0.01, ready.set).start()
    play(generator, 4)
    generator.close()
    assert mixes(engine) == [0] * 12 + [0.25, 0.5, 0.75, 1]
    assert all(waits)


def test_an_error_of_the_background_surfaces_in_the_show(manifest: Manifest) -> None:
    def compute(program: Program, inputs: dict[str, Array], run: int) -> dict[str, Array]:
        if "code" in inputs and run > 0:
            raise EngineError("the device is gone")
        return mark_memories(program, inputs, run)

    generator, _ = fake_generator(manifest, compute)
    play(generator, 12)
    with pytest.raises(EngineError, match="the device is gone"):
        next(generator)
    generator.close()


def test_reset_plays_the_same_scene_again_from_its_first_memory(manifest: Manifest) -> None:
    generator, engine = fake_generator(manifest, mark_memories)
    generator.condition(seed=8)
    play(generator, 20)
    generator.reset()
    assert generator.frame_index == 0
    play(generator, 20)
    generator.close()
    assert mixes(engine)[20:] == mixes(engine)[:20]
    runs = [run for run, _ in engine.sessions[0].written("a_style_slot")]
    assert runs == [0, 20]
    assert np.array_equal(*(value for _, value in engine.sessions[0].written("a_style_slot")))
    assert np.array_equal(*(value for _, value in engine.sessions[0].written("b_style_slot")))


def test_reset_with_a_seed_plays_that_seeds_scene_and_noise(manifest: Manifest) -> None:
    generator, engine = fake_generator(manifest, mark_memories, renewal=False)
    generator.condition(seed=8)
    play(generator, 1)
    generator.reset(seed=6)
    play(generator, 1)
    assert np.array_equal(engine.sessions[0].written("a_style_slot")[1][1], code_of(6))
    assert np.array_equal(engine.sessions[0].written("noise")[1][1][0], normals(6, 0, 0, tiny.NOISE))


def test_a_memory_of_another_bundle_is_refused(manifest: Manifest, tmp_path: Path) -> None:
    other = tiny.build(tmp_path / "other", width=32, height=32)
    memory = fake_generator(Manifest.parse(json.loads((other / "bundle.json").read_text())))[0].prepare(seed=1)
    generator, _ = fake_generator(manifest)
    with pytest.raises(ValueError, match="made by another generator"):
        generator.take(memory)


@pytest.mark.parametrize("seconds", [-0.1, float("nan"), float("inf"), 4000.0])
def test_a_dissolve_of_no_length_that_there_is_is_refused(manifest: Manifest, seconds: float) -> None:
    generator, engine = fake_generator(manifest)
    with pytest.raises(ValueError, match="a cross-fade must last"):
        generator.condition(seed=1, dissolve_s=seconds)
    assert engine.sessions[1].num_runs == 0


def test_memories_are_read_only(manifest: Manifest) -> None:
    generator, _ = fake_generator(manifest)
    memory: Any = generator.prepare(seed=1)
    with pytest.raises(ValueError, match="read-only"):
        memory.tensors["style_slot"][:] = 0
