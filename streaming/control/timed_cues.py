"""Cues at given times of a show, from the command line's `--cue`, and scenes in turn.

They have background threads of their own, as they wait for idle moments: one for those whose pictures are painted
(`--scene-from`), one for the others. Each is prepared when the one before it has faded in, or 2 s before it is due if
that comes first. Reading a clip takes seconds: it is begun 10 s before it is due, also while the cue before it waits.
A cue that waits for its picture is left out 2 s before a later one is due that needs no painting.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import partial
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime import BundleError, EngineError
from runtime.prompts.background import BackgroundThread
from streaming.control.cues import PARTS, Cue, CueEntry, to_label, to_prompts
from streaming.control.show_controls import ShowControls

if TYPE_CHECKING:
    from streaming.inputs.live_input import LiveInput

PREPARING_S = 2  # a timed cue is prepared at least this long before it is due
PREPARING_CLIP_S = 10  # the like, of a clip
MAX_CLIPS = 2  # kept at once: the one on air and the next one, 256 MiB each
FAILURES = (ValueError, BundleError, EngineError)


class TimedCues(ShowControls, ABC):
    """The part of a `ShowController` that knows the time.

    Attributes:
        input: the live input, or None.
        is_held: whether scenes in turn wait, e.g. while nobody is there.
        before_frame: each is called without arguments by the show's thread before it begins a frame.
        on_prompt: each is called with a prompt's parts and the time in seconds of the show when its scene is taken, and
            has to return at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.on_prompt: list[Callable[[Mapping[str, Any], float], object]] = []
        self.input: LiveInput | None = None
        self.is_held = False
        self.before_frame: list[Callable[[], object]] = []
        self._is_closed = False
        self._timed_threads: dict[bool, BackgroundThread[None]] = {True: BackgroundThread(), False: BackgroundThread()}
        self._timed: list[CueEntry] = []  # in order of time; the first is prepared, and the second if it is a clip
        self._timed_controls: list[Cue] = []
        self._dissolve_s = 1.0
        self._now_s = Fraction(0)  # time of the show
        self._busy_s = Fraction(1)  # until then frames need the CPU: the show begins, or a scene fades in
        self._cycle: Iterator[str] | None = None  # names of scenes
        self._cycle_s = Fraction(0)
        self._say: Callable[[str], object] = lambda _line: None

    def schedule(self, cues: Sequence[Cue], *, dissolve_s: float, say: Callable[[str], None]) -> None:
        """Add timed cues, before the show begins; a prompt that is due within `PREPARING_S` is prepared at once.

        Args:
            cues: in any order; the parts of a prompt that share a time are one prompt.
            dissolve_s: seconds over which each prompt fades in.
            say: called with one line for each cue that fails during the show, or whose text is too long.

        Raises:
            ValueError: a cue is not for this generator, is there twice, or has a bad value.
            BundleError: the files of the text encoder are damaged.
            EngineError: a package for text is missing.
            NotReadyError: there is no generator yet.
        """
        generator = self._ready()
        controls = sorted((cue for cue in cues if cue.kind not in PARTS), key=lambda cue: cue.at_s)
        for cue in controls:
            self._target(cue.kind).check_control(cue.kind, cue.value)
        timed = [CueEntry(0, to_label(parts), parts, at_s, "waiting") for at_s, parts in to_prompts(cues)]
        for entry in timed:
            if entry.is_live and self.hides_input:
                raise ValueError(
                    f"the cue at {float(entry.at_s):g} s shows the whole picture of the input: leave it or --matte out"
                )
            if entry.is_live and self.input is None:
                raise ValueError(
                    f"the cue at {float(entry.at_s):g} s uses the picture of a live input, and there is no live "
                    "input: add --input webcam, --input testcard, or a file or an address"
                )
            blank = np.zeros((generator.height, generator.width, 3), np.uint8)
            self._check({**entry.parts, "image": blank} if entry.is_live else entry.parts)
        self._timed, self._timed_controls, self._dissolve_s, self._say = timed, controls, dissolve_s, say
        self._prepare_timed()

    def cycle(self, scenes: Sequence[str], every_s: Fraction, next_s: Fraction | None = None) -> None:
        """Show the bundle's scenes in turn, without an end, until somebody takes a cue.

        Args:
            scenes: names; the first is on air already.
            every_s: seconds for which each is shown.
            next_s: when the second one is due, in seconds of the show; None for `every_s`.
        """
        self._cycle, self._cycle_s = islice(cycle(scenes), 1, None), every_s
        self._extend(every_s if next_s is None else next_s)

    def play(self, now_s: Fraction) -> None:
        """Apply the timed cues that are due. A prompt that is not ready yet is taken as soon as it is.

        Args:
            now_s: time of the next frame in seconds of the show; called by the show's thread before each frame.
        """
        for listener in tuple(self.before_frame):
            listener()
        while self._timed_controls and self._timed_controls[0].at_s <= now_s:
            cue = self._timed_controls.pop(0)
            try:
                self._target(cue.kind).set_control(cue.kind, cue.value)
            except FAILURES as error:
                self._report(cue.at_s, to_line(error))
            self._notify()
        with self._lock:
            if self.is_held and self._cycle is not None:
                for waiting in self._timed:
                    waiting.at_s = max(waiting.at_s, now_s + 1)
            self._now_s = now_s
            left_out = self._leave_out()
            is_due = bool(self._timed) and self._timed[0].at_s <= now_s
        for late in left_out:
            self._report(late.at_s, late.error)
        if not is_due:
            self._prepare_timed()
            return
        self._prepare_timed(is_due=True)
        with self._lock:
            entry = self._timed[0] if self._timed else None
            if entry is None or entry.at_s > now_s or entry.state == "preparing":
                return
            self._timed.pop(0)
            try:
                if entry.state == "ready":
                    self._show(entry, self._dissolve_s)
                    self._busy_s = now_s + Fraction(self._dissolve_s)
            except FAILURES as error:
                entry.error = to_line(error)
        if entry.error:
            self._report(entry.at_s, entry.error)
        self._extend(entry.at_s + self._cycle_s)
        self._prepare_timed()
        self._notify()

    @property
    @abstractmethod
    def hides_input(self) -> bool:
        """Whether only a part of the live input may be shown, the person of --matte."""

    @abstractmethod
    def _is_painted(self, parts: Mapping[str, Any]) -> bool:
        """Whether another bundle paints the picture of a prompt, which takes seconds to minutes."""

    @abstractmethod
    def _check(self, parts: Mapping[str, Any]) -> None:
        """Raise an error of `FAILURES` if a prompt cannot become a scene."""

    @abstractmethod
    def _show(self, entry: CueEntry, dissolve_s: float) -> None:
        """Take a cue that is ready; needs the lock."""

    @abstractmethod
    def _make(self, entry: CueEntry) -> None:
        """Prepare a cue; its state says whether that has failed."""

    def _leave_out(self) -> list[CueEntry]:
        """Remove and return cues that wait for their pictures while a later one is to be shown; needs the lock.

        Motion that is to be drawn over such a picture is left out with it, and does not replace a picture itself.
        """
        near = [entry for entry in self._timed if entry.at_s - PREPARING_S <= self._now_s]
        ready = (n for n, entry in enumerate(near) if not self._is_painted(entry.parts) and not entry.is_drawn)
        last = max(ready, default=0)
        late: list[CueEntry] = []
        for entry in near[:last]:
            is_unready = entry.at_s <= self._now_s and entry.state in ("waiting", "preparing")
            if is_unready and (self._is_painted(entry.parts) or (entry.is_drawn and late)):
                entry.error = f"its picture is not ready, and the cue at {float(near[last].at_s):g} s follows"
                entry.state = "failed"
                late.append(entry)
        self._timed = [entry for entry in self._timed if not any(entry is one for one in late)]
        return late

    def _extend(self, at_s: Fraction) -> None:
        """Add the next scene of a cycle as a timed cue, if no other is left."""
        with self._lock:
            if self._cycle is None or self._timed:
                return
            name = next(self._cycle)
            self._timed.append(CueEntry(0, name, {"scene": name}, at_s, "waiting"))
        self._prepare_timed()

    def _time_again(self, scenes: Sequence[str]) -> None:
        """Prepare timed cues again for another bundle; where scenes are in turn, show these, the first being on air."""
        with self._lock:
            at_s = self._timed[0].at_s if self._timed else self._now_s + self._cycle_s
            if self._cycle is not None:
                self._timed, self._cycle = [], islice(cycle(scenes), 1, None) if scenes else None
            for entry in self._timed:
                if entry.state == "ready":
                    entry.scene, entry.state = None, "waiting"
        self._extend(at_s)

    def _report(self, at_s: Fraction, error: str) -> None:
        self._say(f"the cue at {float(at_s):g} s is left out: {error}")

    def _prepare_timed(self, *, is_due: bool = False) -> None:
        """Begin to prepare the next timed prompts if it is time; one that needs what is on air only when it is due."""
        with self._lock:
            for number, entry in enumerate(self._timed[:2]):
                is_time = self._is_clip_time(entry) if number else is_due or self._is_time(entry)
                if entry.state == "waiting" and is_time:
                    self._timed_threads[self._is_painted(entry.parts)].submit(partial(self._make_timed, entry))
                    entry.state = "preparing"

    def _is_time(self, entry: CueEntry) -> bool:
        """Return whether to prepare the next cue now; needs the lock."""
        ahead_s = PREPARING_CLIP_S if entry.is_clip else PREPARING_S
        is_time = self._now_s >= min(self._busy_s, entry.at_s - ahead_s)
        return is_time and not entry.is_live and not entry.is_drawn

    def _is_clip_time(self, entry: CueEntry) -> bool:
        """Return whether to prepare the cue after the next one now, which only a clip needs; needs the lock."""
        before, shown = self._timed[0], self._ready().shown_scene
        kept = int(before.is_clip) + int(shown is not None and shown.clip is not None)
        is_near = self._now_s >= entry.at_s - PREPARING_CLIP_S
        return entry.is_clip and is_near and before.state == "ready" and kept < MAX_CLIPS

    def _make_timed(self, entry: CueEntry) -> None:
        """Prepare a timed cue; on its own background thread."""
        if not self._is_closed:
            self._make(entry)
            self._notify()


def to_line(error: Exception) -> str:
    """Return an error as one line."""
    return " ".join(str(error).split())
