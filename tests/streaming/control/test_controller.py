"""The controller with a real, small generator: cues, takes, controls, and what goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime import EngineError, Generator
from streaming.control.controller import MAX_CUES, NOTICE, NotReadyError, ShowController
from streaming.page.actions import ACTIONS, read_json
from tests.streaming.doubles import WAIT_S


class Waiting:
    """Waits until the cues of a controller meet a condition."""

    def __init__(self, controller: ShowController) -> None:
        self.controller = controller
        self._news = threading.Condition()
        controller.on_change.append(self._tell)

    def _tell(self) -> None:
        with self._news:
            self._news.notify_all()

    def until(self, is_so: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """Return the cues once they are so."""
        with self._news:
            is_met = self._news.wait_for(lambda: is_so(self.controller.state()["cues"]), WAIT_S)
        cues: list[dict[str, Any]] = self.controller.state()["cues"]
        assert is_met, cues
        return cues


def test_the_next_cue_is_the_one_after_that_on_air() -> None:
    states = ["ready", "on air", "failed", "ready"]
    taken: list[int] = []

    class Controller:
        def state(self) -> dict[str, Any]:
            return {"cues": [{"id": number, "state": state} for number, state in enumerate(states, 1)]}

        def take(self, number: int, dissolve_s: float) -> dict[str, Any]:
            taken.append(number)
            return {}

    take_next = next(action for action in ACTIONS if action.name == "take_next")
    take_next.run(Controller(), {"dissolve_s": 1.0})  # type: ignore[arg-type]
    states[:] = ["ready", "ready", "failed", "on air"]
    take_next.run(Controller(), {"dissolve_s": 1.0})  # type: ignore[arg-type]
    states[:] = ["on air", "preparing", "failed", "failed"]
    with pytest.raises(ValueError, match="no cue is ready"):
        take_next.run(Controller(), {"dissolve_s": 1.0})  # type: ignore[arg-type]
    assert taken == [4, 1]


@pytest.fixture
def generator(prompted_bundle: Path) -> Iterator[Generator]:
    with Generator.open(prompted_bundle, engine="onnxruntime", threads=1, seed=3) as generator:
        yield generator


@pytest.fixture
def controller(generator: Generator) -> Iterator[ShowController]:
    controller = ShowController()
    controller.attach(generator, "seed 3")
    yield controller
    controller.close()


def states(cues: list[dict[str, Any]]) -> list[str]:
    return [cue["state"] for cue in cues]


def test_a_cue_waits_until_it_is_taken_and_can_be_taken_again(
    controller: ShowController, generator: Generator, prompted_bundle: Path
) -> None:
    waiting = Waiting(controller)
    with Generator.open(prompted_bundle, engine="onnxruntime", threads=1, seed=3) as without_cues:
        expected = [next(without_cues).copy() for _ in range(2)]
    assert np.array_equal(next(generator), expected[0])
    first = controller.prepare({"seed": 11})
    controller.prepare({"seed": 12})
    waiting.until(lambda cues: states(cues) == ["ready", "ready"])
    assert np.array_equal(next(generator), expected[1]), "a cue that waits changes nothing"
    assert controller.state()["on_air"] == "seed 3"
    assert controller.take(first["id"], 0.0)["state"] == "on air"
    assert controller.state()["on_air"] == "seed 11"
    next(generator)
    assert generator._scenes.latest is not None
    assert generator._scenes.latest.seed == 11
    controller.take(2, 0.0)
    assert states(controller.state()["cues"]) == ["ready", "on air"]
    controller.take(1, 0.0)
    assert states(controller.state()["cues"]) == ["on air", "ready"]
    controller.drop(1)
    assert controller.state()["on_air"] == "seed 11", "what is on air stays on air"
    with pytest.raises(ValueError, match="there is no cue 1"):
        controller.take(1)


def test_what_is_taken_before_it_is_ready_comes_as_soon_as_it_is(
    controller: ShowController, generator: Generator
) -> None:
    waiting = Waiting(controller)
    begun, go = threading.Event(), threading.Event()
    original = generator.prepare

    def slow(**parts: Any) -> Any:
        begun.set()
        assert go.wait(WAIT_S)
        return original(**parts)

    generator.prepare = slow  # type: ignore[method-assign]
    controller.prepare({"text": "a calm sea"}, take_s=0.5)
    cue = controller.prepare({"seed": 5})
    assert begun.wait(WAIT_S)
    assert controller.take(cue["id"], 0.0)["is_next"]
    assert states(controller.state()["cues"]) == ["preparing", "preparing"]
    go.set()
    cues = waiting.until(lambda cues: states(cues) == ["ready", "on air"])
    assert [cue["label"] for cue in cues] == ["a calm sea", "seed 5"]
    assert generator.text == "a calm sea", "a seed alone keeps the text"


def test_a_failed_cue_affects_no_other(
    controller: ShowController, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = Waiting(controller)
    next(generator)

    def failing(**_: Any) -> Any:
        raise EngineError("the GPU has no memory left:\nclose something")

    monkeypatch.setattr(generator, "prepare", failing)
    controller.prepare({"seed": 1}, take_s=0.0)
    [cue] = waiting.until(lambda cues: states(cues) == ["failed"])
    assert cue["error"] == "the GPU has no memory left: close something"
    with pytest.raises(ValueError, match="cue 1 has failed: the GPU has no memory"):
        controller.take(1)
    next(generator)


def test_limits_and_refusals(controller: ShowController) -> None:
    with pytest.raises(ValueError, match="a scene needs at least one of: text, image, clip, past, seed"):
        controller.prepare({})
    with pytest.raises(ValueError, match="no live input: start it with --input"):
        controller.animate()
    for number in range(MAX_CUES):
        controller.prepare({"seed": number})
    with pytest.raises(ValueError, match=f"{MAX_CUES} cues wait already: drop one first"):
        controller.prepare({"seed": 1})
    controller.drop(1)
    controller.prepare({"seed": 1})


def test_a_long_show_drops_its_oldest_cues(controller: ShowController) -> None:
    waiting = Waiting(controller)
    controller.prepare({"seed": 0})  # never taken: it stays
    for number in range(1, MAX_CUES + 3):
        cue = controller.prepare({"seed": number}, take_s=0.0)
        waiting.until(lambda cues, last=cue["id"]: any(c["id"] == last and c["state"] == "on air" for c in cues))
    labels = [cue["label"] for cue in controller.state()["cues"]]
    assert labels == ["seed 0", *(f"seed {number}" for number in range(4, MAX_CUES + 3))]


def test_before_the_show_there_is_nothing_to_control() -> None:
    controller = ShowController()
    assert controller.state()["is_ready"] is False
    for action in (
        lambda: controller.prepare({"seed": 1}),
        lambda: controller.take(1),
        lambda: controller.set_control("motion", 1),
    ):
        with pytest.raises(NotReadyError):
            action()
    controller.close()


BY_NAME = {action.name: action for action in ACTIONS}


@pytest.mark.parametrize(
    ("name", "given", "sentence"),
    [
        ("prompt", [], r"prompt takes a JSON object, got \[\]"),
        ("prompt", {"text": ""}, "text must have 1 to 2000 characters, got 0"),
        ("prompt", {"text": "x" * 2001}, "got 2001"),
        ("prompt", {"text": 7}, "text must be a string, got 7"),
        ("prompt", {"seed": True}, "seed must be an integer, got true"),
        ("prompt", {"seed": 1.5}, "seed must be an integer, got 1.5"),
        ("prompt", {"seed": -1}, "seed must be from 0 to"),
        ("prompt", {"dissolve_s": float("nan")}, "dissolve_s must be from 0 to 3600, got NaN"),
        ("prompt", {"dissolve_s": 3601}, "from 0 to 3600"),
        ("prompt", {"words": "x"}, 'prompt takes text, seed, scene, hints, dissolve_s, got "words"'),
        ("take", {}, "take needs cue: the cue's id"),
        ("set", {"name": "motion", "value": 10**400}, "value must be from .* got"),
        ("set", {"name": "motion"}, "set needs value"),
    ],
)
def test_what_is_sent_is_checked(name: str, given: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        BY_NAME[name].read(given)


def test_what_is_left_out_has_its_default() -> None:
    assert BY_NAME["prompt"].read({"text": "sea"}) == {"text": "sea", "dissolve_s": 1.0}
    with pytest.raises(ValueError, match="seed must be an integer, got null"):
        BY_NAME["prompt"].read({"text": "sea", "seed": None})


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "1" * 10_000, b"\xff\xfe"])
def test_invalid_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError, match="not valid JSON"):
        read_json(text)


def test_an_uploaded_picture_brings_a_notice_about_people_once(
    controller: ShowController, generator: Generator
) -> None:
    said: list[str] = []
    controller.schedule([], dissolve_s=1.0, say=said.append)
    controller.prepare({"seed": 5})
    assert (controller.state()["notice"], said) == ("", [])
    picture = np.zeros((generator.height, generator.width, 3), np.uint8)
    for _ in range(2):
        controller.prepare({"image": picture})
    assert (controller.state()["notice"], said) == (NOTICE, [NOTICE])


def test_what_is_shown_is_announced(controller: ShowController) -> None:
    waiting, shown = Waiting(controller), list[tuple[dict[str, Any], float]]()
    controller.on_prompt.append(lambda parts, at_s: shown.append((dict(parts), at_s)))
    controller.prepare({"seed": 5})
    controller.prepare({"seed": 6})
    waiting.until(lambda cues: states(cues) == ["ready", "ready"])
    assert shown == [], "a cue that waits is not shown"
    controller.take(2, 0.0)
    controller.take(1, 0.0)
    assert shown == [({"seed": 6}, 0.0), ({"seed": 5}, 0.0)]
