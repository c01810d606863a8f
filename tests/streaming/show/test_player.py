"""The generator of a show, opened again, and a person over it."""

from __future__ import annotations

from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime import BundleError, EngineError
from streaming.arguments import parse
from streaming.control.controller import NOTICE, ShowController
from streaming.inputs.page_camera import PageCamera
from streaming.output.pacing import Pacer
from streaming.show.player import Player
from tests import tiny
from tests.fakes import FakeClock
from tests.runtime.compositing.test_composite import build_matte


def test_only_the_bundle_of_the_show_is_opened_again(tmp_path: Path) -> None:
    folder = tiny.build(tmp_path / "tiny")
    options = parse([str(folder), "--engine", "onnxruntime", "--pixels", "rgb"])
    with Player(options, folder, ShowController(), lambda _: None) as player:
        before = player.generator
        player._reopen()
        again = player.generator
        assert again is not before
        tiny.build(folder, memories=False)
        with pytest.raises(BundleError, match="was changed during the show"):
            player._reopen()
        assert player.generator is again


def test_a_person_of_the_input_stands_before_the_show(tmp_path: Path) -> None:
    show, matte = tiny.build(tmp_path / "tiny"), build_matte(tmp_path / "matte")
    white = np.zeros((48, 64, 3), np.uint8)
    white[:, :32] = 255
    Image.fromarray(white).save(tmp_path / "half.png")
    words = ["--engine", "onnxruntime", "--input", str(tmp_path / "half.png"), "--matte", str(matte)]
    options = parse([str(show), *words, "--control", "matte.feather=0.3", "--mirror"])
    controller, clock = ShowController(), FakeClock()
    with Player(options, show, controller, lambda _: None) as player:
        assert {"matte.feather", "matte.threshold", "sway"} <= {item["name"] for item in controller.state()["controls"]}
        controller.set_control("matte.threshold", 0.4)
        assert player._presenter is not None
        values = player._presenter.composite.controls
        assert (values["matte.feather"], values["matte.threshold"]) == (0.3, 0.4)
        player._input.wait_picture(30.0)  # type: ignore[union-attr]
        frames = [frame.copy() for frame in islice(player.frames(Pacer(clock, Fraction(30)), clock), 12)]
    assert frames[-1].shape == (72, 64)
    assert np.all(frames[-1][:48, 44:] == 235), "white, and mirrored"
    assert frames[-1][:48, :20].std() > 3, "the show is seen beside it"


def test_the_show_begins_without_the_page_s_camera(tmp_path: Path) -> None:
    show, matte = tiny.build(tmp_path / "tiny"), build_matte(tmp_path / "matte")
    words = ["--engine", "onnxruntime", "--input", "page", "--matte", str(matte), "--to", "http://127.0.0.1:0"]
    controller, clock = ShowController(), FakeClock()
    with Player(parse([str(show), *words[:2]]), show, ShowController(), lambda _: None) as alone:
        expected = [frame.copy() for frame in islice(alone.frames(Pacer(FakeClock(), Fraction(30)), FakeClock()), 3)]
    with Player(parse([str(show), *words]), show, controller, lambda _: None) as player:
        frames = player.frames(Pacer(clock, Fraction(30)), clock)
        assert all(np.array_equal(next(frames), frame) for frame in expected), "nobody is over the show yet"
        assert controller.state()["input"]["state"] == "no camera yet"
        with pytest.raises(ValueError, match="with --matte only the person of the input is shown"):
            controller.animate()
        camera = player._input
        assert isinstance(camera, PageCamera)
        camera._latest.put(np.full((48, 64, 3), 255, np.uint8))
        camera.wait_picture(30.0)
        last = [frame.copy() for frame in islice(frames, 12)][-1]
    assert np.all(last[:48, 4:60] == 235), "somebody all in white"


def test_a_bundle_with_a_live_input_gets_the_stand_in_until_the_page_s_camera_is_there(tmp_path: Path) -> None:
    folder = tiny.build(tmp_path / "tiny", live=True)
    Image.fromarray(np.full((48, 64, 3), 200, np.uint8)).save(tmp_path / "slate.png")
    fed: list[int] = []
    words = ["--engine", "onnxruntime", "--input", "page", "--fallback", str(tmp_path / "slate.png")]
    clock = FakeClock()
    with Player(parse([str(folder), *words]), folder, ShowController(), lambda _: None) as player:
        feed = player.generator.feed_live
        player.generator.feed_live = lambda frame: (fed.append(int(frame[0, 0, 0])), feed(frame))  # type: ignore[method-assign]
        frames = player.frames(Pacer(clock, Fraction(30)), clock)
        next(frames)
        assert isinstance(player._input, PageCamera)
        player._input._latest.put(np.full((48, 64, 3), 90, np.uint8))
        player._input.wait_picture(30.0)
        next(frames)
    assert fed == [200, 90]


def test_a_control_of_the_matte_may_be_a_cue(tmp_path: Path) -> None:
    show, matte = tiny.build(tmp_path / "tiny"), build_matte(tmp_path / "matte")
    words = [
        "--engine",
        "onnxruntime",
        "--input",
        "testcard",
        "--matte",
        str(matte),
        "--cue",
        "0.1:matte.threshold=0.7",
    ]
    controller, clock = ShowController(), FakeClock()
    with Player(parse([str(show), *words]), show, controller, lambda _: None) as player:
        pacer = Pacer(clock, Fraction(30))
        for _ in islice(player.frames(pacer, clock), 8):
            pacer.pace()
        assert player._presenter is not None
        assert player._presenter.composite.controls["matte.threshold"] == 0.7


def test_the_show_goes_on_without_the_person_if_the_composite_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    show, matte = tiny.build(tmp_path / "tiny"), build_matte(tmp_path / "matte")
    options = parse([str(show), "--engine", "onnxruntime", "--input", "testcard", "--matte", str(matte)])
    said: list[str] = []
    clock = FakeClock()
    with Player(options, show, ShowController(), said.append) as player:

        def fail(frame: object) -> None:
            raise EngineError("the graphics card is gone")

        assert player._presenter is not None
        monkeypatch.setattr(player._presenter.composite, "over", fail)
        frames = list(islice(player.frames(Pacer(clock, Fraction(30)), clock), 3))
    assert [frame.shape for frame in frames] == [(72, 64)] * 3
    assert said == ["the person is left out from now on: the graphics card is gone"]


def test_the_generator_is_closed_first_because_the_controller_may_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    show, controller = tiny.build(tmp_path / "tiny"), ShowController()
    closed: list[str] = []
    player = Player(parse([str(show), "--engine", "onnxruntime"]), show, controller, lambda _: None)
    close_generator, close_controller = player.generator.close, controller.close
    monkeypatch.setattr(player.generator, "close", lambda: (closed.append("generator"), close_generator()))
    monkeypatch.setattr(controller, "close", lambda: (closed.append("controller"), close_controller()))
    player.close()
    assert closed == ["generator", "controller"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--mirror"], "--mirror is for the person of --matte: add --matte BUNDLE"),
        (["--behind", "blur"], "--behind is for the person of --matte: add --matte BUNDLE"),
        (["--away", "blur"], "--away is for the person of --matte: add --matte BUNDLE"),
        (["--matte", "M", "--input", "testcard", "--behind", "grey"], "behind the person is show, blur, green or"),
        (["--matte", "M"], "--matte cuts a person out of a live input: add --input webcam"),
        (["--matte", "SHOW", "--input", "testcard"], "tiny is no matte: it must turn a live input into frames"),
        (
            ["--matte", "M", "--input", "testcard", "--control", "matte.fether=1"],
            "there is no control matte.fether; expected matte.feather",
        ),
        (
            ["--matte", "M", "--input", "testcard", "--control", "matte.feather=2"],
            "matte.feather must be from 0.0 to 1.0",
        ),
    ],
)
def test_what_does_not_fit_is_refused(words: list[str], sentence: str, tmp_path: Path) -> None:
    show, matte = tiny.build(tmp_path / "tiny"), build_matte(tmp_path / "matte")
    words = [{"M": str(matte), "SHOW": str(show)}.get(word, word) for word in words]
    options = parse([str(show), "--engine", "onnxruntime", *words])
    with pytest.raises(ValueError, match=sentence):
        Player(options, show, ShowController(), lambda _: None)


@pytest.mark.parametrize("is_live", [True, False])
def test_a_live_picture_that_is_changed_brings_a_notice(tmp_path: Path, is_live: bool) -> None:
    folder = tiny.build(tmp_path / "tiny", live=True)
    Image.fromarray(np.full((48, 64, 3), 200, np.uint8)).save(tmp_path / "somebody.png")
    source = str(tmp_path / "somebody.png") if is_live else "testcard"
    said: list[str] = []
    controller = ShowController()
    with Player(parse([str(folder), "--engine", "onnxruntime", "--input", source]), folder, controller, said.append):
        assert said.count(NOTICE) == is_live
        assert controller.state()["notice"] == (NOTICE if is_live else "")


def test_a_person_of_a_matte_brings_no_notice(tmp_path: Path) -> None:
    show, matte = tiny.build(tmp_path / "tiny"), build_matte(tmp_path / "matte")
    Image.fromarray(np.full((48, 64, 3), 200, np.uint8)).save(tmp_path / "somebody.png")
    words = ["--engine", "onnxruntime", "--input", str(tmp_path / "somebody.png"), "--matte", str(matte)]
    said: list[str] = []
    with Player(parse([str(show), *words]), show, ShowController(), said.append):
        assert NOTICE not in said


def test_the_first_prompt_is_announced(tmp_path: Path) -> None:
    folder = tiny.build(tmp_path / "tiny")
    controller, shown = ShowController(), list[tuple[object, float]]()
    controller.on_prompt.append(lambda parts, at_s: shown.append((dict(parts), at_s)))
    with Player(parse([str(folder), "--engine", "onnxruntime", "--seed", "9"]), folder, controller, lambda _: None):
        assert shown == [({"seed": 9}, 0.0)]
