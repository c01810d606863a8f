"""Which scene plays, and cross-fades from one scene to the next.

The step graph holds the memories of two scenes, a and b, and plays `a + mix * (b - a)`. A new scene is written once, to
the side that does not play; `mix` then moves to that side in equal steps.

    frame       f-1    f      f+1    f+2    f+3         a cross-fade of 4 frames, taken before frame f
    mix         0      0.25   0.5    0.75   1           b plays from f+3 on; the next cross-fade runs 1 -> 0

Rules:
- There is one cross-fade at a time. A scene taken during a cross-fade waits for its end; only the latest one waits.
- A waiting scene comes before a renewal. A renewal that is due during a cross-fade starts at its end.
- An expected scene is taken as soon as it is ready, unless another one is taken or expected before. If nothing plays
  yet, the first frame waits for it.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass

from runtime.prompts.scene import Scene
from runtime.scenes.renewal import Renewal


@dataclass(frozen=True)
class SceneMix:
    """What the step graph needs for one frame.

    Args:
        mix: 0 plays scene a, 1 scene b.
        side: "a" or "b" if a new scene must be written there before the frame, else "".
        scene: the new scene, or None.
        is_over_clip: whether it fades in over a clip, which the step graph does not see.
    """

    mix: float
    side: str = ""
    scene: Scene | None = None
    is_over_clip: bool = False


class SceneTimeline:
    """The playing, waiting and expected scenes; `take`, `expect` and `latest` are thread-safe, the rest is not.

    Args:
        renewal: renews scenes made from a seed; None for no renewal.
    """

    def __init__(self, renewal: Renewal | None) -> None:
        self._renewal = renewal
        self._lock = threading.Lock()
        self._waiting: tuple[Scene, int] | None = None
        self._expected: tuple[Future[Scene], int] | None = None
        self._first: Scene | None = None  # the playing scene before its renewals, for `rewind`
        self._begun: Scene | None = None  # the scene that plays or fades in, a renewal included
        self._playing = ""  # the side that plays, or that fades out
        self._frames = 0  # length of the current cross-fade
        self._frames_left = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing plays, waits or is expected."""
        with self._lock:
            return self._playing == "" and self._waiting is None and self._expected is None

    @property
    def latest(self) -> Scene | None:
        """The waiting scene, else the playing one (before its renewals), else None."""
        with self._lock:
            return self._waiting[0] if self._waiting is not None else self._first

    @property
    def shown(self) -> Scene | None:
        """The waiting scene, else the one that plays or fades in, which may be a renewal; else None."""
        with self._lock:
            return self._waiting[0] if self._waiting is not None else self._begun

    @property
    def renewal_age(self) -> float:
        """Frames, times the rate, since a scene made from a seed began; 0 if nothing renews itself."""
        return 0.0 if self._renewal is None else self._renewal.age

    @property
    def side(self) -> str:
        """The side, "a" or "b", of the scene that plays or fades in."""
        is_b = (self._playing == "b") == (self._frames_left == 0)
        return "b" if is_b and self._playing else "a"

    def go_on(self, side: str, renewal_age: float) -> SceneMix:
        """Begin at once with the latest scene, where another timeline was; see `side` and `renewal_age`.

        Returns:
            What to write to the step graph now, before `advance` is called for the next frame.

        Raises:
            EngineError: a renewal or an expected scene failed in the background.
        """
        self.rewind(keep=True)
        scene = self._begin(renewal_age)
        self._playing, self._frames_left = side, 0
        return SceneMix(1.0 if side == "b" else 0.0, side, scene)

    def take(self, scene: Scene, frames: int) -> None:
        """Fade a scene in from the next frame on, or after the current cross-fade.

        Args:
            scene: the scene to play.
            frames: length of the cross-fade; 0 and 1 are a cut.
        """
        with self._lock:
            self._waiting = (scene, frames)
            self._drop_expected()

    def expect(self, coming: Future[Scene], frames: int) -> None:
        """Fade a scene in as soon as it has been made.

        Args:
            coming: gives the scene.
            frames: length of the cross-fade; 0 and 1 are a cut.
        """
        with self._lock:
            self._drop_expected()
            self._expected = (coming, frames)

    def advance(self, rate: float = 1.0) -> SceneMix:
        """Advance by one frame.

        Args:
            rate: of the renewal; see `Renewal.grow`.

        Returns:
            What to write to the step graph before the frame.

        Raises:
            EngineError: a renewal or an expected scene failed in the background.
        """
        side, scene = "", None
        if self._renewal is not None:
            self._renewal.grow(rate)
        if self._frames_left == 0:
            scene = self._begin()
            if scene is not None:
                side = "b" if self._playing == "a" else "a"
                if self._playing == "":  # nothing to fade from
                    self._playing, self._frames_left = side, 0
        if self._frames_left > 0:
            self._frames_left -= 1
            share = (self._frames - self._frames_left) / self._frames
            mix = share if self._playing == "a" else 1 - share
            if self._frames_left == 0:
                self._playing = "b" if self._playing == "a" else "a"
            return SceneMix(mix, side, scene)
        return SceneMix(1.0 if self._playing == "b" else 0.0, side, scene)

    def rewind(self, *, keep: bool) -> None:
        """Go back to before frame 0.

        Args:
            keep: whether the waiting or playing scene starts again and an expected one is kept; else nothing plays.
        """
        if self._renewal is not None:
            self._renewal.stop()
        with self._lock:
            first = self._waiting[0] if self._waiting is not None else self._first
            self._waiting = (first, 0) if keep and first is not None else None
            if not keep:
                self._drop_expected()
            self._first = self._begun = None
            self._playing, self._frames, self._frames_left = "", 0, 0

    def _begin(self, age: float = 0.0) -> Scene | None:
        waiting = self._take_waiting()
        if waiting is not None:
            scene, frames = waiting
            if self._renewal is not None:
                self._renewal.stop()
                if scene.renews:
                    scene = self._renewal.start(scene, age)
        elif self._renewal is not None and self._renewal.is_due:
            scene, frames = self._renewal.collect(), self._renewal.dissolve_frames
        else:
            return None
        with self._lock:
            self._begun = scene
        self._frames = self._frames_left = max(frames, 1)
        return scene

    def _take_waiting(self) -> tuple[Scene, int] | None:
        """Remove and return the next scene to play, if any."""
        with self._lock:
            expected, waiting = self._expected, self._waiting
            if expected is not None and (expected[0].done() or self._playing == ""):
                self._expected = None
            else:
                expected = None
            self._waiting = None
            if waiting is not None:
                self._first = self._begun = waiting[0]
        if expected is not None:
            waiting = (expected[0].result(), expected[1])
            with self._lock:
                self._first = self._begun = waiting[0]
        return waiting

    def _drop_expected(self) -> None:
        if self._expected is not None:
            self._expected[0].cancel()
            self._expected = None
