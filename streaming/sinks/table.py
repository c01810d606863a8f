"""The table of sinks: the forms of --to and their modules. Adding a sink = one line."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from runtime.masking import mask
from streaming.errors import SinkError
from streaming.sinks.sink import Sink


@dataclass(frozen=True)
class SinkKind:
    """One kind of sink.

    Args:
        form: the form of --to, for the help.
        pattern: a regular expression for the whole value of --to.
        module: of `streaming.sinks`; imported only when used.
        cls: the class in it; its argument is the value of --to.
        summary: for the help.
        words: schemes, suffixes or names that suggest this sink, for "did you mean".
        takes_rgb: whether it also accepts RGB frames.
        encodes: whether it encodes H.264.
    """

    form: str
    pattern: str
    module: str
    cls: str
    summary: str
    words: tuple[str, ...]
    takes_rgb: bool = False
    encodes: bool = False


_PAGE = "a page with the live picture and statistics"
_FILE = "an H.264 recording, renamed when it is complete"
_RTMP = "a live stream, rtmps:// too; reconnects by itself"
_SRT = "a live stream over networks that lose packets"
_WHIP = "WebRTC, the lowest latency; whip+http:// without TLS"
_HLS = "a playlist and its segments, for any web server"

KINDS: tuple[SinkKind, ...] = (
    SinkKind("http://HOST:PORT", r"http://.*", "page_sink", "PageSink", _PAGE, ("http", "https")),
    SinkKind(
        "FILE.mp4 or FILE.mkv",
        r".*\.(mp4|mkv)",
        "file_sink",
        "FileSink",
        _FILE,
        ("mp4", "mkv", "mov", "avi", "webm"),
        encodes=True,
    ),
    SinkKind("rtmp://HOST/APP/KEY", r"rtmps?://.*", "rtmp_sink", "RtmpSink", _RTMP, ("rtmp", "rtmps"), encodes=True),
    SinkKind("srt://HOST:PORT?streamid=ID", r"srt://.*", "srt_sink", "SrtSink", _SRT, ("srt",), encodes=True),
    SinkKind(
        "whip://[TOKEN@]HOST/PATH",
        r"whip(\+http)?://.*",
        "whip_sink",
        "WhipSink",
        _WHIP,
        ("whip", "whips"),
        encodes=True,
    ),
    SinkKind("FOLDER/NAME.m3u8", r".*\.m3u8", "hls_sink", "HlsSink", _HLS, ("m3u8", "hls"), encodes=True),
    SinkKind("webcam[:DEVICE]", r"webcam(:.*)?", "webcam_sink", "WebcamSink", "a camera for video calls", ("webcam",)),
    SinkKind("window", r"window", "window_sink", "WindowSink", "a window on the desktop; q closes it", ("window",)),
    SinkKind("-", r"-", "pipe_sink", "PipeSink", "raw frames on standard output", ("-", "stdout"), takes_rgb=True),
    SinkKind(
        "null", r"null", "null_sink", "NullSink", "discards frames, to measure the rest", ("null",), takes_rgb=True
    ),
)

RGB_FORMS = " and ".join(f"--to {kind.form}" for kind in KINDS if kind.takes_rgb)


def make_sinks(specs: Sequence[str], pixels: str) -> list[Sink]:
    """Make the sinks that were requested, without opening them.

    Args:
        specs: the values of --to.
        pixels: the format of frames, "i420" or "rgb".

    Returns:
        One sink per spec, in order.

    Raises:
        SinkError: a spec is not a sink, is given twice, or does not accept such pixels.
    """
    sinks: list[Sink] = []
    for index, spec in enumerate(specs):
        kind = _find(spec)
        if spec in specs[:index]:
            raise SinkError(f"sink {mask(spec)} is given twice: give each --to once")
        if pixels == "rgb" and not kind.takes_rgb:
            raise SinkError(f"sink {mask(spec)} accepts i420, got --pixels rgb: use it only with {RGB_FORMS}")
        module = importlib.import_module(f"streaming.sinks.{kind.module}")
        sinks.append(getattr(module, kind.cls)(spec))
    return sinks


def _find(spec: str) -> SinkKind:
    for kind in KINDS:
        if re.fullmatch(kind.pattern, spec, re.IGNORECASE | re.DOTALL):
            return kind
    known = ", ".join(kind.form for kind in KINDS)
    words = {word: kind for kind in KINDS for word in kind.words}
    asked = re.split(r":", spec.lower())[0].rpartition(".")[2]
    close = difflib.get_close_matches(asked, words, n=1, cutoff=0.5)
    hint = f"; did you mean {words[close[0]].form}?" if close else ""
    raise SinkError(f'there is no sink "{mask(spec)}": the sinks are {known}{hint}')
