"""Cues: switches of a show that are known beforehand, made ready beside it and dissolved in when their time has come.

The next prompt is prepared as soon as the one before it plays: only one waits, however many cues there are. What a live
input shows is looked at when the cue is due, and its scene plays as soon as it is ready.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime import BundleError, EngineError, Generator, Scene
from runtime.prompts.background import BackgroundThread
from streaming.arguments import PARTS, Cue
from streaming.output.pacing import Pacer
from streaming.sinks.sink import Picture

LIVE = "input"  # in place of an image: what the live input shows


@dataclass(frozen=True)
class _Prompt:
    """The cues for a prompt that share a time, as arguments of `Generator.prepare`."""

    at_s: Fraction
    parts: dict[str, Any]


class CueList:
    """The cues of one show; made before it, then used by the show's thread.

    Args:
        generator: what is steered.
        cues: in any order; those for a prompt at the same time are one prompt.
        dissolve_s: seconds over which a prompt replaces what plays.
        say: told in one line what became of a cue that failed.
        live: returns what the live input shows now, (H, W, 3) uint8 RGB, or raises ValueError; None without one.

    Raises:
        ValueError: a cue is not for this generator, is there twice, or has a bad value, as far as that can be known.
        BundleError: the files of the text encoder are damaged.
        EngineError: a package for text is missing.
    """

    def __init__(
        self,
        generator: Generator,
        cues: Sequence[Cue],
        *,
        dissolve_s: float,
        say: Callable[[str], None],
        live: Callable[[], npt.NDArray[np.uint8]] | None = None,
    ) -> None:
        self._generator = generator
        self._dissolve_s = dissolve_s
        self._say = say
        self._live = live
        cues = sorted(cues, key=lambda cue: cue.at_s)
        self._controls = [cue for cue in cues if cue.kind not in PARTS]
        together = groupby((cue for cue in cues if cue.kind in PARTS), key=lambda cue: cue.at_s)
        self._prompts = [_to_prompt(at_s, list(group)) for at_s, group in together]
        for cue in self._controls:
            generator.check_control(cue.kind, cue.value)
        for prompt in self._prompts:
            if _is_live(prompt) and live is None:
                raise ValueError(
                    f"the cue at {float(prompt.at_s):g} s animates what the live input shows, and none was named: "
                    "add --input webcam, --input testcard, or a file or an address"
                )
            blank = np.zeros((generator.height, generator.width, 3), np.uint8)
            generator.check(**{**prompt.parts, "image": blank} if _is_live(prompt) else prompt.parts)
        self._background: BackgroundThread[Scene] = BackgroundThread()
        self._next: Future[Scene] | None = None
        self._prepare_next()

    def frames(self, pacer: Pacer) -> Iterator[Picture]:
        """Yield the generator's frames, and play each cue before the first frame that is not before its time.

        Args:
            pacer: of the show; tells how far it is.
        """
        while True:
            self.play(pacer.next_slot / pacer.fps)
            yield next(self._generator)

    def play(self, now_s: Fraction) -> None:
        """Play what is due; a prompt that is not ready is played as soon as it is, and those after it wait for it.

        Args:
            now_s: time of the frame that is made next, in seconds of the show.
        """
        while self._controls and self._controls[0].at_s <= now_s:
            cue = self._controls.pop(0)
            self._attempt(cue.at_s, partial(self._generator.set_control, cue.kind, cue.value))
        if self._next is None and self._prompts and self._prompts[0].at_s <= now_s:
            self._begin(self._prompts[0])
        while self._next is not None and self._next.done() and self._prompts[0].at_s <= now_s:
            self._attempt(self._prompts.pop(0).at_s, partial(self._take, self._next))
            self._prepare_next()

    def steer(self, generator: Generator) -> None:
        """Go on with another generator of the same bundle; scenes that are prepared fit it."""
        self._generator = generator

    def close(self) -> None:
        """Wait for what is being prepared."""
        self._background.close()

    def _prepare_next(self) -> None:
        self._next = None
        if self._prompts and not _is_live(self._prompts[0]):
            self._begin(self._prompts[0])

    def _begin(self, prompt: _Prompt) -> None:
        self._next = self._background.submit(lambda: self._prepare(prompt))

    def _prepare(self, prompt: _Prompt) -> Scene:
        parts = prompt.parts
        if _is_live(prompt):
            assert self._live is not None, "checked before the show"
            parts = {**parts, "image": self._live()}
        if parts.keys() == {"seed"} and self._generator.text is not None:
            return self._generator.prepare(**parts, text=self._generator.text)
        return self._generator.prepare(**parts)

    def _take(self, ready: Future[Scene]) -> None:
        self._generator.take(ready.result(), dissolve_s=self._dissolve_s)

    def _attempt(self, at_s: Fraction, switch: Callable[[], None]) -> None:
        try:
            switch()
        except (ValueError, BundleError, EngineError) as error:
            self._say(f"the cue at {float(at_s):g} s is left out: {' '.join(str(error).split())}")


def _is_live(prompt: _Prompt) -> bool:
    return bool(prompt.parts.get("image") == LIVE)


def _to_prompt(at_s: Fraction, cues: list[Cue]) -> _Prompt:
    parts: dict[str, Any] = {}
    for cue in cues:
        if cue.kind in parts:
            raise ValueError(f"the cues at {float(at_s):g} s give {cue.kind} twice: leave one out")
        parts[cue.kind] = cue.value
    return _Prompt(at_s, parts)
