"""The actions of the page as a table, from which the HTTP API, the WebSocket and the OpenAPI document are made.

Adding an action = one line in `ACTIONS`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from runtime.prompts.hints import Hints
from streaming.control.controller import ShowController
from streaming.control.cues import MAX_DISSOLVE_S, MAX_SEED, MAX_TEXT


@dataclass(frozen=True)
class ActionField:
    """A value that an action takes.

    Args:
        name: its key.
        type: in JSON: "number", "integer" or "string"; "object" for hints.
        description: for people.
        minimum: the lowest value; of a string, the fewest characters.
        maximum: the highest value; of a string, the most characters.
        default: its value if it is left out; None for none.
        is_required: whether it must be there.
        is_in_path: whether it is part of the path of the HTTP request.
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
        """Return the value if this field accepts it.

        Raises:
            ValueError: it has another type, is out of range, or is not valid Unicode.
        """
        if self.type == "object":
            return Hints.from_json(value)
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
        if not self.minimum <= value <= self.maximum:  # false for NaN, too
            raise ValueError(f"{self.name} must be from {self.minimum} to {self.maximum}, got {_shorten(value)}")
        return value


@dataclass(frozen=True)
class Action:
    """An action.

    Args:
        name: its name for the WebSocket.
        method: HTTP method.
        path: HTTP path, with fields in braces.
        summary: one sentence for people.
        fields: its values.
        run: performs it; returns the answer, and raises as the controller does.
        is_quick: whether it may run on the server's event loop, as it neither waits nor computes.
    """

    name: str
    method: str
    path: str
    summary: str
    fields: tuple[ActionField, ...]
    run: Callable[[ShowController, dict[str, Any]], dict[str, Any]]
    is_quick: bool = False

    def read(self, given: Any) -> dict[str, Any]:
        """Check the values that a client sent.

        Args:
            given: the decoded JSON.

        Returns:
            Every field that has a value, by name.

        Raises:
            ValueError: it is not an object, or a field is missing, unknown, of a wrong type or out of range.
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
    """Return whether a string can be encoded: JSON may hold half of a surrogate pair, e.g. "\\ud800"."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_json(data: bytes | str) -> Any:
    """Decode untrusted JSON.

    Raises:
        ValueError: it is not valid, nested too deeply, or holds a number of thousands of digits.
    """
    try:
        return json.loads(data or "{}")
    except (ValueError, RecursionError) as error:
        raise ValueError("this is not valid JSON") from error


_TEXT = ActionField("text", "string", "what to show, in a few words of English", 1, MAX_TEXT)
_SEED = ActionField(
    "seed", "integer", "the same seed gives the same scene; alone it keeps the text on air", 0, MAX_SEED
)
_SCENE = ActionField("scene", "string", "one of the bundle's scenes", 1, 40)
_HINTS = ActionField("hints", "object", "arrows and strokes over the picture; see docs/control.md", 0, 0)
_DISSOLVE = ActionField("dissolve_s", "number", "length of the cross-fade in seconds; 0 cuts", 0, MAX_DISSOLVE_S, 1.0)
_CUE = ActionField("cue", "integer", "the cue's id", 0, 2**53, is_required=True, is_in_path=True)


def _parts(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in ("text", "seed", "scene", "hints") if name in values}


def _set(controller: ShowController, values: dict[str, Any]) -> dict[str, Any]:
    return {"value": controller.set_control(values["name"], values["value"])}


def _take_next(controller: ShowController, values: dict[str, Any]) -> dict[str, Any]:
    cues = controller.state()["cues"]
    now = next((index for index, cue in enumerate(cues) if cue["state"] == "on air"), -1)
    following = [*cues[now + 1 :], *cues[: now + 1]]  # after the last one comes the first
    number = next((cue["id"] for cue in following if cue["state"] == "ready"), None)
    if number is None:
        raise ValueError("no cue is ready: prepare one first")
    return controller.take(number, values["dissolve_s"])


def _drop(controller: ShowController, values: dict[str, Any]) -> dict[str, Any]:
    controller.drop(values["cue"])
    return {}


ACTIONS = (
    Action(
        "prepare",
        "POST",
        "/api/cues",
        "Prepare a scene in the background; it waits until it is taken.",
        (_TEXT, _SEED, _SCENE, _HINTS),
        lambda controller, values: controller.prepare(_parts(values)),
    ),
    Action(
        "prompt",
        "POST",
        "/api/prompt",
        "Prepare a scene and take it as soon as it is ready.",
        (_TEXT, _SEED, _SCENE, _HINTS, _DISSOLVE),
        lambda controller, values: controller.prepare(_parts(values), take_s=values["dissolve_s"]),
    ),
    Action(
        "take",
        "POST",
        "/api/cues/{cue}/take",
        "Cross-fade to a cue's scene, at once if it is ready, else as soon as it is.",
        (_CUE, _DISSOLVE),
        lambda controller, values: controller.take(values["cue"], values["dissolve_s"]),
        is_quick=True,
    ),
    Action(
        "take_next",
        "POST",
        "/api/cues/next/take",
        "Cross-fade to the first cue that is ready.",
        (_DISSOLVE,),
        _take_next,
        is_quick=True,
    ),
    Action("drop", "DELETE", "/api/cues/{cue}", "Remove a cue from the list.", (_CUE,), _drop, is_quick=True),
    Action(
        "set",
        "PUT",
        "/api/controls/{name}",
        "Set a control from the next frame on.",
        (
            ActionField("name", "string", "one of the state's controls", 1, 160, is_required=True, is_in_path=True),
            ActionField("value", "number", "within the control's range", -1e300, 1e300, is_required=True),
        ),
        _set,
        is_quick=True,
    ),
    Action(
        "animate",
        "POST",
        "/api/input/animate",
        "Make a scene from the current picture of the live input, and take it as soon as it is ready.",
        (_DISSOLVE,),
        lambda controller, values: controller.animate(values["dissolve_s"]),
    ),
    Action(
        "behind",
        "PUT",
        "/api/behind",
        "Choose what is behind the person.",
        (ActionField("what", "string", "one of the state's choices, or a colour as RRGGBB", 1, 20, is_required=True),),
        lambda controller, values: controller.set_behind(values["what"]),
    ),
    Action(
        "draw",
        "PUT",
        "/api/hints",
        "Replace what is drawn over the scene on air; its picture stays.",
        (replace(_HINTS, is_required=True), replace(_DISSOLVE, default=0.5)),
        lambda controller, values: controller.draw(values["hints"], values["dissolve_s"]),
    ),
    Action(
        "save_hints",
        "POST",
        "/api/hints/save",
        "Keep what is drawn over the scene on air until the show ends: it comes back with the scene.",
        (),
        lambda controller, _values: controller.save_hints(),
        is_quick=True,
    ),
)


def _shorten(value: Any) -> str:
    try:
        text = json.dumps(value)
    except ValueError:  # a number with more digits than Python prints
        return f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."
