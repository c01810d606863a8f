"""Which sound the options ask for, and what does not fit together."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import ClassVar

import pytest

from streaming.arguments import parse
from streaming.sound import opening
from streaming.sound.opening import make_sound
from streaming.sound.sound import Sound
from streaming.sound.timeline import RATE

FPS = Fraction(25)


class Source:
    """Stands for what records, and notes what it was asked for."""

    made: ClassVar[list[str]] = []

    def __init__(self, spec: str, on_sound: Callable[..., object]) -> None:
        self.name = spec.upper()
        self.made.append(spec)

    def begin(self, start_s: float) -> None:
        """Do nothing."""

    def close(self) -> None:
        self.made.append("closed")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(opening, "SoundSourceThread", Source)
    monkeypatch.setattr(Source, "made", [])
    return Source.made


def sound(*arguments: str) -> Sound | None:
    return make_sound(parse(["bundle", *arguments]), FPS)


def delay(found: Sound | None) -> int:
    """Return by how many samples a block is shifted."""
    import numpy as np

    assert found is not None
    found.begin(0.0)
    found.write(np.ones((1, 2), np.int16), 0.0)
    return found.timeline.end - 1


def test_silence_is_the_default(made: list[str]) -> None:
    assert sound() is None
    assert not made


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--sound", "mic"], 2 * RATE // 25),
        (["--sound", "mic:USB"], 2 * RATE // 25),
        (["--sound", "rtsp://host/a"], 2 * RATE // 25),
        (["--sound", "song.mp3"], 0),
        (["--sound", "mic", "--sound-delay", "120"], 120 * RATE // 1000),
        (["--sound", "song.mp3", "--sound-delay", "0"], 0),
    ],
)
def test_live_sound_is_as_late_as_the_picture(made: list[str], arguments: list[str], expected: int) -> None:
    found = sound(*arguments)
    assert made == [arguments[1]]
    assert found is not None
    assert found.name == arguments[1].upper()
    assert delay(found) == expected
    found.close()
    assert made[-1] == "closed"


def test_the_sound_of_the_live_input_has_no_source_of_its_own(made: list[str]) -> None:
    found = sound("--sound", "input", "--input", "clip.mp4")
    assert not made
    assert delay(found) == 2 * RATE // 25


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sound", "input"], "--sound input is the sound of --input: add --input"),
        (["--sound", "input", "--input", "webcam:1"], "the input webcam:1 has no sound: use --sound mic"),
        (["--sound", "input", "--input", "testcard"], "the input testcard has no sound"),
        (["--sound", "page"], "add --input page"),
        (["--sound-delay", "80"], "--sound-delay is for the sound of --sound: add --sound mic"),
    ],
)
def test_what_does_not_fit_together(made: list[str], arguments: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sound(*arguments)
    assert not made


@pytest.mark.parametrize("value", ["-1", "2001", "soon", "nan"])
def test_a_delay_has_a_range(value: str) -> None:
    with pytest.raises(ValueError, match=r"--sound-delay: got .*, expected 0 to 2000 milliseconds, e.g. 80"):
        parse(["bundle", f"--sound-delay={value}"])
