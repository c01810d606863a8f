"""Where a generator is: what another process or machine needs to go on from the same frame.

position = generator.position()                    # between two frames
other.condition(scene="lake")                      # the same bundle, the same prompt and controls
other.go_to(position)
other.skip(100)                                    # equivalent to the next 100 frames of the first one
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runtime.engines.engine import Array
from runtime.noise import check_seed

if TYPE_CHECKING:
    from runtime.clips.playback import ClipPlayback
    from runtime.frame_inputs import FrameInputs
    from runtime.prompts.conditioner import Conditioner
    from runtime.scenes.cross_fade import SceneTimeline
    from runtime.step_inputs import StepInputs
    from runtime.step_runner import StepRunner


@dataclass(frozen=True, eq=False)
class Position:
    """The frame that comes next, and the state that it follows from. Prompts and controls are not part of it.

    Args:
        frame_index: of the next frame.
        seed: of the frames' noise.
        states: state input of the step graph -> its value, as the next frame reads it; owned by this object.
        side: of the step graph's memories that plays, "a" or "b"; the draws of a clip's jumps depend on it.
        renewal_age: frames, times the rate, since a scene made from a seed began; 0 if nothing renews itself.
        picture_age: frames for which the picture has become its sharpened copy; see `PictureInputs`.
        clip: plain values of the playhead of the clip that plays; None if none does.
    """

    frame_index: int
    seed: int
    states: Mapping[str, Array] = field(default_factory=dict, repr=False)
    side: str = "a"
    renewal_age: float = 0.0
    picture_age: int = 0
    clip: Mapping[str, object] | None = None


class Movable(ABC):
    """The part of a generator that says where it is; for the thread that makes frames."""

    _step: StepRunner
    _scenes: SceneTimeline
    _conditioner: Conditioner | None
    _frame_inputs: FrameInputs
    _clips: ClipPlayback | None
    _step_inputs: StepInputs
    _seed: int
    _frame_index: int

    def position(self) -> Position:
        """Return where the generator is, for `go_to` of another generator of the same bundle.

        Cross-fades are not part of it: what fades in is there at once after `go_to`.

        Raises:
            EngineError: the engine failed.
            ValueError: the generator is closed.
        """
        self._check_open()
        return Position(
            self._frame_index,
            self._seed,
            {} if self._step.is_remote else self._step.states(),
            self._scenes.side,
            self._scenes.renewal_age,
            self._frame_inputs.picture_age,
            None if self._clips is None else self._clips.place,
        )

    def go_to(self, position: Position) -> None:
        """Go on from a position; the scene and the controls must be those of the generator that was there.

        The latest scene begins again, and is as old as the position says. In FP32 the following frames are identical to
        that generator's on both CPU engines. Where the side "b" plays, the graph's `a + mix * (b - a)` may round its
        memories differently in the last bit, as `a` is another one.

        Raises:
            EngineError: the engine failed, here or in the background.
            ValueError: the position is of another bundle, or the generator is closed.
        """
        self._check_open()
        if not self._step.is_remote:  # a server keeps its own, which begin with zeros
            self._step.set_states(position.states)
        self._seed, self._frame_index = check_seed(position.seed), position.frame_index
        self._step_inputs.forget_live()
        if self._conditioner is not None:
            if self._scenes.is_empty:
                self.condition()
            self._frame_inputs.go_on(self._step, position, self._clips)

    @abstractmethod
    def condition(self) -> None:
        """Take the scene of the seed."""

    @abstractmethod
    def _check_open(self) -> None:
        """Raise ValueError if the generator is closed."""
