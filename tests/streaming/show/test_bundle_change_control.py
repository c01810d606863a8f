"""Another bundle for a show on air: what becomes of its prompt, controls, scenes in turn and cues."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import moving, tiny
from tests.streaming.control.test_controller import Waiting
from tests.streaming.doubles import WAIT_S
from tests.streaming.show.changing import FADE, FADE_S, build_scenes, colour_of, stage
from tests.streaming.show.relay import settle


@pytest.fixture(scope="module")
def painting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of schema 2 with the size and the rate of `bundle` that takes pictures and seeds."""
    return moving.build(tmp_path_factory.mktemp("painting") / "moving", frame=(64, 48))


def test_the_prompt_is_kept_where_it_is_taken(bundle: Path, painting: Path) -> None:
    picture = moving.picture_of(64, 48)
    with stage(bundle, "--seed", 7) as show:
        show.frames(2)
        show.player.change_bundle(painting, 0.0)
        show.frames(2)
        assert (show.player.generator.scene.seed, show.controller.state()["on_air"]) == (7, "seed 7")  # type: ignore[union-attr]
        show.controller.prepare({"image": picture}, label="a wave", take_s=0.0)
        settle(show.controller)
        show.frames(1)
        show.player.change_bundle(painting, FADE_S)
        assert np.abs(show.frames(FADE + 2)[-1].astype(int) - picture).max() <= 1
        parts, _, _ = show.controller.kept()
        assert parts["image"] is picture
        assert show.controller.state()["on_air"] == "a wave"


def test_a_prompt_that_is_not_taken_gives_way_to_the_seed(prompted_bundle: Path, tmp_path: Path) -> None:
    """It is told, so that a machine that goes on with the show has the prompt on air."""
    other = tiny.build(tmp_path / "other", width=32, height=16)
    with stage(prompted_bundle, "--text", "storm", "--seed", 6) as show:
        told: list[tuple[dict[str, Any], float]] = []
        show.controller.on_prompt.append(lambda parts, at_s: told.append((dict(parts), at_s)))
        show.frames(3)
        show.player.change_bundle(other, FADE_S)
        assert told == [], "not before it is seen"
        show.frames(1)
        assert told == [({"seed": 6}, pytest.approx(0.1))]
        assert show.controller.kept()[0] == {"seed": 6}
        assert show.controller.state()["on_air"] == "seed 6"


def test_controls_are_kept_where_their_values_are_in_range(prompted_bundle: Path, tmp_path: Path) -> None:
    """`drift` is 0 to 4 in one, and -8 to 8 in the other; the seed belongs to the prompt."""
    other = tiny.build(tmp_path / "other", width=32, height=16)
    with stage(prompted_bundle, "--seed", 6, "--control", "drift=3", "--control", "gain=2") as show:
        show.frames(2)
        show.player.change_bundle(other, 0.0)
        show.frames(1)
        assert show.player.generator.controls == {"sway": 1.5, "drift": 3}
        show.controller.set_control("drift", -5)
        show.player.change_bundle(prompted_bundle, 0.0)
        show.frames(1)
        assert show.player.generator.controls == {"gain": 1, "drift": 1, "seed": 0}


@pytest.fixture(scope="module")
def halls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two bundles with plain scenes: red, green and blue; and white and blue."""
    first = build_scenes(tmp_path_factory.mktemp("first"), ("red", "green", "blue"), "first")
    return first, build_scenes(tmp_path_factory.mktemp("second"), ("white", "blue"), "second")


def test_scenes_in_turn_are_those_of_the_bundle_on_air(halls: tuple[Path, Path]) -> None:
    with stage(halls[0], "--every", 3, "--dissolve", 0) as show:
        assert colour_of(show.frames(30)[-1]) == "red"
        assert show.controller._timed[0].state == "waiting"
        show.frames(5)  # the next scene is prepared
        assert show.controller._timed[0].state == "ready"
        show.player.change_bundle(halls[1], FADE_S)
        assert colour_of(show.frames(FADE)[-1]) == "white", "its first one, as it has no red"
        parts, is_in_turn, _ = show.controller.kept()
        assert (parts, is_in_turn, show.controller.state()["on_air"]) == ({"scene": "white"}, True, "white")
        seen = [colour_of(frame) for frame in show.frames(300)]
        assert [seen[index] for index in range(10, 300, 90)] == ["white", "blue", "white", "blue"]
        assert show.controller.state()["on_air"] == seen[-1]
    assert show.said == [f"second: {halls[1]} is on air"], "no cue is left out"


def test_a_scene_that_both_have_stays_and_turns_go_on_from_it(halls: tuple[Path, Path]) -> None:
    with stage(halls[1], "--every", 3, "--dissolve", 0) as show:
        assert colour_of(show.frames(95)[-1]) == "blue"
        show.player.change_bundle(halls[0], 0.0)
        assert colour_of(show.frames(2)[-1]) == "blue"
        assert [colour_of(frame) for frame in show.frames(100)[90:]] == ["red"] * 10


def test_a_bundle_without_scenes_ends_the_turns(halls: tuple[Path, Path], tmp_path: Path) -> None:
    other = moving.build(tmp_path / "moving", frame=(64, 36))
    with stage(halls[0], "--every", 3, "--dissolve", 0) as show:
        show.frames(40)
        show.player.change_bundle(other, 0.0)
        show.frames(100)
        parts, is_in_turn, _ = show.controller.kept()
        assert not is_in_turn
        assert parts == {"seed": 0}
    assert show.said == [f"moving: {other} is on air"]


def test_thumbnails_are_those_of_the_bundle_on_air(halls: tuple[Path, Path], tmp_path: Path) -> None:
    with stage(halls[0]) as show:
        show.frames(2)
        first = show.controller.thumbnail("blue")
        assert show.controller.thumbnail("blue") is first, "it is made once"
        show.player.change_bundle(halls[1], 0.0)
        show.frames(1)
        assert show.controller.thumbnail("blue") is not first
        with pytest.raises(ValueError, match="there is no scene red"):
            show.controller.thumbnail("red")


def test_the_cues_of_the_list_are_prepared_again(bundle: Path, painting: Path) -> None:
    picture = moving.picture_of(64, 48)
    with stage(bundle, "--seed", 7) as show:
        waiting = Waiting(show.controller)
        for parts in ({"image": picture}, {"seed": 4}):
            show.controller.prepare(parts)
        before = [cue["id"] for cue in waiting.until(lambda cues: all(cue["state"] == "ready" for cue in cues))]
        show.frames(2)
        show.player.change_bundle(painting, FADE_S)
        show.frames(FADE)
        cues = waiting.until(lambda cues: all(cue["state"] == "ready" for cue in cues))
        assert [cue["id"] for cue in cues] == before
        show.controller.take(before[0], dissolve_s=0.0)
        assert np.abs(show.frames(2)[0].astype(int) - picture).max() <= 1


@pytest.mark.parametrize("has_failed", [False, True])
def test_a_cue_that_is_being_prepared_meanwhile_is_one_of_the_other_bundle(
    bundle: Path, painting: Path, has_failed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stage(bundle, "--seed", 7) as show:
        show.frames(1)
        waiting, goes_on, has_begun = Waiting(show.controller), threading.Event(), threading.Event()
        prepare = show.player.generator.prepare

        def slow(**parts: Any) -> object:
            has_begun.set()
            assert goes_on.wait(WAIT_S)
            if has_failed:
                raise ValueError("this generator is closed")
            return prepare(**parts)

        monkeypatch.setattr(show.player.generator, "prepare", slow)
        number = show.controller.prepare({"seed": 4})["id"]
        assert has_begun.wait(WAIT_S)
        show.player.change_bundle(painting, FADE_S)
        next(show.source)
        goes_on.set()
        (cue,) = waiting.until(lambda cues: cues[0]["state"] in ("ready", "failed"))
        assert (cue["state"], cue["error"]) == ("ready", "")
        show.controller.take(number, dissolve_s=0.0)
        show.frames(FADE)
        assert show.player.generator.scene.seed == 4  # type: ignore[union-attr]


def test_timed_cues_are_prepared_again(bundle: Path, painting: Path) -> None:
    with stage(bundle, "--cue", "1:seed=4", "--cue", "2:drift=1", "--dissolve", 0) as show:
        settle(show.controller)
        assert show.controller._timed[0].state == "ready"
        show.frames(5)
        show.player.change_bundle(painting, 0.0)
        show.frames(50)
        assert show.player.generator.scene.seed == 4  # type: ignore[union-attr]
        assert show.said == [f"moving: {painting} is on air"]
        show.frames(10)
        assert 'the cue at 2 s is left out: there is no control "drift"' in show.said[1]
