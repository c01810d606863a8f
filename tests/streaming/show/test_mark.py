"""The mark of a show: on by default, in every frame, once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from runtime import EngineError
from runtime.bundle.tensors import TensorSpec
from runtime.marking.graph import mark_frame
from runtime.marking.payload import format_payload
from runtime.marking.plane import make_plane
from streaming import Frame, Sink, StreamFormat, stream
from streaming.arguments import parse
from streaming.control.controller import ShowController
from streaming.output.pacing import Pacer
from streaming.show.mark import show_mark, to_invitation, to_text
from streaming.show.player import Player
from tests import moving, tiny
from tests.fakes import FakeClock
from tests.runtime.compositing.test_composite import build_matte
from tests.streaming.show.test_presenter import ScriptedInput, nobody
from verify import read_mark

PAYLOAD = 0xC0FFEE123456
TEXT = "c0ffee123456"


def by_hand(frame: np.ndarray) -> np.ndarray:
    """Return an unmarked I420 frame with the mark."""
    spec = TensorSpec("frame", "uint8", (1, *frame.shape), "frame", pixels="i420")
    return mark_frame(frame, make_plane(PAYLOAD, spec), "i420")


class KeepingSink(Sink):
    """Keeps the brightness of its frames."""

    name = "keeping"

    def open(self, stream_format: StreamFormat) -> None:
        self.format = stream_format
        self.luma: list[np.ndarray] = []

    def write(self, frame: Frame) -> bool:
        self.luma.append(frame.picture[: self.format.height].copy())
        return True

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture(scope="module")
def moving_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return moving.build(tmp_path_factory.mktemp("marks") / "moving")


def test_shows_are_marked_unless_told_otherwise(
    moving_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(moving.picture_of(640, 360)).save(tmp_path / "a.png")
    how = {"seconds": 0.2, "engine": "onnxruntime", "size": "640x360", "image": tmp_path / "a.png", "adapt": "off"}
    sink = KeepingSink()
    assert stream(moving_bundle, to=[sink], mark_payload=TEXT, **how) == 0
    assert sink.format.stats()["mark"] == TEXT
    assert {finding.payload for finding in read_mark(sink.luma, searches=0)} == {TEXT}
    said = capsys.readouterr().err
    assert f"mark: {TEXT}, in every frame" in said
    assert f"mark    {TEXT}" in said

    sink = KeepingSink()
    assert stream(moving_bundle, to=[sink], **how) == 0
    told = str(sink.format.stats()["mark"])
    assert told not in (TEXT, "none")
    assert {finding.payload for finding in read_mark(sink.luma, searches=0)} == {told}

    sink = KeepingSink()
    capsys.readouterr()
    assert stream(moving_bundle, to=[sink], no_mark=True, **how) == 0
    assert sink.format.stats()["mark"] == "none"
    assert read_mark(sink.luma, searches=0) == []
    assert "mark: none (--no-mark)" in capsys.readouterr().err


def test_a_payload_is_given_or_random() -> None:
    assert show_mark(no_mark=True, payload=None) is None
    assert show_mark(no_mark=False, payload=7) == 7
    assert show_mark(no_mark=False, payload=None) != show_mark(no_mark=False, payload=None)
    assert (to_text(None), to_text(PAYLOAD)) == ("none", TEXT)
    assert "--no-mark" in to_invitation(None, 640, 360)
    assert f"mark: {format_payload(PAYLOAD)}, in every frame" in to_invitation(PAYLOAD, 640, 360)


@pytest.mark.parametrize(("width", "height", "is_read"), [(64, 64, False), (640, 254, False), (256, 456, True)])
def test_nobody_is_invited_to_read_the_mark_of_tiny_frames(width: int, height: int, is_read: bool) -> None:
    line = to_invitation(PAYLOAD, width, height)
    assert ("everframe verify reads it" in line) == is_read
    assert (f"{width} x {height} is too small to read it reliably, which takes 256 x 256" in line) != is_read


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--mark-payload", "12"], "12 hexadecimal digits, e.g. 00c0ffee1234, got '12'"),
        (["--mark-payload", TEXT, "--no-mark"], "exclude each other: leave one out"),
    ],
)
def test_bad_arguments_are_one_sentence(arguments: list[str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse(arguments)
    assert parse(["--mark-payload", TEXT]).mark_payload == PAYLOAD


def test_the_fallback_picture_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    show = tiny.build(tmp_path / "tiny")
    Image.fromarray(np.full((48, 64, 3), 128, np.uint8)).save(tmp_path / "slate.png")
    words = [str(show), "--engine", "onnxruntime", "--fallback", str(tmp_path / "slate.png")]
    clock, found = FakeClock(), []
    for mark in (None, PAYLOAD):
        with Player(parse(words), show, ShowController(), lambda _: None, None, mark) as player:
            frames = player.frames(Pacer(clock, Fraction(30)), clock)

            def fail(_generator: object) -> None:
                raise EngineError("broken")

            with monkeypatch.context() as patched:
                patched.setattr(type(player.generator), "__next__", fail)
                found.append(next(frames).copy())
    assert np.array_equal(found[1], by_hand(found[0]))
    assert not np.array_equal(found[1], found[0])


class InTurn:
    """An executor that does everything at once, so that two runs see the same live frames."""

    def submit(self, act: Callable[[Any], None], picture: np.ndarray) -> Future[None]:
        done: Future[None] = Future()
        done.set_result(act(picture))
        return done

    def shutdown(self) -> None:
        """Do nothing."""


Runner = Callable[..., list[np.ndarray]]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """Return what plays the frames of a show with a person, with and without a mark."""
    show, matte = tiny.build(tmp_path / "tiny"), build_matte(tmp_path / "matte")

    def run(mark: int | None, *words: str, nobody_from: int, count: int, breaks_at: int = 1000) -> list[np.ndarray]:
        arguments = [str(show), "--engine", "onnxruntime", "--input", "testcard", "--matte", str(matte), *words]
        frames: list[np.ndarray] = []
        with Player(parse(arguments), show, ShowController(), lambda _: None, None, mark) as player:
            source, presenter = ScriptedInput(), player._presenter
            assert presenter is not None
            assert player._input is not None
            player._input.on_frame = lambda: None  # the test card is not used
            presenter._feeder.shutdown()
            presenter._feeder = InTurn()  # type: ignore[assignment]
            for number in range(count):
                if number == nobody_from:
                    source.draw = nobody
                if number == breaks_at:

                    def fail(*_: object) -> None:
                        raise EngineError("broken")

                    monkeypatch.setattr(presenter.composite, "update", fail)
                frame = presenter.frame(player.generator, source, Fraction(number, 10))  # type: ignore[arg-type]
                frames.append(frame.copy())
        return frames

    return run


def check_marked_once(plain: list[np.ndarray], marked: list[np.ndarray]) -> None:
    for number, (one, two) in enumerate(zip(plain, marked, strict=True)):
        assert np.array_equal(two, by_hand(one)), number
        assert not np.array_equal(one, two)


@pytest.mark.parametrize("words", [(), ("--behind", "blur"), ("--behind", "00b140")])
def test_a_show_with_a_person_is_marked_once(play: Runner, words: tuple[str, ...]) -> None:
    how = {"nobody_from": 4, "count": 8}
    check_marked_once(play(None, *words, **how), play(PAYLOAD, *words, **how))


def test_what_is_shown_without_a_matte_engine_is_marked(play: Runner) -> None:
    how = {"nobody_from": 100, "count": 6, "breaks_at": 3}
    check_marked_once(play(None, **how), play(PAYLOAD, **how))


@pytest.mark.parametrize("away", ["blur", "picture"])
def test_what_is_shown_while_nobody_is_there_is_marked(play: Runner, tmp_path: Path, away: str) -> None:
    Image.fromarray(np.full((48, 64, 3), 180, np.uint8)).save(tmp_path / "away.png")
    word = str(tmp_path / "away.png") if away == "picture" else away
    how = {"nobody_from": 3, "count": 75}
    plain, marked = (play(mark, "--away", word, **how) for mark in (None, PAYLOAD))
    assert np.array_equal(marked[-1], by_hand(plain[-1])), "away"
    assert not np.array_equal(plain[-1], plain[2])
    # While one fades into the other, both are marked, and what was rounded differs by a level or two.
    differences = [np.abs(two.astype(int) - by_hand(one)).max() for one, two in zip(plain, marked, strict=True)]
    assert max(differences) <= 2
    assert np.count_nonzero(differences) <= 6
