"""Whole shows that go on on another machine: the second one shows what the first one would have shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from runtime import Generator
from runtime.prompts.hints import Hints, to_hints
from tests import flowing, moving
from tests.runtime.clips.clip_of_waves import waves, write
from tests.streaming.show.changing import build_scenes, colour_of
from tests.streaming.show.relay import BEGAN_S, check_same, run

RIGHT = {"vectors": [[0.3, 0.5, 0.05, 0.0]], "strokes": [{"kind": "moving", "radius": 0.5, "points": [[0.5, 0.5]]}]}


@pytest.mark.parametrize("mark", [("--no-mark",), ("--mark-payload", "0123456789ab")])
def test_the_second_machine_shows_the_frames_that_the_first_would_have(
    bundle: Path, mark: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [bundle, "--seed", "7", "--control", "sway=3", *mark]
    whole = run(monkeypatch, words, 80)
    position = whole.position_at(30)
    second = run(monkeypatch, words, 80, position=position, gap=11)
    assert list(second.frames) == list(range(position.generator.frame_index + 11, 81))
    check_same(second, whole, 30)


def test_a_third_machine_goes_on_with_the_second(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [bundle, "--seed", "7", "--no-mark"]
    whole = run(monkeypatch, words, 120)
    second = run(monkeypatch, words, 80, position=whole.position_at(20), gap=5)
    position = second.position_at(60)
    assert position.began_s == whole.kept[0].began_s == BEGAN_S
    check_same(run(monkeypatch, words, 120, position=position, gap=9), whole, 30)


@pytest.mark.parametrize("prompt", [("--seed", "6"), ("--text", "the storm", "--seed", "6")])
def test_renewals_go_on(prompted_bundle: Path, prompt: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    words = [prompted_bundle, *prompt, "--no-mark"]
    whole = run(monkeypatch, words, 100)
    between = [item for item in whole.kept if item.generator.renewal_age % 12 > 3 and item.generator.frame_index > 30]
    check_same(run(monkeypatch, words, 100, position=between[0], gap=17), whole, 30)


def test_after_a_long_gap_the_number_of_the_frame_is_right(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [bundle, "--seed", "7", "--no-mark"]
    position = run(monkeypatch, words, 30).position_at(20)
    slot = position.generator.frame_index + 3000
    later = run(monkeypatch, words, slot + 5, position=position, gap=3000)
    assert list(later.frames) == list(range(slot, slot + 6))
    with Generator.open(bundle, engine="onnxruntime", precision="fp32", pixels="i420", seed=7) as generator:
        generator.go_to(replace(position.generator, frame_index=slot))
        assert all(np.array_equal(frame, next(generator)) for frame in later.frames.values())


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with three plain scenes."""
    return build_scenes(tmp_path_factory.mktemp("scenes"), ("red", "green", "blue"))


def test_scenes_in_turn_go_on_with_the_one_of_the_hour(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [scenes, "--every", "3", "--dissolve", "0", "--no-mark", "--pixels", "rgb"]
    whole = run(monkeypatch, words, 400)
    turns = [colour_of(whole.frames[slot]) for slot in range(45, 400, 90)]
    assert turns == ["red", "green", "blue", "red"]
    position = whole.position_at(40)
    assert position.is_in_turn
    second = run(monkeypatch, words, 400, position=position, gap=75)  # the second scene is on air by then
    assert colour_of(next(iter(second.frames.values()))) == "green"
    check_same(second, whole, 250)


def test_a_scene_that_was_chosen_stays(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [scenes, "--every", "3", "--dissolve", "0", "--no-mark", "--pixels", "rgb"]
    acts = {15: lambda controller: controller.prepare({"scene": "blue"}, take_s=0.0)}
    whole = run(monkeypatch, words, 130, acts=acts)
    position = whole.position_at(30)
    assert not position.is_in_turn
    second = run(monkeypatch, words, 130, position=position, gap=20)
    assert colour_of(second.frames[130]) == "blue"
    check_same(second, whole, 60)


def test_timed_cues_that_are_over_are_not_repeated(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody has changed their control since; those that are to come are applied, also late."""
    words = [bundle, "--seed", "7", "--no-mark", "--cue", "0.5:sway=4", "--cue", "2:drift=3", "--cue", "3:drift=-3"]
    acts = {20: lambda controller: controller.set_control("sway", 0.5)}
    whole = run(monkeypatch, words, 120, acts=acts)
    position = whole.position_at(30)
    assert position.controls == {"sway": 0.5, "drift": 0}
    second = run(monkeypatch, words, 120, position=position, gap=10)
    assert second.controls == {"sway": 0.5, "drift": -3}
    check_same(second, whole, 60)
    late = run(monkeypatch, words, 75, position=position, gap=35)
    assert late.controls == {"sway": 0.5, "drift": 3}


def test_cues_of_the_list_come_back_under_their_ids(prompted_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.full((16, 32, 3), 90, np.uint8)
    words = [prompted_bundle, "--seed", "6", "--no-mark"]
    acts = {
        2: lambda controller: controller.prepare({"seed": 4}),
        4: lambda controller: controller.prepare({"image": picture}, label="grey"),
        6: lambda controller: controller.prepare({"text": "calm sea"}),
        8: lambda controller: controller.drop(1),
    }
    first = run(monkeypatch, words, 40, acts=acts)
    position = first.position_at(20)
    acts = {
        57: lambda controller: controller.take(2, dissolve_s=0.0),  # no renewal fades in
        62: lambda controller: controller.prepare({"seed": 5}),
    }
    second = run(monkeypatch, words, 64, position=position, gap=20, acts=acts)
    assert [(cue["id"], cue["label"], cue["state"]) for cue in second.cues] == [
        (2, "grey", "on air"),
        (3, "calm sea", "ready"),
        (4, "seed 5", "ready"),
    ]
    before, after = (second.frames[slot][:16].astype(int) for slot in (57, 58))
    assert np.ptp(after) == 0 < np.abs(after - before).min(), "the grey picture"


def test_a_picture_on_air_comes_back(prompted_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.full((16, 32, 3), 90, np.uint8)
    words = [prompted_bundle, "--seed", "6", "--no-mark"]
    acts = {10: lambda controller: controller.prepare({"image": picture}, take_s=0.0)}
    whole = run(monkeypatch, words, 80, acts=acts)
    position = whole.position_at(20)
    assert np.array_equal(position.prompt["image"], picture)
    check_same(run(monkeypatch, words, 80, position=position, gap=13), whole, 40)


def test_a_clip_on_air_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = moving.build(tmp_path / "moving", frame=(64, 36))
    clip = write(tmp_path / "a.mkv", waves(60, 64, 36))
    words = [folder, "--clip", clip, "--no-mark"]
    whole = run(monkeypatch, words, 200)
    position = whole.position_at(100)
    assert position.prompt == {"clip": str(clip)}
    check_same(run(monkeypatch, words, 200, position=position, gap=15), whole, 80)


def test_what_was_drawn_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = flowing.build(tmp_path / "flowing", reads_hints=True)
    Image.fromarray(moving.picture_of(flowing.WIDTH, flowing.HEIGHT)).save(tmp_path / "a.png")
    words = [folder, "--image", tmp_path / "a.png", "--fps", "30", "--no-mark", "--hint", "0.5,0.5,-0.1,0"]
    acts = {10: lambda controller: controller.draw(Hints.from_json(RIGHT), dissolve_s=0.0)}
    whole = run(monkeypatch, words, 80, acts=acts)
    position = whole.position_at(20)
    assert to_hints(position.prompt["hints"]) == Hints.from_json(RIGHT)
    second = run(monkeypatch, words, 80, position=position, gap=13)
    check_same(second, whole, 40)
    assert not np.array_equal(second.frames[79], second.frames[80]), "nothing moves"


@pytest.mark.parametrize("control", [(), ("--control", "seed=5")])
def test_a_seed_that_was_chosen_through_a_control_comes_back(
    prompted_bundle: Path, control: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [prompted_bundle, "--text", "the storm", "--seed", "6", "--no-mark", *control]
    acts = {3: lambda controller: controller.set_control("seed", 9)}
    first = run(monkeypatch, words, 120, acts=acts)
    position = first.kept[-1]
    assert position.prompt == {"seed": 9, "text": "the storm"}
    scenes: list[Any] = []
    second = run(
        monkeypatch,
        words,
        200,
        position=position,
        gap=20,
        on_begin=lambda player: scenes.append(player.generator.scene),
    )
    assert [(scene.seed, scene.text) for scene in scenes] == [(9, "the storm")]
    assert second.kept[-1].prompt == {"seed": 9, "text": "the storm"}


def test_a_position_of_another_bundle_ends_the_show_with_one_sentence(
    bundle: Path, prompted_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    position = run(monkeypatch, [prompted_bundle, "--seed", "6", "--no-mark"], 12).kept[-1]
    other = replace(position, controls={})
    with pytest.raises(ValueError, match=r"^the position has the states level; expected clock, wave: it is of another"):
        run(monkeypatch, [bundle, "--no-mark"], 20, position=other)
