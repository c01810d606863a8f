"""Renewal of scenes made from a seed: the next scene is made in the background and taken at a fixed frame.

The content codes drift slowly: `z_k = c z_(k-1) + sqrt(1 - c^2) e_k` (docs/bundle.md, "Renewal"). Each one is standard
normal. A text stays the same. The frame at which a scene is taken depends only on the number of frames and the control
for the renewal, never on the machine's speed: if the scene is not ready, the frame waits for it.
"""

from __future__ import annotations

import math
from concurrent.futures import Future
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from runtime.bundle.manifest import RenewalSpec
from runtime.errors import EngineError
from runtime.prompts.conditioner import Conditioner
from runtime.prompts.scene import Prompt, Scene


class Renewal:
    """The renewals of the playing scene; used by the frame thread only.

    Args:
        spec: interval, cross-fade and correlation.
        conditioner: makes the scenes.
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
        self._count = 0  # index of the code that is being prepared
        self._age = 0.0  # sum of the rates of all frames since the scene began
        self._code: npt.NDArray[np.float64] = np.zeros(0)

    @property
    def dissolve_frames(self) -> int:
        """The length of a renewal's cross-fade in frames."""
        return self._spec.dissolve_frames

    @property
    def age(self) -> float:
        """Frames, times the rate, since the scene began; 0 if none renews itself."""
        return 0.0 if self._next is None else self._age

    def start(self, scene: Scene, age: float = 0.0) -> Scene:
        """Begin with a scene made from `z_0`, which is taken at this frame; prepare the next one.

        Args:
            scene: has a seed; its text, if any, is kept.
            age: of the scene, to go on where another process was.

        Returns:
            The scene to take: the one given, or the renewal that a scene of that age shows, which is waited for.

        Raises:
            EngineError: the engine failed in the background.
        """
        assert scene.seed is not None, "start() of a scene without a seed"
        self._prompt = Prompt(text=scene.text, text_inputs=scene.text_inputs, seed=scene.seed)
        self._seed, self._age, self._count = scene.seed, age, 0
        self._code = self._conditioner.draw(scene.seed, 0).astype(np.float64)
        done = int(age / self._spec.every_frames)
        for _ in range(done):
            self._draw()
        if done:
            self._submit()
            return self.collect()
        self._prepare()
        return scene

    def grow(self, rate: float) -> None:
        """Add one frame to the scene's age.

        Args:
            rate: at least 0; 0 pauses the renewal, 1 is the manifest's rate.
        """
        self._rate = rate
        # At most one renewal waits during a cross-fade, so a high rate queues up nothing.
        self._age = min(self._age + rate, (self._count + 1.0) * self._spec.every_frames)

    def stop(self) -> None:
        """Stop renewing the scene."""
        self._next = None

    @property
    def is_due(self) -> bool:
        """Whether the next scene is due at this frame or was due before."""
        return self._next is not None and self._age >= self._count * self._spec.every_frames

    def collect(self) -> Scene:
        """Return the scene that is due, waiting for it if necessary, and start to prepare the next one.

        Raises:
            EngineError: the engine failed in the background.
        """
        if self._next is None:
            raise AssertionError("collect() without a scene")
        try:
            scene = self._next.result()
        except (EngineError, ValueError):  # try once more: another engine may have taken over
            self._submit()
            scene = self._next.result()
        self._prepare()
        return scene

    def _prepare(self) -> None:
        self._draw()
        self._submit()

    def _draw(self) -> None:
        """Draw the next code."""
        self._count += 1
        correlation = float(self._spec.correlation)
        fresh = self._conditioner.draw(self._seed, self._count)
        self._code = correlation * self._code + math.sqrt(1 - correlation**2) * fresh

    def _submit(self) -> None:
        ahead_s = self._interval_s / max(1.0, self._rate)
        self._next = self._conditioner.submit(self._prompt, self._code.astype(np.float32), ahead_s=ahead_s)
