"""The arguments: what is read, what is refused, and the help text."""

from __future__ import annotations

from fractions import Fraction

import pytest

from streaming.arguments import parse
from streaming.control.cues import Cue
from streaming.sinks.table import KINDS


def test_everything_is_read() -> None:
    options = parse(
        [
            *("b", "--to", "a.mp4", "--to", "-", "--image", "i.png", "--seed", "18446744073709551615"),
            *("--seconds", "2.5", "--fps", "30000/1001", "--control", "sway=-1.5", "--control", "drift=2"),
            *(
                "--engine",
                "openvino",
                "--precision",
                "bf16",
                "--clip",
                "c.mp4",
                "--text",
                "a storm",
                "--dissolve",
                "2.5",
            ),
            *("--cue", "1.5:text=a: b = c", "--cue", "0:image=x=y.png", "--cue", "1/3:seed=7", "--cue", "2:sway=-1"),
        ]
    )
    assert (options.bundle, options.to, options.image, options.seed) == ("b", ["a.mp4", "-"], "i.png", 2**64 - 1)
    assert (options.seconds, options.fps) == (Fraction(5, 2), Fraction(30000, 1001))
    assert options.control == [("sway", -1.5), ("drift", 2.0)]
    assert (options.engine, options.precision, options.pixels) == ("openvino", "bf16", "i420")
    assert (options.clip, options.text, options.dissolve) == ("c.mp4", "a storm", 2.5)
    assert options.cue == [
        Cue(Fraction(3, 2), "text", "a: b = c"),
        Cue(Fraction(0), "image", "x=y.png"),
        Cue(Fraction(1, 3), "seed", 7),
        Cue(Fraction(2), "sway", -1.0),
    ]


def test_a_sink_may_stand_in_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAM", "rtmp://host/app/SECRET")
    monkeypatch.delenv("NOTHING", raising=False)
    assert parse(["--to", "env:STREAM", "--to", "a.mp4"]).to == ["rtmp://host/app/SECRET", "a.mp4"]
    with pytest.raises(ValueError, match="got 'env:NOTHING', and that variable is not set"):
        parse(["--to", "env:NOTHING"])


def test_nothing_has_to_be_given() -> None:
    options = parse([])
    assert (options.bundle, options.to, options.image, options.seed, options.seconds, options.fps) == (None,) * 6
    assert (options.clip, options.text, options.cue, options.dissolve) == (None, None, [], 1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fps", "0"], "--fps: got '0', expected more than 0"),
        (["--fps", "-25"], "--fps: got '-25'"),
        (["--fps", "1001"], "at most 1000"),
        (["--fps", "1/0"], "--fps: got '1/0'"),
        (["--fps", "nan"], "--fps: got 'nan'"),
        (["--seconds", "-3"], "--seconds: got '-3', expected a number above 0"),
        (["--seconds", "0"], "--seconds: got '0'"),
        (["--seconds", "inf"], "--seconds: got 'inf'"),
        (["--seed", "-1"], "--seed: got '-1', expected a whole number from 0"),
        (["--seed", "1.5"], "--seed: got '1.5'"),
        (["--seed", str(2**64)], "--seed: got '18446744073709551616'"),
        (["--control", "sway"], "--control: got 'sway', expected NAME=VALUE"),
        (["--control", "=1"], "--control: got '=1'"),
        (["--control", "sway=much"], "--control: got 'sway=much'"),
        (["--control", "sway=nan"], "--control: got 'sway=nan'"),
        (["--cue", "storm"], "--cue: got 'storm', expected SECONDS:KIND=VALUE, e.g. 10:text=storm"),
        (["--cue", "10:text"], "--cue: got '10:text', expected SECONDS:KIND=VALUE"),
        (["--cue", "10:=storm"], "--cue: got '10:=storm', expected SECONDS:KIND=VALUE"),
        (["--cue", "soon:text=storm"], "--cue: got 'soon:text=storm', expected SECONDS"),
        (["--cue=-1:text=storm"], "--cue: got '-1:text=storm', expected SECONDS"),
        (["--cue", "1e10:text=storm"], "--cue: got '1e10:text=storm', expected SECONDS"),
        (["--cue", "10:seed=x"], "--cue: got 'x', expected a whole number from 0"),
        (
            ["--cue", "10:sway=much"],
            "--cue: got '10:sway=much': 'sway' is not text, image, clip, past, seed, scene or hints",
        ),
        (
            ["--cue", "10:txet=storm"],
            "'txet' is not text, image, clip, past, seed, scene or hints, and a control takes a number, e.g. ",
        ),
        (["--cue", "10:text=a", "--seconds", "10"], "the cue at 10 s comes after the end of the show (--seconds 10)"),
        (
            ["--cpu-share", "0"],
            "--cpu-share: got '0', expected a share above 0 and at most 1, e.g. 0.5, or a number of cores",
        ),
        (["--size", "big"], "--size: got 'big', expected WIDTHxHEIGHT in pixels, e.g. 1280x720"),
        (["--dissolve=-1"], "--dissolve: got '-1', expected 0 (a cut) to 3600 seconds"),
        (["--dissolve", "3601"], "--dissolve: got '3601'"),
        (["--dissolve", "nan"], "--dissolve: got 'nan'"),
        (["--pixels", "yuv"], "--pixels: invalid choice: 'yuv'"),
        (["--sink", "null"], "unrecognized arguments: --sink"),
        (["--to"], "--to: expected one argument"),
    ],
)
def test_a_bad_value_is_reported_in_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=r"see python -m streaming --help$") as caught:
        parse(arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("arguments", [["rtmp://host/app/SECRET"], ["bundle", "rtmp://host/app/SECRET"]])
def test_a_sink_without_to_does_not_show_its_key(arguments: list[str]) -> None:
    with pytest.raises(ValueError, match=r"rtmp://host/app/\*\*\*") as caught:
        parse(arguments)
    assert "SECRET" not in str(caught.value)


def test_help_fits_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert all(kind.form in text and kind.summary in text for kind in KINDS)
    for heading in (
        "examples:",
        "prompts:",
        "cues:",
        "frame rate:",
        "recordings:",
        "access:",
        "exit status:",
    ):
        assert heading in text
    assert all(f"{option} " in text for option in ("--image", "--clip", "--text", "--cue", "--dissolve"))
    assert "-video_size WIDTHxHEIGHT" in text
    assert max(len(line) for line in text.splitlines()) <= 80
