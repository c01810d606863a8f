"""The pacer assigns frames to slots of the show.

Slot k is due at t0 + k / fps, where t0 is the time of the first frame. Deadlines are exact fractions, so that timing
errors do not accumulate over days.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from fractions import Fraction
from math import floor
from typing import Protocol

_NAP = Fraction(1, 4)  # seconds; the longest sleep before checking whether the show was stopped


class Clock(Protocol):
    """A monotonic clock that can wait."""

    def now(self) -> float:
        """Return the time in seconds since a fixed moment."""
        ...

    def sleep_until(self, deadline_s: float) -> None:
        """Wait until `now()` reaches `deadline_s` (seconds)."""
        ...


class SystemClock:
    """The machine's own monotonic clock."""

    def now(self) -> float:
        """Return the time in seconds since a fixed moment."""
        return time.monotonic()

    def sleep_until(self, deadline_s: float) -> None:
        """Sleep until `deadline_s` (seconds); without spinning, because the engine needs the CPU."""
        while (left_s := deadline_s - time.monotonic()) > 0:
            time.sleep(left_s)


class Pacer:
    """Assigns each finished frame to a slot, and waits until the slot is due.

    A frame that is late by more than half an interval counts as late. If the engine falls whole intervals behind, that
    many slots are dropped, so that the show stays in real time.

    Args:
        clock: the clock of the deadlines.
        fps: slots per second, above 0.

    Attributes:
        num_late: late frames so far.
        num_dropped: slots without a frame so far.
        num_ahead: slots by which frames are made ahead.
    """

    def __init__(self, clock: Clock, fps: Fraction) -> None:
        self.fps = fps
        self.num_late = 0
        self.num_dropped = 0
        self.num_ahead = 0
        self._clock = clock
        self._start: Fraction | None = None
        self._next = 0

    @property
    def next_slot(self) -> int:
        """The slot of the next frame, unless the engine falls behind."""
        return self._next

    def begin(self, start: Fraction, slot: int) -> None:
        """Go on with a show that began earlier.

        Args:
            start: when slot 0 was due, in seconds of the clock; may be below 0.
            slot: the next one.
        """
        assert self._start is None, "frames have been paced already"
        self._start, self._next = start, slot

    def make_ahead(self, slots: int) -> None:
        """Make later frames `slots` slots ahead, and show them as many later; a frame must have been paced before."""
        assert self._start is not None, "no frame has been paced yet"
        self.num_ahead += slots
        self._start += slots / self.fps

    def deadline(self, slot: int) -> Fraction:
        """Return when a slot is due, as an exact time of the clock in seconds; a frame must have been paced before."""
        assert self._start is not None, "no frame has been paced yet"
        return self._start + slot / self.fps

    def pace(self, is_stopped: Callable[[], bool] = lambda: False) -> int:
        """Wait until the frame that is now ready is due, or may be passed on to be shown `num_ahead` slots later.

        Args:
            is_stopped: called at least every quarter of a second; the wait ends when it returns True.

        Returns:
            The frame's slot: its time in the show is slot / fps seconds.
        """
        now = Fraction(self._clock.now())
        if self._start is None:
            self._start = now
        behind = floor((now - self.deadline(self._next)) * self.fps)
        if behind > 0:
            self.num_dropped += behind
            self._next += behind
        slot, due = self._next, self.deadline(self._next)
        ready = due - self.num_ahead / self.fps
        while (now := Fraction(self._clock.now())) < ready and not is_stopped():
            self._clock.sleep_until(_not_before(min(ready, now + _NAP)))
        if (now - due) * self.fps > Fraction(1, 2):
            self.num_late += 1
        self._next = slot + 1
        return slot


def _not_before(moment: Fraction) -> float:
    """Round up to a float, so that one sleep is enough."""
    nearest = float(moment)
    return nearest if Fraction(nearest) >= moment else nearest * (1 + 2**-52)
