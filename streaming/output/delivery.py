"""Delivers frames when they are due, while the next one is being made.

Without it, a frame must be made within its own slot. Made a frame ahead, one may take longer if its neighbours take
less; each is shown one slot later for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from streaming.output.frame_pool import FramePool
from streaming.output.pacing import Clock, Pacer
from streaming.sinks.sink import Picture


class Delivery:
    """Passes each frame on when its slot is due, on a thread of its own.

    Args:
        put: takes a frame and its slot.
        pacer: of the show.
        clock: the pacer's clock.
    """

    def __init__(self, put: Callable[[Picture, int], None], pacer: Pacer, clock: Clock) -> None:
        self._put, self._pacer, self._clock = put, pacer, clock
        self._pool = FramePool()
        self._thread = ThreadPoolExecutor(1, "delivery")
        self._coming: deque[Future[None]] = deque()

    def put(self, picture: Picture, slot: int) -> None:
        """Pass a frame on later; it is copied.

        Raises:
            Exception: what `put` of an earlier frame raised.
        """
        while self._coming and self._coming[0].done():
            self._coming.popleft().result()
        self._coming.append(self._thread.submit(self._deliver, self._pool.copy(picture), slot))

    def close(self) -> None:
        """Deliver the frames that are left, then end the thread; raises what `put` of one of them raised."""
        self._thread.shutdown()
        for coming in self._coming:
            coming.result()

    def _deliver(self, picture: Picture, slot: int) -> None:
        self._clock.sleep_until(float(self._pacer.deadline(slot)))
        self._put(picture, slot)
