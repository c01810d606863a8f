"""The command line: `python -m verify SOURCE`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from verify.evidence import Section
    from verify.report import VideoReport

_SECONDS_LIVE, _SECONDS_FILE = 10.0, 60.0
_DESCRIPTION = """\
Say whether a video was made by Everframe: read the mark that every frame
carries, and show its payload, when and where it is in the picture.
"""
_EPILOG = """\
A video without a mark is not shown to be a recording of the world: other
generators have other marks, or none, and a mark can be removed.

examples:
  python -m verify clip.mp4
  python -m verify https://example.org/live/index.m3u8 --seconds 20
  python -m verify webcam --json
  python -m verify clip.mp4 --page clip.html
  python -m verify night.mp4 --root keys/root.pem

exit status:
  0  a mark was found
  1  no mark was found
  2  an argument is bad, or the frames cannot be read: one line explains it
  4  the file has a signed manifest and is not what was signed: it was changed,
     or the signature is not right; whether a mark was found or not
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see python -m verify --help")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the arguments; --help prints the help text and exits.

    Raises:
        ValueError: an argument is unknown or bad.
    """
    raw = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        prog="python -m verify", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=raw, allow_abbrev=False
    )
    add = parser.add_argument
    add("source", metavar="SOURCE", help="a video, a picture, an address, webcam or webcam:DEVICE")
    add(
        "--seconds",
        type=_seconds,
        metavar="S",
        help=f"how much is read (default: {_SECONDS_FILE:g} of a file, {_SECONDS_LIVE:g} of a stream)",
    )
    add("--root", type=Path, metavar="FILE", help="certificate (PEM) whose signers are trusted, for signed manifests")
    add("--json", action="store_true", help="print one line of JSON")
    add("--page", type=Path, metavar="FILE", help="also write a page, FILE.html, with a map over small pictures")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments; None for the process's own.

    Returns:
        The exit status: see the help.
    """
    try:
        return _verify(parse(argv))
    except (ValueError, OSError) as error:
        return _fail(error)
    except KeyboardInterrupt:
        print("error: stopped before the end: give --seconds for less", file=sys.stderr)
        return 2


def _verify(options: argparse.Namespace) -> int:
    """Read the source and print what was found; returns the exit status."""
    from verify.evidence import Source, sections
    from verify.frames import is_live
    from verify.page import check_page, write_page
    from verify.video import verify_video

    if options.page is not None:
        check_page(options.source, options.page)
    if options.root is not None:
        _check_root(options.root)
    seconds = options.seconds or (_SECONDS_LIVE if is_live(options.source) else _SECONDS_FILE)
    report, problem = None, None
    try:
        report = verify_video(options.source, seconds=seconds, with_thumbnails=options.page is not None)
    except ValueError as error:  # a manifest may still say something
        problem = error
    found = sections(Source(options.source, report, options.root))
    if report is not None and options.page is not None:
        write_page(report, found, options.page)
    if options.json and found:
        answer = {"marked": None if report is None else report.is_marked}
        _print(json.dumps({**answer, **{section.name: section.data for section in found}}))
    elif found:
        _print("\n".join(_to_lines(report, found)))
    if problem is not None:
        return _fail(problem)
    if any(section.is_broken for section in found):
        return 4
    return 0 if report is not None and report.is_marked else 1


def _to_lines(report: VideoReport | None, found: Sequence[Section]) -> Iterator[str]:
    """Yield what people read."""
    from verify.report import to_map

    for section in found:
        yield section.title
        yield from (f"  {line}" for line in section.lines)
    windows = [] if report is None else report.windows
    best = max((one.finding for one in windows if one.finding is not None), key=lambda one: one.pilots, default=None)
    if best is not None:
        yield "  The frame, # where the mark is clear, + where it is weak:"
        yield from (f"    {line}" for line in to_map(best))


def _print(text: str) -> None:
    """Print a text, as far as somebody reads it: head, for example, ends before the end."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes the rest when it ends


def _check_root(file: Path) -> None:
    """Read a root certificate; raises ValueError if it is none, or the extra is missing."""
    from provenance.keys.credentials import read_certificates

    try:
        read_certificates(file)
    except ImportError as error:
        raise ValueError("--root needs the extra sign: pip install everframe[sign]") from error


def _fail(error: Exception) -> int:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return 2


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 86400:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected seconds above 0, e.g. 10")
    return seconds
