"""A scene made from noise renews itself: the next memory is made in the background and taken at a frame fixed before.

The content codes drift slowly, `z_k = c z_(k-1) + sqrt(1 - c^2) e_k` (docs/bundle.md, "Renewal"), which keeps each one
standard normal. When a memory is taken depends on the frame number alone and never on how fast the machine was: if the
memory is not ready, the show waits for it.
"""

from __future__ import annotations

import math
from concurrent.futures import Future

import numpy as np
import numpy.typing as npt

from runtime.conditioning import Conditioner, Memory
from runtime.manifest import RenewalSpec


class Renewal:
    """The renewals of one scene after another; used by the show's thread only.

    Args:
        spec: how often, how long, how strongly.
        conditioner: makes the memories.
    """

    def __init__(self, spec: RenewalSpec, conditioner: Conditioner) -> None:
        self._spec = spec
        self._conditioner = conditioner
        self._next: Future[Memory] | None = None
        self._seed = 0
        self._count = 0  # number of the code that is being prepared
        self._origin_frame = 0
        self._code: npt.NDArray[np.float64] = np.zeros(0)

    @property
    def dissolve_frames(self) -> int:
        """How many frames a renewal's dissolve takes."""
        return self._spec.dissolve_frames

    def start(self, seed: int, frame: int) -> None:
        """Begin a scene, whose first memory, made from `z_0`, is taken at this frame; prepare the next one.

        Args:
            seed: of the content codes.
            frame: the scene's first frame, from which its renewals are counted.
        """
        self._seed, self._origin_frame, self._count = seed, frame, 0
        self._code = self._conditioner.draw(seed, 0).astype(np.float64)
        self._prepare()

    def stop(self) -> None:
        """End the scene: nothing is due any more."""
        self._next = None

    def is_due(self, frame: int) -> bool:
        """Tell whether the next memory starts to dissolve in at this frame, or should have before."""
        return self._next is not None and frame >= self._origin_frame + self._count * self._spec.every_frames

    def collect(self) -> Memory:
        """Return the memory that is due, waiting for it if need be, and begin to prepare the one after it.

        Raises:
            EngineError: the engine failed in the background.
        """
        if self._next is None:
            raise AssertionError("collect() without a scene")
        memory = self._next.result()
        self._prepare()
        return memory

    def _prepare(self) -> None:
        self._count += 1
        correlation = float(self._spec.correlation)
        fresh = self._conditioner.draw(self._seed, self._count)
        self._code = correlation * self._code + math.sqrt(1 - correlation**2) * fresh
        self._next = self._conditioner.submit(None, self._code.astype(np.float32))
