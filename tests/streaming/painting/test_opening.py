"""Shows with --scene-from: what they begin with, what they refuse, what they state, and how they move."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from provenance.ledger.store import Ledger
from provenance.report import read_manifest_report
from runtime.bundle.reader import read_manifest
from runtime.painting import PicturePainter
from streaming import stream
from streaming.arguments import parse
from streaming.commandline import main
from streaming.control.controller import ShowController
from streaming.painting.painter import Painter
from streaming.show.player import Player
from tests import moving, painters, tiny
from tests.painters import HeldPainter
from tests.runtime import prompted, worded
from tests.streaming.control.test_controller import Waiting, states
from tests.streaming.show.relay import check_same, run
from tests.streaming.show.test_worded import CUT, LONG

WORDS = ("--engine", "onnxruntime", "--scene-engine", "onnxruntime", "--pixels", "rgb")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles: moving (animates, and has a seed), still (animates, and has nothing of its own), painter, seeds."""
    folder = tmp_path_factory.mktemp("bundles")
    moving.build(folder / "moving", frame=(48, 32))
    moving.build(folder / "still", frame=(48, 32), paint=False)
    painters.build(folder / "painter")
    painters.build(folder / "seeds", text=False)
    painters.build(folder / "texts", seed=False)
    painters.build(folder / "live", live=True)
    return folder


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Painters do not wait for idle moments, which a machine that runs other tests may not have."""
    monkeypatch.setattr("streaming.painting.opening.Painter", partial(Painter, idle_s=None))


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[HeldPainter]]:
    """The painters of shows, which paint in this process."""
    made: list[HeldPainter] = []

    def make(bundle: Path, _manifest: object, **options: Any) -> HeldPainter:
        made.append(HeldPainter(bundle, **{**options, "engine": "onnxruntime"}))
        return made[-1]

    monkeypatch.setattr("streaming.painting.opening.Painter", make)
    return made


def picture_of(bundle: Path, **words: Any) -> np.ndarray:
    with PicturePainter.open(bundle, engine="onnxruntime", threads=1) as painter:
        return list(painter.paint(**words))[-1].picture


def play(folder: Path, bundle: str, *words: str) -> tuple[Player, ShowController, list[str]]:
    controller, lines = ShowController(), list[str]()
    options = parse([str(folder / bundle), *WORDS, *words])
    return Player(options, folder / bundle, controller, lines.append), controller, lines


def test_a_show_begins_with_what_it_has_and_dissolves_to_the_picture(folder: Path, held: list[HeldPainter]) -> None:
    words = ["--scene-from", str(folder / "painter"), "--prompt", "the sea", "--seed", "5", "--dissolve", "0"]
    player, controller, _ = play(folder, "moving", *words, "--control", "painter.shade=0.5")
    waiting = Waiting(controller)
    with player:
        assert controller.kept()[0] == {"seed": 5}
        next(player.generator)
        waiting.until(lambda cues: states(cues) == ["on air"])
        assert held[0].jobs == [{"text": "the sea", "seed": 5}]
        frame = [next(player.generator).copy() for _ in range(2)][-1]
        expected = picture_of(folder / "painter", text="the sea", seed=5, controls={"shade": 0.5})
        assert np.abs(frame.astype(int) - expected).max() <= 3
        names = [control["name"] for control in controller.state()["controls"]]
        assert names[-2:] == ["painter.every", "painter.shade"]


def test_a_bundle_with_nothing_of_its_own_waits_for_the_first_picture(folder: Path, held: list[HeldPainter]) -> None:
    player, controller, lines = play(folder, "still", "--scene-from", str(folder / "painter"), "--text", "storm")
    with player:
        assert lines == ['painter paints "storm", and moving waits for it']
        expected = picture_of(folder / "painter", text="storm", seed=0)
        assert np.abs(next(player.generator).astype(int) - expected).max() <= 1
        assert controller.state()["on_air"] == "storm"
        assert controller.state()["cues"] == []


@pytest.mark.parametrize("bundle", ["moving", "still"])
def test_what_is_given_with_a_text_is_checked_before_anything_is_painted(
    bundle: str, folder: Path, held: list[HeldPainter]
) -> None:
    words = ["--scene-from", str(folder / "painter"), "--text", "storm", "--moving", str(folder / "no.png")]
    with pytest.raises(ValueError, match=r"no image file"):
        play(folder, bundle, *words)
    assert held[0].jobs == []
    assert held[0].is_closed


def test_a_painter_of_seeds_paints_without_being_asked(folder: Path, held: list[HeldPainter]) -> None:
    player, controller, _ = play(folder, "moving", "--scene-from", str(folder / "seeds"), "--dissolve", "0")
    with player:
        Waiting(controller).until(lambda cues: states(cues) == ["on air"])
        assert held[0].jobs == [{"seed": 0}]
        assert controller.state()["takes"] == ["image", "clip", "past", "seed"]


def test_a_painter_of_texts_waits_for_one(folder: Path, held: list[HeldPainter]) -> None:
    player, controller, _ = play(folder, "moving", "--scene-from", str(folder / "painter"))
    with player:
        assert controller.state()["cues"] == []
        assert held[0].jobs == []


@pytest.mark.parametrize(
    ("bundle", "words", "message"),
    [
        ("moving", ["--scene-from", "nowhere"], "nowhere is no folder; give the folder of a bundle"),
        ("moving", ["--scene-from", "{}/live"], "painter cannot paint from a text or a seed: it changes the pictures"),
        ("moving", ["--scene-from", "{}/still"], "moving cannot paint: its frames depend neither on a text nor on a"),
        ("painter", ["--scene-from", "{}/painter"], "painter takes no image, so nothing can be painted for it"),
        ("moving", ["--scene-from", "{}/seeds", "--text", "sea"], "painter takes no text: leave --text out"),
        ("moving", ["--scene-from", "{}/painter", "--text", " "], "the text is empty: describe a scene"),
        ("moving", ["--scene-from", "{}/texts", "--scene-every", "9"], "takes no seed, so a text has one picture"),
        ("moving", ["--scene-every", "60"], "--scene-every is for painted pictures: add --scene-from BUNDLE"),
        ("moving", ["--scene-engine", "openvino"], "--scene-engine is for painted pictures: add --scene-from BUNDLE"),
        ("moving", ["--scene-from", "{}/painter", "--scene-every", "0.5"], "expected 1 to 3600 seconds"),
        ("still", ["--scene-from", "{}/painter", "--text", "xyzzy"], 'painter could not paint "xyzzy": no word of'),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence_and_status_2(
    bundle: str, words: list[str], message: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [word.format(folder) for word in words]
    assert main([str(folder / bundle), *WORDS[:2], *given, "--to", str(tmp_path / "no.mp4"), "--seconds", "1"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_the_ledger_and_the_signature_say_which_bundle_painted(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from provenance.keys.development import ROOT, create

    create(keys := tmp_path / "keys", "A channel")
    painter, ledger = folder / "painter", tmp_path / "shows.sqlite"
    status = stream(
        folder / "still",
        to=[video := tmp_path / "show.mp4"],
        seconds=0.5,
        engine="onnxruntime",
        scene_from=painter,
        text="the sea",
        sign=keys,
        ledger=ledger,
        prompts="text",
    )
    assert status == 0, capsys.readouterr().err
    report = read_manifest_report(video, keys / ROOT)
    assert report.show is not None
    bundles = {stated["role"]: stated for stated in report.show["bundles"]}
    assert bundles["painter"]["sha256"] == read_manifest(painter).sha256
    assert bundles["painter"]["training"] == [{"source": "the tests", "licence": "CC0-1.0"}]
    [prompt] = report.show["prompts"]
    assert (prompt["text"], prompt["seed"]) == ("the sea", 0)
    assert prompt["painted"].endswith(" of its pixels")
    assert "Pictures were painted from a text or a number by the bundle painter, then animated." in report.statements
    assert not any("A given picture" in sentence for sentence in report.statements)
    with Ledger(ledger) as opened:
        events = {event.kind: event.data for event in opened.events()}
    assert events["prompt"]["prompt"] == dict(prompt)
    assert "painter" in {bundle["role"] for bundle in events["start"]["bundles"]}


def test_texts_as_tokens_are_painted(folder: Path, tmp_path: Path) -> None:
    bundle = worded.build(tmp_path / "worded", seeds=False)
    player, controller, lines = play(folder, "moving", "--scene-from", str(bundle), "--text", LONG, "--dissolve", "0")
    with player:
        (cue,) = Waiting(controller).until(lambda cues: states(cues) == ["on air"])
        assert cue["note"] == CUT
        assert lines[0].startswith('worded has painted "red red')
        assert lines[1] == CUT
        frame = [next(player.generator).copy() for _ in range(2)][-1]
    wanted = worded.wanted_colour([worded.BEGIN, *[513] * 6, worded.END], [*[4] * 6, 5, 6, 1])
    assert np.abs(frame - np.round(wanted * 255)).max() <= 3


def test_a_moved_show_goes_on_with_its_picture(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [folder / "moving", "--scene-from", folder / "painter", "--text", "the sea", "--scene-every", "3600"]
    words += ["--scene-engine", "onnxruntime", "--control", "x_a=0.5", "--dissolve", "0.2", "--no-mark"]
    whole = run(monkeypatch, words, 60, acts={5: lambda controller: controller.prepare({"text": "storm"})})
    assert [cue["state"] for cue in whole.cues] == ["on air", "ready"]
    position = whole.position_at(30)
    assert position.prompt.keys() == {"text", "seed", "painted"}
    assert position.controls["painter.every"] == 3600
    painted: list[str] = []

    def ask(_self: Painter, job: Mapping[str, Any], _is_wanted: object) -> tuple[np.ndarray, str]:
        painted.append(job["text"])
        return np.zeros((16, 16, 3), np.uint8), ""

    monkeypatch.setattr(Painter, "_ask", ask)
    relay = run(monkeypatch, words, 60, position=position)
    check_same(relay, whole, 28)
    assert painted == ["storm"], "only what is not on air yet"


def test_imported_bundles_of_other_tests_paint_too(folder: Path, tmp_path: Path, held: list[HeldPainter]) -> None:
    for bundle in (prompted.build(tmp_path / "prompted"), tiny.build(tmp_path / "tiny", memories=False)):
        player, controller, _ = play(folder, "moving", "--scene-from", str(bundle), "--seed", "4", "--dissolve", "0")
        with player:
            Waiting(controller).until(lambda cues: states(cues) == ["on air"])
