"""The command `everframe ledger`."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from provenance.ledger import BEAT, END, PROMPT, SIGNED, START
from provenance.ledger.store import Event, Ledger
from runtime.errors import printable

_ALIVE_S = 60.0  # a show whose last beat is younger may still run
_DESCRIPTION = """\
List the shows of a ledger, or find the show of a mark.

  everframe stream --ledger shows.sqlite
  everframe ledger shows.sqlite
  everframe ledger shows.sqlite --payload 0123456789ab
"""
_EPILOG = """\
exit status:
  0  a show was found, or there is none and none was looked for
  1  no show has this payload, or an event was changed
  2  the file is not a ledger, or an argument is bad: one line says which
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see everframe ledger --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = _Parser(
        prog="everframe ledger",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the ledger")
    parser.add_argument("--payload", metavar="HEX", help="only the show with this mark, 12 hex digits")
    parser.add_argument("--json", action="store_true", help="one line of JSON for each show")
    try:
        options = parser.parse_args(argv)
        payload = None if options.payload is None else _read_payload(options.payload)
        with Ledger(options.file) as ledger:
            shows = [show_of(ledger, start) for start in ledger.events((START,)) if payload in (None, start.mark)]
            changed = ledger.first_changed()
    except (OSError, ValueError) as error:
        reason = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else str(error)
        print(f"error: {' '.join(reason.split())}", file=sys.stderr)
        return 2
    for show in shows:
        print(json.dumps(show, ensure_ascii=False) if options.json else _to_text(show))
    if changed is not None:
        print(
            f"event {changed} of {options.file} was changed after it was written: do not rely on it or what follows",
            file=sys.stderr,
        )
    if payload is not None and not shows:
        print(f"no show in {options.file} has the mark {payload}", file=sys.stderr)
    elif not shows:
        print(f"{options.file} has no shows yet", file=sys.stderr)
    return 1 if changed is not None or (payload is not None and not shows) else 0


def show_of(ledger: Ledger, start: Event, now: datetime | None = None) -> dict[str, Any]:
    """Return all that a ledger says about a show, ready for JSON.

    Args:
        ledger: an open one.
        start: the show's first event.
        now: the time, to tell shows that run from shows that were killed; None for that of the clock.
    """
    end, beat = ledger.last(start.show, END), ledger.last(start.show, BEAT)
    last = end or beat or start
    age_s = ((now or datetime.now(UTC)) - datetime.fromisoformat(last.time)).total_seconds()
    open_state = "running, or killed just now" if age_s < _ALIVE_S else "ended without closing"
    return {
        **start.data,
        "state": open_state if end is None else "ended",
        "ended": None if end is None else end.time,
        "seen": last.time,
        "last_frame": last.data.get("frame"),
        "reason": None if end is None else end.data.get("reason"),
        "prompts": [dict(event.data) for event in ledger.events((PROMPT,), start.show)],
        "signed": [dict(event.data) for event in ledger.events((SIGNED,), start.show)],
    }


def _read_payload(text: str) -> str:
    payload = text.lower().removeprefix("0x")
    if not re.fullmatch(r"[0-9a-f]{12}", payload):
        raise ValueError(f"--payload: got {text!r}, expected 12 hex digits, e.g. 0123456789ab")
    return payload


def _to_text(show: dict[str, Any]) -> str:
    """Return a show in a few lines."""
    last = show["last_frame"]
    frames = "no frame is noted" if last is None else f"frames 0 to {last}"
    ended = show["ended"] if show["state"] == "ended" else f"{show['state']} (last seen {show['seen']})"
    names = " > ".join(f"{bundle['name']} {bundle['sha256'][:12]}" for bundle in show["bundles"])
    mark = show["mark"] or ("none (--no-mark)" if show["has_no_mark"] else "not noted")
    lines = [f"{show['started']} to {ended}", f"  show     {show['show']}", f"  bundle   {names}", f"  mark     {mark}"]
    lines.append(f"  frames   {frames}, {show['width']} x {show['height']}, {show['fps']} fps")
    if show["live"]:
        lines.append(f"  live     {show['live']}, from {show['source']}")
    lines += [f"  sink     {sink}" for sink in show["sinks"]]
    for prompt in show["prompts"]:
        parts = ", ".join(f"{part} {value}" for part, value in prompt["prompt"].items())
        lines.append(f"  {prompt['at_s']:>6.1f} s {parts}")
    for item in show["signed"]:
        why = item.get("error")
        lines.append(f"  unsigned {item['file']}: {why}" if why else f"  signed   {item['file']}")
    return "\n".join(printable(line) for line in lines)
