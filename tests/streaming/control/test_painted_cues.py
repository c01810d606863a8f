"""Prompts that a painter paints: which of them, in what order, what the cues say, and what a position keeps."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from runtime import EngineError, Generator
from streaming.control.controller import ShowController
from streaming.control.cues import PAINTED, Cue, CueEntry, to_given
from tests import moving, painters
from tests.painters import HeldPainter
from tests.streaming.control.test_controller import Waiting, states
from tests.streaming.doubles import WAIT_S


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What animates, and what paints."""
    folder = tmp_path_factory.mktemp("bundles")
    return moving.build(folder / "moving", frame=(48, 32)), painters.build(folder / "painter")


@pytest.fixture
def generator(bundles: tuple[Path, Path]) -> Iterator[Generator]:
    with Generator.open(bundles[0], engine="onnxruntime", threads=1, seed=3) as generator:
        generator.condition(seed=3)
        next(generator)
        yield generator


@pytest.fixture
def show(generator: Generator, bundles: tuple[Path, Path]) -> Iterator[tuple[ShowController, HeldPainter, list[str]]]:
    """A controller with a painter, and the lines that it says."""
    controller, painter = ShowController(), HeldPainter(bundles[1], seed=7)
    controller.painter, lines = painter, list[str]()
    controller.others.append(painter)
    controller.attach(generator, "seed 3")
    controller.announce({"seed": 3})
    controller.schedule([], dissolve_s=0.0, say=lines.append)
    yield controller, painter, lines
    painter.close()
    controller.close()


Show = tuple[ShowController, HeldPainter, list[str]]


def shown_colour(generator: Generator) -> tuple[int, ...]:
    """Return the colour of the middle of the next frame."""
    frame = [frame.copy() for frame in islice(generator, 2)][-1]
    return tuple(int(value) for value in frame[16, 24])


def is_close(one: Any, other: Any) -> bool:
    return bool(np.abs(np.subtract(one, other)).max() <= 3)


def painted(show: Show) -> np.ndarray:
    """Return the picture on air."""
    picture: np.ndarray = show[0].kept()[0][PAINTED]
    return picture


def test_a_text_is_painted_and_animated(show: Show, generator: Generator) -> None:
    controller, painter, lines = show
    waiting, told = Waiting(controller), list[dict[str, Any]]()
    controller.on_prompt.append(lambda parts, _: told.append(dict(parts)))
    assert controller.state()["takes"] == ["text", "image", "clip", "past", "seed"]
    assert controller.state()["painter"] == "painter"
    controller.prepare({"text": "the sea"}, take_s=0.0)
    cues = waiting.until(lambda cues: states(cues) == ["on air"])
    assert (cues[0]["label"], cues[0]["kind"]) == ("the sea", "text")
    assert painter.jobs == [{"text": "the sea", "seed": 7}]
    assert told[0].keys() == {"text", "seed", PAINTED}
    assert is_close(shown_colour(generator), painted(show)[16, 24])
    assert lines == [f'painter has painted "the sea" in {painter.last_s:.1f} s']
    controller.prepare({"seed": 8}, take_s=0.0)
    waiting.until(lambda cues: states(cues) == ["ready", "on air"])
    assert painter.jobs[1] == {"text": "the sea", "seed": 8}, "a seed alone keeps the text"
    controller.take(1, 0.0)
    assert len(painter.jobs) == 2, "it is taken again without painting it again"


def test_the_latest_prompt_wins_and_cues_that_wait_stay(show: Show) -> None:
    controller, painter, _ = show
    waiting, painter.is_held = Waiting(controller), True
    controller.prepare({"text": "the sea"}, take_s=0.0)
    assert painter.begun.acquire(timeout=WAIT_S)
    controller.prepare({"text": "storm"}, take_s=0.0)
    controller.prepare({"text": "cloud"})
    controller.prepare({"text": "calm"}, take_s=0.0)
    assert [cue["label"] for cue in controller.state()["cues"]] == ["the sea", "cloud", "calm"]
    painter.permits.release(3)
    cues = waiting.until(lambda cues: states(cues) == ["ready", "ready", "on air"])
    assert [cue["label"] for cue in cues] == ["the sea", "cloud", "calm"]
    assert [job["text"] for job in painter.jobs] == ["the sea", "cloud", "calm"]


def test_other_cues_do_not_wait_for_a_picture_and_the_later_choice_stays(show: Show, generator: Generator) -> None:
    controller, painter, _ = show
    waiting, painter.is_held = Waiting(controller), True
    controller.prepare({"text": "the sea"}, take_s=0.0)
    assert painter.begun.acquire(timeout=WAIT_S)
    red = np.zeros((32, 48, 3), np.uint8)
    red[..., 0] = 200
    controller.prepare({"image": red}, label="red", take_s=0.0)
    waiting.until(lambda cues: states(cues) == ["preparing", "on air"])
    painter.permits.release()
    waiting.until(lambda cues: states(cues) == ["ready", "on air"])
    assert is_close(shown_colour(generator), (200, 0, 0)), "what was chosen later stays on air"
    controller.take(1, 0.0)
    assert is_close(shown_colour(generator), painted(show)[16, 24])


def test_a_dropped_cue_is_not_painted(show: Show) -> None:
    controller, painter, _ = show
    waiting, painter.is_held = Waiting(controller), True
    controller.prepare({"text": "the sea"})
    assert painter.begun.acquire(timeout=WAIT_S)
    number = controller.prepare({"text": "storm"})["id"]
    controller.drop(number)
    painter.permits.release()
    waiting.until(lambda cues: states(cues) == ["ready"])
    controller.prepare({"text": "calm"})
    painter.permits.release()
    waiting.until(lambda cues: states(cues) == ["ready", "ready"])
    assert [job["text"] for job in painter.jobs] == ["the sea", "calm"]


def test_a_failure_leaves_the_show_as_it_is(show: Show, generator: Generator) -> None:
    controller, painter, lines = show
    waiting, before = Waiting(controller), generator.scene
    painter.failure = EngineError("the engine has no memory left")
    controller.prepare({"text": "the sea"}, take_s=0.0)
    cues = waiting.until(lambda cues: states(cues) == ["failed"])
    sentence = 'painter could not paint "the sea": the engine has no memory left'
    assert cues[0]["error"] == sentence
    assert lines == [f"{sentence}; the show goes on"]
    assert controller.painter_stats()["painter"]["error"] == sentence
    assert generator.scene is before
    controller.prepare({"text": "the sea"}, take_s=0.0)
    waiting.until(lambda cues: states(cues) == ["failed", "on air"])
    assert controller.painter_stats()["painter"]["error"] == ""


def test_a_picture_that_the_end_of_the_show_ends_is_no_failure(show: Show) -> None:
    controller, painter, lines = show
    waiting, painter.is_held = Waiting(controller), True
    controller.prepare({"text": "the sea"}, take_s=0.0)
    assert painter.begun.acquire(timeout=WAIT_S)
    painter.failure = EngineError("its process ended")
    painter.close()
    waiting.until(lambda cues: states(cues) == ["failed"])
    assert lines == []


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"text": " "}, "the text is empty"),
        ({"seed": -1}, "seed"),
        ({"text": "sea", "moving": "no.png"}, "no image file"),
    ],
)
def test_a_bad_prompt_is_refused_at_once(parts: dict[str, Any], message: str, show: Show) -> None:
    with pytest.raises(ValueError, match=message):
        show[0].prepare(parts)
    assert show[0].state()["cues"] == []


def test_pictures_and_clips_are_not_painted(show: Show, generator: Generator) -> None:
    controller, painter, _ = show
    waiting = Waiting(controller)
    controller.prepare({"image": np.zeros((32, 48, 3), np.uint8), "seed": 4}, take_s=0.0)
    waiting.until(lambda cues: states(cues) == ["on air"])
    assert painter.jobs == []
    assert PAINTED not in controller.kept()[0]


def test_a_timed_text_is_painted_before_it_is_due(show: Show, generator: Generator) -> None:
    controller, painter, _ = show
    waiting, painter.is_held = Waiting(controller), True
    controller.schedule([Cue(Fraction(20), "text", "storm")], dissolve_s=0.0, say=lambda _: None)
    before = generator.scene
    controller.play(Fraction(2))
    assert painter.begun.acquire(timeout=WAIT_S), "it takes long: it begins as soon as it can"
    painter.permits.release()
    waiting.until(lambda _: controller._timed[0].state == "ready")
    assert generator.scene is before
    controller.play(Fraction(20))
    assert controller.state()["on_air"] == "storm"
    assert is_close(shown_colour(generator), painted(show)[16, 24])


def test_a_timed_text_that_takes_too_long_does_not_delay_later_cues(
    show: Show, generator: Generator, tmp_path: Path
) -> None:
    controller, painter, _ = show
    waiting, painter.is_held, lines = Waiting(controller), True, list[str]()
    Image.new("RGB", (48, 32), (200, 0, 0)).save(path := tmp_path / "red.png")
    cues = [
        Cue(Fraction(10), "text", "storm"),
        Cue(Fraction(60), "image", str(path)),
        Cue(Fraction(99), "text", "calm"),
    ]
    controller.schedule(cues, dissolve_s=0.0, say=lines.append)
    controller.play(Fraction(2))
    assert painter.begun.acquire(timeout=WAIT_S)
    controller.play(Fraction(57))
    assert lines == [], "it is late, and nothing else is due yet"
    controller.play(Fraction(58))
    assert lines == ["the cue at 10 s is left out: its picture is not ready, and the cue at 60 s follows"]
    waiting.until(lambda _: controller._timed[0].state == "ready")
    controller.play(Fraction(60))
    assert controller.state()["on_air"] == "red.png"
    assert is_close(shown_colour(generator), (200, 0, 0))
    controller.play(Fraction(98))
    painter.permits.release(2)
    waiting.until(lambda _: controller._timed[0].state == "ready")
    controller.play(Fraction(99))
    assert controller.state()["on_air"] == "calm", "the next text is painted as usual"


def test_drawn_motion_waits_for_the_picture_and_is_left_out_with_it(show: Show, tmp_path: Path) -> None:
    controller, painter, lines = show
    painter.is_held = True
    storm = CueEntry(0, "storm", {"text": "storm"}, Fraction(10), "waiting")
    drawn = CueEntry(0, "drawn motion", {"hints": {}}, Fraction(12), "waiting")
    controller._timed = [storm, drawn]
    controller.play(Fraction(2))
    assert painter.begun.acquire(timeout=WAIT_S)
    controller.play(Fraction(50))
    assert [entry.state for entry in controller._timed] == ["preparing", "waiting"]
    controller._timed.append(CueEntry(0, "lake", {"scene": "lake"}, Fraction(60), "waiting"))
    controller.play(Fraction(58))
    assert [line.split(":")[0] for line in lines] == [f"the cue at {at_s} s is left out" for at_s in (10, 12)]
    assert [entry.label for entry in controller._timed] == ["lake"]


def test_a_position_keeps_the_picture_and_cues_keep_their_words(show: Show, generator: Generator) -> None:
    controller, painter, _ = show
    waiting = Waiting(controller)
    controller.prepare({"text": "the sea"}, take_s=0.0)
    controller.prepare({"text": "storm", "seed": 5})
    waiting.until(lambda cues: states(cues) == ["on air", "ready"])
    parts, is_in_turn, cues = controller.kept()
    assert parts.keys() == {"text", "seed", PAINTED}
    assert not is_in_turn
    assert to_given(parts).keys() == {"image"}
    assert [dict(cue.parts) for cue in cues] == [{"text": "the sea"}, {"text": "storm", "seed": 5}]
    controller.prepare_again([])
    waiting.until(lambda cues: states(cues) == ["ready", "ready"])
    assert len(painter.jobs) == 2, "another bundle animates the same pictures"
    generator.set_control("x_a", 0.0)
    generator.condition(seed=9)
    assert controller.kept()[0] == {"seed": 9}, "what the generator has made itself"
