"""Which memory plays, and how one dissolves into the next.

The step graph holds two memories, a and b, and plays `a + mix * (b - a)`. The one that is not playing gets the new
memory; `mix` then moves in equal steps to its side and stays there. So a dissolve copies the new memory once.

    frame       f-1    f      f+1    f+2    f+3         a dissolve of 4 frames, taken before frame f
    mix         0      0.25   0.5    0.75   1           b plays from f+3 on; the next dissolve runs 1 -> 0

Rules: one dissolve at a time. A memory taken during a dissolve waits until it has ended; only the latest waiting one is
kept. A waiting memory comes before a renewal. A renewal that falls due during a dissolve starts when that has ended.
A memory that is expected is taken as soon as it is ready, unless another one is taken or expected meanwhile; where
nothing plays yet, the show begins with it.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass

from runtime.prompts.conditioner import Scene
from runtime.scenes.renewal import Renewal


@dataclass(frozen=True)
class SceneMix:
    """What the step graph needs for one frame.

    Args:
        mix: 0 plays memory a, 1 memory b.
        side: "a" or "b" if a new memory is to be written there before the frame, else "".
        memory: that memory, or None.
    """

    mix: float
    side: str = ""
    memory: Scene | None = None


class SceneTimeline:
    """The two memories of a show; `take`, `expect` and `latest` are for any thread, the rest for the show's.

    Args:
        renewal: renews scenes made up from a seed; None leaves them as they are.
    """

    def __init__(self, renewal: Renewal | None) -> None:
        self._renewal = renewal
        self._lock = threading.Lock()
        self._waiting: tuple[Scene, int] | None = None
        self._expected: tuple[Future[Scene], int] | None = None
        self._first: Scene | None = None  # the first memory of the scene, for `rewind`
        self._playing = ""  # the side that plays, or that is being dissolved away
        self._frames = 0  # length of the running dissolve
        self._frames_left = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing plays, waits or is expected."""
        with self._lock:
            return self._playing == "" and self._waiting is None and self._expected is None

    @property
    def latest(self) -> Scene | None:
        """The memory that waits, or else the first one of the scene that plays; None if there is neither."""
        with self._lock:
            return self._waiting[0] if self._waiting is not None else self._first

    def take(self, memory: Scene, frames: int) -> None:
        """Let a memory dissolve in from the next frame on, or from the end of the running dissolve on.

        Args:
            memory: what to play.
            frames: length of the dissolve; 0 and 1 are a cut.
        """
        with self._lock:
            self._waiting = (memory, frames)
            self._drop_expected()

    def expect(self, coming: Future[Scene], frames: int) -> None:
        """Let a memory that is being made dissolve in as soon as it is ready.

        Args:
            coming: gives the memory.
            frames: length of the dissolve; 0 and 1 are a cut.
        """
        with self._lock:
            self._drop_expected()
            self._expected = (coming, frames)

    def advance(self, rate: float = 1.0) -> SceneMix:
        """Go on by one frame.

        Args:
            rate: how fast a scene renews itself; see `Renewal.grow`.

        Returns:
            What to write before it.

        Raises:
            EngineError: a renewal or an expected memory failed in the background.
        """
        side, memory = "", None
        if self._renewal is not None:
            self._renewal.grow(rate)
        if self._frames_left == 0:
            memory = self._begin()
            if memory is not None:
                side = "b" if self._playing == "a" else "a"
                if self._playing == "":  # nothing to dissolve from
                    self._playing, self._frames_left = side, 0
        if self._frames_left > 0:
            self._frames_left -= 1
            share = (self._frames - self._frames_left) / self._frames
            mix = share if self._playing == "a" else 1 - share
            if self._frames_left == 0:
                self._playing = "b" if self._playing == "a" else "a"
            return SceneMix(mix, side, memory)
        return SceneMix(1.0 if self._playing == "b" else 0.0, side, memory)

    def rewind(self, *, keep: bool) -> None:
        """Go back to before frame 0.

        Args:
            keep: whether the scene that plays, waits or is expected starts again from its first memory; else nothing
                plays.
        """
        if self._renewal is not None:
            self._renewal.stop()
        with self._lock:
            first = self._waiting[0] if self._waiting is not None else self._first
            self._waiting = (first, 0) if keep and first is not None else None
            if not keep:
                self._drop_expected()
            self._first = None
            self._playing, self._frames, self._frames_left = "", 0, 0

    def _begin(self) -> Scene | None:
        waiting = self._take_waiting()
        if waiting is not None:
            memory, frames = waiting
            if self._renewal is not None:
                self._renewal.stop()
                if memory.seed is not None:
                    self._renewal.start(memory)
        elif self._renewal is not None and self._renewal.is_due:
            memory, frames = self._renewal.collect(), self._renewal.dissolve_frames
        else:
            return None
        self._frames = self._frames_left = max(frames, 1)
        return memory

    def _take_waiting(self) -> tuple[Scene, int] | None:
        """Take what is to be played next out of the queue and make it the scene."""
        with self._lock:
            expected, waiting = self._expected, self._waiting
            if expected is not None and (expected[0].done() or self._playing == ""):
                self._expected = None
            else:
                expected = None
            self._waiting = None
            if waiting is not None:
                self._first = waiting[0]
        if expected is not None:
            waiting = (expected[0].result(), expected[1])
            with self._lock:
                self._first = waiting[0]
        return waiting

    def _drop_expected(self) -> None:
        if self._expected is not None:
            self._expected[0].cancel()
            self._expected = None
