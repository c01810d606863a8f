"""The benchmark of the page's camera."""

from __future__ import annotations

import json

import pytest

from benchmarks import __main__ as command
from benchmarks.live.camera import summarise

MS = 1_000_000


def test_the_figures() -> None:
    sent = [(number, number * 40 * MS, (number * 40 + 5) * MS) for number in range(200)]
    arrivals = [(number, (number * 40 + 12) * MS) for number in range(200) if number != 100]
    arrivals[150], arrivals[151] = arrivals[151], arrivals[150]
    found = summarise(sent, arrivals)
    assert found["frame_ms"]["p50"] == 12
    assert found["sent_ms"]["p50"] == 7
    assert (found["frames"], found["received"], found["disordered"]) == (150, 149, 1), "two seconds are left out"
    with pytest.raises(ValueError, match="nothing was received"):
        summarise(sent, [])


@pytest.mark.live
def test_frames_are_received(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["camera", "--size", "320x240", "--seconds", "5"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["disordered"] == 0
    assert 0 < result["received"] <= result["frames"] < 120
    assert 0 < result["sent_ms"]["p50"] < result["frame_ms"]["p50"]


@pytest.mark.parametrize("words", [["--size", "1280x721"], ["--size", "big"], ["--fps", "0"], ["--seconds", "1"]])
def test_bad_options_are_refused(words: list[str]) -> None:
    assert command.main(["camera", *words]) == 2
