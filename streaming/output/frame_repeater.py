"""Repeated frames: while the engine is replaced or hangs, the last frame is sent again in every slot.

A server ends a stream without packets after a few seconds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from fractions import Fraction
from math import floor

from streaming.output.fan_out import FanOut
from streaming.output.pacing import Clock, Pacer
from streaming.sinks.sink import Picture

PATIENCE_S = 0.25  # shorter pauses are not filled; they are a few dropped slots


class FrameRepeater:
    """Passes frames from a show to its sinks, and fills pauses.

    Args:
        fan_out: the sinks.
        pacer: of the show; its slots are filled.
        clock: the pacer's clock.

    Attributes:
        num_filled: slots filled with a repeated frame.
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
        """Pass a new frame to the sinks; arguments as in `FanOut.put`. One whose slot is filled already is left out."""
        with self._lock:
            if slot <= self._last_slot:  # made ahead, and delivered late
                return
            self._fan_out.put(picture, slot)
            self._last_slot, self._last_s = slot, self._clock.now()

    def fill(self) -> bool:
        """Repeat the last frame in the previous slot, if that has none; the current slot may still get a new frame.

        Returns:
            Whether there is a pause to fill.
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
        """Fill pauses on a thread until `close`.

        Args:
            wait: waits for some seconds and returns whether to end; None waits for `close`.
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
