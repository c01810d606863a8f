"""The instrument benchmark: what its sink notes, and its figures."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks.live.instrument import ProbeSink, summarise
from runtime import Manifest
from streaming import Frame
from streaming.control.controller import ShowController
from tests import tiny
from tests.fakes import fake_generator
from tests.streaming.doubles import feed


def test_a_value_is_followed_from_its_message_to_its_frame(tmp_path: Path) -> None:
    folder = tiny.build(tmp_path / "tiny")
    manifest = Manifest.parse(json.loads((folder / "bundle.json").read_text()))
    generator, _ = fake_generator(manifest)
    controller = ShowController()
    controller.attach(generator, "")
    sink = ProbeSink(manifest.controls["sway"], 9)
    sink.open(replace(feed(), controller=controller))
    first, second = (np.zeros((72, 64), np.uint8) for _ in range(2))
    sink.sent_ns, sink._numbers = [1, 2], {0.5: 0, 0.75: 1}
    controller.play(Fraction(0))
    sink.write(Frame(first, 0))
    controller.follow("sway", 0.5)
    controller.follow("drift", 0.75)
    controller.play(Fraction(1, 30))
    sink.write(Frame(first, 1))  # the last frame, repeated
    assert (list(sink.begun_ns), list(sink.delivered_ns)) == ([0], [])
    sink.write(Frame(second, 2))
    assert list(sink.delivered_ns) == [0]
    sink.close()
    generator.close()
    assert generator.controls["sway"] == 0.5
    sink.sent_ns, sink.begun_ns, sink.delivered_ns = [0, 0], {0: 10_000_000}, {0: 50_000_000}
    found = summarise(sink, Fraction(30))
    assert (found["sent"], found["used"]) == (2, 1)
    assert (found["begun_ms"]["max"], found["delivered_ms"]["p50"]) == (10, 50)
    assert found["delivered_frames"]["max"] == pytest.approx(1.5)


def test_a_show_without_values_is_an_error(tmp_path: Path) -> None:
    folder = tiny.build(tmp_path / "tiny")
    manifest = Manifest.parse(json.loads((folder / "bundle.json").read_text()))
    with pytest.raises(ValueError, match="no value has arrived in a frame: raise --seconds"):
        summarise(ProbeSink(manifest.controls["sway"], 9), Fraction(30))


def test_too_short_a_show_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["instrument", "bundles/landscape", "--seconds", "1"]) == 2
    assert "--seconds must be from 5 to 1800, got 1" in capsys.readouterr().err
