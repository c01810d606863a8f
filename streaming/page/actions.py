"""What can be done at a desk, as a table: the HTTP API, the WebSocket and the OpenAPI description are made from it.

Adding an action = one line in `ACTIONS`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from streaming.control.controller import ShowController

MAX_TEXT = 2000  # characters, as the runtime takes them
MAX_SEED = 2**64 - 1
MAX_DISSOLVE_S = 3600


@dataclass(frozen=True)
class ActionField:
    """A value that an action takes.

    Args:
        name: its key.
        type: of JSON: "number", "integer" or "string".
        description: what it means.
        minimum: the lowest value; of a string, the fewest characters.
        maximum: the highest value; of a string, the most characters.
        default: what it is when it is left out; None where that means nothing at all.
        is_required: whether it must be there.
        is_in_path: whether it stands in the path of the HTTP request.
    """

    name: str
    type: str
    description: str
    minimum: float
    maximum: float
    default: float | None = None
    is_required: bool = False
    is_in_path: bool = False

    def check(self, value: Any) -> Any:
        """Return a value of this field.

        Raises:
            ValueError: it is of another type or out of range, or it is no text.
        """
        if self.type == "string" and isinstance(value, str):
            if not is_text(value):
                raise ValueError(f"{self.name} holds half of a surrogate pair, got {_shorten(value)}")
            if not self.minimum <= len(value) <= self.maximum:
                raise ValueError(f"{self.name} must have {self.minimum} to {self.maximum} characters, got {len(value)}")
            return value
        is_number = isinstance(value, int) or (self.type == "number" and isinstance(value, float))
        if self.type == "string" or isinstance(value, bool) or not is_number:
            raise ValueError(
                f"{self.name} must be {'an' if self.type == 'integer' else 'a'} {self.type}, got {_shorten(value)}"
            )
        if not self.minimum <= value <= self.maximum:  # false for what is no number at all, too
            raise ValueError(f"{self.name} must be from {self.minimum} to {self.maximum}, got {_shorten(value)}")
        return value


@dataclass(frozen=True)
class Action:
    """Something that can be done.

    Args:
        name: what the WebSocket calls it.
        method: of HTTP.
        path: of HTTP, with fields in braces.
        summary: what it does, in a sentence.
        fields: what it takes.
        run: does it; returns what the answer holds, and raises as the desk does.
        is_quick: whether it may run on the server's own thread, as it neither waits nor computes.
    """

    name: str
    method: str
    path: str
    summary: str
    fields: tuple[ActionField, ...]
    run: Callable[[ShowController, dict[str, Any]], dict[str, Any]]
    is_quick: bool = False

    def read(self, given: Any) -> dict[str, Any]:
        """Check what was sent with an action.

        Args:
            given: what the JSON held.

        Returns:
            Every field that has a value, by name.

        Raises:
            ValueError: it is no object, or a field is missing, unknown, of a wrong type or out of range.
        """
        if not isinstance(given, dict):
            raise ValueError(f"{self.name} takes a JSON object, got {_shorten(given)}")
        known = {field.name: field for field in self.fields}
        for name in given:
            if name not in known:
                raise ValueError(f"{self.name} takes {', '.join(known) or 'nothing'}, got {_shorten(name)}")
        values: dict[str, Any] = {}
        for name, field in known.items():
            if name in given:
                values[name] = field.check(given[name])
            elif field.is_required:
                raise ValueError(f"{self.name} needs {name}: {field.description}")
            elif field.default is not None:
                values[name] = field.default
        return values


def is_text(value: str) -> bool:
    """Return whether a string can be encoded; half of a surrogate pair, which JSON may hold as "\\ud800", cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_json(data: bytes | str) -> Any:
    """Read JSON that a stranger sent.

    Raises:
        ValueError: it is none, or nested too deeply, or holds a number of thousands of digits.
    """
    try:
        return json.loads(data or "{}")
    except (ValueError, RecursionError) as error:
        raise ValueError("this is no JSON") from error


_TEXT = ActionField("text", "string", "what is to be seen, in a few words of English", 1, MAX_TEXT)
_SEED = ActionField("seed", "integer", "of what is made up; alone it keeps the text of the scene before", 0, MAX_SEED)
_DISSOLVE = ActionField(
    "dissolve_s", "number", "seconds over which it replaces what plays; 0 cuts", 0, MAX_DISSOLVE_S, 1.0
)
_CUE = ActionField("cue", "integer", "the cue's id", 0, 2**53, is_required=True, is_in_path=True)


def _parts(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in ("text", "seed") if name in values}


def _set(desk: ShowController, values: dict[str, Any]) -> dict[str, Any]:
    return {"value": desk.set_control(values["name"], values["value"])}


def _drop(desk: ShowController, values: dict[str, Any]) -> dict[str, Any]:
    desk.drop(values["cue"])
    return {}


ACTIONS = (
    Action(
        "prepare",
        "POST",
        "/api/cues",
        "Prepare a scene beside the show; it waits until it is taken.",
        (_TEXT, _SEED),
        lambda desk, values: desk.prepare(_parts(values)),
    ),
    Action(
        "prompt",
        "POST",
        "/api/prompt",
        "Prepare a scene and take it as soon as it is ready.",
        (_TEXT, _SEED, _DISSOLVE),
        lambda desk, values: desk.prepare(_parts(values), take_s=values["dissolve_s"]),
    ),
    Action(
        "take",
        "POST",
        "/api/cues/{cue}/take",
        "Dissolve to a cue's scene, at once if it is ready, else as soon as it is.",
        (_CUE, _DISSOLVE),
        lambda desk, values: desk.take(values["cue"], values["dissolve_s"]),
        is_quick=True,
    ),
    Action("drop", "DELETE", "/api/cues/{cue}", "Take a cue off the list.", (_CUE,), _drop, is_quick=True),
    Action(
        "set",
        "PUT",
        "/api/controls/{name}",
        "Set a control from the next frame on.",
        (
            ActionField("name", "string", "one of the state's controls", 1, 64, is_required=True, is_in_path=True),
            ActionField("value", "number", "within the control's range", -1e300, 1e300, is_required=True),
        ),
        _set,
        is_quick=True,
    ),
    Action(
        "animate",
        "POST",
        "/api/input/animate",
        "Make a scene from what the live input shows now, and take it as soon as it is ready.",
        (_DISSOLVE,),
        lambda desk, values: desk.animate(values["dissolve_s"]),
    ),
)


def _shorten(value: Any) -> str:
    try:
        text = json.dumps(value)
    except ValueError:  # a number of more digits than Python writes
        return f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."
