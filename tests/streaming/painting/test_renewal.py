"""Painted pictures that follow one another: when the next one is begun and shown, and what keeps it away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from runtime import EngineError, Generator
from streaming.control.controller import ShowController
from streaming.control.cues import PAINTED
from streaming.painting.painter import EVERY
from streaming.painting.renewal import PictureRenewal
from tests import flowing, moving, painters
from tests.fakes import FakeClock
from tests.painters import HeldPainter
from tests.runtime import prompted
from tests.streaming.control.test_controller import Waiting, states
from tests.streaming.doubles import WAIT_S

RENEWAL = {"every_frames": 300, "dissolve_frames": 30, "correlation": 0.5}
PICTURE = np.full((32, 48, 3), 90, np.uint8)


@dataclass
class Show:
    """A show whose painted picture is on air, with a clock that the test moves."""

    controller: ShowController
    painter: HeldPainter
    renewal: PictureRenewal
    clock: FakeClock
    generator: Generator
    lines: list[str] = field(default_factory=list)

    @property
    def seed(self) -> int:
        """Of the picture on air."""
        seed: int = self.controller.kept()[0]["seed"]
        return seed

    def pass_time(self, seconds: float) -> None:
        """Let time pass, then begin a frame."""
        self.clock.advance(seconds)
        self.renewal.update()

    def wait_for_picture(self) -> None:
        """Wait until the next picture is ready."""
        assert self.renewal._next is not None, "none was begun"
        self.renewal._next.exception(WAIT_S)


@pytest.fixture
def show(tmp_path: Path) -> Iterator[Show]:
    clock, controller = FakeClock(), ShowController()
    painter = HeldPainter(painters.build(tmp_path / "painter"), seed=7, every_s=60.0, clock=clock.now)
    controller.painter = painter
    folder = moving.build(tmp_path / "moving", frame=(48, 32))
    with Generator.open(folder, engine="onnxruntime", threads=1) as generator:
        controller.attach(generator, "")
        lines: list[str] = []
        controller.schedule([], dissolve_s=0.0, say=lines.append)
        generator.condition(image=PICTURE)
        controller.announce({"text": "the sea", "seed": 7, PAINTED: PICTURE})
        next(generator)
        painter.last_s = 10.0  # the next picture is begun 12.5 and 2 s before it is shown
        renewal = PictureRenewal(painter, controller, 0.0, lines.append, clock.now)
        renewal.update()
        yield Show(controller, painter, renewal, clock, generator, lines)
        painter.close()
        renewal.close()
        controller.close()


def test_the_next_seed_is_ready_in_time_and_shown_when_it_is_due(show: Show) -> None:
    told: list[dict[str, Any]] = []
    show.controller.on_prompt.append(lambda parts, _: told.append(dict(parts)))
    show.pass_time(45.0)
    assert show.painter.jobs == []
    show.pass_time(1.0)
    show.wait_for_picture()
    assert show.painter.jobs == [{"text": "the sea", "seed": 8}]
    show.pass_time(10.0)
    assert show.seed == 7
    before = show.generator.scene
    show.pass_time(4.0)
    assert show.seed == 8
    assert show.generator.scene is not before
    assert told[0].keys() == {"text", "seed", PAINTED}
    assert show.controller.state()["cues"] == [], "it fills no list"
    show.pass_time(59.0)
    assert show.seed == 8, "its own time has begun"
    show.wait_for_picture()
    show.pass_time(1.0)
    assert show.seed == 9


def test_a_picture_that_takes_longer_comes_when_it_is_ready(show: Show) -> None:
    show.painter.is_held = True
    show.pass_time(50.0)
    assert show.painter.begun.acquire(timeout=WAIT_S)
    show.pass_time(50.0)
    assert show.seed == 7
    show.painter.permits.release()
    show.wait_for_picture()
    show.pass_time(0.03)
    assert show.seed == 8


@pytest.mark.parametrize("how", ["never", "other", "held", "seed"])
def test_what_is_on_air_may_have_to_stay(how: str, show: Show) -> None:
    if how == "never":
        show.painter.set_control(EVERY, 0.0)
    elif how == "other":
        show.generator.condition(image=PICTURE)
        show.controller.announce({"scene": "lake"})
    elif how == "held":
        show.controller.is_held = True
    else:  # by the generator's own control
        show.generator.condition(seed=5)
    for _ in range(3):
        show.pass_time(100.0)
    assert show.painter.jobs == []
    assert show.renewal._next is None


def test_a_picture_with_drawn_motion_stays(show: Show, tmp_path: Path) -> None:
    with Generator.open(flowing.build(tmp_path / "flowing"), engine="onnxruntime", threads=1) as generator:
        show.controller.attach(generator, "")
        generator.condition(image=PICTURE, hints={"vectors": [[0.5, 0.5, 0.1, 0]]})
        next(generator)
        show.pass_time(100.0)
        assert show.renewal._next is None
        generator.condition(hints={})
        next(generator)
        show.pass_time(50.0)
        assert show.renewal._next is not None
        show.wait_for_picture()


def test_a_prompt_goes_first_and_the_old_words_are_left(show: Show) -> None:
    waiting, show.painter.is_held = Waiting(show.controller), True
    show.pass_time(50.0)
    assert show.painter.begun.acquire(timeout=WAIT_S)
    show.controller.prepare({"text": "storm"}, take_s=0.0)
    show.painter.permits.release(2)
    waiting.until(lambda cues: states(cues) == ["on air"])
    for _ in range(2):
        show.pass_time(30.0)
    assert show.controller.kept()[0]["text"] == "storm"
    show.painter.permits.release(2)
    show.pass_time(1.0)
    show.wait_for_picture()
    assert show.painter.jobs[-1] == {"text": "storm", "seed": 8}


def test_a_failure_is_one_line_and_is_tried_again(show: Show) -> None:
    show.painter.failure = EngineError("no memory is left")
    show.pass_time(50.0)
    show.wait_for_picture()
    show.pass_time(10.0)
    assert show.lines == ['painter could not paint "the sea": no memory is left; the show goes on']
    assert show.seed == 7
    show.pass_time(50.0)
    show.wait_for_picture()
    show.pass_time(10.0)
    assert show.seed == 8


def test_an_error_of_any_kind_is_one_line_and_the_show_goes_on(show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    def submit(_job: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as changed:
        changed.setattr(show.renewal._thread, "submit", submit)
        show.pass_time(50.0)
    show.painter.failure = MemoryError()
    show.pass_time(50.0)
    show.wait_for_picture()
    show.pass_time(10.0)
    start = "the next picture failed, internal error: "
    assert show.lines == [
        f"""{start}RuntimeError("can't start new thread"); the show goes on""",
        f"{start}MemoryError(); the show goes on",
    ]
    show.pass_time(50.0)
    show.wait_for_picture()
    show.pass_time(10.0)
    assert show.seed == 8


def test_a_mask_of_what_may_move_stays_with_the_next_pictures(show: Show, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((32, 48), np.uint8)).save(path := tmp_path / "mask.png")
    show.controller.announce({"text": "the sea", "seed": 7, "moving": path, PAINTED: PICTURE})
    show.renewal.update()
    for seed in (8, 9):
        show.pass_time(59.0)
        show.wait_for_picture()
        show.pass_time(1.0)
        next(show.generator)
        assert show.seed == seed
        assert show.controller.kept()[0]["moving"] == path
        scene = show.generator.scene
        assert scene is not None
        assert not scene.tensors["free"].any()


def test_the_generator_s_own_renewal_rate_counts(show: Show, tmp_path: Path) -> None:
    with Generator.open(prompted.build(tmp_path / "prompted"), engine="onnxruntime", threads=1) as generator:
        show.controller.attach(generator, "")
        generator.condition(image=PICTURE)
        next(generator)
        generator.set_control("drift", 0.0)
        show.pass_time(1000.0)
        assert show.renewal._next is None
        generator.set_control("drift", 4.0)
        show.pass_time(12.0)
        assert show.renewal._next is not None
        show.wait_for_picture()
        show.pass_time(3.0)
        assert show.seed == 8
