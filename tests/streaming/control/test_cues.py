"""Timed cues: applied at their time, checked before the show, and left out if they fail during it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from runtime import Generator, Manifest
from runtime.engines.engine import Array, Program
from runtime.noise import CODES, normals
from runtime.prompts.text_encoder import open_text_encoder
from streaming.control.controller import NOTICE, ShowController
from streaming.control.cues import Cue, to_label
from streaming.output.pacing import Pacer
from tests.fakes import FakeClock, FakeEngine, count_frames, fake_generator
from tests.runtime import prompted
from tests.streaming.doubles import WAIT_S

FPS = 10


def mark(program: Program, inputs: dict[str, Array], run: int) -> dict[str, Array]:
    """Compute a memory that holds the brightness of its picture and the first value of its content code."""
    if "code" not in inputs:
        return count_frames(program, inputs, run)
    scene = np.zeros((1, 3, prompted.HEIGHT, prompted.WIDTH), np.float32)
    scene[0, 0], scene[0, 1], scene[0, 2] = inputs["image"].max(), inputs["code"][0, 0], inputs["words"][0, 0]
    return {"scene": scene}


class Stage:
    """A show of fake sessions with cues: a frame is made and shown every tenth of a second."""

    def __init__(self, folder: Path, compute: Callable[..., dict[str, Array]] = mark) -> None:
        self.manifest = Manifest.parse(json.loads((folder / "bundle.json").read_text()))
        self.words = open_text_encoder(folder, self.manifest)
        self.generator: Generator
        self.engine: FakeEngine
        self.generator, self.engine = fake_generator(
            self.manifest, compute, renewal=False, open_text_encoder=lambda: self.words
        )
        self.said: list[str] = []
        self._changed = threading.Condition()
        self.pacer = Pacer(FakeClock(0.0), Fraction(FPS))

    def cue(
        self, *cues: tuple[float, str, Any], dissolve_s: float = 0.0, live: Callable[[], Any] | None = None
    ) -> None:
        """Schedule the cues."""
        made = [Cue(Fraction(str(at_s)), kind, value) for at_s, kind, value in cues]
        self.controller = ShowController()
        self.controller.on_change.append(self._wake)
        self.controller.attach(self.generator, "seed 0")
        if live is not None:
            self.controller.input = SimpleNamespace(picture=live, to_json=dict)
        self.controller.schedule(made, dissolve_s=dissolve_s, say=self.said.append)

    def play(self, seconds: float, *, is_patient: bool = True) -> None:
        """Show frames; a patient show waits before each until no timed cue is being prepared."""
        for _ in range(round(seconds * FPS)):
            if is_patient:
                with self._changed:
                    assert self._changed.wait_for(self._is_prepared, WAIT_S)
            self.controller.play(self.pacer.next_slot / self.pacer.fps)
            next(self.generator)
            self.pacer.pace()

    def _is_prepared(self) -> bool:
        return all(entry.state != "preparing" for entry in self.controller._timed)

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """End the show."""
        self.controller.close()
        self.generator.close()

    @property
    def switches(self) -> list[int]:
        """The frames before which a memory was written."""
        return [run for run, _ in self._writes]

    def scene(self, number: int) -> tuple[float, float, float]:
        """Return a memory's picture, code and word, in the order in which they were played."""
        red, green, blue = self._writes[number][1][0, :, 0, 0].tolist()
        return red, green, blue

    @property
    def _writes(self) -> list[tuple[int, Array]]:
        sides = (self.engine.sessions[0].written(f"{side}_scene") for side in "ab")
        return sorted((item for side in sides for item in side), key=lambda item: item[0])

    def word(self, text: str) -> float:
        """Return the first value of a text's vector."""
        return float(self.words.encode(text)[0])


def code(seed: int) -> float:
    """Return the first value of a seed's content code."""
    return float(normals(seed, CODES, 0, prompted.CODE)[0])


@pytest.fixture
def stage(prompted_bundle: Path) -> Stage:
    """A show without cues yet."""
    return Stage(prompted_bundle)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture in a file."""
    Image.new("RGB", (20, 20), (90, 90, 90)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_every_cue_is_played_before_the_first_frame_of_its_time(stage: Stage, picture: Path) -> None:
    stage.cue((2.05, "image", str(picture)), (0.5, "text", "storm"), (1, "seed", 7), (1.5, "gain", 0.25))
    stage.play(3)
    stage.close()
    assert stage.switches == [0, 5, 10, 21]
    assert stage.scene(0) == (0, pytest.approx(code(0)), 0)
    assert stage.scene(1) == (0, pytest.approx(code(0)), pytest.approx(stage.word("storm")))
    assert stage.scene(2) == (0, pytest.approx(code(7)), pytest.approx(stage.word("storm")))  # a seed keeps the text
    assert stage.scene(3)[0] == 90
    assert [run for run, _ in stage.engine.sessions[0].written("gain")] == [0, 15]
    assert stage.said == []


def test_a_prompt_fades_in(stage: Stage) -> None:
    stage.cue((0.3, "seed", 7), dissolve_s=4 / 30)  # four frames of the generator
    stage.play(1)
    stage.close()
    mixes = [float(value[0]) for _, value in stage.engine.sessions[0].written("mix")]
    assert mixes == [0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1, 1]


def test_cues_at_the_same_time_are_one_prompt(stage: Stage, picture: Path) -> None:
    stage.cue((1, "text", "storm"), (1, "image", str(picture)), (1, "seed", 3), (1, "gain", 2))
    stage.play(2)
    stage.close()
    assert stage.switches == [0, 10]
    assert stage.scene(1) == (90, pytest.approx(code(3)), pytest.approx(stage.word("storm")))


def test_a_prompt_that_is_not_ready_comes_late_and_delays_no_frame(prompted_bundle: Path) -> None:
    release, begun = threading.Event(), threading.Event()

    def compute(program: Program, inputs: dict[str, Array], run: int) -> dict[str, Array]:
        if "code" in inputs and inputs["code"][0, 0] == np.float32(code(7)):
            begun.set()
            assert release.wait(WAIT_S)
        return mark(program, inputs, run)

    stage = Stage(prompted_bundle, compute)
    stage.generator.condition(seed=0)
    stage.cue((0.5, "seed", 7), (0.6, "gain", 2), (0.7, "seed", 8))
    assert begun.wait(WAIT_S)
    stage.play(1, is_patient=False)
    assert stage.switches == [0]
    assert [run for run, _ in stage.engine.sessions[0].written("gain")] == [0, 6]
    release.set()
    stage.play(0.5)
    stage.close()
    assert stage.switches == [0, 10, 11]
    assert stage.scene(2)[1] == pytest.approx(code(8))


def test_a_cue_that_fails_during_the_show_is_reported_in_one_line(stage: Stage, picture: Path, tmp_path: Path) -> None:
    stage.generator.condition(text="calm sea")
    second = tmp_path / "b.png"
    second.write_bytes(picture.read_bytes())
    stage.cue((0.5, "image", str(picture)), (1, "image", str(second)), (1.5, "seed", 4))
    second.unlink()
    stage.play(2)
    stage.close()
    assert stage.said == [f"the cue at 1 s is left out: there is no image file {second}"]
    assert stage.switches == [0, 5, 15]
    assert stage.scene(2) == (0, pytest.approx(code(4)), 0)


def test_the_picture_of_a_live_input_is_taken_when_the_cue_is_due(stage: Stage) -> None:
    looks: list[int] = []

    def live() -> np.ndarray:
        looks.append(stage.pacer.next_slot)
        return np.full((prompted.HEIGHT, prompted.WIDTH, 3), 10 * len(looks), np.uint8)

    stage.cue((0.5, "image", "input"), (0.5, "text", "storm"), (1, "seed", 7), (1.5, "image", "input"), live=live)
    stage.play(2)
    stage.close()
    assert len(looks) == 2
    assert 5 <= looks[0] <= 6  # in the background, beside the frame that is due
    assert 15 <= looks[1] <= 16
    assert stage.switches == [0, 6, 10, 16]
    assert stage.scene(1)[0::2] == (pytest.approx(10, abs=1), pytest.approx(stage.word("storm")))
    assert stage.scene(3)[0] == pytest.approx(20, abs=1)
    assert stage.said == [NOTICE], "once"


def test_a_live_input_without_a_picture_is_reported_in_one_line(stage: Stage) -> None:
    def live() -> np.ndarray:
        raise ValueError("the input testcard has shown nothing yet")

    stage.cue((0.5, "image", "input"), (1, "seed", 7), live=live)
    stage.play(2)
    stage.close()
    assert stage.said == ["the cue at 0.5 s is left out: the input testcard has shown nothing yet"]
    assert stage.switches == [0, 10]


def test_a_control_for_the_seed_may_be_a_cue(stage: Stage) -> None:
    value = stage.manifest.to_json()
    value["controls"][2]["name"] = "scenery"
    stage.manifest = Manifest.parse(value)
    stage.generator, stage.engine = fake_generator(stage.manifest, mark, renewal=False)
    stage.cue((0.5, "scenery", 6.0))
    stage.play(0.6)
    stage.generator.prepare(seed=1)  # jobs are done one after another: the scene is ready then
    stage.play(0.1)
    stage.close()
    assert stage.switches == [0, 6]
    assert stage.scene(1)[1] == pytest.approx(code(6))


@pytest.mark.parametrize(
    ("cues", "message"),
    [
        ([(1, "txet", 1.0)], r'there is no control "txet" \(known: drift, gain, seed\)'),
        ([(1, "gain", 9.0)], "gain must be from 0 to 2, got 9.0"),
        ([(1, "image", "nowhere.png")], "there is no image file nowhere.png"),
        ([(1, "clip", "nowhere.mp4")], "there is no clip file nowhere.mp4"),
        (
            [(1, "image", "input")],
            "the cue at 1 s uses the picture of a live input, and there is no live input: add --input",
        ),
        ([(1, "text", "orage")], "no word of the text 'orage' is known"),
        ([(1, "text", " ")], "the text is empty"),
        ([(1.5, "text", "storm"), (1.5, "text", "sea")], "the cues at 1.5 s give text twice: leave one out"),
    ],
)
def test_what_can_be_checked_is_checked_before_the_show(
    stage: Stage, cues: list[tuple[float, str, Any]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        stage.cue(*cues)
    assert stage.engine.sessions[1].num_runs == 0
    assert stage.generator.controls["gain"] == 1
    stage.generator.close()


def test_a_prompt_that_the_bundle_does_not_take_is_refused_before_the_show(bundle: Path) -> None:
    manifest = Manifest.parse(json.loads((bundle / "bundle.json").read_text()))
    generator, _ = fake_generator(manifest)
    controller = ShowController()
    controller.attach(generator, "seed 0")
    with pytest.raises(ValueError, match=r"tiny takes no text: .*; give an image or a seed"):
        controller.schedule([Cue(Fraction(1), "text", "storm")], dissolve_s=1, say=print)
    generator.close()


def test_timed_cues_and_cues_of_the_page_share_one_queue(stage: Stage) -> None:
    stage.cue((0.5, "text", "storm"))
    cue = stage.controller.prepare({"seed": 7})
    assert [entry["id"] for entry in stage.controller.state()["cues"]] == [cue["id"]], "timed cues are not listed"
    stage.play(0.6)
    assert stage.controller.state()["on_air"] == "storm"
    with stage._changed:
        ready = lambda: stage.controller.state()["cues"][0]["state"] == "ready"  # noqa: E731
        assert stage._changed.wait_for(ready, WAIT_S)
    stage.controller.take(cue["id"], 0.0)
    assert stage.controller.state()["on_air"] == "seed 7"
    stage.close()


def test_labels_name_texts_files_and_seeds() -> None:
    assert to_label({"text": "storm", "image": Path("a/b.png"), "seed": 1}) == "b.png, storm"
    assert to_label({"clip": "c/d.mp4", "text": None}) == "d.mp4"
    assert to_label({"image": np.zeros(3)}) == "image"
    assert to_label({"seed": 9, "image": None}) == "seed 9"
