"""Motion that is drawn while the show runs: over the scene on air, by the page's API, by cues and at the start."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from export import scenes
from export.scenes import add_scenes
from runtime import Generator
from runtime.prompts.hints import Hints
from streaming.arguments import parse
from streaming.control.controller import NotReadyError, ShowController
from streaming.control.cues import Cue
from streaming.control.drawing import Drawing
from streaming.page.actions import ACTIONS
from streaming.show.player import Player
from tests import flowing, moving
from tests.runtime.clips.clip_of_waves import waves
from tests.runtime.prompted import build as build_prompted
from tests.streaming.control.test_controller import Waiting
from tests.streaming.page.test_control_room import Room, say, state_where

RIGHT = {
    "vectors": [[0.3, 0.5, 0.2, 0.0]],
    "strokes": [{"kind": "moving", "radius": 0.5, "points": [[0.5, 0.5]]}],
}
NOTHING: dict[str, Any] = {"vectors": [], "strokes": []}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with two scenes in which nothing moves until somebody draws."""
    folder = tmp_path_factory.mktemp("flowing")
    tables = []
    for number, name in enumerate(("one", "two")):
        Image.fromarray(moving.picture_of(flowing.WIDTH, flowing.HEIGHT, number)).save(folder / f"{name}.png")
        tables.append(
            f'[[scene]]\nname = "{name}"\ntitle = "picture {name}"\npicture = "{name}.png"\n'
            'credit = "the tests"\nlicence = "CC0-1.0"'
        )
    (folder / "scenes.toml").write_text("\n".join(tables))
    path = flowing.build(folder / "bundle")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes, "SIZE", (flowing.WIDTH, flowing.HEIGHT))
        add_scenes(path, folder / "scenes.toml", folder)
    return path


@pytest.fixture
def generator(bundle: Path) -> Iterator[Generator]:
    with Generator.open(bundle, engine="onnxruntime", threads=1) as generator:
        generator.condition(scene="one")
        yield generator


@pytest.fixture
def controller(generator: Generator) -> Iterator[ShowController]:
    controller = ShowController()
    controller.attach(generator, "one", "one")
    yield controller
    controller.close()


@pytest.fixture
def room(generator: Generator) -> Iterator[Room]:
    room = Room(generator)
    room.controller.attach(generator, "one", "one")
    yield room
    room.close()


def after(generator: Generator, count: int) -> np.ndarray:
    """Return the last one of some frames."""
    return [next(generator).copy() for _ in range(count)][-1].astype(int)


def test_what_is_drawn_moves_and_is_undone(controller: ShowController, generator: Generator) -> None:
    picture = after(generator, 1)
    assert controller.state()["hints"] == NOTHING
    assert controller.draw(Hints.from_json(RIGHT)) == {"hints": RIGHT}
    assert np.abs(after(generator, 8) - picture).mean() > 2
    assert controller.state()["on_air"] == "one", "it is the same scene"
    assert controller.state()["cues"] == []
    controller.draw(Hints(), 0.0)
    assert np.array_equal(after(generator, 1), picture)


def test_saved_hints_come_back_with_the_scene(controller: ShowController, generator: Generator) -> None:
    waiting = Waiting(controller)
    picture = after(generator, 1)

    def show(number: int) -> np.ndarray:
        controller.prepare({"scene": "one"} if number % 2 else {"scene": "two"}, take_s=0.0)
        waiting.until(lambda cues: len(cues) == number and cues[-1]["state"] == "on air")
        return after(generator, 6)

    first = controller.prepare({"scene": "one"}, take_s=0.0)["id"]
    waiting.until(lambda cues: cues[-1]["state"] == "on air")
    controller.draw(Hints.from_json(RIGHT), 0.0)
    show(2)
    assert np.array_equal(show(3), picture), "what was not saved is gone"
    controller.draw(Hints.from_json(RIGHT), 0.0)
    assert controller.save_hints() == {"hints": RIGHT}
    assert controller.state()["saved"] == ["one"]
    other = show(4)
    assert np.array_equal(other, after(generator, 1)), "the other scene has none"
    assert np.abs(show(5) - picture).mean() > 2
    show(6)
    controller.take(first, 0.0)
    assert np.abs(after(generator, 6) - picture).mean() > 2, "cues of this scene have them, too"
    controller.draw(Hints(), 0.0)
    controller.save_hints()
    controller.prepare({"scene": "one"}, take_s=0.0)
    waiting.until(lambda cues: len(cues) == 7 and cues[-1]["state"] == "on air")
    assert np.array_equal(after(generator, 6), picture), "and so are they removed"


def test_drawing_ends_scenes_in_turn(controller: ShowController, generator: Generator) -> None:
    controller.cycle(["one", "two"], Fraction(1))
    after(generator, 1)
    controller.draw(Hints.from_json(RIGHT))
    for second in range(5):
        controller.play(Fraction(second))
    assert controller.state()["on_air"] == "one"
    assert controller._timed == []


def test_a_cue_draws_over_what_is_on_air(controller: ShowController, generator: Generator, tmp_path: Path) -> None:
    (tmp_path / "hints.json").write_text(json.dumps(RIGHT))
    waiting, said = Waiting(controller), list[str]()
    picture = after(generator, 1)
    path = str(tmp_path / "hints.json")
    controller.schedule([Cue(Fraction(1), "hints", path)], dissolve_s=0.0, say=said.append)
    controller.play(Fraction(0))
    assert controller._timed[0].state == "waiting", "another scene may come before it"
    controller.play(Fraction(1))
    waiting.until(lambda _: not controller._timed or controller._timed[0].state == "ready")
    controller.play(Fraction(1))
    assert np.abs(after(generator, 8) - picture).mean() > 2
    assert controller.state()["on_air"] == "one"
    assert said == []
    with pytest.raises(ValueError, match="cannot be read"):
        controller.schedule([Cue(Fraction(1), "hints", "none.json")], dissolve_s=0.0, say=said.append)


def test_drawing_starts_again_if_another_scene_was_taken_meanwhile(generator: Generator) -> None:
    after(generator, 1)
    other, seen = generator.prepare(scene="two"), []

    def take(base: Any, drawn: Any) -> bool:
        seen.append((base, drawn))
        if len(seen) == 1:
            generator.take(other, dissolve_s=0.0)
            return False
        return True

    Drawing().draw(lambda: generator, Hints.from_json(RIGHT), take)
    assert [base for base, _ in seen][1] is other
    assert np.array_equal(seen[1][1].kept["image"], other.kept["image"])
    with pytest.raises(ValueError, match="the scene changed while its motion was drawn: draw again"):
        Drawing().draw(lambda: generator, Hints.from_json(RIGHT), lambda *_: False)


@pytest.mark.live
def test_motion_is_drawn_over_http_and_websocket(room: Room, generator: Generator) -> None:
    picture = after(generator, 1)
    assert room.ask("PUT", "/api/hints", {"hints": RIGHT, "dissolve_s": 0}) == (200, {"hints": RIGHT})
    assert room.ask("GET", "/api/state")[1]["hints"] == RIGHT
    assert np.abs(after(generator, 8) - picture).mean() > 2
    assert room.ask("POST", "/api/hints/save", {})[0] == 200
    with room.listen() as socket:
        state_where(socket, lambda state: state["saved"] == ["one"])
        assert say(socket, {"id": 1, "do": "draw", "hints": {}})["done"] == {"hints": NOTHING}
    for body, sentence in (
        ({}, "draw needs hints"),
        ({"hints": []}, "hints must be an object"),
        ({"hints": {"vectors": [[2, 0, 0, 0]]}}, "x and y of an arrow must be numbers from 0 to 1, got 2"),
        ({"hints": RIGHT, "dissolve_s": -1}, "dissolve_s must be from 0"),
    ):
        status, answer = room.ask("PUT", "/api/hints", body)
        assert status == 422
        assert sentence in answer["error"]
    status, answer = room.ask("POST", "/api/prompt", {"hints": RIGHT})
    assert (status, answer["error"][:33]) == (422, "a scene needs at least one of: im")


@pytest.mark.live
def test_prompts_and_uploads_carry_hints(room: Room, generator: Generator) -> None:
    after(generator, 1)
    waiting = Waiting(room.controller)
    assert room.ask("POST", "/api/prompt", {"scene": "two", "hints": RIGHT, "dissolve_s": 0})[0] == 201
    waiting.until(lambda cues: cues[-1]["state"] == "on air")
    assert room.controller.state()["hints"] == RIGHT
    path = f"/api/cues/image?dissolve_s=0&hints={quote(json.dumps({**RIGHT, 'vectors': []}))}"
    file = io.BytesIO()
    Image.fromarray(moving.picture_of(flowing.WIDTH, flowing.HEIGHT, 5)).save(file, "PNG")
    assert room.ask("POST", path, file.getvalue())[0] == 201
    waiting.until(lambda cues: cues[-1]["kind"] == "image" and cues[-1]["state"] == "on air")
    assert room.controller.state()["hints"] == {**RIGHT, "vectors": []}
    assert room.ask("POST", "/api/cues/image?hints={", b"")[0] == 422
    assert room.ask("POST", "/api/cues/image?hints=[]", b"")[0] == 422


def test_a_show_that_begins_with_hints(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "hints.json").write_text(json.dumps(RIGHT))
    for words, scene in ((["--scene", "two"], "two"), ([], "one")):
        controller = ShowController()
        arguments = [str(bundle), "--engine", "onnxruntime", "--pixels", "rgb", "--to", "raw.rgb", *words]
        options = parse([*arguments, "--hint", "0.2,0.5,0,-0.1", f"--hints={tmp_path / 'hints.json'}"])
        with Player(options, bundle, controller, print):
            state = controller.state()
        assert state["on_air"] == scene
        assert state["hints"]["vectors"] == [[0.3, 0.5, 0.2, 0.0], [0.2, 0.5, 0.0, -0.1]]
        assert controller._cycle is None
    with pytest.raises(ValueError, match="drawn over one picture: choose one by --scene NAME"):
        Player(parse([str(bundle), "--scene", "all", "--hint", "0,0,0,0"]), bundle, ShowController(), print)


@pytest.mark.parametrize("text", ["0.5,0.3,0", "2,0,0,0", "0,0,0,nan", "a,b,c,d", "0,0,3,0"])
def test_an_arrow_of_the_command_line_is_checked(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected X,Y,DX,DY in shares of the frame"):
        parse(["--hint", text])
    assert parse(["--hint=(0.5, 0.3, 0, -0.2)"]).hint == [(0.5, 0.3, 0.0, -0.2)]


def test_a_bundle_that_takes_no_hints(tmp_path: Path) -> None:
    with Generator.open(build_prompted(tmp_path / "prompted"), engine="onnxruntime", threads=1) as generator:
        next(generator)
        controller = ShowController()
        draw = next(action for action in ACTIONS if action.name == "draw")
        with pytest.raises(NotReadyError):
            draw.run(controller, draw.read({"hints": RIGHT}))
        controller.attach(generator, "")
        assert controller.state()["hints"] is None
        with pytest.raises(ValueError, match="takes no hints"):
            draw.run(controller, draw.read({"hints": RIGHT}))
        with pytest.raises(ValueError, match="nothing can be drawn over the scenes of prompted"):
            controller.save_hints()
        controller.close()


def test_nothing_is_drawn_over_a_clip_or_the_away_scene(controller: ShowController, generator: Generator) -> None:
    controller.is_held = True
    for act in (lambda: controller.draw(Hints.from_json(RIGHT)), controller.save_hints):
        with pytest.raises(ValueError, match="the away scene is shown"):
            act()
    controller.is_held = False
    generator.condition(clip=waves(14, flowing.WIDTH, flowing.HEIGHT, period=8))
    next(generator)
    assert controller.state()["hints"] is None
    for act in (lambda: controller.draw(Hints.from_json(RIGHT)), controller.save_hints):
        with pytest.raises(ValueError, match=r"none can be drawn over it|nothing can be drawn over"):
            act()
    assert controller.state()["saved"] == []


def test_a_text_that_is_the_name_of_a_scene_is_not_that_scene(generator: Generator) -> None:
    controller = ShowController()
    controller.attach(generator, "one")
    next(generator)
    controller.draw(Hints.from_json(RIGHT), 0.0)
    controller.save_hints()
    assert controller.state()["saved"] == []
    controller.close()
