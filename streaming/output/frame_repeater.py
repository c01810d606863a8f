"""Frames that fill a pause: while an engine is being swapped, or hangs, the last picture is shown again, slot by slot.

A stream without packets is taken off the air by its server after a few seconds; a picture that stands still is not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from fractions import Fraction
from math import floor

from streaming.output.fan_out import FanOut
from streaming.output.pacing import Clock, Pacer
from streaming.sinks.sink import Picture

PATIENCE_S = 0.25  # a pause that is shorter is a few dropped slots, which nobody's server minds


class FrameRepeater:
    """Stands between a show and its sinks.

    Args:
        fan_out: the sinks.
        pacer: of the show; its slots are filled.
        clock: the pacer's clock.

    Attributes:
        num_filled: slots in which a picture was shown again.
    """

    def __init__(self, fan_out: FanOut, pacer: Pacer, clock: Clock) -> None:
        self.num_filled = 0
        self._fan_out, self._pacer, self._clock = fan_out, pacer, clock
        self._lock = threading.Lock()
        self._last_slot = -1
        self._last_s: float | None = None
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def put(self, picture: Picture, slot: int) -> None:
        """Give a new frame to the sinks; arguments as `FanOut.put` has them."""
        with self._lock:
            self._fan_out.put(picture, slot)
            self._last_slot, self._last_s = slot, self._clock.now()

    def fill(self) -> bool:
        """Show the last picture again, in the slot that has just gone by without one.

        The slot before the present one, as the present one may still get a new frame.

        Returns:
            Whether there is a pause that has to be filled.
        """
        with self._lock:
            now_s = self._clock.now()
            if self._last_s is None or now_s - self._last_s < PATIENCE_S:
                return False
            slot = floor((Fraction(now_s) - self._pacer.deadline(0)) * self._pacer.fps) - 1
            if slot > self._last_slot:
                self._fan_out.repeat(slot)
                self._last_slot = slot
                self.num_filled += 1
            return True

    def start(self, wait: Callable[[float], bool] | None = None) -> None:
        """Watch on a thread of its own, until `close`.

        Args:
            wait: waits for some seconds and returns whether it is over; None for the real thing.
        """
        wait = wait or self._ending.wait
        interval_s = float(1 / self._pacer.fps)

        def watch() -> None:
            pause_s = PATIENCE_S / 2
            while not wait(pause_s):
                pause_s = interval_s / 2 if self.fill() else PATIENCE_S / 2

        self._thread = threading.Thread(target=watch, name="filler", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join()
