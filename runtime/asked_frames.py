"""The frames that a step graph was asked for and that were not returned yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple


class AskedFrame(NamedTuple):
    """A frame that was asked for: whether the step graph makes a picture for it, and whether clips are seen in it."""

    is_needed: bool
    is_clip: bool


class AskedFrames:
    """Asks for the next frame, and a server for one more: neither its work nor the way there and back is waited for.

    A frame that shows a clip is not followed by one that is asked for early, because clips are played here.

    Args:
        ask: asks for the next frame.
    """

    def __init__(self, ask: Callable[[], AskedFrame]) -> None:
        self._ask = ask
        self._frames: deque[AskedFrame] = deque()

    def next(self, *, is_ahead: bool) -> AskedFrame:
        """Ask for frames and return the oldest one; two are asked for if `is_ahead`, so that one is left."""
        while len(self._frames) <= is_ahead and not (self._frames and self._frames[-1].is_clip):
            self._frames.append(self._ask())
        return self._frames.popleft()

    def forget(self) -> None:
        """Forget all frames: they will not come."""
        self._frames.clear()
