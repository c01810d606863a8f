"""Ways to play a clip for ever, frame by frame around their seams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from runtime.clips.alignment import REDUCTION, Alignment
from runtime.clips.clip_frames import ClipFrames
from runtime.clips.endless import Describe, EndlessClip, describe_by_colour, make_endless
from runtime.clips.jumps import Jump, distances, find_dissolve, find_jumps
from runtime.clips.playhead import Moment
from runtime.clips.stage import PREFIX, build_clip_stage, clip_inputs, clip_output
from runtime.engines.engine import Program, Session
from runtime.engines.table import choose_engine

Frames = npt.NDArray[np.uint8]
CELL = 4  # pixels of the small frames that raw-pixel video textures average
NAMES = {
    "ours": "endless clip",
    "textures": "raw-pixel video textures",
    "hard loop": "hard loop",
    "faded loop": "cross-faded loop",
    "there and back": "there and back",
}


@dataclass(frozen=True, eq=False)
class Loop:
    """One way to play a clip for ever.

    Args:
        seams: frames around each seam, uint8 (T, H, W, 3), from the last ordinary one to the next.
        is_seamless: whether the seams are jumps between moments that look alike.
    """

    seams: tuple[Frames, ...]
    is_seamless: bool = False


class ClipRenderer:
    """Makes frames of a clip with the clip stage; a context manager.

    Args:
        size: (width, height) of the frames.
        small: (width, height) in which frames are compared.
    """

    def __init__(self, size: tuple[int, int], small: tuple[int, int]) -> None:
        moves = small[0] // REDUCTION, small[1] // REDUCTION
        spec = (*size, "rgb", moves)
        graph = build_clip_stage(*spec, REDUCTION).SerializeToString()
        program = Program(graph, clip_inputs(*spec), (clip_output(*spec[:3]),))
        choice = choose_engine("auto", "fp32")
        self._session: Session = choice.engine.open(program, "fp32", 1, None)

    def __enter__(self) -> ClipRenderer:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def frame(self, clip: EndlessClip, moment: Moment) -> Frames:
        """Return the frame of a moment, uint8 (H, W, 3)."""
        frames, shown = clip.clip.frames, clip.shown(moment)
        if shown.moves is None:
            whole: Frames = frames[shown.first]
            return whole
        for name, number in (("first", shown.first), ("second", shown.second)):
            self._session.write(f"{PREFIX}{name}", frames[number][np.newaxis])
        self._session.write(f"{PREFIX}moves", shown.moves)
        self._session.run()
        made: Frames = self._session.read(f"{PREFIX}frame")[0].copy()
        return made

    def seam(self, clip: EndlessClip, number: int) -> Frames:
        """Return the frames of a jump, one before and one after it."""
        jump = clip.jumps[number]
        frames = [clip.clip.frames[max(0, jump.source - 1)]]
        for progress in range(jump.length + 1):
            share = progress / jump.length
            eased = share * share * (3 - 2 * share)
            at = (float(jump.source + progress), float(jump.target + progress))
            frames.append(self.frame(clip, Moment(*at, eased, number)))
        frames.append(clip.clip.frames[min(jump.target + jump.length + 1, len(clip.clip.frames) - 1)])
        return np.stack(frames)


def make_loops(
    clip: ClipFrames, renderer: ClipRenderer, names: Sequence[str], most: int, describe: Describe = describe_by_colour
) -> dict[str, Loop]:
    """Play a clip in several ways.

    Args:
        clip: in RGB.
        renderer: of its size.
        names: of `NAMES`.
        most: seams that are made of each way.
        describe: what jumps are chosen by.
    """
    ours = make_endless(clip, describe)
    makers: dict[str, Callable[[], Loop]] = {
        "ours": lambda: _endless(ours, renderer, most),
        "textures": lambda: _textures(clip, most),
        "hard loop": lambda: Loop((_joined(clip.frames[-3:], clip.frames[:3]),)),
        "faded loop": lambda: _endless(_faded(clip), renderer, 1),
        "there and back": lambda: Loop((_joined(clip.frames[-4:], clip.frames[-2:-6:-1]),)),
    }
    return {name: makers[name]() for name in names}


def spread_numbers(count: int, most: int) -> list[int]:
    """Return at most `most` of the numbers 0 to `count` - 1, evenly spread."""
    return [int(number) for number in np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int))]


def _joined(before: Frames, after: Frames) -> Frames:
    return np.concatenate([before, after])


def _endless(clip: EndlessClip, renderer: ClipRenderer, most: int) -> Loop:
    numbers = spread_numbers(len(clip.jumps), most)
    return Loop(tuple(renderer.seam(clip, number) for number in numbers), clip.is_seamless)


def _faded(clip: ClipFrames) -> EndlessClip:
    """Return the clip whose last second fades into its first one."""
    length = max(2, min(round(clip.fps), len(clip.frames) // 3))
    jump = Jump(len(clip.frames) - 1 - length, 0, length, 0.0)
    still = Alignment(*(np.zeros((2, *(side // REDUCTION for side in clip.small.shape[1:3])), np.float32),) * 2)
    return EndlessClip(clip, (jump,), is_seamless=False, steps=(still,) * (len(clip.frames) - 1))


def _textures(clip: ClipFrames, most: int) -> Loop:
    """Return video textures as of 2000: cuts between moments whose pixels are alike."""
    jumps = find_jumps(distances(clip.small[:, ::CELL, ::CELL].astype(np.float32)), clip.fps)
    is_seamless = bool(jumps)
    jumps = jumps or (find_dissolve(distances(clip.small[:, ::CELL, ::CELL].astype(np.float32)), clip.fps),)
    seams = []
    for number in spread_numbers(len(jumps), most):
        jump = jumps[number]
        middle = jump.length // 2
        source, target = jump.source + middle, jump.target + middle
        seams.append(_joined(clip.frames[max(0, source - 2) : source + 1], clip.frames[target + 1 : target + 4]))
    return Loop(tuple(seams), is_seamless)
