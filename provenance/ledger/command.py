"""The command `everframe ledger`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from provenance.facts import encodable
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
            changed = ledger.first_changed()  # before anything is read that may have been changed
            shows = [show_of(ledger, start) for start in ledger.events((START,)) if payload in (None, start.mark)]
    except (OSError, ValueError) as error:
        reason = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else str(error)
        print(f"error: {' '.join(reason.split())}", file=sys.stderr)
        return 2
    for show in shows:
        print(json.dumps(encodable(show), ensure_ascii=False) if options.json else _to_text(show))
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
    open_state = "running, or killed just now" if _is_young(last.time, now) else "ended without closing"
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


def _is_young(time: str, now: datetime | None) -> bool:
    """Return whether a show that was seen at a time may still run."""
    try:
        return ((now or datetime.now(UTC)) - datetime.fromisoformat(time)).total_seconds() < _ALIVE_S
    except (ValueError, TypeError):  # it was changed into something that is no time
        return False


def _read_payload(text: str) -> str:
    from runtime.marking.payload import format_payload, parse_payload  # --help needs no runtime

    try:
        return format_payload(parse_payload(text))
    except ValueError as error:
        raise ValueError(f"--payload: {error}") from error


def _to_text(show: Mapping[str, Any]) -> str:
    """Return a show in a few lines, also one whose first event was changed."""
    last = show["last_frame"]
    frames = "no frame is noted" if last is None else f"frames 0 to {last}"
    ended = show["ended"] if show["state"] == "ended" else f"{show['state']} (last seen {show['seen']})"
    mark = show.get("mark") or ("none (--no-mark)" if show.get("has_no_mark") else "not noted")
    lines = [f"{show.get('started', 'at an unknown time')} to {ended}", f"  show     {show.get('show', 'not noted')}"]
    lines += _to_bundles(show.get("bundles"))
    lines.append(f"  mark     {mark}")
    size = f"{show['width']} x {show['height']}, {show.get('fps')} fps" if {"width", "height"} <= set(show) else ""
    lines.append(f"  frames   {frames}{', ' if size else ''}{size}")
    if show.get("live"):
        lines.append(f"  live     {show['live']}, from {show.get('source')}")
    sinks = show.get("sinks")
    lines += [f"  sink     {sink}" for sink in (sinks if isinstance(sinks, list) else [])]
    for prompt in show["prompts"]:
        at_s, stated = prompt.get("at_s"), prompt.get("prompt")
        parts = ", ".join(f"{part} {value}" for part, value in stated.items()) if isinstance(stated, Mapping) else ""
        at = f"{at_s:.1f}" if isinstance(at_s, (int, float)) else "?"
        lines.append(f"  {at:>6} s {parts}")
    for item in show["signed"]:
        why = item.get("error")
        lines.append(f"  unsigned {item.get('file')}: {why}" if why else f"  signed   {item.get('file')}")
    return "\n".join(printable(line) for line in lines)


def _to_bundles(bundles: Any) -> list[str]:
    """Return the line of the generator and the links of its chain, and a line for each bundle that helps it."""
    chain, others = [], []
    for bundle in bundles if isinstance(bundles, list) else []:
        if isinstance(bundle, Mapping):
            role, name = bundle.get("role"), f"{bundle.get('name')} {str(bundle.get('sha256'))[:12]}"
            if role in ("generator", "link"):
                chain.append(name)
            else:
                others.append(f"  {role!s:<8} {name}")
    return [f"  bundle   {' > '.join(chain) or 'not noted'}", *others]
