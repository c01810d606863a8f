"""Writes what one frame needs to the step graph: scenes, pictures, noise, controls; and lets clips go on."""

from __future__ import annotations

import numpy as np

from runtime.bundle.tensors import GraphSpec
from runtime.clips.playback import VARIETY, ClipPlayback
from runtime.engines.engine import Array
from runtime.marking.plane import PLANE
from runtime.noise import FRAMES, normals
from runtime.pixels.picture_inputs import PictureInputs
from runtime.position import Position
from runtime.prompts.scene import Scene
from runtime.scenes.cross_fade import SceneMix, SceneTimeline
from runtime.step_inputs import StepInputs
from runtime.step_runner import StepRunner

SPEED = "motion"  # the control for how fast everything moves


class FrameInputs:
    """The inputs of the step graph, frame by frame; for the thread that makes frames.

    Args:
        graph: the step graph.
        scenes: what plays; None if the bundle has no condition graph.
        values: controls and live input.
        plane: of the mark; None for no mark.

    Attributes:
        is_still: whether the last `write` changed nothing that is worth a new frame (`StepInputs.similar`).
    """

    def __init__(
        self, graph: GraphSpec, scenes: SceneTimeline | None, values: StepInputs, plane: Array | None = None
    ) -> None:
        self._scenes, self._values = scenes, values
        # Looked up once, because Python time is most of the overhead per frame.
        self._slots = {side: [(item.name, item.slot) for item in graph.inputs_of(f"memory_{side}")] for side in "ab"}
        self._mix_names = [item.name for item in graph.inputs_of("mix")]
        self._noises = [(item.name, item.shape[1]) for item in graph.inputs_of("noise")]
        self._pictures = PictureInputs(graph)
        self._plane, self._is_marked = plane, False
        self._no_plane = None if plane is None else np.zeros_like(plane)
        self._mix: float | None = None  # that was written last
        self.is_still = False

    @property
    def picture_age(self) -> int:
        """For how many frames the picture has become its sharpened copy; see `PictureInputs`."""
        return self._pictures.age

    def go_on(self, step: StepRunner, position: Position, clips: ClipPlayback | None) -> None:
        """Begin with the latest scene where another generator was; arguments as of `write`.

        Raises:
            EngineError: a scene failed in the background.
            ValueError: the position has the place of a clip with other values.
        """
        if self._scenes is None:
            return
        move = self._scenes.go_on(position.side, position.renewal_age)
        assert move.scene is not None, "there is no scene"
        if clips is not None:
            clips.go_on(move.side, move.scene, position.clip)
        if move.scene.clip is None:
            self._set_scene(step, move.side, move.scene)
            self._pictures.go_on(move, position.picture_age)

    def write(self, step: StepRunner, seed: int, frame_index: int, clips: ClipPlayback | None) -> bool:
        """Write what the next frame needs.

        Args:
            step: runs the graph.
            seed, frame_index: of the noise.
            clips: plays the clips of scenes; None if the bundle cannot play any.

        Returns:
            Whether the step graph has to run, which it has not while only clips are seen.

        Raises:
            EngineError: a scene failed in the background.
        """
        is_moving = False
        if self._scenes is not None:
            move: SceneMix | None = self._scenes.advance(self._values.renewal_rate)
            if clips is not None and move is not None:
                controls = self._values.values
                speed, variety = controls.get(SPEED, 1.0), controls[VARIETY.name]
                move = clips.advance(move, seed, frame_index, speed, variety)
            if move is None:
                return False
            if move.scene is not None:
                self._set_scene(step, move.side, move.scene)
            is_moving = move.scene is not None or move.mix != self._mix
            self._pictures.write(move, step)
            self._mix = move.mix
            for name in self._mix_names:
                step.write(name, np.array([move.mix], np.float32))
        # A picture that a clip's stage blends is marked there.
        is_last = clips is None or not clips.is_playing
        if self._plane is not None and is_last != self._is_marked:
            assert self._no_plane is not None
            step.write(PLANE, self._plane if is_last else self._no_plane)
            self._is_marked = is_last
        for name, count in self._noises:
            step.write(name, normals(seed, FRAMES, frame_index, count)[np.newaxis])
        self.is_still = not self._values.write(step, is_moving=is_moving)
        return True

    def _set_scene(self, step: StepRunner, side: str, scene: Scene) -> None:
        for name, slot in self._slots[side]:
            step.write(name, scene.tensors[slot])
