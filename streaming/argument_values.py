"""The values of the arguments of `python -m streaming`: text -> value, or argparse.ArgumentTypeError."""

from __future__ import annotations

import argparse
import os
import re
from fractions import Fraction
from math import isfinite

from streaming.control.cues import MAX_DISSOLVE_S, MAX_SEED, PARTS, Cue

_MAX_FPS = 1000
_MAX_SOUND_DELAY_MS = 2000
_MAX_CUE_S = 10**9
_MAX_RENEWAL_S = 3600
_MAX_CORES = 1024
_MAX_SPEED = 2  # frame widths or heights in a second


def read_sink(text: str) -> str:
    """Return a sink, from a variable of the environment if the text is env:NAME."""
    name = text.removeprefix("env:")
    if name == text:
        return text
    if not (spec := os.environ.get(name, "")):
        raise argparse.ArgumentTypeError(
            f"got {text!r}, and that variable is not set: set it to a sink, e.g. rtmp://HOST/APP/KEY"
        )
    return spec


def read_seed(text: str) -> int:
    """Return a seed."""
    try:
        seed = int(text)
    except ValueError:
        seed = -1
    if not 0 <= seed <= MAX_SEED:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number from 0 to 2**64 - 1, e.g. 7")
    return seed


def read_similarity(text: str) -> float:
    """Return the similarity of frames to skip."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:  # also not a number
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a similarity above 0 and below 1, e.g. 0.98")
    return value


def read_fps(text: str) -> Fraction:
    """Return frames per second."""
    fps = _fraction(text)
    if fps is None or not 0 < fps <= _MAX_FPS:
        raise argparse.ArgumentTypeError(
            f"got {text!r}, expected more than 0 and at most {_MAX_FPS}, e.g. 25 or 30000/1001"
        )
    return fps


def read_size(text: str) -> tuple[int, int]:
    """Return (width, height) in pixels."""
    match = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected WIDTHxHEIGHT in pixels, e.g. 1280x720")
    return int(match[1]), int(match[2])


def read_share(text: str) -> float:
    """Return a share of the cores, above 0 and at most 1, or a number of cores above 1."""
    share = _fraction(text)
    if share is None or not 0 < share <= _MAX_CORES:
        raise argparse.ArgumentTypeError(
            f"got {text!r}, expected a share above 0 and at most 1, e.g. 0.5, or a number of cores above 1"
        )
    return float(share)


def read_milliseconds(text: str) -> Fraction:
    """Return milliseconds of a sound's delay."""
    delay = _fraction(text)
    if delay is None or not 0 <= delay <= _MAX_SOUND_DELAY_MS:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected 0 to {_MAX_SOUND_DELAY_MS} milliseconds, e.g. 80")
    return delay


def read_seconds(text: str) -> Fraction:
    """Return seconds above 0."""
    seconds = _fraction(text)
    if seconds is None or seconds <= 0:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number above 0, e.g. 10; leave it out for no end")
    return seconds


def read_renewal(text: str) -> Fraction:
    """Return the seconds for which a painted picture is shown."""
    seconds = _fraction(text)
    if seconds is None or not 1 <= seconds <= _MAX_RENEWAL_S:
        raise argparse.ArgumentTypeError(
            f"got {text!r}, expected 1 to {_MAX_RENEWAL_S} seconds, e.g. 60; leave it out to keep the picture"
        )
    return seconds


def read_payload(text: str) -> int:
    """Return the payload of a mark."""
    from runtime.marking.payload import parse_payload  # only if it is given: --help needs no runtime

    try:
        return parse_payload(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def read_control(text: str) -> tuple[str, float]:
    """Return the name and the value of a control."""
    name, equals, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not name or not equals or not isfinite(number):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected NAME=VALUE with a number, e.g. motion=0.5")
    return name, number


def read_hint(text: str) -> tuple[float, float, float, float]:
    """Return an arrow: x, y, and how far things move in a second, in shares of the frame."""
    try:
        x, y, dx, dy = map(float, text.strip("()[] ").split(","))
    except ValueError:
        x = y = dx = dy = float("nan")
    if not (0 <= x <= 1 and 0 <= y <= 1 and abs(dx) <= _MAX_SPEED and abs(dy) <= _MAX_SPEED):  # for NaN, too
        raise argparse.ArgumentTypeError(
            f"got {text!r}, expected X,Y,DX,DY in shares of the frame, X and Y from 0 to 1, DX and DY from "
            f"-{_MAX_SPEED} to {_MAX_SPEED}, e.g. 0.5,0.3,0,0.2: there, down by a fifth of the height in a second"
        )
    return x, y, dx, dy


def read_cue(text: str) -> Cue:
    """Return a cue."""
    match = re.fullmatch(r"(?s)([^:]*):([^=]*)=(.*)", text)
    at_s = None if match is None else _fraction(match[1])
    if match is None or at_s is None or not 0 <= at_s <= _MAX_CUE_S or not match[2]:
        raise argparse.ArgumentTypeError(
            f"got {text!r}, expected SECONDS:KIND=VALUE, e.g. 10:text=storm or 7.5:image=photo.jpg"
        )
    kind, value = match[2], match[3]
    if kind == "seed":
        return Cue(at_s, kind, read_seed(value))
    if kind in PARTS:
        return Cue(at_s, kind, value)
    try:
        return Cue(at_s, *read_control(f"{kind}={value}"))
    except argparse.ArgumentTypeError as error:
        known = f"{', '.join(PARTS[:-1])} or {PARTS[-1]}"
        raise argparse.ArgumentTypeError(
            f"got {text!r}: {kind!r} is not {known}, and a control takes a number, e.g. 10:motion=0.5"
        ) from error


def read_dissolve(text: str) -> float:
    """Return the seconds of a cross-fade."""
    seconds = _fraction(text)
    if seconds is None or not 0 <= seconds <= MAX_DISSOLVE_S:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected 0 (a cut) to {MAX_DISSOLVE_S} seconds, e.g. 2.5")
    return float(seconds)


def _fraction(text: str) -> Fraction | None:
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):  # also for "nan" and "inf"
        return None
