"""The arguments of `python -m streaming` and its manual page."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isfinite
from typing import Any, NoReturn

from streaming.live.encoders import AUTO, ENCODERS
from streaming.live.presets import PRESETS
from streaming.masking import mask
from streaming.sinks.table import KINDS

DEFAULT_BUNDLE = "bundles/satellite-256"
DEFAULT_SINK = "http://127.0.0.1:8000"
PARTS = ("text", "image", "clip", "seed")  # of a prompt; every other kind of cue is a control
_MAX_FPS = 1000
_MAX_DISSOLVE_S = 3600
_MAX_CUE_S = 10**9

_DESCRIPTION = """\
Put a trained generator on air: endless video, made live, for one or more
sinks.

sinks:
{sinks}
"""
_EPILOG = """\
examples:
  python -m streaming
      the bundle that ships with the project, on a page at
      {page}
  python -m streaming bundles/landscape-256 --image photo.jpg --to clip.mp4 \\
          --seconds 20
      a photo comes to life, recorded for 20 seconds
  python -m streaming bundles/landscape-256 --clip holiday.mp4 --to longer.mp4
      a video goes on where it ended
  python -m streaming bundles/landscape-256 --text "calm sea" \\
          --cue 20:text="storm clouds" --cue 20:wind_x=0.5 \\
          --cue 60:image=photo.jpg --dissolve 3
      the weather changes after 20 seconds, the place after a minute
  python -m streaming bundles/mine --to rtmp://live.twitch.tv/app/KEY \\
          --preset twitch --to night.mkv
      a live stream, recorded at the same time
  python -m streaming --to webcam --to {page}
      a camera for video calls, and a page to watch it on
  python -m streaming --to - | ffplay -f rawvideo -pixel_format yuv420p \\
          -video_size WIDTHxHEIGHT -framerate FPS -
      raw frames for any other program; the first line of the show says the
      three values

what is shown:
  --image, --clip and --text are for bundles that take them, alone or together:
  a picture that is animated, a video that goes on from its last frames (also
  an animated GIF), and a few words of English. Without any of them a scene is
  made up from the seed. What they mean together is the bundle's to say: the
  shipped landscape-256 shows a picture or a clip as it is and hears words only
  where there is neither; with both, the clip tells how the picture moves, so
  that they should be of one place. A scene made up from the seed, with a text
  or without, renews itself as the bundle says; one made from an image or a clip
  stays.

live input:
  --input webcam, webcam:DEVICE, testcard, a video file, or an address that
  FFmpeg opens (rtsp://, http://, rtmp:// ...); a file begins again at its end.
  --image input animates what it shows when the show begins, --cue
  SECONDS:image=input what it shows then, the page and its API what it shows at
  any time. A bundle with a live input, as imported ones may have, gets its
  frames. An input that breaks off stands still; after five seconds it is
  replaced by the --fallback picture, or black; and it is tried again for ever.

cues:
  --cue SECONDS:KIND=VALUE switches while the show is on. KIND is text, image,
  clip or seed, or the name of a control. Several for the same second are one
  prompt; a seed alone keeps the text. A prompt is prepared beside the show,
  as soon as the one before it plays, and replaces it over --dissolve seconds.
  What can be checked is checked before the show; a cue that fails later, as
  its file is gone, costs a line here and nothing else.

the clock:
  Frame k is due k / fps seconds after the first. A frame later than half an
  interval counts as late; when the engine falls whole intervals behind, these
  slots are dropped. Each sink has its own thread and a queue of two frames: a
  slow sink loses frames, which are counted, and holds nobody up.

what goes wrong:
  A sink that fails is left alone, or reconnects, while the others go on. While
  another engine takes over, and whenever no frame comes for a quarter of a
  second, the last one is shown again. With --fallback a show does not end when
  every engine has failed: the picture is shown, and the engine opened again as
  soon as it can be, with the scene and the controls that it had.

recordings:
  Written to NAME.partial and renamed at the end; an older file of that name is
  replaced then. If the process is killed, NAME.partial can be played, MP4 and
  Matroska alike; it lacks less than the last half second (x264 at 24 fps). The
  next recording to NAME keeps it as NAME.recovered-1.

who can see it:
  The page is for this machine alone, unless HOST is 0.0.0.0 or an address of
  your network: then whoever has the token that is told can watch and steer. A
  stream key is never shown or logged, but other users of this machine can see
  it in the list of processes: --to env:NAME takes the sink from a variable.

exit status:
  0  --seconds are over; Ctrl-C, SIGTERM or a closed terminal, with every file
     closed; or the reader of "-" has left
  1  no sink is left alive, or none has taken a single frame
  2  something is wrong with the arguments, the bundle, the engine, or a sink
     that cannot be opened: one line says what, and nothing is left behind
  130  a second Ctrl-C: left at once, recordings stay .partial
"""


@dataclass(frozen=True)
class Cue:
    """A switch at a time that is known beforehand.

    Args:
        at_s: when, in seconds of the show.
        kind: one of `PARTS`, or the name of a control.
        value: a text or a path (str), a seed (int), or the control's value (float).
    """

    at_s: Fraction
    kind: str
    value: Any


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        message = re.sub(
            r"\S+://\S+", lambda match: mask(match[0]), message
        )  # a key may stand where it does not belong
        raise ValueError(f"{message}; see python -m streaming --help")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the arguments; --help prints the manual page and exits.

    Args:
        argv: arguments; None for the process's own.

    Returns:
        bundle, image, clip, text, input, fallback (str or None), to (list of str or None), engine, precision,
        pixels, preset, encoder, log (str), seed (int or None), seconds, fps (Fraction or None), dissolve (float),
        trust_engines (bool), control (list of (name, value)), cue (list of Cue).

    Raises:
        ValueError: an argument is unknown or its value is bad; the message is one line.
    """
    sinks = "\n".join(f"  {kind.form:<22}  {kind.summary}" for kind in KINDS)
    parser = _Parser(
        prog="python -m streaming",
        usage="python -m streaming [BUNDLE] [--to SINK]... [options]",
        description=_DESCRIPTION.format(sinks=sinks),
        epilog=_EPILOG.format(page=DEFAULT_SINK),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("bundle", nargs="?", metavar="BUNDLE", help=f"folder of a bundle (default: {DEFAULT_BUNDLE})")
    add(
        "--to",
        action="append",
        type=_sink,
        metavar="SINK",
        help=f"where frames go, or env:NAME for what that variable holds; may be repeated (default: {DEFAULT_SINK})",
    )
    add("--image", metavar="FILE", help='picture to animate; "input" for what --input shows (default: made up)')
    add("--clip", metavar="FILE", help="video to go on from, from its last frames")
    add("--input", metavar="IN", help="live input: webcam[:DEVICE], testcard, a file or an address; for the page too")
    add("--text", metavar="TEXT", help="what is to be seen, in a few words of English")
    add(
        "--preset",
        choices=("none", *PRESETS),
        default="none",
        help="rules of a service for live streams (default: none)",
    )
    add("--seed", type=_seed, metavar="N", help="the same seed gives the same show (default: the bundle's)")
    add("--seconds", type=_seconds, metavar="S", help="length of the show (default: no end)")
    add("--fps", type=_fps, metavar="F", help="frames per second, also as 30000/1001 (default: what was trained)")
    add("--control", type=_control, metavar="NAME=VALUE", action="append", default=[], help="steer; may be repeated")
    add("--cue", type=_cue, metavar="SECONDS:KIND=VALUE", action="append", default=[], help="switch; may be repeated")
    add("--dissolve", type=_dissolve, default=1.0, metavar="S", help="seconds that a cue's switch takes (default: 1)")
    add(
        "--engine",
        default="auto",
        metavar="E",
        help="what computes; E,F: F if E cannot or fails (default: the fastest here)",
    )
    add("--fallback", metavar="FILE", help="picture to show while every engine has failed; they are tried again")
    add(
        "--trust-engines",
        action="store_true",
        help="load the TensorRT engines in BUNDLE/engines, which no check covers (default: they are built here)",
    )
    add("--precision", default="auto", metavar="P", help="number format of the engine (default: the fastest)")
    add(
        "--encoder",
        choices=(AUTO, *ENCODERS),
        default=AUTO,
        help="what makes H.264 (default: the graphics card where it can, else x264)",
    )
    add("--log", choices=("text", "json"), default="text", help="what is told meanwhile, for people or for programs")
    add("--pixels", choices=("i420", "rgb"), default="i420", help='rgb is for "-" and "null" alone (default: i420)')
    options = parser.parse_args(argv)
    if options.image == "input" and options.input is None:
        parser.error("--image input is what the live input shows: add --input, e.g. --input webcam")
    if options.bundle is not None and "://" in options.bundle:
        parser.error(f"a sink stands behind --to, and a bundle is a folder: write --to {options.bundle}")
    for cue in options.cue:
        if options.seconds is not None and cue.at_s >= options.seconds:
            parser.error(
                f"the cue at {float(cue.at_s):g} s comes after the end of the show (--seconds "
                f"{float(options.seconds):g}): make the show longer, or leave the cue out"
            )
    return options


def _sink(text: str) -> str:
    name = text.removeprefix("env:")
    if name == text:
        return text
    if not (spec := os.environ.get(name, "")):
        raise argparse.ArgumentTypeError(
            f"got {text!r}, and no variable of that name holds anything: set it to a sink, e.g. rtmp://HOST/APP/KEY"
        )
    return spec


def _seed(text: str) -> int:
    try:
        seed = int(text)
    except ValueError:
        seed = -1
    if not 0 <= seed < 2**64:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number from 0 to 2**64 - 1, e.g. 7")
    return seed


def _fps(text: str) -> Fraction:
    fps = _fraction(text)
    if fps is None or not 0 < fps <= _MAX_FPS:
        raise argparse.ArgumentTypeError(
            f"got {text!r}, expected more than 0 and at most {_MAX_FPS}, e.g. 25 or 30000/1001"
        )
    return fps


def _seconds(text: str) -> Fraction:
    seconds = _fraction(text)
    if seconds is None or seconds <= 0:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number above 0, e.g. 10; leave it out for no end")
    return seconds


def _control(text: str) -> tuple[str, float]:
    name, equals, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not name or not equals or not isfinite(number):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected NAME=VALUE with a number, e.g. motion=0.5")
    return name, number


def _cue(text: str) -> Cue:
    match = re.fullmatch(r"(?s)([^:]*):([^=]*)=(.*)", text)
    at_s = None if match is None else _fraction(match[1])
    if match is None or at_s is None or not 0 <= at_s <= _MAX_CUE_S or not match[2]:
        raise argparse.ArgumentTypeError(
            f"got {text!r}, expected SECONDS:KIND=VALUE, e.g. 10:text=storm or 7.5:image=photo.jpg"
        )
    kind, value = match[2], match[3]
    if kind == "seed":
        return Cue(at_s, kind, _seed(value))
    if kind in PARTS:
        return Cue(at_s, kind, value)
    try:
        return Cue(at_s, *_control(f"{kind}={value}"))
    except argparse.ArgumentTypeError as error:
        known = f"{', '.join(PARTS[:-1])} or {PARTS[-1]}"
        raise argparse.ArgumentTypeError(
            f"got {text!r}: {kind!r} is not {known}, and a control takes a number, e.g. 10:motion=0.5"
        ) from error


def _dissolve(text: str) -> float:
    seconds = _fraction(text)
    if seconds is None or not 0 <= seconds <= _MAX_DISSOLVE_S:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected 0 (a cut) to {_MAX_DISSOLVE_S} seconds, e.g. 2.5")
    return float(seconds)


def _fraction(text: str) -> Fraction | None:
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):  # also "nan" and "inf", which are no fractions
        return None
