"""Adaptation of a show to a machine that is too slow: frames with half the detail while frames run late.

Late and dropped frames of the last second decide. The way back is tried after a while without any; each time it fails,
the next try comes later.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from fractions import Fraction

from runtime import Generator

_WINDOW_S = 1  # of the show
_LATE = 0.25  # share of the window's slots that are late or dropped: too many
_CALM_S = 10.0  # without a late frame, before full detail is tried again
_MAX_CALM_S = 160.0
_RELAPSE_S = 30.0  # full detail has failed if it is given up this soon


class Adaptation:
    """Sets the detail of a generator.

    Args:
        fps: slots per second.
        say: called with one line for each change.
    """

    def __init__(self, fps: Fraction, say: Callable[[str], None]) -> None:
        self._fps, self._say = float(fps), say
        self._window: deque[tuple[int, int]] = deque()  # (slot, late and dropped so far), the last second
        self._calm_s = _CALM_S
        self._changed_at = 0  # slot of the last change
        self._last_trouble = 0  # slot

    def update(self, generator: Generator, slot: int, troubles: int) -> None:
        """Decide on the detail of the next frame.

        Args:
            generator: makes it.
            slot: of the next frame.
            troubles: late and dropped frames since the show began.
        """
        if not generator.has_half_detail:
            return
        if self._window and troubles > self._window[-1][1]:
            self._last_trouble = slot
        self._window.append((slot, troubles))
        while slot - self._window[0][0] > _WINDOW_S * self._fps:
            self._window.popleft()
        first_slot, before = self._window[0]
        is_full = generator.detail == "full"
        if is_full and slot - first_slot >= 0.9 * _WINDOW_S * self._fps:
            if troubles - before > _LATE * (slot - first_slot):
                self._reduce(generator, slot)
        elif not is_full and slot - max(self._last_trouble, self._changed_at) > self._calm_s * self._fps:
            self._change(generator, slot, "full", "full detail again")

    def _reduce(self, generator: Generator, slot: int) -> None:
        if self._changed_at and slot - self._changed_at < _RELAPSE_S * self._fps:
            self._calm_s = min(_MAX_CALM_S, 2 * self._calm_s)
        self._change(generator, slot, "half", "half the detail, because frames run late (--adapt off keeps it)")

    def _change(self, generator: Generator, slot: int, detail: str, line: str) -> None:
        generator.detail = detail
        self._changed_at = slot
        self._window.clear()
        self._say(line)
