"""Scenes of a bundle on air: one after the other, and those that somebody chooses."""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.scenes import add_scenes
from runtime import Generator
from streaming.control.controller import ShowController, UnknownError
from streaming.control.cues import Cue
from tests import moving
from tests.runtime.clips.clip_of_waves import waves, write
from tests.streaming.control.test_controller import Waiting
from tests.streaming.page.test_control_room import Room, state_where

COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with three plain scenes."""
    folder = tmp_path_factory.mktemp("scenes")
    tables = []
    for name, colour in COLOURS.items():
        Image.new("RGB", (64, 36), colour).save(folder / f"{name}.png")
        tables.append(
            f'[[scene]]\nname = "{name}"\ntitle = "plain {name}"\npicture = "{name}.png"\n'
            'credit = "the tests"\nlicence = "CC0-1.0"'
        )
    (folder / "scenes.toml").write_text("\n".join(tables))
    path = moving.build(folder / "moving", frame=(64, 36))
    add_scenes(path, folder / "scenes.toml", folder)
    return path


@pytest.fixture
def generator(bundle: Path) -> Iterator[Generator]:
    with Generator.open(bundle, engine="onnxruntime", threads=1) as generator:
        generator.condition(scene="red")
        yield generator


@pytest.fixture
def controller(generator: Generator) -> Iterator[ShowController]:
    controller = ShowController()
    controller.attach(generator, "red", "red")
    yield controller
    controller.close()


def colour_of(frame: np.ndarray) -> str:
    return min(COLOURS, key=lambda name: float(np.abs(frame.mean(axis=(0, 1)) - COLOURS[name]).sum()))


def shown(controller: ShowController, generator: Generator, second: int) -> str:
    """Play one frame at a time of the show; returns its colour."""
    waiting = Waiting(controller)
    waiting.until(lambda _: not controller._timed or controller._timed[0].state in ("ready", "waiting"))
    controller.play(Fraction(second))
    return colour_of(next(generator))


def test_scenes_follow_one_another_without_an_end(controller: ShowController, generator: Generator) -> None:
    controller.schedule([], dissolve_s=0.0, say=pytest.fail)
    controller.cycle(list(COLOURS), Fraction(20))
    found = [shown(controller, generator, second) for second in (0, 19, 20, 39, 41, 60, 80, 99, 100)]
    assert found == ["red", "red", "green", "green", "blue", "red", "green", "green", "blue"]


def test_the_next_scene_is_not_prepared_while_one_fades_in(
    controller: ShowController, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both need the CPU: frames would be late."""
    asked: list[float | None] = []
    prepare = generator.prepare
    monkeypatch.setattr(
        generator, "prepare", lambda *, ahead_s, **parts: asked.append(ahead_s) or prepare(ahead_s=ahead_s, **parts)
    )
    controller.schedule([], dissolve_s=3.0, say=pytest.fail)
    controller.cycle(list(COLOURS), Fraction(20))
    waiting = Waiting(controller)
    begun = []
    for second in (0, 1, 20, 22, 23):
        controller.play(Fraction(second))
        waiting.until(lambda _: not controller._timed or controller._timed[0].state in ("ready", "waiting"))
        begun.append(len(asked))
        next(generator)
    assert begun == [0, 1, 1, 1, 2]  # the first one a second after the start, the second one when the first is in
    assert asked == [19.0, 17.0]  # seconds that there are for it


def test_a_cue_that_is_due_soon_is_prepared_at_once(controller: ShowController, generator: Generator) -> None:
    controller.schedule([Cue(Fraction(2), "scene", "green")], dissolve_s=1.0, say=pytest.fail)
    assert controller._timed[0].state in ("preparing", "ready")


def test_a_clip_is_read_long_before_it_is_due(controller: ShowController, generator: Generator, tmp_path: Path) -> None:
    """Also while the cue before it waits; but two clips at most are kept, and the one on air counts."""
    clips = [write(tmp_path / f"{number}.mkv", waves(40 + number, 64, 36)) for number in range(3)]
    cues = [Cue(Fraction(20), "scene", "green"), *(Cue(Fraction(at), "clip", str(clip)) for at, clip in
            zip((22, 24, 26), clips, strict=True))]  # fmt: skip
    controller.schedule(cues, dissolve_s=1.0, say=pytest.fail)
    waiting = Waiting(controller)

    def states(second: int) -> list[str]:
        controller.play(Fraction(second))
        waiting.until(lambda _: all(entry.state != "preparing" for entry in controller._timed))
        next(generator)
        return [entry.state for entry in controller._timed]

    assert states(0) == ["waiting"] * 4
    assert states(1) == ["ready", "waiting", "waiting", "waiting"], "the graph is free"
    assert states(11) == ["ready", "waiting", "waiting", "waiting"]
    assert states(12) == ["ready", "ready", "waiting", "waiting"], "10 s before it is due"
    assert states(20) == ["ready", "ready", "waiting"], "two clips wait"
    assert states(22) == ["ready", "waiting"]
    assert states(23) == ["ready", "waiting"], "a clip is on air, and another one waits"
    assert states(24) == ["ready"]


def test_a_scene_that_is_taken_ends_the_turns(controller: ShowController, generator: Generator) -> None:
    controller.schedule([], dissolve_s=0.0, say=pytest.fail)
    controller.cycle(list(COLOURS), Fraction(20))
    waiting = Waiting(controller)
    controller.prepare({"scene": "blue"}, take_s=0.0)
    (cue,) = waiting.until(lambda cues: cues[0]["state"] == "on air")
    assert (cue["label"], cue["kind"]) == ("blue", "scene")
    assert [shown(controller, generator, second) for second in (1, 20, 60)] == ["blue"] * 3


def test_a_scene_may_be_a_cue(controller: ShowController, generator: Generator) -> None:
    controller.schedule([Cue(Fraction(2), "scene", "green")], dissolve_s=0.0, say=pytest.fail)
    assert [shown(controller, generator, second) for second in (0, 2, 3)] == ["red", "green", "green"]
    with pytest.raises(ValueError, match=r'moving has no scene "gren" \(did you mean "green"'):
        controller.schedule([Cue(Fraction(2), "scene", "gren")], dissolve_s=0.0, say=pytest.fail)


def test_the_state_and_thumbnails_are_those_of_the_bundle(controller: ShowController) -> None:
    assert controller.state()["scenes"] == [{"name": name, "title": f"plain {name}"} for name in COLOURS]
    with Image.open(io.BytesIO(controller.thumbnail("green"))) as picture:
        assert picture.format == "JPEG"
        assert picture.width <= 192
        assert colour_of(np.asarray(picture)) == "green"
    with pytest.raises(UnknownError, match="there is no scene gren"):
        controller.thumbnail("gren")


@pytest.mark.live
def test_the_page_serves_thumbnails_and_shows_what_is_chosen(generator: Generator) -> None:
    room = Room(generator)
    try:
        status, picture = room.ask("GET", "/api/scenes/blue")
        assert status == 200
        assert colour_of(np.asarray(Image.open(io.BytesIO(picture)))) == "blue"
        with room.listen() as socket:
            assert room.ask("POST", "/api/prompt", {"scene": "blue", "dissolve_s": 0})[0] == 201
            assert state_where(socket, lambda state: state["on_air"] == "blue")["cues"][0]["kind"] == "scene"
        assert colour_of(next(generator)) == "blue"
        status, answer = room.ask("POST", "/api/prompt", {"scene": "blu"})
        assert (status, "has no scene" in answer["error"]) == (422, True)
    finally:
        room.close()
