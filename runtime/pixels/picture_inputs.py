"""Writes the playing picture to the pixel stage, and blends two pictures while one scene fades into another."""

from __future__ import annotations

import numpy as np

from runtime.bundle.tensors import GraphSpec
from runtime.engines.engine import Array
from runtime.pixels.planes import Planes, shifted_copies
from runtime.scenes.cross_fade import SceneMix
from runtime.step_runner import StepRunner


class PictureInputs:
    """The pictures of the two scenes that a step graph knows; for one thread.

    Pictures are blended here, not in the graph: that takes as long as sampling one of them, and only while it is
    needed.

    Args:
        step: the step graph; without inputs of the role `picture`, nothing is written.
    """

    def __init__(self, step: GraphSpec) -> None:
        self._names = [item.name for item in step.inputs_of("picture")]
        self._sides: dict[str, Planes] = {}
        self._shown = ""  # the side that is written, or "" for a blend
        self._blend: dict[str, Array] = {}

    def write(self, move: SceneMix, session: StepRunner) -> None:
        """Write what has changed since the last frame."""
        if move.scene is not None:
            self._sides[move.side] = {name: move.scene.tensors[name] for name in self._names}
            self._shown = "" if self._shown == move.side else self._shown
        if move.mix in (0.0, 1.0):
            side = "b" if move.mix else "a"
            if self._shown != side:
                for name in self._names:
                    session.write(name, shifted_copies(self._sides[side][name]))
                self._shown = side
            return
        self._shown = ""
        for name in self._names:
            a, b = self._sides["a"][name], self._sides["b"][name]
            blend = self._blend.setdefault(name, np.empty_like(a))
            np.subtract(b, a, out=blend)
            blend *= np.float32(move.mix)
            blend += a
            session.write(name, shifted_copies(blend))
