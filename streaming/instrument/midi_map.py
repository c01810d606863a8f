"""The file of `--midi-map`: which controller moves which control, and what a note does. See examples/midi-map.toml."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from runtime.bundle.strict_json import nearest
from streaming.page.actions import ACTIONS, ActionField

_NUMBERS = {
    "cc": ActionField("cc", "integer", "number of a controller", 0, 127),
    "note": ActionField("note", "integer", "number of a note", 0, 127),
    "channel": ActionField("channel", "integer", "left out: any", 1, 16),
}
_FIELDS = {field.name: field for action in ACTIONS for field in action.fields}
_PROMPT = ("text", "seed", "scene")
_KEYS = (*_NUMBERS, "control", "range", *_PROMPT, "cue", "take", "dissolve_s")
_EXAMPLES = '{control = "motion", cc = 1} or {note = 36, scene = "lake"}'


@dataclass(frozen=True)
class MidiRow:
    """One [[map]] of the file.

    Args:
        number: of the controller or the note, 0 to 127.
        channel: 1 to 16; None for any.
        control: what a controller moves; "" for a note.
        ends: the control's values at 0 and 127; None for its whole range.
        action: what a note does, a name of the table of actions; "" for a controller.
        values: of the action.
    """

    number: int
    channel: int | None
    control: str = ""
    ends: tuple[float, float] | None = None
    action: str = ""
    values: dict[str, Any] | None = None

    def fits(self, number: int, channel: int) -> bool:
        """Return whether it is for this number on this channel, 1 to 16."""
        return self.number == number and self.channel in (None, channel)


def read_midi_map(path: str | Path) -> list[MidiRow]:
    """Read the file.

    Raises:
        ValueError: it cannot be read, or a row is wrong; the message names the row.
    """
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"--midi-map {path} cannot be read: {error}") from error
    given = content.get("map")
    if content.keys() != {"map"} or not isinstance(given, list) or not all(isinstance(row, dict) for row in given):
        raise ValueError(f"--midi-map {path} must consist of [[map]] tables, e.g. {_EXAMPLES}")
    rows: list[MidiRow] = []
    for index, item in enumerate(given, 1):
        try:
            row = _read_row(item)
            _check_new(row, rows)
        except ValueError as error:
            raise ValueError(f"--midi-map {path}, map {index}: {error}") from error
        rows.append(row)
    return rows


def _read_row(row: dict[str, Any]) -> MidiRow:
    for key in row:
        if key not in _KEYS:
            raise ValueError(f'the key "{key}" is unknown {nearest(key, _KEYS)}')
    if ("cc" in row) == ("note" in row):
        raise ValueError(f"it needs cc or note, and not both, e.g. {_EXAMPLES}")
    place = {key: field.check(row[key]) for key, field in _NUMBERS.items() if key in row}
    return _read_controller(row, place) if "cc" in row else _read_note(row, place)


def _read_controller(row: dict[str, Any], place: dict[str, int]) -> MidiRow:
    if row.keys() - {"cc", "channel", "control", "range"} or not isinstance(row.get("control"), str):
        raise ValueError('cc needs control, and takes channel and range, e.g. {control = "motion", cc = 1}')
    ends = None
    if "range" in row:
        span = row["range"]
        if not isinstance(span, list) or len(span) != 2 or not all(map(_is_number, span)):
            raise ValueError(f"range must be two numbers, e.g. [0, 1.5], got {span}")
        ends = float(span[0]), float(span[1])
    return MidiRow(place["cc"], place.get("channel"), row["control"], ends)


def _read_note(row: dict[str, Any], place: dict[str, int]) -> MidiRow:
    is_prompt, names = any(part in row for part in _PROMPT), (*_PROMPT, "cue", "dissolve_s")
    has_one = [is_prompt, "cue" in row, row.get("take") is True].count(True) == 1
    if row.keys() - {"note", "channel", "take", *names} or not has_one or ("take" in row and row["take"] is not True):
        raise ValueError("note needs one of: text, seed or scene (also together), cue, or take = true")
    values = {name: _FIELDS[name].check(row[name]) for name in names if name in row}
    action = "prompt" if is_prompt else "take" if "cue" in row else "take_next"
    return MidiRow(place["note"], place.get("channel"), action=action, values=values)


def _check_new(row: MidiRow, rows: list[MidiRow]) -> None:
    for other in rows:
        if row.control and row.control == other.control:
            raise ValueError(f"{row.control} is mapped twice: leave one of its maps out")
        is_shared = row.channel is None or other.channel is None or row.channel == other.channel
        if row.action and other.action and row.number == other.number and is_shared:
            raise ValueError(f"note {row.number} is mapped twice: leave one out, or give them different channels")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)
