"""Skipping frames: later frames are the same, and no skipped frame is made."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime import EngineError, Generator, Manifest
from runtime.bundle.reader import Bundle, open_bundle
from runtime.engines.engine import Array, Program
from runtime.engines.opening import open_without_frames
from runtime.engines.table import open_engine
from tests import tiny
from tests.fakes import count_frames, fake_generator

ENGINES = ("onnxruntime", "openvino")


def open_show(bundle: Path, engine: str, **options: Any) -> Generator:
    """Open a generator with a scene that renews itself."""
    generator = Generator.open(bundle, engine=engine, precision="fp32", seed=3, **options)
    generator.condition(seed=6)
    return generator


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("number", [0, 1, 13, 50])
def test_frames_after_skipping_are_the_same(prompted_bundle: Path, engine: str, number: int) -> None:
    with open_show(prompted_bundle, engine) as shown, open_show(prompted_bundle, engine) as skipped:
        for generator in (shown, skipped):
            next(generator)
            generator.set_control("gain", 1.5)
        for _ in range(number):
            next(shown)
        skipped.skip(number)
        assert skipped.frame_index == shown.frame_index == number + 1
        for _ in range(20):
            assert np.array_equal(next(skipped), next(shown))


@pytest.mark.parametrize("engine", ENGINES)
def test_shown_and_skipped_frames_may_take_turns(prompted_bundle: Path, engine: str) -> None:
    with open_show(prompted_bundle, engine) as shown, open_show(prompted_bundle, engine) as skipped:
        frames = [frame.copy() for frame in itertools.islice(shown, 60)]
        skipped.skip(2)  # from the very first frame on
        for index in range(2, 60, 5):
            assert np.array_equal(next(skipped), frames[index])
            skipped.skip(4)


def test_a_switch_while_skipping_is_the_same_switch(prompted_bundle: Path) -> None:
    with open_show(prompted_bundle, ENGINES[0]) as shown, open_show(prompted_bundle, ENGINES[0]) as skipped:
        for generator in (shown, skipped):
            next(generator)
            generator.take(generator.prepare(text="storm"), dissolve_s=10 / 30)
            generator.set_control("drift", 2)
        frames = [frame.copy() for frame in itertools.islice(shown, 40)]
        for index in (4, 11, 20, 39):  # in the dissolve, after it, and among renewals
            skipped.skip(index + 1 - skipped.frame_index)
            assert np.array_equal(next(skipped), frames[index])


def test_the_state_depends_on_everything_that_is_skipped(prompted_bundle: Path) -> None:
    levels = set()
    for gain, seed, frames in ((1, 6, 30), (2, 6, 30), (1, 7, 30), (1, 6, 5)):
        with Generator.open(prompted_bundle, engine="onnxruntime", seed=3) as generator:
            generator.set_control("gain", gain)
            generator.condition(seed=seed)
            generator.skip(frames)
            generator.condition(image=np.full((16, 32, 3), 60, np.uint8))
            levels.add(next(generator).tobytes())
    assert len(levels) == 4


def test_frames_are_not_made(renewing_bundle: Path) -> None:
    manifest = Manifest.parse(json.loads((renewing_bundle / "bundle.json").read_text()))
    generator, engine = fake_generator(manifest)
    generator.skip(5)
    generator.skip(5)
    shown, _, frameless = engine.sessions  # it is opened once
    assert (shown.num_runs, frameless.num_runs) == (0, 10)
    next(generator)
    assert (shown.num_runs, frameless.num_runs) == (1, 10)
    generator.close()
    assert frameless.is_closed


def test_no_second_session_is_opened_before_it_is_needed(renewing_bundle: Path) -> None:
    manifest = Manifest.parse(json.loads((renewing_bundle / "bundle.json").read_text()))
    generator, engine = fake_generator(manifest)
    next(generator)
    generator.close()
    assert len(engine.sessions) == 2


def test_an_engine_that_fails_while_skipping_leaves_the_state_of_the_last_frame(renewing_bundle: Path) -> None:
    def compute(program: Program, inputs: dict[str, Array], run: int) -> dict[str, Array]:
        is_frameless = "clock" in inputs and all(item.role == "state" for item in program.outputs)
        if is_frameless and inputs["clock"][0, 0] == 3:
            raise EngineError("the device is gone")
        counted = {"clock_next": inputs["clock"] + 1} if "clock" in inputs else {}
        return count_frames(program, inputs, run) | counted

    manifest = Manifest.parse(json.loads((renewing_bundle / "bundle.json").read_text()))
    generator, engine = fake_generator(manifest, compute, renewal=False)
    next(generator)
    with pytest.raises(EngineError, match="the device is gone"):
        generator.skip(10)
    assert generator.frame_index == 3
    next(generator)
    assert engine.sessions[0].read("clock_next")[0, 0] == 4


def test_a_graph_without_states_has_nothing_to_run(live_bundle: Path, tmp_path: Path) -> None:
    opened = open_bundle(live_bundle)
    value = opened.manifest.to_json()
    step = value["graphs"]["step"]
    for side in ("inputs", "outputs"):
        step[side] = [item for item in step[side] if item["role"] != "state"]
    manifest = Manifest.parse(value)
    bundle = Bundle(opened.path, manifest, opened.step, None)
    engine = open_engine("onnxruntime")
    session = open_without_frames(bundle, engine, "fp32", threads=1, cache_dir=tmp_path)
    generator, fakes = fake_generator(manifest, open_without_frames=lambda: session)
    generator.skip(1000)
    generator.set_control("sway", 2)
    assert next(generator)[0, 0, 0] == 0  # its first frame
    assert generator.frame_index == 1001
    assert fakes.sessions[0].written("control")[-1][1][0, 0] == 2
    assert fakes.sessions[0].written("noise")[-1][1].shape == (1, tiny.NOISE)


@pytest.mark.parametrize("frames", [-1, 1.5, True, "7", None])
def test_an_invalid_number_of_frames_is_refused(bundle: Path, frames: Any) -> None:
    with (
        Generator.open(bundle, engine="onnxruntime") as generator,
        pytest.raises(ValueError, match=f"frames to skip must be a whole number of at least 0, got {frames!r}"),
    ):
        generator.skip(frames)


def test_a_closed_generator_skips_nothing(bundle: Path) -> None:
    generator = Generator.open(bundle, engine="onnxruntime")
    generator.close()
    with pytest.raises(ValueError, match="closed"):
        generator.skip(1)
