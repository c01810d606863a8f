"""A scene made up from a seed renews itself: the next memory is made in the background and taken at a fixed frame.

The content codes drift slowly, `z_k = c z_(k-1) + sqrt(1 - c^2) e_k` (docs/bundle.md, "Renewal"), which keeps each one
standard normal; a text stays what it was. When a memory is taken depends on the number of frames and the control for
the renewal alone, and never on how fast the machine was: if the memory is not ready, the show waits for it.
"""

from __future__ import annotations

import math
from concurrent.futures import Future
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from runtime.bundle.manifest import RenewalSpec
from runtime.errors import EngineError
from runtime.prompts.conditioner import Conditioner, Prompt, Scene


class Renewal:
    """The renewals of one scene after another; used by the show's thread only.

    Args:
        spec: how often, how long, how strongly.
        conditioner: makes the memories.
        fps: frames per second.
    """

    def __init__(self, spec: RenewalSpec, conditioner: Conditioner, fps: Fraction) -> None:
        self._spec = spec
        self._interval_s = float(spec.every_frames / fps)
        self._rate = 1.0
        self._conditioner = conditioner
        self._next: Future[Scene] | None = None
        self._prompt = Prompt()
        self._seed = 0
        self._count = 0  # number of the code that is being prepared
        self._age = 0.0  # frames since the scene began, each counted as often as the rate said
        self._code: npt.NDArray[np.float64] = np.zeros(0)

    @property
    def dissolve_frames(self) -> int:
        """How many frames a renewal's dissolve takes."""
        return self._spec.dissolve_frames

    def start(self, memory: Scene) -> None:
        """Begin a scene with its first memory, made from `z_0`, which is taken at this frame; prepare the next one.

        Args:
            memory: has a seed; its text, if there is one, is kept.
        """
        assert memory.seed is not None, "start() of a scene that keeps itself"
        self._prompt = Prompt(text=memory.text, vector=memory.vector, seed=memory.seed)
        self._seed, self._age, self._count = memory.seed, 0.0, 0
        self._code = self._conditioner.draw(memory.seed, 0).astype(np.float64)
        self._prepare()

    def grow(self, rate: float) -> None:
        """Let the scene grow older by a frame.

        Args:
            rate: at least 0: how much older; 0 holds it, 1 is the manifest's own pace.
        """
        self._rate = rate
        # Of the renewals that fall due during a dissolve one waits: a rate too high to follow piles nothing up.
        self._age = min(self._age + rate, (self._count + 1.0) * self._spec.every_frames)

    def stop(self) -> None:
        """End the scene: nothing is due any more."""
        self._next = None

    @property
    def is_due(self) -> bool:
        """Whether the next memory starts to dissolve in at this frame, or should have before."""
        return self._next is not None and self._age >= self._count * self._spec.every_frames

    def collect(self) -> Scene:
        """Return the memory that is due, waiting for it if need be, and begin to prepare the one after it.

        Raises:
            EngineError: the engine failed in the background.
        """
        if self._next is None:
            raise AssertionError("collect() without a scene")
        try:
            memory = self._next.result()
        except (EngineError, ValueError):  # another engine may have taken over since, and closed the one that failed
            self._submit()
            memory = self._next.result()
        self._prepare()
        return memory

    def _prepare(self) -> None:
        self._count += 1
        correlation = float(self._spec.correlation)
        fresh = self._conditioner.draw(self._seed, self._count)
        self._code = correlation * self._code + math.sqrt(1 - correlation**2) * fresh
        self._submit()

    def _submit(self) -> None:
        ahead_s = self._interval_s / max(1.0, self._rate)
        self._next = self._conditioner.submit(self._prompt, self._code.astype(np.float32), ahead_s=ahead_s)
