"""The generator of a show and everything else that has controls: their values, from any thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from runtime.bundle.controls import ControlSpec
from streaming.control.controls import ControlHolder, find_holder

if TYPE_CHECKING:
    from runtime.chain import FrameSource


class NotReadyError(Exception):
    """The show has not begun: there is nothing to control yet."""


class UnknownError(ValueError):
    """There is no such cue or control."""


class ShowControls:
    """The part of a `ShowController` that sets controls, and that knows the generator.

    Attributes:
        others: what else has controls, e.g. the composite and the sound.
        mapped: controls that follow a source, e.g. {"motion": "audio.bass"}.
        on_change: each is called without arguments when the state has changed, by the thread that changed it.
    """

    def __init__(self) -> None:
        self.others: list[ControlHolder] = []
        self.mapped: dict[str, str] = {}
        self.on_change: list[Callable[[], object]] = []
        self._lock = threading.Lock()
        self._generator: FrameSource | None = None

    @property
    def generator(self) -> FrameSource:
        """The generator on air; raises NotReadyError before the show has begun."""
        return self._ready()

    @property
    def fit(self) -> str:
        """How pictures of another shape fit the frame."""
        generator = self._generator
        return "cover" if generator is None else generator.fit

    def check_control(self, name: str, value: float) -> None:
        """Check a control as `set_control` does, without setting it.

        Raises:
            ValueError: there is no such control, or the value is out of range.
        """
        self._target(name).check_control(name, value)

    def control_spec(self, name: str) -> ControlSpec:
        """Return the name, range and unit of a control.

        Raises:
            UnknownError: there is no such control.
            NotReadyError: the show has not begun.
        """
        target = self._target(name)
        for spec in target.control_specs:
            if spec.name == name:
                return spec
        try:
            target.check_control(name, 0.0)  # its error names the controls that there are
        except ValueError as error:
            raise UnknownError(str(error)) from error
        raise UnknownError(f"there is no control {name}")

    def follow(self, name: str, value: float) -> None:
        """Set a control as often as once per frame: without a notification, as the page looks four times a second.

        Raises:
            ValueError: there is no such control, or the value is out of range.
        """
        self._target(name).set_control(name, value)

    def set_control(self, name: str, value: float) -> float:
        """Set a control from the next frame on; returns the value.

        Raises:
            UnknownError: there is no such control.
            ValueError: the value is out of range.
            NotReadyError: the show has not begun.
        """
        target = self._target(name)
        try:
            target.set_control(name, value)
        except ValueError as error:
            raise error if name in target.controls else UnknownError(str(error)) from error
        self._notify()
        return value

    def values(self) -> dict[str, float]:
        """Return the values of all controls but those that choose a seed, which is part of the prompt."""
        found: dict[str, float] = {}
        for holder in (self._ready(), *self.others):
            values = holder.controls
            found |= {spec.name: values[spec.name] for spec in holder.control_specs if spec.target != "seed"}
        return found

    def _notify(self) -> None:
        for listener in tuple(self.on_change):
            listener()

    def _target(self, control: str) -> ControlHolder:
        """Return what a control of this name belongs to."""
        return find_holder(control, self._ready(), tuple(self.others))

    def _ready(self) -> FrameSource:
        if self._generator is None:
            raise NotReadyError("the show has not begun; try again in a moment")
        return self._generator
