"""A person over a show: what is behind, failures that must not show the live input, and nobody there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime import EngineError, Generator
from streaming.arguments import parse
from streaming.control.controller import ShowController
from streaming.control.cues import Cue
from streaming.show.presenter import Presenter
from tests import tiny
from tests.runtime.compositing.test_composite import build_matte
from tests.streaming.control.test_scenes import bundle as scenes_bundle  # noqa: F401 - a fixture
from tests.streaming.doubles import WAIT_S
from tests.streaming.inputs.test_live_input import write_clip

STEP_S = Fraction(1, 10)


def person() -> np.ndarray:
    """Return a live frame whose left half is a person, i.e. white; stripes on the right that a blur removes."""
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, :32] = 255
    picture[:, 40::4] = 40
    return picture


def nobody() -> np.ndarray:
    return np.zeros((48, 64, 3), np.uint8)


class ScriptedInput:
    """A live input that shows what it is told."""

    def __init__(self) -> None:
        self.draw: Callable[[], np.ndarray] = person
        self.is_lost = False

    def frame(self) -> np.ndarray:
        return self.draw()


class Stand:
    """A presenter, a tiny show, and a live input that does as told; ten frames a second."""

    def __init__(self, folder: Path, show: Path, words: tuple[str, ...], pixels: str = "i420") -> None:
        matte = build_matte(folder / "matte")
        words = ("--engine", "onnxruntime", "--input", "testcard", "--matte", str(matte), "--pixels", pixels, *words)
        self.said: list[str] = []
        self.changes: list[str] = []
        self.input, self.controller, self.now_s = ScriptedInput(), ShowController(), Fraction(0)
        with ExitStack() as stack:
            self.generator = stack.enter_context(Generator.open(show, engine="onnxruntime", threads=1, pixels=pixels))
            stack.callback(self.controller.close)
            if self.generator.manifest.scenes:
                self.generator.condition(scene="red")
            options = parse([str(show), *words])
            self.presenter = Presenter(options, self.generator, self.controller, 1, self.said.append)
            stack.callback(self.presenter.close)
            self.controller.attach(self.generator, "a show")
            self.controller.on_change.append(lambda: self.changes.append(self.presenter.person))
            self.close = stack.pop_all().close

    def play(self, seconds: str) -> np.ndarray:
        """Return the last frame of so many seconds."""
        for _ in range(int(Fraction(seconds) / STEP_S)):
            frame = self.presenter.frame(self.generator, self.input, self.now_s).copy()  # type: ignore[arg-type]
            for feeding in self.presenter._feeding.values():
                if feeding.exception() is None:
                    feeding.result()
            self.now_s += STEP_S
        return frame

    def made(self) -> np.ndarray:
        """Return the show's own last frame."""
        assert self.presenter._made is not None
        return self.presenter._made[1]


Opener = Callable[..., Stand]


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Opener]:
    with ExitStack() as stack:

        def open_stand(*words: str, show: Path | None = None, pixels: str = "i420") -> Stand:
            found = Stand(tmp_path, show or tiny.build(tmp_path / "tiny"), words, pixels)
            stack.callback(found.close)
            return found

        yield open_stand


def test_a_picture_may_be_behind_the_person_and_the_page_may_choose(stand: Opener, tmp_path: Path) -> None:
    Image.fromarray(np.full((48, 64, 3), 255, np.uint8)).save(tmp_path / "white.png")
    played = stand("--behind", str(tmp_path / "white.png"), "--control", "matte.feather=0.3")
    assert played.controller.state()["behind"] == {"what": "picture", "choices": ["show", "blur", "green", "picture"]}
    frame = played.play("0.8")
    assert np.all(frame[:48] == 235)
    assert played.controller.set_behind("000000")["what"] == "000000"
    frame = played.play("0.2")
    assert np.all(frame[:48, 44:] == 16)
    played.controller.set_behind("show")
    frame = played.play("0.2")
    assert np.array_equal(frame[:48, 44:], played.made()[:48, 44:])
    played.controller.set_behind("picture")
    assert np.all(played.play("0.2")[:48] == 235)
    with pytest.raises(ValueError, match="behind the person is show, blur, green or a colour as RRGGBB, got '/etc"):
        played.controller.set_behind("/etc/passwd")


def test_the_whole_picture_of_the_input_is_not_made_a_scene(stand: Opener) -> None:
    played = stand()
    played.controller.input = played.input  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"^with --matte only the person of the input is shown"):
        played.controller.animate()
    cue = Cue(Fraction(1), "image", "input")
    with pytest.raises(ValueError, match=r"^the cue at 1 s shows the whole picture of the input"):
        played.controller.schedule([cue], dissolve_s=1.0, say=played.said.append)


@pytest.mark.live
def test_a_clip_may_be_behind_the_person(stand: Opener, tmp_path: Path) -> None:
    played = stand("--behind", str(write_clip(tmp_path / "clip.mkv")))
    backdrop = played.presenter._backdrop
    assert backdrop is not None
    clip = backdrop._clip
    assert clip is not None
    levels: set[int] = set()
    while len(levels) < 3:
        with clip._news:
            assert clip._news.wait_for(lambda: clip.num_frames != backdrop._seen, WAIT_S)
        played.play("0.1")
        levels.add(int(played.play("0.1")[24, 60]))


def test_what_is_no_file_is_refused(stand: Opener, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"got 'beach\.jpg'; a picture or a clip is possible too, and there is no file"
    ):
        stand("--behind", "beach.jpg")


@pytest.mark.parametrize("what", ["beach.jpg", "red"])
def test_what_cannot_be_shown_for_an_absence_is_refused(stand: Opener, what: str) -> None:
    with pytest.raises(ValueError, match=f"--away is blur, or a picture; got '{what}', and there is no file"):
        stand("--away", what)


def failing(*_: object) -> None:
    raise EngineError("the graphics card is gone")


@pytest.mark.parametrize("behind", ["show", "blur", "0000ff"])
def test_if_the_matte_fails_the_live_input_is_not_shown(
    stand: Opener, behind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = stand("--behind", behind)
    played.play("0.8")
    blurred = played.presenter.composite.blurred
    monkeypatch.setattr(played.presenter.composite._matte._step, "run", failing)
    frames = [played.play("0.1") for _ in range(4)]
    if behind == "0000ff":
        assert all(np.all(frame[:48] == frame[0, 0]) for frame in frames), "the colour alone"
    else:
        assert np.array_equal(frames[-1], played.made()), "the show alone"
    if behind == "blur":
        assert blurred is not None
        assert any(np.array_equal(frame, blurred) for frame in frames[:2])
        assert not np.array_equal(frames[-1], blurred)
    assert len(played.said) == 1
    assert played.said[0].startswith("the person is left out from now on: the graphics card is gone")


def test_if_light_cannot_be_opened_the_show_goes_on(stand: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    played = stand()
    played.play("0.3")
    monkeypatch.setattr(played.presenter.composite, "_open_stage", failing)
    played.controller.set_control("matte.wrap", 0.5)
    played.play("0.3")
    assert np.array_equal(played.play("0.1"), played.made())
    assert played.said == ["the person is left out from now on: the graphics card is gone"]


@pytest.mark.parametrize("behind", ["show", "blur", "0000ff"])
def test_a_lost_input_is_no_person(stand: Opener, behind: str) -> None:
    """Neither its last frame, nor the stand-in, which a matte may take for a person."""
    played = stand("--behind", behind)
    played.play("0.8")
    played.input.is_lost, played.input.draw = True, lambda: np.full((48, 64, 3), 255, np.uint8)
    frame = played.play("0.3")
    if behind == "0000ff":
        assert np.all(frame[:48] == frame[0, 0])
        assert frame[0, 0] < 60
    else:
        assert np.array_equal(frame, played.made())
    played.play("2.0")
    assert played.controller.state()["person"] == "away"
    played.input.is_lost, played.input.draw = False, person
    assert np.all(played.play("0.8")[:48, :20] == 235)
    assert played.controller.state()["person"] == "here"


def test_listeners_hear_whether_a_person_is_there(stand: Opener) -> None:
    played = stand()
    assert played.controller.state()["person"] == "here"
    played.play("0.5")
    assert played.changes == []
    played.input.draw = nobody
    played.play("1.9")
    assert played.changes == []
    played.play("0.5")
    assert played.changes == ["away"]
    played.input.draw = person
    played.play("0.5")
    assert played.changes == ["away", "here"]


def test_a_picture_is_shown_while_nobody_is_there(stand: Opener, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(tmp_path / "black.png")
    played = stand("--behind", "ffffff", "--away", str(tmp_path / "black.png"))
    assert np.all(played.play("1.0")[:48] == 235)
    played.input.draw = nobody
    assert np.all(played.play("5.0")[:48] == 235)
    fading = [int(played.play("0.1")[10, 10]) for _ in range(7)]
    assert fading == sorted(fading, reverse=True)
    assert fading[-1] == 16
    assert any(16 < level < 235 for level in fading)
    runs: list[int] = []
    stage = played.presenter.composite._stages[False]
    run = stage.run
    stage.run = lambda: (runs.append(1), run())  # type: ignore[assignment, func-returns-value]
    played.play("0.5")
    assert not runs, "what is not seen is not blended"
    played.input.draw = person
    back = [int(played.play("0.1")[10, 60]) for _ in range(8)]
    assert back == sorted(back)
    assert back[-1] == 235


def test_a_scene_is_shown_while_nobody_is_there(stand: Opener, scenes_bundle: Path) -> None:  # noqa: F811
    played = stand("--behind", "000000", "--away", "blue", show=scenes_bundle, pixels="rgb")
    assert np.all(played.play("1.0")[:, 50:] == 0)
    played.input.draw = nobody
    frame = played.play("7.0")
    assert np.abs(frame[18, 50].astype(int) - (30, 30, 200)).max() <= 2
    played.input.draw = person
    frame = played.play("1.5")
    assert np.all(frame[:, 50:] == 0)
    played.controller.set_behind("show")
    frame = played.play("2.0")
    assert np.abs(frame[18, 50].astype(int) - (200, 30, 30)).max() <= 2, "the scene that was on air is back"


def test_a_scene_that_was_taken_meanwhile_stays(stand: Opener, scenes_bundle: Path) -> None:  # noqa: F811
    played = stand("--away", "blue", show=scenes_bundle, pixels="rgb")
    played.play("0.5")
    played.input.draw = nobody
    played.play("7.0")
    played.generator.condition(scene="green")
    played.input.draw = person
    frame = played.play("1.5")
    assert np.abs(frame[18, 50].astype(int) - (30, 200, 30)).max() <= 2


def test_the_blurred_input_may_be_shown_while_nobody_is_there(stand: Opener) -> None:
    played = stand("--away", "blur")
    played.play("0.5")

    def room() -> np.ndarray:
        picture = nobody()
        picture[:, ::4] = 40
        return picture

    played.input.draw = room
    shown = played.play("7.0")[:48].astype(float)
    assert 16 < shown.mean() < 40
    assert shown[:, 20:40].std() < 0.3 * np.where(np.arange(20) % 4 == 0, 50, 16).std()
    played.input.is_lost = True
    assert np.array_equal(played.play("0.2"), played.made()), "there is nothing to blur"
