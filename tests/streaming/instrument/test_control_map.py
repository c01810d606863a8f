"""Controls that follow the sound: what is read, how a value is mapped, and how soon a control moves."""

from __future__ import annotations

import argparse

import numpy as np
import pytest

from runtime import Generator
from streaming.control.controller import ShowController
from streaming.instrument.control_map import SOURCES, ControlMap, ControlSource, check_sources, read_source, to_value
from streaming.sound.levels import NAMES, RATE, LevelFollower

FRAME = RATE // 30  # samples


def test_a_source_is_read() -> None:
    assert read_source("motion=audio.bass") == ControlSource("motion", "audio.bass", None)
    assert read_source("matte.feather=audio.onset:0.2..1.5") == ControlSource(
        "matte.feather", "audio.onset", (0.2, 1.5)
    )
    assert read_source("wind_x=audio.level:1..-1").ends == (1.0, -1.0)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("motion", "expected CONTROL=SOURCE or CONTROL=SOURCE:FROM..TO"),
        ("=audio.bass", "expected CONTROL=SOURCE"),
        ("motion=", "expected CONTROL=SOURCE"),
        ("motion=audio.bass:", "expected CONTROL=SOURCE"),
        ("motion=audio.bass:1", "expected CONTROL=SOURCE"),
        ("motion=audio.bass:1..inf", "expected CONTROL=SOURCE"),
        ("motion=audio.bas", "the source is one of audio.level, audio.bass, .* not 'audio.bas'"),
    ],
)
def test_anything_else_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=sentence):
        read_source(text)


def test_the_sources_are_those_of_the_sound() -> None:
    assert {f"audio.{name}" for name in NAMES} == set(SOURCES)


@pytest.mark.parametrize(
    ("share", "ends", "value"),
    [
        (0.0, (0.2, 1.5), 0.2),
        (1.0, (0.2, 1.5), 1.5),
        (0.5, (0.0, 3.0), 1.5),
        (0.25, (1.0, -1.0), 0.5),
        (7.0, (0.0, 3.0), 3.0),
        (-1.0, (0.0, 3.0), 0.0),
        (float("nan"), (0.0, 3.0), 0.0),
    ],
)
def test_a_share_is_mapped(share: float, ends: tuple[float, float], value: float) -> None:
    assert to_value(share, ends) == pytest.approx(value)


def test_rounding_does_not_leave_the_range() -> None:
    for share in np.linspace(0, 1, 1001):
        assert 0.1 <= to_value(float(share), (0.1, 0.7)) <= 0.7
        assert 0.1 <= to_value(float(share), (0.7, 0.1)) <= 0.7


def test_a_control_moves_within_two_frames_of_the_sound(controller: ShowController, generator: Generator) -> None:
    follower = LevelFollower()
    follow = ControlMap([ControlSource("gain", "audio.bass", (0.5, 1.5))], controller, follower.values)
    loud = (20_000 * np.sin(2 * np.pi * 100 * np.arange(2 * FRAME) / RATE)).astype(np.int16)
    loud = np.stack((loud, loud), axis=1)
    for _ in range(5):
        follower.feed(np.zeros((FRAME, 2), np.int16))
        follow.apply()
    assert generator.controls["gain"] == 0.5
    follower.feed(loud[:FRAME])
    follow.apply()
    follower.feed(loud[FRAME:])
    follow.apply()
    assert generator.controls["gain"] > 1.3


def test_a_whole_range_is_used_without_another(controller: ShowController, generator: Generator) -> None:
    levels = {"level": 1.0, "onset": 0.5}
    ControlMap(
        [ControlSource("gain", "audio.level"), ControlSource("drift", "audio.onset")], controller, lambda: levels
    ).apply()
    assert (generator.controls["gain"], generator.controls["drift"]) == (2.0, 2.0)


def test_a_hand_wins_while_the_source_is_still(controller: ShowController, generator: Generator) -> None:
    levels = {"bass": 0.5}
    follow = ControlMap([ControlSource("gain", "audio.bass")], controller, lambda: levels)
    follow.apply()
    controller.set_control("gain", 0.1)
    levels["bass"] = 0.5005
    follow.apply()
    assert generator.controls["gain"] == 0.1
    levels["bass"] = 0.6
    follow.apply()
    assert generator.controls["gain"] == pytest.approx(1.2)
    levels["bass"] = 0.0005
    follow.apply()
    levels["bass"] = 0.0
    follow.apply()
    assert generator.controls["gain"] == 0.0


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (ControlSource("gian", "audio.bass"), '--map gian=audio.bass: there is no control "gian"'),
        (ControlSource("seed", "audio.bass"), "seed makes a new scene at each value: it cannot follow anything"),
        (ControlSource("gain", "audio.bass", (0.0, 3.0)), "gain must be from 0 to 2, got 3.0"),
    ],
)
def test_what_cannot_follow_is_refused(controller: ShowController, source: ControlSource, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ControlMap([source], controller, dict)


def test_a_mapping_needs_a_sound_and_a_control_of_its_own() -> None:
    bass, high = ControlSource("motion", "audio.bass"), ControlSource("motion", "audio.high")
    with pytest.raises(ValueError, match=r"^--map motion=audio.bass needs a sound: add --sound mic, a file, or input$"):
        check_sources([bass], [], None)
    with pytest.raises(ValueError, match="motion is mapped twice: leave one of its mappings out"):
        check_sources([bass, high], [], dict)
    with pytest.raises(ValueError, match="motion is mapped twice"):
        check_sources([bass], ["motion"], dict)
    check_sources([bass], ["gain"], dict)
    check_sources([], ["gain"], None)
