"""Requests: controls once per frame, prompts one after the other, and what fails."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from runtime import EngineError, Generator
from streaming.control.controller import NotReadyError, ShowController
from streaming.instrument.performer import Performer
from tests.streaming.control.test_controller import Waiting
from tests.streaming.doubles import WAIT_S
from tests.streaming.instrument.doubles import wait_until


def test_of_many_values_the_latest_is_set_before_the_next_frame(
    controller: ShowController, generator: Generator, performer: Performer, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed: list[tuple[str, float]] = []
    monkeypatch.setattr(controller, "follow", lambda name, value: followed.append((name, value)))
    for step in range(100):
        performer.set_control("gain", step / 100)
    performer.set_control("drift", 2)
    assert followed == []
    assert performer.apply in controller.before_frame
    performer.apply()
    performer.apply()
    assert followed == [("gain", 0.99), ("drift", 2)]


def test_a_control_is_set_without_a_notification(
    controller: ShowController, generator: Generator, performer: Performer
) -> None:
    news: list[int] = []
    controller.on_change.append(lambda: news.append(1))
    performer.set_control("gain", 0.25)
    performer.apply()
    assert generator.controls["gain"] == 0.25
    assert news == []


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("gain", 3.0, "gain must be from 0 to 2, got 3.0"),
        ("gain", float("nan"), "value must be from"),
        ("gain", "loud", "value must be a number"),
        ("gian", 1.0, 'there is no control "gian"'),
        ("", 1.0, "name must have 1 to 160 characters"),
        ("seed", 7.0, "seed makes a new scene: ask for a seed instead"),
    ],
)
def test_a_bad_value_is_refused_at_once(performer: Performer, name: str, value: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        performer.set_control(name, value)


def test_a_prompt_waits_for_the_one_before_and_only_the_latest_is_kept(
    controller: ShowController, generator: Generator, performer: Performer
) -> None:
    waiting = Waiting(controller)
    begun, go = threading.Event(), threading.Event()
    original = generator.prepare

    def slow(**parts: Any) -> Any:
        begun.set()
        assert go.wait(WAIT_S)
        return original(**parts)

    generator.prepare = slow  # type: ignore[method-assign]
    errors: list[str] = []
    performer.ask("prompt", {"seed": 1}, errors.append)
    assert begun.wait(WAIT_S)
    for seed in range(2, 50):
        performer.ask("prompt", {"seed": seed}, errors.append)
    performer.ask("take_next", {}, errors.append)  # is not delayed by the prompts
    wait_until(lambda: errors)
    assert errors == ["no cue is ready: prepare one first"]
    assert len(controller.state()["cues"]) == 1
    go.set()
    cues = waiting.until(lambda cues: [cue["state"] for cue in cues] == ["ready", "on air"])
    assert [cue["label"] for cue in cues] == ["seed 1", "seed 49"]


def test_a_failure_is_reported(controller: ShowController, generator: Generator, performer: Performer) -> None:
    def failing(**_: Any) -> Any:
        raise EngineError("the GPU is gone")

    generator.prepare = failing  # type: ignore[method-assign]
    errors: list[str] = []
    performer.ask("prompt", {"seed": 1}, errors.append)
    wait_until(lambda: errors)
    performer.ask("take", {"cue": 9}, errors.append)
    wait_until(lambda: len(errors) == 2)
    assert errors == ["the GPU is gone", "there is no cue 9"]


def test_an_error_of_ours_does_not_end_it(
    controller: ShowController, performer: Performer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controller, "take", lambda *_: {}["key"])
    errors: list[str] = []
    performer.ask("take", {"cue": 1}, errors.append)
    wait_until(lambda: errors)
    performer.ask("take", {"cue": 1}, errors.append)
    wait_until(lambda: len(errors) == 2)
    assert errors == ["internal error: KeyError('key')"] * 2


def test_before_the_show_there_is_nothing_to_set() -> None:
    performer = Performer(ShowController(), 1.0)
    with pytest.raises(NotReadyError):
        performer.set_control("gain", 1.0)
    performer.close()


def test_the_end_leaves_nothing_behind(controller: ShowController) -> None:
    performer = Performer(controller, 0.0)
    performer.start()
    performer.close()
    performer.close()
    assert not performer._thread.is_alive()
    assert controller.before_frame == []
    assert controller.on_change == []
