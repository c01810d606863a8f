"""A clip that plays on for ever: its frames, its jumps, and the flow from frame to frame.

The two sides of a jump are blended as they are. Displacing them so that they meet was tried: seams were no less
visible and less sharp, and showed two pictures through each other no less (docs/log.md). It pays between consecutive
frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from runtime.bundle.manifest import Manifest
from runtime.bundle.reader import Bundle
from runtime.clips.alignment import Alignment, between, dissolve, is_available
from runtime.clips.clip_frames import ClipFrames, read_clip
from runtime.clips.clip_source import Clip
from runtime.clips.jumps import LIMIT, Jump, distances, find_dissolve, find_jumps
from runtime.clips.playhead import Moment
from runtime.clips.step_flows import StepFlows
from runtime.pixels.assemble import compared_size, frame_size, nearest_shape

Floats = npt.NDArray[np.float32]
Describe = Callable[[npt.NDArray[np.uint8]], Floats]
_WHOLE = 0.02  # of a frame: closer to a frame than this, it is shown as it is
_CELLS = 16  # pixels of the small frames that are averaged to describe a frame


class Shown(NamedTuple):
    """What makes one frame: a frame of the clip, or two that are displaced and blended.

    Args:
        first: number of a frame.
        second: the like.
        moves: float32 (1, 5, h, w) for the clip stage; None for the first frame as it is.
    """

    first: int
    second: int
    moves: Floats | None


@dataclass(frozen=True, eq=False)
class EndlessClip:
    """A clip and its jumps; made once, in the background, and read by the thread that makes frames.

    Args:
        clip: its frames.
        jumps: sorted by source; at least one.
        is_seamless: whether they are jumps between moments that look alike; otherwise the end fades into the beginning.
        steps: flow between each frame and the next one, N - 1 of them; `StepFlows`, which finds it when it is needed.
        whole: None, or this is only the head of a clip that is still being read: it has no jumps yet.
    """

    clip: ClipFrames
    jumps: tuple[Jump, ...]
    is_seamless: bool
    steps: Sequence[Alignment]
    whole: Future[EndlessClip] | None = None

    @property
    def summary(self) -> str:
        """One line for people: what was done to the clip, and how it goes on."""
        seconds = len(self.clip.frames) / self.clip.fps
        unseen = sum(jump.cost <= LIMIT for jump in self.jumps)
        how = f"{unseen} place{'s' if unseen != 1 else ''} to jump unseen"
        if not self.is_seamless:
            how = "no two moments look alike, so its end fades into its beginning"
        elif unseen < len(self.jumps):
            how += ", and at times a slow dissolve, so that all of it is seen again"
        missing = "slow motion only blends frames, because OpenCV is missing: pip install everframe[clip]"
        without = "" if is_available() else missing
        return "; ".join(part for part in (f"{seconds:.1f} s", *self.clip.notes, how, without) if part)

    def find_steps(self, check: Callable[[], None] = lambda: None) -> None:
        """Find the flow from frame to frame before it is needed; `check` raises to give up."""
        if isinstance(self.steps, StepFlows):
            self.steps.find_all(check)

    def shown(self, moment: Moment) -> Shown:
        """Return what makes the frame of a moment."""
        last = len(self.clip.frames) - 1
        if moment.other is None:
            number = min(int(moment.position), last)
            fraction = moment.position - number
            if fraction > 1 - _WHOLE:
                number, fraction = min(number + 1, last), 0.0
            if fraction < _WHOLE or number == last:
                return Shown(number, number, None)
            return Shown(number, number + 1, between(self.steps[number], fraction))
        first, second = (min(round(position), last) for position in (moment.position, moment.other))
        if moment.share <= 0:
            return Shown(first, first, None)
        drifts = self._drift(moment.position, first), self._drift(moment.other, second)
        return Shown(first, second, dissolve(moment.share, *drifts))

    def _drift(self, position: float, number: int) -> Floats:
        """Return how far a frame's content has moved since or until it is shown, (2, h, w)."""
        step = self.steps[min(number, len(self.steps) - 1)].forward
        return step * np.float32(position - number)


class ClipReader(NamedTuple):
    """Makes endless clips for one generator.

    Args:
        size: (width, height) of the frames.
        small: (width, height) in which frames are compared, multiples of `_CELLS`.
        fps: frames per second of the show.
        pixels: "rgb" or "i420".
        describe: small frames, uint8 (N, h, w, 3), to what is compared, float32 (N, D).
    """

    size: tuple[int, int]
    small: tuple[int, int]
    fps: float
    pixels: str
    describe: Describe

    def read(
        self,
        clip: Clip,
        how: str,
        check: Callable[[], None] = lambda: None,
        *,
        threads: int = 1,
        on_head: Callable[[ClipFrames], object] = lambda _: None,
    ) -> EndlessClip:
        """Read a clip and find its jumps; arguments and errors as of `read_clip`."""
        size, small, fps, pixels = self.size, self.small, self.fps, self.pixels
        found = read_clip(
            clip, size, small, fps=fps, pixels=pixels, how=how, threads=threads, check=check, on_head=on_head
        )
        return make_endless(found, self.describe, check)


def clip_reader(bundle: Bundle, pixels: str, fps: float | None = None) -> ClipReader | None:
    """Return what reads clips for a bundle's frames; None if it cannot play any.

    Args:
        bundle: as `runtime.pixels.assemble.with_size` returns it.
        pixels: "rgb" or "i420".
        fps: frames per second that are shown; None for the bundle's own.
    """
    frame, small = bundle.manifest.frame, compared_size(bundle)
    if small is None:
        return None
    return ClipReader((frame.width, frame.height), small, float(fps or frame.fps), pixels, describe_by_colour)


def early_reader(manifest: Manifest, size: tuple[int, int] | None, pixels: str, fps: float | None) -> ClipReader | None:
    """Return what `clip_reader` will return once the bundle has been opened; arguments as of `Generator.open`.

    Raises:
        ValueError: the size is not allowed.
    """
    width, height = frame_size(manifest, size)
    if not manifest.shapes or (image := nearest_shape(manifest, width / height).condition.only_input("image")) is None:
        return None
    small = image.shape[2], image.shape[1]
    return ClipReader((width, height), small, float(fps or manifest.frame.fps), pixels, describe_by_colour)


def describe_by_colour(small: npt.NDArray[np.uint8]) -> Floats:
    """Return the mean colours of squares of `_CELLS` / 4 pixels: uint8 (N, h, w, 3) -> float32 (N, D)."""
    side = _CELLS // 4
    count, height, width, _ = small.shape
    rows = small.reshape(count, height // side, side, width * 3).sum(axis=2, dtype=np.uint16)  # rows first: faster
    cells = rows.reshape(count, height // side, width // side, side, 3).sum(axis=3, dtype=np.uint16)
    means: Floats = cells.reshape(count, -1) * np.float32(1 / side**2)
    return means


def head_of(clip: ClipFrames, whole: Future[EndlessClip]) -> EndlessClip:
    """Return the head of a clip that is still being read, which can be played already.

    Args:
        clip: the head.
        whole: the clip, once it has been read; it begins with the same frames.
    """
    return EndlessClip(clip, (), is_seamless=True, steps=StepFlows(clip.grey), whole=whole)


def make_endless(
    clip: ClipFrames, describe: Describe = describe_by_colour, check: Callable[[], None] = lambda: None
) -> EndlessClip:
    """Find a clip's jumps.

    Args:
        clip: the frames.
        describe: see `ClipReader`.
        check: called between the steps of the work; raises to give up.

    Returns:
        The clip; its small frames are not kept. The flow from frame to frame is found later.
    """
    description = describe(clip.small)
    check()
    distance = distances(description)
    check()
    jumps = find_jumps(distance, clip.fps)
    if max((jump.source for jump in jumps), default=0) < clip.head:
        jumps = ()
    kept = replace(clip, small=clip.small[:0].copy(), grey=clip.grey[:0].copy())
    return EndlessClip(kept, jumps or (find_dissolve(distance, clip.fps),), bool(jumps), StepFlows(clip.grey))
