"""The rules for prompts and cues, shared by the command line and the page. Does not import the runtime."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime import Scene

PARTS = ("text", "image", "clip", "past", "seed", "scene", "hints")  # of a prompt; other kinds of cues are controls
PAINTED = "painted"  # with a text and a seed: the picture that another bundle painted from them
LIVE = "input"  # as an image: the current picture of the live input
MAX_TEXT = 2000  # characters
MAX_SEED = 2**64 - 1
MAX_DISSOLVE_S = 3600


@dataclass(frozen=True)
class Cue:
    """A part of a prompt, or a control's value, that is applied at a given time of the show.

    Args:
        at_s: when, in seconds of the show.
        kind: one of `PARTS`, or the name of a control.
        value: a text, a path or the name of a scene (str), a seed (int), or the control's value (float).
    """

    at_s: Fraction
    kind: str
    value: Any


@dataclass(frozen=True, eq=False)
class ListedCue:
    """A cue that somebody has prepared on the page or through the API.

    Args:
        number: its id.
        label: its name.
        parts: of its prompt, as `Generator.prepare` takes them.
        take_s: length of the cross-fade if it is taken as soon as it is ready; None if it waits.
    """

    number: int
    label: str
    parts: Mapping[str, Any] = field(repr=False)
    take_s: float | None = None


@dataclass
class CueEntry:
    """A cue in the list of a `ShowController`, whose lock protects it."""

    number: int
    label: str
    parts: dict[str, Any]
    at_s: Fraction = Fraction(0)  # of a timed cue
    state: str = "preparing"
    error: str = ""
    note: str = ""  # what is not read of its text
    scene: Scene | None = None
    take_s: float | None = None  # length of the cross-fade if it is taken as soon as it is ready
    has_been_on_air: bool = False
    has_begun: bool = False  # its picture is being painted
    painted: Mapping[str, Any] | None = None  # the text, seed and picture that were painted for it

    @property
    def shown(self) -> dict[str, Any]:
        """What is on air with it: its parts, and what was painted for it."""
        return {**self.parts, **(self.painted or {})}

    @property
    def is_live(self) -> bool:
        """Whether it needs the picture that the live input shows when it is prepared."""
        return isinstance(self.parts.get("image"), str) and self.parts["image"] == LIVE

    @property
    def is_clip(self) -> bool:
        """Whether it is a clip, which takes seconds to read."""
        return "clip" in self.parts

    @property
    def is_drawn(self) -> bool:
        """Whether it has hints alone: they change the motion of the scene that is on air when it is prepared."""
        return self.parts.keys() == {"hints"}

    def to_json(self) -> dict[str, Any]:
        """Return what the page and the HTTP API show."""
        return {
            "id": self.number,
            "label": self.label,
            "kind": next(kind for kind in ("scene", "clip", "past", "image", "text", "seed") if kind in self.parts),
            "state": self.state,
            "error": self.error,
            "note": self.note,
            "is_next": self.take_s is not None,
        }


def to_prompts(cues: Iterable[Cue]) -> list[tuple[Fraction, dict[str, Any]]]:
    """Combine the cues that share a time into one prompt; cues for controls are left out.

    Returns:
        (time in seconds, arguments of `Generator.prepare`) per prompt, in order of time.

    Raises:
        ValueError: a prompt has a part twice.
    """
    prompts = []
    ordered = sorted((cue for cue in cues if cue.kind in PARTS), key=lambda cue: cue.at_s)
    for at_s, group in groupby(ordered, key=lambda cue: cue.at_s):
        parts: dict[str, Any] = {}
        for cue in group:
            if cue.kind in parts:
                raise ValueError(f"the cues at {float(at_s):g} s give {cue.kind} twice: leave one out")
            parts[cue.kind] = cue.value
        prompts.append((at_s, parts))
    return prompts


def to_label(parts: Mapping[str, Any]) -> str:
    """Return a prompt in a few words: its text and the names of its scene and files, or its seed."""
    words = [
        value if part in ("text", "scene") else Path(value).name if isinstance(value, (str, Path)) else part
        for part in ("scene", "image", "clip", "past", "text")
        if (value := parts.get(part)) is not None
    ]
    return ", ".join(words) or ("drawn motion" if parts.keys() == {"hints"} else f"seed {parts['seed']}")


def with_text(parts: Mapping[str, Any], text: str | None) -> dict[str, Any]:
    """Return a prompt that keeps the text on air if it holds a seed alone."""
    is_seed = parts.keys() - {"hints"} == {"seed"}
    return {**parts, "text": text} if is_seed and text is not None else dict(parts)


def known_parts(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of a prompt that a position keeps."""
    return {name: value for name, value in parts.items() if name in (*PARTS, "moving", PAINTED) and value is not None}


def to_given(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a generator makes a scene from: a painted picture stands for the text and seed of its painter."""
    if parts.get(PAINTED) is None:
        return {name: value for name, value in parts.items() if name != PAINTED}
    kept = {name: value for name, value in parts.items() if name not in ("text", "seed", PAINTED)}
    return {**kept, "image": parts[PAINTED]}
