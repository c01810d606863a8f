"""Performs what OSC and MIDI ask for, as the page does: the same table of actions, the same checks.

Of several requests of one kind only the latest is kept, so that a flood of messages does not disturb the show:
controls are set once per frame, and a prompt waits until the scene of the one before has been prepared.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from streaming.control.controller import NotReadyError, ShowController
from streaming.control.timed_cues import FAILURES
from streaming.page.actions import ACTIONS, Action

Report = Callable[[str], object]
_BY_NAME = {action.name: action for action in ACTIONS}
_PREPARES = ("prepare", "prompt", "animate")


@dataclass(frozen=True)
class ActionRequest:
    """An action that waits to be performed.

    Args:
        action: of the table.
        values: checked.
        report: called with the reason if it fails.
    """

    action: Action
    values: dict[str, Any]
    report: Report


class Performer:
    """Performs requests of any thread. Controls are set by the show's thread, everything else on a thread of its own.

    Args:
        controller: of the show.
        dissolve_s: length of a cross-fade in seconds, where a request does not say it.
    """

    def __init__(self, controller: ShowController, dissolve_s: float) -> None:
        self.dissolve_s = dissolve_s
        self._controller = controller
        self._lock = threading.Lock()
        self._controls: dict[str, float] = {}  # to be set before the next frame
        self._news = threading.Condition()
        self._waiting: dict[str, ActionRequest] = {}  # by kind, oldest first
        self._preparing: tuple[int, Report] | None = None  # the cue of the latest prompt
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="performer", daemon=True)

    def start(self) -> None:
        """Begin to perform."""
        self._controller.on_change.append(self._wake)
        self._controller.before_frame.append(self.apply)
        self._thread.start()

    def close(self) -> None:
        """End the thread; what waits is not performed. Closing twice is allowed."""
        with self._news:
            self._is_closed = True
            self._news.notify_all()
        if self._thread.ident is not None:
            self._thread.join()
            for listeners, own in (
                (self._controller.on_change, self._wake),
                (self._controller.before_frame, self.apply),
            ):
                if own in listeners:
                    listeners.remove(own)

    def set_control(self, name: str, value: Any) -> None:
        """Set a control before the next frame; a later value replaces it until then.

        Args:
            name: of the control.
            value: a number within its range.

        Raises:
            ValueError: there is no such control, the value is out of range, or the control makes scenes.
            NotReadyError: the show has not begun.
        """
        values = _BY_NAME["set"].read({"name": name, "value": value})
        if self._controller.control_spec(name).target == "seed":
            raise ValueError(f"{name} makes a new scene: ask for a seed instead")
        self._controller.check_control(name, values["value"])
        with self._lock:
            self._controls[name] = values["value"]

    def apply(self) -> None:
        """Set the controls; called by the show's thread before each frame."""
        if not self._controls:  # one that comes now is for the next frame
            return
        with self._lock:
            values, self._controls = self._controls, {}
        for name, value in values.items():
            with contextlib.suppress(ValueError):  # the control has gone since it was checked
                self._controller.follow(name, value)

    def ask(self, name: str, given: dict[str, Any], report: Report) -> None:
        """Perform an action soon.

        Args:
            name: of the table of actions.
            given: its values; without "dissolve_s", the default is used.
            report: called with the reason if it fails later, by any thread.

        Raises:
            ValueError: a value is missing, unknown, of a wrong type or out of range.
        """
        action = _BY_NAME[name]
        if any(field.name == "dissolve_s" for field in action.fields):
            given = {"dissolve_s": self.dissolve_s, **given}
        request = ActionRequest(action, action.read(given), report)
        with self._news:
            self._waiting.pop(name, None)  # the latest comes last
            self._waiting[name] = request
            self._news.notify_all()

    def _wake(self) -> None:
        with self._news:
            self._news.notify_all()

    def _run(self) -> None:
        while (request := self._next()) is not None:
            try:
                done = request.action.run(self._controller, request.values)
            except Exception as error:  # noqa: BLE001 - a request that fails must not affect the others
                is_known = isinstance(error, (NotReadyError, *FAILURES))
                request.report(str(error) if is_known else f"internal error: {error!r}")
            else:
                if request.action.name in _PREPARES:
                    self._preparing = done["id"], request.report

    def _next(self) -> ActionRequest | None:
        """Wait for the oldest request that can be performed; None at the end."""
        with self._news:
            self._news.wait_for(lambda: self._is_closed or self._choose() is not None)
            name = self._choose()
            return None if self._is_closed or name is None else self._waiting.pop(name)

    def _choose(self) -> str | None:
        is_preparing = self._is_preparing()
        return next((name for name in self._waiting if not (is_preparing and name in _PREPARES)), None)

    def _is_preparing(self) -> bool:
        """Return whether the scene of the latest prompt is still being prepared; report if that has failed."""
        if self._preparing is None:
            return False
        number, report = self._preparing
        cue = next((cue for cue in self._controller.state()["cues"] if cue["id"] == number), None)
        if cue is not None and cue["state"] == "preparing":
            return True
        if cue is not None and cue["state"] == "failed":
            report(cue["error"])
        self._preparing = None
        return False
