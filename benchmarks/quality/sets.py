"""The sets of clips that are compared: what a generator makes, and floors made from real clips alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

Clip = npt.NDArray[np.uint8]


class ShowClips(Protocol):
    """What is asked of a generator; `runtime.Generator` is one."""

    @property
    def condition(self) -> Callable[..., None]:
        """Take a prompt: image=, seed= or text=."""

    def reset(self, seed: int | None = None) -> None:
        """Go back to frame 0."""

    def __iter__(self) -> Iterator[Clip]: ...
    def __next__(self) -> Clip: ...


def take_frames(show: ShowClips, count: int) -> Clip:
    """Return the next frames of a show, copied: (count, H, W, 3) uint8 RGB."""
    return np.stack([np.array(next(show)) for _ in range(count)])


def image_to_video(
    show: ShowClips, clips: Sequence[Clip], seed: int, advance: Callable[[], None] = lambda: None
) -> list[Clip]:
    """Continue each real clip from its first frame alone.

    A generator's first frame is one step later than the picture it was given, so the given picture is put before it:
    frame k of the result answers to frame k of the real clip.

    Args:
        show: the generator.
        clips: real ones, (T, H, W, 3) uint8 RGB at the generator's frame size.
        seed: clip i is made with seed + i.
        advance: called after each.

    Returns:
        Clips of the same lengths.
    """
    made = []
    for number, clip in enumerate(clips):
        show.reset(seed=seed + number)
        show.condition(image=clip[0])
        made.append(np.concatenate([clip[:1], take_frames(show, len(clip) - 1)]))
        advance()
    return made


def from_seeds(
    show: ShowClips, lengths: Sequence[int], seed: int, advance: Callable[[], None] = lambda: None
) -> list[Clip]:
    """Make a clip of each length from a seed of its own, from frame 0 on; clip i has the seed `seed + i`."""
    made = []
    for number, length in enumerate(lengths):
        show.reset(seed=seed + number)
        show.condition(seed=seed + number)
        made.append(take_frames(show, length))
        advance()
    return made


def from_text(
    show: ShowClips,
    prompts: Sequence[str],
    lengths: Sequence[int],
    seed: int,
    advance: Callable[[], None] = lambda: None,
) -> list[Clip]:
    """Make one clip per prompt; prompt i has the seed `seed + i`, and the lengths take turns."""
    made = []
    for number, prompt in enumerate(prompts):
        show.reset(seed=seed + number)
        show.condition(text=prompt, seed=seed + number)
        made.append(take_frames(show, lengths[number % len(lengths)]))
        advance()
    return made


def repeated(clips: Sequence[Clip]) -> list[Clip]:
    """Return clips in which nothing moves: the first frame, as often as the clip is long."""
    return [np.repeat(clip[:1], len(clip), axis=0) for clip in clips]


def shuffled(clips: Sequence[Clip], seed: int) -> list[Clip]:
    """Return the same frames in an order drawn from the seed."""
    return [clip[np.random.default_rng((seed, number)).permutation(len(clip))] for number, clip in enumerate(clips)]


def reversed_time(clips: Sequence[Clip]) -> list[Clip]:
    """Return the same frames, last one first."""
    return [np.ascontiguousarray(clip[::-1]) for clip in clips]
