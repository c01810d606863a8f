"""The sound that the options of a show ask for."""

from __future__ import annotations

import argparse
from fractions import Fraction

from streaming.inputs.page_camera import PAGE
from streaming.sound.sound import INPUT, Sound
from streaming.sound.source import SoundSourceThread

_PICTURE_INTERVALS = 2  # between a live picture's arrival and the slot in which it is shown


def make_sound(options: argparse.Namespace, fps: Fraction) -> Sound | None:
    """Make a show's sound, and begin to open its source.

    Args:
        options: as `streaming.arguments.parse` returns them.
        fps: slots per second.

    Returns:
        The sound, to be closed by the caller; None without --sound.

    Raises:
        ValueError: the options do not fit together.
    """
    spec: str | None = options.sound
    if spec is None:
        if options.sound_delay is not None:
            raise ValueError("--sound-delay is for the sound of --sound: add --sound mic, a file, or input")
        return None
    if spec == INPUT:
        _check_input(options.input)
    if spec == PAGE and options.input != PAGE:
        raise ValueError("--sound page is the microphone of the page's camera: add --input page")
    is_path = spec not in (INPUT, PAGE) and "://" not in spec and spec.partition(":")[0] != "mic"
    is_file = is_path or spec.startswith("file://")
    usual_s = 0.0 if is_file else float(_PICTURE_INTERVALS / fps)
    sound = Sound(spec, delay_s=usual_s if options.sound_delay is None else float(options.sound_delay) / 1000)
    if spec not in (INPUT, PAGE):
        source = SoundSourceThread(spec, sound.write)
        sound.name = source.name
        sound.use(source)
    return sound


def _check_input(spec: str | None) -> None:
    if spec is None:
        raise ValueError("--sound input is the sound of --input: add --input with a file or an address")
    if spec.partition(":")[0] == "webcam" or spec == "testcard":
        raise ValueError(f"the input {spec} has no sound: use --sound mic, or a file")
