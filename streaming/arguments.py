"""The arguments of `python -m streaming` and its help text."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from fractions import Fraction
from math import isfinite
from typing import NoReturn

from streaming.control.cues import MAX_DISSOLVE_S, MAX_SEED, PARTS, Cue
from streaming.instrument.control_map import read_source
from streaming.instrument.udp_address import read_address
from streaming.live.encoders import AUTO, ENCODERS
from streaming.live.presets import PRESETS
from streaming.masking import mask
from streaming.sinks.table import KINDS, RGB_FORMS

DEFAULT_BUNDLE = "bundles/landscape"
DEFAULT_SINK = "http://127.0.0.1:8000"
_MAX_FPS = 1000
_MAX_SOUND_DELAY_MS = 2000
_MAX_CUE_S = 10**9

_DESCRIPTION = """\
Stream endless video from a trained generator, live, to one or more sinks.

sinks:
{sinks}
"""
_EPILOG = """\
examples:
  python -m streaming
      the bundle that ships with the project, on a page at
      {page}
  python -m streaming bundles/landscape --image photo.jpg --to clip.mp4 \\
          --seconds 20
      animate a photo and record it for 20 seconds
  python -m streaming bundles/landscape --clip holiday.mp4 --to longer.mp4
      continue a video where it ends
  python -m streaming bundles/landscape --text "calm sea" \\
          --cue 20:text="storm clouds" --cue 20:wind_x=0.5 \\
          --cue 60:image=photo.jpg --dissolve 3
      change the weather after 20 seconds, and the place after a minute
  python -m streaming bundles/mine --to rtmp://live.twitch.tv/app/KEY \\
          --preset twitch --to night.mkv
      a live stream, recorded at the same time
  python -m streaming --to webcam --to {page}
      a camera for video calls, and a page to watch and control it
  python -m streaming --to - | ffplay -f rawvideo -pixel_format yuv420p \\
          -video_size WIDTHxHEIGHT -framerate FPS -
      raw frames for another program; the first line of the show has the size
      and the frame rate

prompts:
  --image animates a picture, --clip continues a video or an animated GIF from
  its last frames, and --text describes the scene in English. A bundle takes
  some of them, alone or together, and decides how they combine. The shipped
  landscape uses the text only without an image or clip. With an image and
  a clip, the clip sets the motion of the image; both should show the same
  place. Without a prompt the bundle's scenes follow one another (--every);
  without scenes, or with --seed, the seed decides. --moving says what of
  the picture may move. A scene from a seed or a text
  changes over time as the bundle specifies; a scene from an image or a clip
  stays.

live input:
  --input webcam, webcam:DEVICE, page, testcard, a video file, or an address
  that FFmpeg opens (rtsp://, http://, rtmp:// ...). A file is repeated. With
  page, a browser that has the page open is the camera, e.g. that of a phone;
  the show begins without it. --image input animates the picture at the start
  of the show, --cue SECONDS:image=input the picture at that time, and the page
  or its API the current picture. A bundle with a live input, such as an
  imported one, gets every frame. If the input fails, its last frame is shown;
  after five seconds the --fallback picture, or black. It is reopened until it
  works again.
  --matte puts the person of the input over the show, at matte.x and matte.y, as
  large as matte.size says. A clip of --behind is repeated; what is behind may
  be changed on the page. While the input is lost, nobody is shown.

sound:
  --sound mic, mic:DEVICE (its number or part of its name), a file, which is
  repeated, or an address. --sound input is the sound of the file or address of
  --input, in step with its picture. Without --sound, live streams are silent
  and recordings have no sound. Recordings, RTMP, SRT and HLS get AAC, WHIP and
  the page Opus. The controls sound.gain and sound.mute, and a meter, are on the
  page. If the source fails, there is silence until it works again. If the
  sound is ahead of a camera's picture, make --sound-delay longer.

chains:
  --then BUNDLE feeds each frame of the show into the live input of the next
  bundle, e.g. an imported model that changes pictures; several make a longer
  chain. Prompts, --input and the frame rate are the first bundle's; the size of
  the frames is the last one's. The controls of a later bundle are called
  NAME.CONTROL, with -2, -3 ... behind the NAME of a bundle that occurs again. A
  later bundle that fails in every engine is left out; with --fallback, the
  fallback picture is shown until all bundles are back.

cues:
  --cue SECONDS:KIND=VALUE changes the show at that time. KIND is text, image,
  clip, seed or scene, or the name of a control. Cues for the same time are one
  prompt; a seed alone keeps the text. A prompt is prepared in the background,
  when the one before it has faded in or 2 s before it is due, and fades in over
  --dissolve seconds.
  Cues are checked before the show as far as possible. A cue that fails during
  the show, e.g. because its file is gone, is left out and reported in one
  line.

played like an instrument:
  --map CONTROL=SOURCE lets a control follow the sound from frame to frame.
  SOURCE is audio.level, audio.bass, audio.middle, audio.high or audio.onset,
  also with a range: motion=audio.bass:0.2..1.5. While the source moves, it wins
  over the page.
  --osc PORT receives OSC: /everframe/control/NAME value, /everframe/text,
  /everframe/seed, /everframe/scene, /everframe/cue/take N, /everframe/take and
  /everframe/dissolve S. --osc-out HOST:PORT sends the controls, the levels and
  what is on air. --midi with --midi-map plays it with a MIDI controller; see
  examples/midi-map.toml. docs/control.md has all addresses and keys.

frame rate:
  Frame k is due k / fps seconds after the first, and one interval later once
  frames are made ahead (--adapt). A frame is late if it is
  delayed by more than half an interval. If the engine is whole intervals
  behind, these slots are dropped. Each sink has its own thread and a queue of
  two frames: a slow sink drops frames, which are counted, and never affects
  the other sinks.

failures:
  A sink that fails is closed, or reconnects; the others go on. If no frame
  comes for a quarter of a second, e.g. while another engine takes over, the
  last one is repeated. With --fallback the show goes on when every engine has
  failed: the picture is shown, and the engine is reopened with the same scene
  and controls.

recordings:
  Written to NAME.partial and renamed at the end; this replaces an older file
  of that name. If the process is killed, NAME.partial can be played, MP4 and
  Matroska alike; at most the last half second is missing (x264 at 24 fps). The
  next recording to NAME keeps it as NAME.recovered-1.

access:
  Only this machine can open the page, unless HOST is 0.0.0.0 or an address of
  your network. Then anyone with the printed token can watch and control the
  show. A stream key is never shown or logged, but other users of this machine
  can see it in the list of processes: --to env:NAME takes the sink from a
  variable.

exit status:
  0  the show ended: --seconds, Ctrl-C, SIGTERM, a closed terminal, or the
     reader of "-" has left; every file is closed
  1  no sink is left, or none has received a frame
  2  an error in the arguments, the bundle, the engine, or a sink that cannot
     be opened: one line explains it, and no files are left behind
  130  a second Ctrl-C: stopped at once, recordings stay .partial
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        message = re.sub(r"\S+://\S+", lambda match: mask(match[0]), message)  # any argument may hold a stream key
        raise ValueError(f"{message}; see python -m streaming --help")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the arguments; --help prints the help text and exits.

    Args:
        argv: arguments; None for the process's own.

    Returns:
        bundle, image, clip, text, moving, scene, input, matte, behind, away, sound, fallback, midi, midi_map (str or
        None), to (list of str or None), then (list of str), engine, precision, pixels, fit, adapt, preset, encoder, log
        (str), seed (int or None), every, seconds, fps, sound_delay (Fraction or None), size ((width, height) or None),
        cpu_share (float or None), dissolve (float), mirror, trust_engines, verbose (bool), control (list of (name,
        value)), cue (list of Cue), map (list of ControlSource), osc, osc_out (UdpAddress or None).

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
        help=f"where frames go, or env:NAME for the value of that variable; may be repeated (default: {DEFAULT_SINK})",
    )
    add(
        "--then",
        action="append",
        default=[],
        metavar="BUNDLE",
        help="a bundle whose live input gets the frames of the one before; may be repeated",
    )
    add("--image", metavar="FILE", help='picture to animate; "input" for that of --input (default: none)')
    add("--clip", metavar="FILE", help="video to continue from its last frames")
    add("--moving", metavar="FILE", help="mask of the picture: white where things may move, black where nothing does")
    add(
        "--scene", metavar="NAME", help="a picture of the bundle; all: one after the other (the default, if it has any)"
    )
    add("--every", type=_seconds, default=Fraction(20), metavar="S", help="with --scene all: seconds of each (20)")
    add(
        "--fit",
        choices=("cover", "contain", "blur"),
        default="cover",
        help="pictures of another shape: cropped, on black, or on a blurred copy (default: cover)",
    )
    add(
        "--adapt",
        choices=("on", "off"),
        default="on",
        help="if frames run late, make each one ahead; if that is not enough, with half the detail (default: on)",
    )
    add("--input", metavar="IN", help="live input: webcam[:DEVICE], page, testcard, a file or an address")
    add("--matte", metavar="BUNDLE", help="put the person of --input over the show, e.g. bundles/person")
    add(
        "--behind",
        metavar="WHAT",
        help="behind the person: show, blur, green, RRGGBB, a picture or a clip (default: show)",
    )
    add("--away", metavar="WHAT", help="after 5 s without a person: a picture, a scene of the bundle, or blur")
    add("--mirror", action="store_true", help="with --matte: mirror the person")
    add("--sound", metavar="IN", help="sound: mic[:DEVICE], a file, an address, input or page (default: silence)")
    add(
        "--sound-delay",
        type=_milliseconds,
        metavar="MS",
        help="how much later the sound comes (default: two frames for live sound, 0 for a file)",
    )
    add("--text", metavar="TEXT", help="what to show, in a few words of English")
    add(
        "--preset",
        choices=("none", *PRESETS),
        default="none",
        help="settings for a streaming service (default: none)",
    )
    add("--seed", type=_seed, metavar="N", help="the same seed gives the same show (default: the bundle's)")
    add("--seconds", type=_seconds, metavar="S", help="length of the show (default: no end)")
    add("--fps", type=_fps, metavar="F", help="frames per second, also as 30000/1001 (default: as trained)")
    add("--size", type=_size, metavar="WxH", help="frame size in pixels, even (default: the bundle's)")
    add(
        "--control",
        type=_control,
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="set a control; may be repeated",
    )
    add(
        "--cue",
        type=_cue,
        metavar="SECONDS:KIND=VALUE",
        action="append",
        default=[],
        help="change the prompt or a control; may be repeated",
    )
    add(
        "--dissolve",
        type=_dissolve,
        default=1.0,
        metavar="S",
        help="length of a cue's cross-fade in seconds (default: 1)",
    )
    add(
        "--map",
        action="append",
        type=read_source,
        metavar="CONTROL=SOURCE",
        default=[],
        help="let a control follow the sound, e.g. motion=audio.bass:0.2..1.5; may be repeated",
    )
    add("--osc", type=read_address, metavar="[HOST:]PORT", help="receive OSC (default host: 127.0.0.1)")
    add("--osc-out", type=read_address, metavar="[HOST:]PORT", help="send the state of the show by OSC")
    add("--midi", metavar="PORT", help="MIDI input: its name, or a part of it")
    add("--midi-map", metavar="FILE", help="what the controllers and notes of --midi do (TOML)")
    add(
        "--engine",
        default="auto",
        metavar="E",
        help="engine; E,F: F if E is missing or fails (default: the fastest here)",
    )
    add(
        "--cpu-share",
        type=_share,
        metavar="S",
        help="share of the CPU's cores that frames may take, at least one core, e.g. 0.5 (default: all)",
    )
    add("--fallback", metavar="FILE", help="picture to show while every engine has failed")
    add(
        "--trust-engines",
        action="store_true",
        help="load the TensorRT engines in BUNDLE/engines, which are not checked (default: build them here)",
    )
    add("--precision", default="auto", metavar="P", help="number format of the engine (default: the fastest)")
    add(
        "--encoder",
        choices=(AUTO, *ENCODERS),
        default=AUTO,
        help="H.264 encoder (default: the graphics card if possible, else x264)",
    )
    add("--log", choices=("text", "json"), default="text", help="status output format (default: text)")
    add("--verbose", action="store_true", help="print why the engine was chosen")
    add("--pixels", choices=("i420", "rgb"), default="i420", help=f"rgb only with {RGB_FORMS} (default: i420)")
    options = parser.parse_args(argv)
    if options.image == "input" and options.input is None:
        parser.error("--image input needs a live input: add --input, e.g. --input webcam")
    if options.bundle is not None and "://" in options.bundle:
        parser.error(f"BUNDLE is a folder; an address is a sink and needs --to: write --to {options.bundle}")
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
            f"got {text!r}, and that variable is not set: set it to a sink, e.g. rtmp://HOST/APP/KEY"
        )
    return spec


def _seed(text: str) -> int:
    try:
        seed = int(text)
    except ValueError:
        seed = -1
    if not 0 <= seed <= MAX_SEED:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number from 0 to 2**64 - 1, e.g. 7")
    return seed


def _fps(text: str) -> Fraction:
    fps = _fraction(text)
    if fps is None or not 0 < fps <= _MAX_FPS:
        raise argparse.ArgumentTypeError(
            f"got {text!r}, expected more than 0 and at most {_MAX_FPS}, e.g. 25 or 30000/1001"
        )
    return fps


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected WIDTHxHEIGHT in pixels, e.g. 1280x720")
    return int(match[1]), int(match[2])


def _share(text: str) -> float:
    share = _fraction(text)
    if share is None or not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected more than 0 and at most 1, e.g. 0.5")
    return float(share)


def _milliseconds(text: str) -> Fraction:
    delay = _fraction(text)
    if delay is None or not 0 <= delay <= _MAX_SOUND_DELAY_MS:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected 0 to {_MAX_SOUND_DELAY_MS} milliseconds, e.g. 80")
    return delay


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
    if seconds is None or not 0 <= seconds <= MAX_DISSOLVE_S:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected 0 (a cut) to {MAX_DISSOLVE_S} seconds, e.g. 2.5")
    return float(seconds)


def _fraction(text: str) -> Fraction | None:
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):  # also for "nan" and "inf"
        return None
