"""A show of a chain of bundles: `--then`."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from runtime import BundleError, EngineError, Generator
from runtime.chain import Chain
from streaming import stream
from streaming.arguments import parse
from streaming.commandline import main
from streaming.control.controller import ShowController, UnknownError
from streaming.instrument.control_map import ControlMap, read_source
from streaming.output.pacing import Pacer
from streaming.show.player import Player
from streaming.show.stats import FrameTiming, ShowStats
from streaming.show.status import to_summary
from tests.fakes import FakeClock
from tests.runtime import trailing
from tests.runtime.compositing.test_composite import build_matte
from tests.streaming.doubles import ScriptedSink
from tests.streaming.show.test_show import Stage

ENGINE = ("--engine", "onnxruntime")


@pytest.fixture(scope="session")
def trail(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of 64 x 48 whose frames are the moving average of its live frames."""
    return trailing.build(tmp_path_factory.mktemp("bundles") / "trailing", width=64, height=48, fps="25")


def frames_of(player: Player, count: int) -> Iterator[np.ndarray]:
    """Yield the show's first frames."""
    clock = FakeClock()
    pacer = Pacer(clock, Fraction(30))
    for frame in islice(player.frames(pacer, clock), count):
        yield frame.copy()
        pacer.pace()


def fail(*_: object) -> None:
    """Be an engine that is gone."""
    raise EngineError("the device is gone")


def test_each_bundle_gets_the_frames_of_the_one_before(bundle: Path, trail: Path) -> None:
    options = parse([str(bundle), "--then", str(trail), *ENGINE, "--control", "trailing.share=0.2"])
    controller = ShowController()
    with Player(options, bundle, controller, lambda _: None) as player:
        shown = list(frames_of(player, 6))
        assert list(player.link_ms) == ["tiny", "trailing"]
        assert [item["name"] for item in controller.state()["controls"]] == ["sway", "drift", "trailing.share"]
        controller.set_control("trailing.share", 0.3)
        assert player.generator.controls["trailing.share"] == 0.3
    with (
        Generator.open(bundle, engine="onnxruntime") as first,
        Generator.open(trail, engine="onnxruntime", pixels="i420") as second,
    ):
        second.set_control("share", 0.2)
        for frame in shown:
            second.feed_live(next(first))
            assert np.array_equal(frame, next(second))


class PlainInput:
    """A live input that shows one picture: half white, half grey."""

    is_lost = False

    def __init__(self, spec: str, width: int, height: int, **_: object) -> None:
        self._picture = np.full((height, width, 3), 80, np.uint8)
        self._picture[:, : width // 2] = 255

    def frame(self) -> np.ndarray:
        return self._picture

    def wait_picture(self, timeout_s: float) -> np.ndarray:
        return self._picture

    def close(self) -> None:
        pass


def test_the_input_has_the_size_of_the_first_bundle(
    trail: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streaming.show.player.LiveInput", PlainInput)
    small = trailing.build(tmp_path / "small", name="small")
    words = ["--then", str(small), *ENGINE, "--input", "testcard", "--pixels", "rgb"]
    options = parse([str(trail), *words, "--control", "share=1", "--control", "small.share=1"])
    with Player(options, trail, ShowController(), lambda _: None) as player:
        assert player._input is not None
        assert player._input.frame().shape == (48, 64, 3)
        frame = next(frames_of(player, 1))
    assert frame.shape == (16, 32, 3)
    assert np.abs(frame[:, :14].astype(int) - 255).max() <= 2
    assert np.abs(frame[:, 18:].astype(int) - 80).max() <= 2


def test_controls_of_later_bundles_may_be_cues(bundle: Path, trail: Path) -> None:
    options = parse([str(bundle), "--then", str(trail), *ENGINE, "--cue", "0.1:trailing.share=0.7"])
    with Player(options, bundle, ShowController(), lambda _: None) as player:
        list(frames_of(player, 8))
        assert player.generator.controls["trailing.share"] == 0.7


def test_a_person_stands_over_the_last_bundles_frames(
    bundle: Path, trail: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streaming.show.player.LiveInput", PlainInput)
    words = ["--input", "testcard", "--matte", str(build_matte(tmp_path / "matte"))]
    options = parse([str(bundle), "--then", str(trail), *ENGINE, *words])
    with Player(options, bundle, ShowController(), lambda _: None) as player:
        frame = list(frames_of(player, 12))[-1]
    assert np.all(frame[:48, :20] == 235)
    assert frame[:48, 44:].std() > 3, "the chain is seen beside it"


def test_the_show_goes_on_without_a_later_bundle(bundle: Path, trail: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    options = parse([str(bundle), "--then", str(trail), *ENGINE])
    controller = ShowController()
    with Player(options, bundle, controller, said.append) as player:
        assert isinstance(player.generator, Chain)
        monkeypatch.setattr(player.generator.links[1]._step, "run", fail)
        assert [frame.shape for frame in frames_of(player, 3)] == [(72, 64)] * 3
        assert [item["name"] for item in controller.state()["controls"]] == ["sway", "drift"]
        with pytest.raises(UnknownError, match=r'no control "trailing.share"'):
            controller.set_control("trailing.share", 0.3)
    assert len(said) == 1
    assert said[0].startswith("trailing is left out from now on: the device is gone")


def test_a_mapped_control_of_a_bundle_that_is_left_out_does_not_end_the_show(
    bundle: Path, trail: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = parse([str(bundle), "--then", str(trail), *ENGINE])
    controller, level = ShowController(), 0.0
    with Player(options, bundle, controller, lambda _: None) as player:
        assert isinstance(player.generator, Chain)
        rows = [read_source("trailing.share=audio.bass"), read_source("sway=audio.bass")]
        controller.before_frame.append(ControlMap(rows, controller, lambda: {"bass": level}).apply)
        controller.mapped |= {"trailing.share": "audio.bass", "sway": "audio.bass"}
        monkeypatch.setattr(player.generator.links[1]._step, "run", fail)
        frames = frames_of(player, 4)
        next(frames)
        for moved in (0.3, 0.6, 0.9):
            level = moved
            next(frames)
        assert player.generator.controls["sway"] > 1
    assert controller.mapped == {"sway": "audio.bass"}


def test_the_whole_chain_is_opened_again_behind_a_fallback_picture(
    bundle: Path, trail: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (64, 48), (255, 255, 255)).save(tmp_path / "white.png")
    words = ["--fallback", str(tmp_path / "white.png"), "--control", "trailing.share=0.3", "--control", "sway=1"]
    options = parse([str(bundle), "--then", str(trail), *ENGINE, *words])
    with Player(options, bundle, ShowController(), lambda _: None) as player:
        failed = player.generator
        assert isinstance(failed, Chain)
        monkeypatch.setattr(failed.links[1]._step, "run", fail)
        assert np.all(next(frames_of(player, 1))[:48] == 235)
        player._reopen()
        assert player.generator is not failed
        assert player.generator.controls == {"sway": 1, "drift": 0, "trailing.share": 0.3}


def test_a_bundle_that_was_changed_is_not_opened_again(bundle: Path, tmp_path: Path) -> None:
    later = trailing.build(tmp_path / "later")
    options = parse([str(bundle), "--then", str(later), *ENGINE])
    with Player(options, bundle, ShowController(), lambda _: None) as player:
        trailing.build(later, name="another")
        with pytest.raises(BundleError, match="was changed during the show"):
            player._reopen()


def test_the_statistics_have_each_bundle() -> None:
    stage = Stage(ScriptedSink(), fps=100)
    assert stage.show.latest()["links"] == []
    stage.show.link_ms = {"tiny": 12.3456, "trailing": 1.0}
    stage.show.run(stage.frames(0.001), num_slots=50)
    stage.fan_out.close()
    assert stage.show.latest()["links"] == [{"name": "tiny", "ms": 12.35}, {"name": "trailing", "ms": 1.0}]


def test_the_status_tells_rates_and_times(bundle: Path, trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stream(bundle, to=["null"], seconds=0.5, engine="onnxruntime", then=[str(trail)], verbose=True) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "tiny: 64 x 48, 30 fps, onnxruntime fp32"
    assert lines[1] == "the frame rate is that of tiny, 30 fps; trailing is made for 25 fps"
    assert lines[2].startswith("tiny: onnxruntime")
    summary = next(line for line in lines if line.startswith("chain "))
    assert "tiny " in summary
    assert "trailing " in summary


def test_the_summary_of_another_show_has_no_chain() -> None:
    stats = ShowStats(90, 3.0, FrameTiming(), 0, 0, [])
    how: dict[str, Any] = {"reason": "x", "engine": "y", "first_frame_s": None}
    assert "chain" not in to_summary(stats, **how, link_ms={})
    assert "chain   a 1.25  b 2.00 ms a frame" in to_summary(stats, **how, link_ms={"a": 1.25, "b": 2.0})


def test_what_is_no_chain_is_refused_in_one_line(
    bundle: Path, trail: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = ("--size", "128x96")
    circle = ("--input", "http://127.0.0.1:8765/stream.mjpeg", "--to", "http://127.0.0.1:8765")
    (tmp_path / "empty").mkdir()
    for words, sentence in (
        ((trail, "--then", bundle), "tiny cannot follow trailing, as it has no live input: use it as the first"),
        ((bundle, "--then", tmp_path / "nothing"), "is no folder"),
        ((bundle, "--then", tmp_path / "empty"), "is no bundle"),
        ((bundle, "--then", trail, *size), "trailing makes frames of 64x48 only, and is the last bundle of the chain"),
        ((bundle, "--then", trail, *circle), "is the show's own output to http://127.0.0.1:8765"),
        ((bundle, "--then", trail, "--control", "trailing.shar=1"), 'there is no control "trailing.shar"'),
        ((bundle, "--then", trail, "--control", "trailing.share=2"), "trailing.share must be from 0 to 1, got 2"),
        ((trail, "--then", trail), "trailing needs a live input: add --input"),
    ):
        assert main([str(word) for word in (*words, "--to", "null")]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert sentence in error
