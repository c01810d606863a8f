"""Painted pictures that follow one another: the same words with the next seed, so that a show never stops changing.

A picture is begun so that it is ready in time, by how long the last one took. It is shown when the one on air has been
there for the seconds of the control `painter.every`. If the generator has a control for its own renewals, the time is
multiplied by its value: 0 keeps the picture.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from runtime import Scene
from runtime.prompts.background import BackgroundThread
from streaming.control.cues import PAINTED, to_given
from streaming.control.timed_cues import FAILURES, to_line
from streaming.painting.painter import EVERY, Painter

if TYPE_CHECKING:
    from streaming.control.controller import ShowController

_UNKNOWN_S = 300.0  # before its time, the first picture of a process is begun
_MARGIN, _MARGIN_S = 1.25, 2.0  # of the time that the last picture took, and more seconds
_Made = tuple[dict[str, Any], Scene]  # the prompt of the next picture, and its scene


class PictureRenewal:
    """Renews the painted picture on air.

    Args:
        painter: paints.
        controller: of the show; `update` is called before each of its frames.
        dissolve_s: length of the cross-fades in seconds.
        say: called with one line for each event, by any thread.
        clock: returns seconds.
    """

    def __init__(
        self,
        painter: Painter,
        controller: ShowController,
        dissolve_s: float,
        say: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._painter, self._controller, self._dissolve_s, self._say = painter, controller, dissolve_s, say
        self._clock = clock
        self._thread: BackgroundThread[_Made | None] = BackgroundThread()
        self._on_air: Mapping[str, Any] | None = None  # what `_age_s` is the age of
        self._age_s, self._now_s = 0.0, clock()
        self._next: Future[_Made | None] | None = None
        controller.before_frame.append(self.update)

    def update(self) -> None:
        """Let the picture on air grow older; begin the next one, or show it, if it is time."""
        now_s = self._clock()
        passed_s, self._now_s = now_s - self._now_s, now_s
        on_air, every_s = self._controller.painted_on_air, self._painter.controls.get(EVERY, 0.0)
        if on_air is not self._on_air:
            self._on_air, self._age_s = on_air, 0.0
            self._forget()
        if on_air is None or every_s == 0:
            self._forget()
            return
        self._age_s += passed_s * self._rate()
        if self._next is None:
            last_s = self._painter.last_s
            ahead_s = _UNKNOWN_S if last_s is None else _MARGIN * last_s + _MARGIN_S
            if self._age_s >= every_s - ahead_s and not self._painter.num_waiting:
                self._begin(on_air)
        elif self._next.done() and (self._age_s >= every_s or _is_left(self._next)):
            self._show(on_air, self._next)

    def close(self) -> None:
        """End the thread; the painter must be closed before."""
        if self.update in self._controller.before_frame:
            self._controller.before_frame.remove(self.update)
        self._forget()
        self._thread.close()

    def _forget(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _rate(self) -> float:
        """Return the value of the generator's control for its own renewals; 1 if it has none."""
        generator = self._controller.generator
        spec = next((one for one in generator.control_specs if one.target == "renewal"), None)
        return 1.0 if spec is None else generator.controls[spec.name]

    def _begin(self, on_air: Mapping[str, Any]) -> None:
        """Begin to paint the next picture."""
        try:
            self._next = self._thread.submit(lambda: self._make(on_air))
        except Exception as error:  # noqa: BLE001 - a picture that fails must not end the show
            self._fail(error)

    def _make(self, on_air: Mapping[str, Any]) -> _Made | None:
        """Paint the next picture and make its scene; on the thread."""

        def is_wanted() -> bool:  # what somebody has asked for goes first
            return self._on_air is on_air and self._painter.num_waiting == 1

        words = self._painter.words(on_air, following=1)
        painted = self._painter.paint(words, is_wanted)
        if painted is None or self._on_air is not on_air:
            return None
        kept = {"moving": on_air["moving"]} if on_air.get("moving") is not None else {}
        parts = {**kept, **words, PAINTED: painted.picture}
        return parts, self._controller.generator.prepare(**to_given(parts))

    def _show(self, on_air: Mapping[str, Any], made: Future[_Made | None]) -> None:
        """Show the next picture; after a failure, try again when the picture on air is twice as old."""
        self._next = None
        try:
            if (following := made.result()) is not None:
                parts, scene = following
                self._controller.renew(on_air, parts, scene, self._dissolve_s)
        except Exception as error:  # noqa: BLE001 - a picture that fails must not end the show
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Say why the next picture is not there, and let the one on air begin again."""
        self._age_s = 0.0
        line = to_line(error) if isinstance(error, FAILURES) else f"the next picture failed, internal error: {error!r}"
        self._say(f"{line}; the show goes on")


def _is_left(made: Future[_Made | None]) -> bool:
    """Return whether a picture that is done was left for another one."""
    return made.exception() is None and made.result() is None
