"""Writes the playing picture to the pixel stage, and blends two pictures while one scene fades into another."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from runtime.bundle.tensors import GraphSpec
from runtime.pixels.planes import SHARP, Blend, Planes
from runtime.scenes.cross_fade import SceneMix
from runtime.step_runner import StepRunner

SHARPENING = 8  # frames over which the first picture becomes its sharpened copy


class PictureInputs:
    """The pictures of the two scenes that a step graph knows; for one thread.

    Pictures are blended before the graph: that takes as long as sampling one of them, and only while it is needed. A
    server blends them itself, as it has both. Two scenes of one picture, whose motion was drawn again, need no
    blending. The first frame of a scene that is cut to shows the picture itself. Displaced pictures lose detail, so it
    then becomes its sharpened copy; a scene that fades in is sharpened from the start.

    Args:
        step: the step graph; without inputs of the role `picture`, nothing is written.
    """

    def __init__(self, step: GraphSpec) -> None:
        self._names = [item.name for item in step.inputs_of("picture")]
        self._sides: dict[str, Planes] = {}
        self._cut_side, self._age = "", 0  # the side that was cut to, and how many frames ago
        self._shown = ""  # the side that is written with its sharpened copy alone, "both" if they are one, or ""

    @property
    def age(self) -> int:
        """For how many frames the picture has become its sharpened copy, at most `SHARPENING`; 0 before any."""
        if not self._sides:
            return 0
        return min(self._age, SHARPENING) if self._cut_side else SHARPENING

    def go_on(self, move: SceneMix, age: int) -> None:
        """Show the picture of a scene from the next frame on, where other inputs were; see `age`."""
        if self._names:
            self._set(move)
            self._cut_side, self._age = move.side, age

    def write(self, move: SceneMix, session: StepRunner) -> None:
        """Write what has changed since the last frame."""
        if not self._names:
            return
        playing = "b" if move.mix == 1 else "a" if move.mix == 0 else ""
        if move.scene is not None:
            self._set(move)
            if playing == move.side:
                self._cut_side, self._age = "" if move.is_over_clip else move.side, 0
        if not playing:
            self._cut_side = ""
        one, two = self._sides.get("a", {}), self._sides.get("b", {})
        if not playing and all(one.get(key) is two.get(key) for key in _keys(self._names)):
            playing = "both"
        if playing and self._shown == playing:
            return
        sharpened = min(1.0, self._age / SHARPENING) if playing == self._cut_side else 1.0
        for name in self._names:
            if playing:
                planes = self._sides["a" if playing == "both" else playing]
                self._write(name, planes[name], planes[name + SHARP], sharpened, session)
            else:
                self._write(name, self._sides["a"][name + SHARP], self._sides["b"][name + SHARP], move.mix, session)
        self._age += 1
        self._shown = playing if sharpened == 1 else ""

    def _set(self, move: SceneMix) -> None:
        assert move.scene is not None, "a move without a scene"
        self._sides[move.side] = {key: move.scene.tensors[key] for key in _keys(self._names)}
        self._shown = ""

    def _write(
        self, name: str, one: npt.NDArray[np.uint8], two: npt.NDArray[np.uint8], share: float, session: StepRunner
    ) -> None:
        """Write `one + share * (two - one)`."""
        session.write_blend(name, Blend(one, two, share))


def _keys(names: list[str]) -> list[str]:
    return [*names, *(name + SHARP for name in names)]
