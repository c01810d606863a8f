"""The arguments of `python -m streaming` and its help text."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import NoReturn

from runtime.masking import mask
from streaming.argument_values import (
    read_control,
    read_cue,
    read_dissolve,
    read_fps,
    read_hint,
    read_milliseconds,
    read_payload,
    read_renewal,
    read_seconds,
    read_seed,
    read_share,
    read_similarity,
    read_sink,
    read_size,
)
from streaming.instrument.control_map import read_source
from streaming.instrument.udp_address import read_address
from streaming.live.encoders import AUTO, ENCODERS
from streaming.live.presets import PRESETS
from streaming.manual import DESCRIPTION, EPILOG
from streaming.shipped import AREAS
from streaming.sinks.table import KINDS, RGB_FORMS

DEFAULT_BUNDLE = "bundles/landscape"
DEFAULT_SINK = "http://127.0.0.1:8000"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        message = re.sub(r"\S+://\S+", lambda match: mask(match[0]), message)  # any argument may hold a stream key
        raise ValueError(f"{message}; see python -m streaming --help")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the arguments; --help prints the help text and exits.

    Args:
        argv: arguments; None for the process's own.

    Returns:
        sign, sign_key, sign_certificates, ledger (str or None), prompts (str),
        bundle, image, clip, past, text, moving, mask, areas, hints, scene, input, matte, behind, away, sound, fallback,
        scene_from, scene_engine, midi, midi_map (str or None), painted (None), to (list of str or None), then (list of
        str), engine, precision, pixels, fit, adapt, preset, encoder, log (str), seed (int or None), every, scene_every,
        seconds, fps, sound_delay (Fraction or None), size ((width, height) or None), cpu_share, skip_similar (float or
        None), dissolve (float), mirror, trust_engines, verbose (bool),
        control (list of (name, value)), hint (list of (x, y, dx, dy)), cue (list of Cue), map (list of ControlSource),
        osc, osc_out (UdpAddress or None), no_mark (bool), mark_payload (int or None).

    Raises:
        ValueError: an argument is unknown or its value is bad; the message is one line.
    """
    sinks = "\n".join(f"  {kind.form:<22}  {kind.summary}" for kind in KINDS)
    parser = _Parser(
        prog="python -m streaming",
        usage="python -m streaming [BUNDLE] [--to SINK]... [options]",
        description=DESCRIPTION.format(sinks=sinks),
        epilog=EPILOG.format(page=DEFAULT_SINK),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("bundle", nargs="?", metavar="BUNDLE", help=f"folder of a bundle (default: {DEFAULT_BUNDLE})")
    add(
        "--to",
        action="append",
        type=read_sink,
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
    add("--clip", metavar="FILE", help="video that plays on for ever with its own frames, without a visible loop")
    add("--past", metavar="FILE", help="video to go on from: its last frame is animated with its motion")
    add("--moving", metavar="FILE", help="mask of the picture: white where things may move, black where nothing does")
    add(
        "--mask",
        metavar="M",
        help="what bundles/fill fills: a picture, white there, or a bundle that finds it, e.g. bundles/person",
    )
    add(
        "--areas",
        metavar="BUNDLE",
        help=f"says what may move in pictures without a mask; none: everything may (default: {AREAS})",
    )
    add(
        "--hint",
        action="append",
        type=read_hint,
        metavar="X,Y,DX,DY",
        default=[],
        help="what is at X,Y moves by DX,DY in a second, in shares of the frame; may be repeated",
    )
    add("--hints", metavar="FILE", help="motion that was drawn and saved on the page (JSON)")
    add(
        "--scene", metavar="NAME", help="a picture of the bundle; all: one after the other (the default, if it has any)"
    )
    add("--every", type=read_seconds, default=Fraction(20), metavar="S", help="with --scene all: seconds of each (20)")
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
    add(
        "--skip-similar",
        type=read_similarity,
        metavar="S",
        help="repeat the frame while --input is nearly still: similarity 0..1, e.g. 0.98 (default: never)",
    )
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
        type=read_milliseconds,
        metavar="MS",
        help="how much later the sound comes (default: two frames for live sound, 0 for a file)",
    )
    add("--text", "--prompt", metavar="TEXT", help="what to show, in a few words of English")
    add(
        "--scene-from",
        metavar="BUNDLE",
        help="paints the pictures of texts and seeds in the background, e.g. an imported text-to-image model",
    )
    add(
        "--scene-every",
        type=read_renewal,
        metavar="S",
        help="with --scene-from: after so many seconds, paint the same text with the next seed (default: never)",
    )
    add("--scene-engine", metavar="E", help="engine of --scene-from (default: the fastest here)")
    add(
        "--preset",
        choices=("none", *PRESETS),
        default="none",
        help="settings for a streaming service (default: none)",
    )
    add("--seed", type=read_seed, metavar="N", help="the same seed gives the same show (default: the bundle's)")
    add("--seconds", type=read_seconds, metavar="S", help="length of the show (default: no end)")
    add("--fps", type=read_fps, metavar="F", help="frames per second, also as 30000/1001 (default: as trained)")
    add("--size", type=read_size, metavar="WxH", help="frame size in pixels, even (default: the bundle's)")
    add(
        "--control",
        type=read_control,
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="set a control; may be repeated",
    )
    add(
        "--cue",
        type=read_cue,
        metavar="SECONDS:KIND=VALUE",
        action="append",
        default=[],
        help="change the prompt or a control; may be repeated",
    )
    add(
        "--dissolve",
        type=read_dissolve,
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
        help="engine, or openvino:GPU; E,F: F if E is missing or fails; grpc://HOST:PORT: a Triton server (default: "
        "the fastest here)",
    )
    add(
        "--cpu-share",
        type=read_share,
        metavar="S",
        help="cores that frames may take: a share, e.g. 0.5, or above 1 a number, rounded down; at least one (all)",
    )
    add("--fallback", metavar="FILE", help="picture to show while every engine has failed")
    add(
        "--trust-engines",
        action="store_true",
        help="load the TensorRT engines in BUNDLE/engines, which are not checked (default: build them here)",
    )
    add(
        "--no-mark",
        action="store_true",
        help="leave out the invisible mark by which everframe verify knows generated frames; see marks below",
    )
    add(
        "--mark-payload",
        type=read_payload,
        metavar="HEX",
        help="what the mark carries, 12 hexadecimal digits (default: random for each show)",
    )
    add("--precision", default="auto", metavar="P", help="fp32, bf16, fp16 or int8 (default: the engine's fastest)")
    add(
        "--encoder",
        choices=(AUTO, *ENCODERS),
        default=AUTO,
        help="H.264 encoder (default: the graphics card if possible, else x264)",
    )
    add("--log", choices=("text", "json"), default="text", help="status output format (default: text)")
    add("--verbose", action="store_true", help="print why the engine was chosen")
    add("--sign", metavar="FOLDER", help="sign recordings with the keys that everframe keys create has made")
    add("--sign-key", metavar="FILE", help="sign recordings with this private key (PEM), and --sign-certificates")
    add("--sign-certificates", metavar="FILE", help="the certificates of --sign-key (PEM), that of the key first")
    add("--ledger", metavar="FILE", help="note this show in a ledger (SQLite), made if it is not there (default: none)")
    add(
        "--prompts",
        choices=("hash", "text"),
        default="hash",
        help="texts in signatures and the ledger: only their hashes, or themselves (default: hash)",
    )
    add("--pixels", choices=("i420", "rgb"), default="i420", help=f"rgb only with {RGB_FORMS} (default: i420)")
    parser.set_defaults(painted=None)  # a moved show goes on with it
    options = parser.parse_args(argv)
    if (options.sign_key is None) != (options.sign_certificates is None):
        parser.error("--sign-key and --sign-certificates belong together: give both, or --sign FOLDER")
    if options.sign is not None and options.sign_key is not None:
        parser.error("--sign has a key of its own: leave it or --sign-key and --sign-certificates out")
    if options.image == "input" and options.input is None:
        parser.error("--image input needs a live input: add --input, e.g. --input webcam")
    if options.no_mark and options.mark_payload is not None:
        parser.error("--no-mark and --mark-payload exclude each other: leave one out")
    if options.bundle is not None and "://" in options.bundle:
        parser.error(f"BUNDLE is a folder; an address is a sink and needs --to: write --to {options.bundle}")
    for cue in options.cue:
        if options.seconds is not None and cue.at_s >= options.seconds:
            parser.error(
                f"the cue at {float(cue.at_s):g} s comes after the end of the show (--seconds "
                f"{float(options.seconds):g}): make the show longer, or leave the cue out"
            )
    return options
