"""The desk: what somebody who steers a show can see and do, from any thread, whatever the show is busy with.

A cue is a scene that is prepared beside the show and waits to be taken. It stays when it has been taken, so that it can
be taken again.

    prepare -> preparing -> ready -> on air -> ready ...      (or failed, with the reason)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from runtime import BundleError, EngineError, Generator, Scene
from runtime.prompts.background import BackgroundThread

MAX_CUES = 24  # each holds a memory of about a megabyte
_FAILURES = (ValueError, BundleError, EngineError)


class ControllableInput(Protocol):
    """What the desk needs of a live input; see `streaming.inputs.live_input.LiveInput`."""

    def picture(self) -> npt.NDArray[np.uint8]:
        """Return what it shows now: (H, W, 3) uint8 RGB; raises ValueError if there is nothing yet."""

    def to_json(self) -> dict[str, Any]:
        """Return how it is doing."""


class NotReadyError(Exception):
    """The show has not begun: there is nothing to steer yet."""


class UnknownError(ValueError):
    """There is no such cue or control."""


@dataclass
class _Entry:
    """A cue; belongs to the desk's lock."""

    number: int
    label: str
    kind: str
    make: Callable[[], Scene]
    state: str = "preparing"
    error: str = ""
    memory: Scene | None = None
    take_s: float | None = None  # dissolve with which it is taken as soon as it is ready
    has_been_on_air: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.number,
            "label": self.label,
            "kind": self.kind,
            "state": self.state,
            "error": self.error,
            "is_next": self.take_s is not None,
        }


class ShowController:
    """What is steered; `attach` gives it the generator once that is there.

    Attributes:
        input: the live input, or None.
        on_change: each is called without arguments whenever `state` has changed, by the thread that changed it.
    """

    def __init__(self) -> None:
        self.input: ControllableInput | None = None
        self.on_change: list[Callable[[], object]] = []
        self._lock = threading.Lock()
        self._generator: Generator | None = None
        self._background: BackgroundThread[None] = BackgroundThread()
        self._is_closed = False
        self._is_working = False  # whether the background makes the cues that are being prepared, one after the other
        self._entries: dict[int, _Entry] = {}
        self._numbers = count(1)
        self._on_air: int | None = None
        self._opening = ""

    def attach(self, generator: Generator, opening: str) -> None:
        """Begin to steer a generator.

        Args:
            generator: what is steered from now on; of several, the latest.
            opening: what it begins with, in a few words; "" if it goes on with what was on air.
        """
        with self._lock:
            self._generator = generator
            self._opening = opening or self._opening
        self._tell()

    def close(self) -> None:
        """Finish the scene that is being prepared, and prepare no other."""
        with self._lock:
            self._is_closed = True
        self._background.close()

    def state(self) -> dict[str, Any]:
        """Return what can be steered and how it stands, ready for JSON."""
        with self._lock:
            generator, entries = self._generator, [entry.to_json() for entry in self._entries.values()]
            on_air, opening = self._on_air, self._opening
        if generator is None:
            return {"is_ready": False, "takes": [], "controls": [], "cues": [], "on_air": "", "input": None}
        values = generator.controls
        controls = [
            {
                "name": control.name,
                "description": control.description,
                "unit": control.unit,
                "minimum": control.minimum,
                "maximum": control.maximum,
                "default": control.default,
                "value": values[control.name],
                "is_whole": control.target == "seed",
            }
            for control in generator.manifest.controls.values()
        ]
        label = next((entry["label"] for entry in entries if entry["id"] == on_air), opening)
        return {
            "is_ready": True,
            "takes": list(generator.takes),
            "controls": controls,
            "cues": entries,
            "on_air": label,
            "input": None if self.input is None else self.input.to_json(),
        }

    def set_control(self, name: str, value: float) -> float:
        """Set a control from the next frame on; returns the value.

        Raises:
            UnknownError: there is no such control.
            ValueError: the value is out of range.
            NotReadyError: the show has not begun.
        """
        generator = self._ready()
        try:
            generator.set_control(name, value)
        except ValueError as error:
            raise error if name in generator.controls else UnknownError(str(error)) from error
        self._tell()
        return value

    def prepare(self, parts: Mapping[str, Any], *, label: str = "", take_s: float | None = None) -> dict[str, Any]:
        """Check a prompt and begin to prepare its scene beside the show.

        Args:
            parts: text, image, clip or seed, as `Generator.prepare` takes them; at least one.
            label: what it is called; "" for its text or seed.
            take_s: seconds of the dissolve with which it is taken as soon as it is ready; None to wait for `take`.

        Returns:
            The cue, as in `state`.

        Raises:
            ValueError: the generator does not take it, a value is bad, or too many cues are there.
            BundleError, EngineError: text cannot be understood here.
            NotReadyError: the show has not begun.
        """
        generator = self._ready()
        if not parts:
            raise ValueError(f"a scene needs something to be made from: {', '.join(generator.takes)}")
        generator.check(**parts)
        kind = next(kind for kind in ("clip", "image", "text", "seed") if kind in parts)
        with self._lock:
            if len(self._entries) >= MAX_CUES:
                self._make_room()
            entry = _Entry(
                next(self._numbers),
                label or _label(parts),
                kind,
                lambda: generator.prepare(**_with_text(parts, generator)),
                take_s=take_s,
            )
            if not self._is_working:
                self._background.submit(self._work)
                self._is_working = True
            self._entries[entry.number] = entry
            shown = entry.to_json()
        self._tell()
        return shown

    def take(self, number: int, dissolve_s: float = 1.0) -> dict[str, Any]:
        """Show a cue's scene, at once if it is ready, else as soon as it is.

        Args:
            number: the cue's id.
            dissolve_s: 0 (a cut) to 3600 seconds.

        Returns:
            The cue, as in `state`.

        Raises:
            UnknownError: there is no such cue.
            ValueError: it has failed, or the dissolve is out of range.
            NotReadyError: the show has not begun.
        """
        generator = self._ready()
        with self._lock:
            entry = self._entry(number)
            if entry.state == "failed":
                raise ValueError(f"cue {number} has failed: {entry.error}")
            if entry.memory is None:
                entry.take_s = dissolve_s
            else:
                self._show(generator, entry, dissolve_s)
            shown = entry.to_json()
        self._tell()
        return shown

    def drop(self, number: int) -> None:
        """Take a cue off the list; what is on air stays on air, and what has not begun to be prepared never is.

        Raises:
            UnknownError: there is no such cue.
        """
        with self._lock:
            entry = self._entry(number)
            if number == self._on_air:
                self._opening, self._on_air = entry.label, None
            del self._entries[number]
        self._tell()

    def animate(self, take_s: float | None = 1.0) -> dict[str, Any]:
        """Make a scene from what the live input shows now; arguments and errors as in `prepare`."""
        if self.input is None:
            raise ValueError("this show has no live input: start it with --input")
        return self.prepare({"image": self.input.picture()}, label="live input", take_s=take_s)

    def _tell(self) -> None:
        for listener in tuple(self.on_change):
            listener()

    def _work(self) -> None:
        """Make every cue that is being prepared, the oldest first; on the background's thread."""
        try:
            while (entry := self._next()) is not None:
                self._make(entry)
                self._tell()
        except BaseException:
            with self._lock:
                self._is_working = False
            raise

    def _next(self) -> _Entry | None:
        with self._lock:
            preparing = (entry for entry in self._entries.values() if entry.state == "preparing")
            entry = None if self._is_closed else next(preparing, None)
            self._is_working = entry is not None
            return entry

    def _make(self, entry: _Entry) -> None:
        try:
            memory = entry.make()
            with self._lock:
                entry.memory, entry.state = memory, "ready"
                if entry.take_s is not None and entry.number in self._entries and self._generator is not None:
                    self._show(self._generator, entry, entry.take_s)
        except Exception as error:  # noqa: BLE001 - a cue that cannot be made costs itself, whatever the reason
            with self._lock:
                known = isinstance(error, _FAILURES)
                entry.error = " ".join(str(error).split()) if known else f"a fault of ours: {error!r}"
                entry.state, entry.take_s = "failed", None

    def _show(self, generator: Generator, entry: _Entry, dissolve_s: float) -> None:
        assert entry.memory is not None, "only what is ready is shown"
        generator.take(entry.memory, dissolve_s=dissolve_s)
        entry.take_s = None
        for other in self._entries.values():
            if other.state == "on air":
                other.state = "ready"
        entry.state, self._on_air, entry.has_been_on_air = "on air", entry.number, True

    def _make_room(self) -> None:
        """Drop the oldest cue that has had its time; a show that is steered for hours never has to tidy up."""
        entries = self._entries.values()
        old = next((item for item in entries if item.has_been_on_air and item.state != "on air"), None)
        old = old or next((item for item in entries if item.state == "failed"), None)
        if old is None:
            raise ValueError(f"{MAX_CUES} cues wait already: drop one first")
        del self._entries[old.number]

    def _entry(self, number: int) -> _Entry:
        if number not in self._entries:
            raise UnknownError(f"there is no cue {number}")
        return self._entries[number]

    def _ready(self) -> Generator:
        if self._generator is None:
            raise NotReadyError("the show has not begun; try again in a moment")
        return self._generator


def _label(parts: Mapping[str, Any]) -> str:
    if "text" in parts:
        return str(parts["text"])
    if "image" in parts or "clip" in parts:
        return "image" if "image" in parts else "clip"
    return f"seed {parts['seed']}"


def _with_text(parts: Mapping[str, Any], generator: Generator) -> dict[str, Any]:
    """Return the parts; a seed alone keeps the text of the scene before."""
    if parts.keys() == {"seed"} and generator.text is not None:
        return {**parts, "text": generator.text}
    return dict(parts)
