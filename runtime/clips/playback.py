"""Plays the clips of a generator's two sides, and dissolves between a clip and what else is shown."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from runtime.bundle.controls import ControlSpec
from runtime.bundle.tensors import MOVES
from runtime.clips.alignment import REDUCTION
from runtime.clips.endless import EndlessClip
from runtime.clips.playhead import Moment, Playhead
from runtime.clips.stage import PREFIX
from runtime.engines.engine import Session
from runtime.errors import EngineError
from runtime.marking.frame_marker import FrameMarker
from runtime.marking.plane import PLANE
from runtime.noise import JUMPS, normals
from runtime.prompts.scene import Scene
from runtime.scenes.cross_fade import SceneMix
from runtime.step_runner import HasDeviceAddress

Frame = npt.NDArray[np.uint8]
VARIETY = ControlSpec(
    "variety",
    "how readily a clip jumps to another moment; 0 repeats its best loop",
    "share of the places to jump",
    0.0,
    1.0,
    0.5,
    "step",
    None,
)


class ClipPlayback:
    """The clips that play on the sides a and b; for the thread that makes frames, but for `open`.

    Args:
        open_stage: opens a session of the clip stage (`runtime.clips.stage`).
        small: (width, height) in which the clips' frames were compared.
        fps: frames per second of the show.
        is_on_device: whether every frame is made by the stage, so that it lies on the device.
        marker: marks frames that the stage does not make, and has the mark that the stage adds to the others; None for
            no mark.

    Attributes:
        say: called with a sentence when the marker's engine has failed and NumPy goes on.
    """

    def __init__(
        self,
        open_stage: Callable[[], Session],
        small: tuple[int, int],
        fps: float,
        *,
        is_on_device: bool = False,
        marker: FrameMarker | None = None,
    ) -> None:
        self._open_stage, self._fps, self._is_on_device = open_stage, fps, is_on_device
        self.say: Callable[[str], object] = lambda _: None
        self._use_marker(marker)
        self._no_plane = None if marker is None else np.zeros_like(marker.plane)
        self._stage: Session | None = None
        self._opening = threading.Lock()
        self._still = np.zeros((1, MOVES, small[1] // REDUCTION, small[0] // REDUCTION), np.float32)
        self._clips: dict[str, tuple[EndlessClip, Playhead]] = {}
        self._moments: dict[str, Moment] = {}
        self._mix = 0.0
        self._scratch: Frame | None = None
        self._is_from_stage = False

    def open(self) -> None:
        """Open the stage, if it is not open; `frame` does it otherwise. Any thread may call it.

        Raises:
            EngineError: the engine refused the graph.
        """
        with self._opening:
            self._stage = self._stage or self._open_stage()

    def replace(
        self, open_stage: Callable[[], Session], marker: FrameMarker | None = None, *, is_on_device: bool
    ) -> None:
        """Go on with another engine; arguments as of the constructor."""
        with self._opening:
            self._open_stage, self._is_on_device = open_stage, is_on_device
            with suppress(EngineError):  # freeing a failed engine may fail too
                self.close()
            self._stage = None
            self._use_marker(marker)

    @property
    def place(self) -> dict[str, object] | None:
        """Where the clip is that is seen most; None if no clip plays."""
        side = max(self._clips, key=self._weight, default=None)
        return None if side is None or self._weight(side) == 0 else self._clips[side][1].place

    def go_on(self, side: str, scene: Scene, place: Mapping[str, object] | None) -> None:
        """Show a scene alone from the next frame on; if it is a clip, at a place, see `place`.

        Raises:
            ValueError: the place has other values.
        """
        self._clips.clear()
        self._moments.clear()
        self._mix = float(side == "b")
        if scene.clip is not None:
            self._begin(side, scene.clip, place)

    def close(self) -> None:
        """Free the engine's memory."""
        if self._stage is not None:
            self._stage.close()
        if self._marker is not None:
            self._marker.close()

    def advance(self, move: SceneMix, seed: int, frame_index: int, speed: float, variety: float) -> SceneMix | None:
        """Go on by one frame.

        Args:
            move: what the scenes do before the frame.
            seed: of the draws.
            frame_index: the like.
            speed: factor on the clips' own speed.
            variety: see `Playhead.advance`.

        Returns:
            What the step graph has to do; None if it is not needed, as only clips are seen.
        """
        if move.scene is not None:
            clip = move.scene.clip
            self._clips.pop(move.side, None)
            if clip is not None:
                self._begin(move.side, clip)
        self._moments.clear()
        self._mix = move.mix
        if not self._clips:
            return move
        for side in "ab":  # a clip that has faded out is not kept
            if self._weight(side) == 0:
                self._clips.pop(side, None)
        draws = normals(seed, JUMPS, frame_index, 2)
        for side, draw in zip("ab", draws, strict=True):
            if side in self._clips and self._weight(side) > 0:
                clip, playhead = self._whole(side)
                uniform = min(0.5 * (1 + math.erf(float(draw) / math.sqrt(2))), 1 - 1e-9)
                self._moments[side] = playhead.advance(speed * clip.clip.fps / self._fps, uniform, variety)
        pictures = [side for side in "ab" if self._weight(side) > 0 and side not in self._clips]
        if not pictures:
            return None
        scene = move.scene if move.side in pictures else None
        mix = move.mix if len(pictures) == 2 else float(pictures[0] == "b")
        is_over_clip = mix != move.mix
        return replace(
            move, mix=mix, side=move.side if scene is not None else "", scene=scene, is_over_clip=is_over_clip
        )

    def _begin(self, side: str, clip: EndlessClip, place: Mapping[str, object] | None = None) -> None:
        playhead = Playhead(clip.jumps, clip.clip.fps, clip.clip.head)
        if place is not None:
            playhead.go_to(place)
        self._clips[side] = clip, playhead

    def _whole(self, side: str) -> tuple[EndlessClip, Playhead]:
        """Return the clip of a side; waits for all of it if it is only a head that ends now."""
        clip, playhead = self._clips[side]
        if clip.whole is not None and playhead.needs_jumps:
            clip = clip.whole.result()
            playhead.learn(clip.jumps)
            self._clips[side] = clip, playhead
        return clip, playhead

    @property
    def is_playing(self) -> bool:
        """Whether a clip is seen in the next frame."""
        return bool(self._moments)

    @property
    def address(self) -> int | None:
        """The device address of the last frame; None if it is in main memory."""
        stage = self._stage if self._is_from_stage else None
        return stage.address(f"{PREFIX}frame") if isinstance(stage, HasDeviceAddress) else None

    def frame(self, picture: Frame | None) -> Frame:
        """Return the frame of the last `advance`; valid until the next call.

        Args:
            picture: the step graph's frame, if `advance` returned something.

        Raises:
            EngineError: the engine failed.
        """
        self._is_from_stage = False
        if len(self._moments) == 1 and picture is None:
            return self._clip_frame(next(iter(self._moments)), is_last=True)
        sides = dict.fromkeys("ab", picture)
        for side in self._moments:
            sides[side] = self._clip_frame(side, is_last=False)
        first, second = sides["a"], sides["b"]
        assert first is not None, "a cross-fade without the side a"
        assert second is not None, "a cross-fade without the side b"
        self._still[0, MOVES - 1] = 1 - self._mix
        return self._blend(first, second, self._still, is_last=True)

    def _use_marker(self, marker: FrameMarker | None) -> None:
        self._marker, self._is_marked = marker, False
        if marker is not None:  # a mark needs no engine: its failure must not end the engine of the show
            marker.say = lambda sentence: self.say(sentence)

    def _weight(self, side: str) -> float:
        return self._mix if side == "b" else 1 - self._mix

    def _clip_frame(self, side: str, *, is_last: bool) -> Frame:
        clip = self._clips[side][0]
        frames, shown = clip.clip.frames, clip.shown(self._moments[side])
        made: Frame
        if shown.moves is not None:
            made = self._blend(frames[shown.first], frames[shown.second], shown.moves, is_last=is_last)
        elif is_last and self._is_on_device:
            self._still[0, MOVES - 1] = 1
            made = self._blend(frames[shown.first], frames[shown.first], self._still, is_last=True)
        else:
            whole: Frame = frames[shown.first]
            return whole if self._marker is None or not is_last else self._marker(whole)
        if is_last or side == "b":
            return made
        if self._scratch is None:  # the stage's memory is needed for the other side
            self._scratch = np.empty_like(made)
        kept: Frame = self._scratch
        np.copyto(kept, made)
        return kept

    def _blend(self, first: Frame, second: Frame, moves: npt.NDArray[np.float32], *, is_last: bool) -> Frame:
        self.open()
        assert self._stage is not None
        if self._marker is not None and is_last != self._is_marked:  # of what is blended again, the last run marks
            assert self._no_plane is not None
            self._stage.write(PLANE, self._marker.plane if is_last else self._no_plane)
            self._is_marked = is_last
        self._stage.write(f"{PREFIX}first", first[np.newaxis])
        self._stage.write(f"{PREFIX}second", second[np.newaxis])
        self._stage.write(f"{PREFIX}moves", moves)
        self._stage.run()
        self._is_from_stage = True
        frame: Frame = self._stage.read(f"{PREFIX}frame")[0]
        return frame
