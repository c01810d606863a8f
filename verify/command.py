"""The command line: `python -m verify SOURCE`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

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

exit status:
  0  a mark was found
  1  no mark was found
  2  an argument is bad, or the source cannot be read: one line explains it
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
        options = parse(argv)
        from verify.evidence import sections
        from verify.frames import is_live
        from verify.page import check_page, write_page
        from verify.report import to_map
        from verify.video import verify_video

        if options.page is not None:
            check_page(options.source, options.page)
        seconds = options.seconds or (_SECONDS_LIVE if is_live(options.source) else _SECONDS_FILE)
        report = verify_video(options.source, seconds=seconds, with_thumbnails=options.page is not None)
        found = sections(report)
        if options.page is not None:
            write_page(report, found, options.page)
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("error: stopped before the end: give --seconds for less", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps({"marked": report.is_marked, **{section.name: section.data for section in found}}))
        return 0 if report.is_marked else 1
    for section in found:
        print("\n".join([section.title, *(f"  {line}" for line in section.lines)]))
    best = max(
        (one.finding for one in report.windows if one.finding is not None), key=lambda one: one.pilots, default=None
    )
    if best is not None:
        print(
            "\n".join(
                [
                    "  The frame, # where the mark is clear, + where it is weak:",
                    *(f"    {line}" for line in to_map(best)),
                ]
            )
        )
    return 0 if report.is_marked else 1


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 86400:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected seconds above 0, e.g. 10")
    return seconds
