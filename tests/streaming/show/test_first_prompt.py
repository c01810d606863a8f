"""What a show begins with, and which scene comes next if it goes on."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from runtime.prompts.hints import Vector
from streaming.arguments import parse
from streaming.show.first_prompt import FirstPrompt, drawn_hints, first_prompt, is_live

SCENES = ("lake", "sea", "storm")
ARROW = Vector(0.5, 0.5, 0.1, 0.0)


def begin(*words: str, scenes: tuple[str, ...] = SCENES, now_s: float = 0) -> FirstPrompt:
    return first_prompt(parse(["BUNDLE", *words]), "landscape", scenes, Fraction(now_s))


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--text", "a storm"), {"text": "a storm"}),
        (("--image", "a.png", "--moving", "m.png"), {"image": "a.png", "moving": "m.png"}),
        (("--clip", "a.mp4"), {"clip": "a.mp4"}),
        (("--past", "a.mp4", "--seed", "4"), {"past": "a.mp4"}),
        (("--seed", "4"), {}),
        (("--scene", "sea"), {"scene": "sea"}),
        (("--scene", "sea", "--hint", "0.5,0.5,0.1,0"), {"scene": "sea", "hints": drawn_hints}),
    ],
)
def test_a_prompt_of_the_options_is_alone(words: tuple[str, ...], parts: dict[str, object]) -> None:
    first = begin(*words, now_s=1000)
    assert first.in_turn == ()
    hints = first.parts.get("hints")
    assert (hints is None) == ("hints" not in parts)
    assert hints is None or hints.vectors == (ARROW,)
    assert {**first.parts, "hints": None} == {**parts, "hints": None}


def test_a_bundle_without_scenes_begins_with_its_seed() -> None:
    assert begin(scenes=()) == FirstPrompt({})


@pytest.mark.parametrize("words", [(), ("--scene", "all"), ("--scene", "all", "--seed", "4")])
@pytest.mark.parametrize(
    ("now_s", "in_turn", "next_s"),
    [
        (0, ["lake", "sea", "storm"], 20),
        (19.99, ["lake", "sea", "storm"], 20),
        (20, ["sea", "storm", "lake"], 40),
        (59.9, ["storm", "lake", "sea"], 60),
        (60, ["lake", "sea", "storm"], 80),
        (86_430, ["sea", "storm", "lake"], 86_440),
    ],
)
def test_scenes_are_in_turn_by_the_time_of_the_show(
    words: tuple[str, ...], now_s: float, in_turn: list[str], next_s: int
) -> None:
    assert begin(*words, now_s=now_s) == FirstPrompt({"scene": in_turn[0]}, in_turn, Fraction(next_s))


def test_each_scene_is_shown_for_as_long_as_is_asked() -> None:
    assert begin("--every", "7.5", now_s=16).next_s == Fraction(45, 2)


def test_hints_keep_the_scene_of_the_hour() -> None:
    first = begin("--hint", "0.5,0.5,0.1,0", now_s=45)
    assert (first.parts["scene"], first.in_turn) == ("storm", ())


def test_arrows_are_added_to_those_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "hints.json"
    path.write_text(json.dumps({"vectors": [[0.1, 0.2, 0.0, 0.3]]}))
    hints = drawn_hints(parse(["BUNDLE", "--hints", str(path), "--hint", "0.5,0.5,0.1,0"]))
    assert hints is not None
    assert hints.vectors == (Vector(0.1, 0.2, 0.0, 0.3), ARROW)
    assert drawn_hints(parse(["BUNDLE"])) is None
    options = parse(["BUNDLE"])
    options.hints = {"vectors": [list(ARROW)]}  # of a show that goes on
    kept = drawn_hints(options)
    assert kept is not None
    assert kept.vectors == (ARROW,)


@pytest.mark.parametrize(
    ("words", "scenes", "sentence"),
    [
        (("--scene", "all"), (), "^landscape has no scenes: leave --scene out$"),
        (
            ("--scene", "all", "--hint", "0.5,0.5,0.1,0"),
            SCENES,
            "^--hint and --hints are drawn over one picture",
        ),
        (("--hints", "nowhere.json"), SCENES, "^the hints nowhere.json cannot be read"),
    ],
)
def test_what_contradicts_itself_is_refused(words: tuple[str, ...], scenes: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        begin(*words, scenes=scenes)


def test_only_the_word_input_is_the_live_picture() -> None:
    assert begin("--image", "input", "--input", "testcard").is_live
    assert not begin("--image", "input.png").is_live
    assert not begin().is_live
    assert not is_live({"image": np.zeros((2, 2, 3), np.uint8)})  # of a show that goes on
