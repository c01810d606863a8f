"""A show that fills holes: `--mask`, and what is painted while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from runtime.prompts.hints import Hints
from streaming.arguments import parse
from streaming.control.controller import ShowController
from streaming.show.player import Player
from tests.runtime.compositing.test_composite import build_matte
from tests.streaming.show.test_chain import ENGINE, PlainInput, frames_of

LIVE = ("--input", "testcard", "--pixels", "rgb", *ENGINE)
STROKE = {"kind": "hole", "radius": 0.2, "points": [[0.75, 0.5]]}


class HalfLit(PlainInput):
    """A live input whose left half is white, and the right one nearly black."""

    def __init__(self, spec: str, width: int, height: int, **_: object) -> None:
        super().__init__(spec, width, height)
        self._picture[:, width // 2 :] = 20

    def to_json(self) -> dict[str, Any]:
        return {}


@pytest.fixture(autouse=True)
def half_lit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streaming.show.player.LiveInput", HalfLit)


def shown(bundle: Path, *words: str, controller: ShowController | None = None, drawn: Any = None) -> np.ndarray:
    """Return a frame of a show after something was drawn."""
    controller = controller or ShowController()
    with Player(parse([str(bundle), *LIVE, *words]), bundle, controller, lambda _: None) as player:
        if drawn is not None:
            controller.draw(Hints.from_json(drawn))
        return list(frames_of(player, 3))[-1]


def test_a_pictures_white_is_filled(live_bundle: Path, tmp_path: Path) -> None:
    """The tests' bundle shows the live frame where its mask is 255, else something of its own."""
    whole = shown(live_bundle)
    height, width = whole.shape[:2]
    picture = np.zeros((height, width), np.uint8)
    picture[: height // 2] = 255
    Image.fromarray(picture).save(tmp_path / "logo.png")
    filled = shown(live_bundle, "--mask", str(tmp_path / "logo.png"))
    assert np.array_equal(filled[height // 2 :], whole[height // 2 :])
    assert (filled[: height // 2] != whole[: height // 2]).any(axis=2).mean() > 0.9


def test_what_a_bundle_finds_is_filled(live_bundle: Path, tmp_path: Path) -> None:
    matte = build_matte(tmp_path / "matte")
    whole, filled = shown(live_bundle), shown(live_bundle, "--mask", str(matte))
    changed = (filled != whole).any(axis=2)
    assert 0.3 < changed.mean() < 0.8
    assert changed[:, : changed.shape[1] // 3].mean() > 0.9, "the input's white half"


def test_holes_are_painted_and_taken_back_while_the_show_runs(live_bundle: Path) -> None:
    controller = ShowController()
    whole = shown(live_bundle)
    filled = shown(live_bundle, controller=controller, drawn={"strokes": [STROKE]})
    changed = (filled != whole).any(axis=2)
    assert 0.03 < changed.mean() < 0.4
    assert changed[:, : changed.shape[1] // 3].sum() == 0
    state = controller.state()
    assert state["tools"] == ["hole"]
    assert state["hints"] == {"vectors": [], "strokes": [STROKE]}
    options = parse([str(live_bundle), *LIVE])
    with Player(options, live_bundle, controller, lambda _: None) as player:
        assert controller.draw(Hints.from_json({"strokes": [STROKE]}))["hints"]["strokes"] == [STROKE]
        player._reopen()
        assert controller.state()["hints"]["strokes"] == [STROKE], "an engine that fails loses no hole"
        assert controller.draw(Hints())["hints"]["strokes"] == []
        with pytest.raises(ValueError, match="takes no motion: draw holes alone"):
            controller.draw(Hints.from_json({"vectors": [[0.5, 0.5, 0.1, 0.0]]}))


def test_what_is_painted_is_filled_though_the_input_stands(live_bundle: Path) -> None:
    controller, drawn = ShowController(), []
    with Player(parse([str(live_bundle), *LIVE]), live_bundle, controller, lambda _: None) as player:
        for number, frame in enumerate(frames_of(player, 6)):
            drawn.append(frame)
            if number == 2:
                controller.draw(Hints.from_json({"strokes": [STROKE]}))
    middle = (slice(22, 26), slice(46, 50))  # of the stroke
    assert np.array_equal(drawn[1][middle], drawn[2][middle])
    assert (drawn[2][middle] != drawn[4][middle]).any(axis=2).mean() > 0.9


def test_the_state_holds_more_strokes_than_one_drawing(live_bundle: Path) -> None:
    controller = ShowController()
    with Player(parse([str(live_bundle), *LIVE]), live_bundle, controller, lambda _: None):
        controller.draw(Hints.from_json({"strokes": [STROKE] * 64}))
        assert len(controller.state()["hints"]["strokes"]) == 64
        with pytest.raises(ValueError, match="takes no motion: draw holes alone"):
            controller.draw(Hints.from_json({"strokes": [{**STROKE, "kind": "still"}]}))
        assert len(controller.state()["hints"]["strokes"]) == 64


def test_a_bundle_without_a_mask_fills_nothing(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fills no holes, as it has no live input with a mask: use bundles/fill"):
        shown_without_input(bundle, "--mask", str(tmp_path / "none.png"))
    controller = ShowController()
    with Player(parse([str(bundle), *ENGINE]), bundle, controller, lambda _: None):
        assert controller.state()["tools"] == []
        with pytest.raises(ValueError, match="fills no holes: start the show with bundles/fill"):
            controller.draw(Hints.from_json({"strokes": [STROKE]}))


def test_a_mask_that_cannot_be_read_is_one_sentence(live_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"text\.png"):
        shown(live_bundle, "--mask", str(tmp_path / "text.png"))
    with pytest.raises(ValueError, match=r"missing\.png"):
        shown(live_bundle, "--mask", str(tmp_path / "missing.png"))


def shown_without_input(bundle: Path, *words: str) -> None:
    with Player(parse([str(bundle), *ENGINE, *words]), bundle, ShowController(), lambda _: None):
        pass
