"""Sets of clips: what a generator makes, floors made from real clips alone, and previews of clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO

import numpy as np
import numpy.typing as npt

from runtime.generator import Generator

Clip = npt.NDArray[np.uint8]  # (T, H, W, 3) RGB
PREVIEW_STEP = 2  # every second frame is shown


def take_frames(show: Generator, count: int) -> Clip:
    """Return the next frames of a show, copied: (count, H, W, 3) uint8 RGB."""
    return np.stack([np.array(next(show)) for _ in range(count)])


def image_to_video(show: Generator, clips: Sequence[Clip], seed: int, advance: Callable[[], None]) -> list[Clip]:
    """Continue each real clip from its first frame alone; clip i has the seed `seed + i`.

    Frame k of the result corresponds to frame k of the real clip. The first frame of schema 1 is one step after its
    picture, so the picture is put before it; that of schema 2 is the picture.

    Args:
        show: the generator.
        clips: real ones at the generator's frame size.
        seed: of the first clip.
        advance: called after each clip.

    Returns:
        Clips of the same lengths.
    """
    made = []
    for number, clip in enumerate(clips):
        show.reset(seed=seed + number)
        show.condition(image=clip[0])
        frames = np.concatenate([clip[:1], take_frames(show, len(clip) - 1)])
        if np.array_equal(frames[0], frames[1]):
            frames = np.concatenate([frames[1:], take_frames(show, 1)])
        made.append(frames)
        advance()
    return made


def from_seeds(show: Generator, lengths: Sequence[int], seed: int, advance: Callable[[], None]) -> list[Clip]:
    """Make a clip of each length from frame 0; clip i has the seed `seed + i`."""
    made = []
    for number, length in enumerate(lengths):
        show.reset(seed=seed + number)
        show.condition(seed=seed + number)
        made.append(take_frames(show, length))
        advance()
    return made


def from_text(
    show: Generator, prompts: Sequence[str], lengths: Sequence[int], seed: int, advance: Callable[[], None]
) -> list[Clip]:
    """Make one clip per prompt; prompt i has the seed `seed + i`, and the lengths alternate."""
    made = []
    for number, prompt in enumerate(prompts):
        show.reset(seed=seed + number)
        show.condition(text=prompt, seed=seed + number)
        made.append(take_frames(show, lengths[number % len(lengths)]))
        advance()
    return made


def repeated(clips: Sequence[Clip]) -> list[Clip]:
    """Return stills: the first frame of each clip, repeated to its length."""
    return [np.repeat(clip[:1], len(clip), axis=0) for clip in clips]


def shuffled(clips: Sequence[Clip], seed: int) -> list[Clip]:
    """Return the same frames in random order."""
    return [clip[np.random.default_rng((seed, number)).permutation(len(clip))] for number, clip in enumerate(clips)]


def reversed_time(clips: Sequence[Clip]) -> list[Clip]:
    """Return the same frames, last one first."""
    return [np.ascontiguousarray(clip[::-1]) for clip in clips]


def to_webp(clip: Clip, fps: float) -> bytes:
    """Return an animated WebP of every second frame at the clip's own speed, repeated forever."""
    from PIL import Image

    frames = [Image.fromarray(frame) for frame in clip[::PREVIEW_STEP]]
    buffer = BytesIO()
    frames[0].save(
        buffer, "WEBP", save_all=True, append_images=frames[1:], duration=round(1000 * PREVIEW_STEP / fps), loop=0,
        quality=70, method=4,
    )  # fmt: skip
    return buffer.getvalue()


def side_by_side(clips: Sequence[Clip], columns: int = 0, gap: int = 2) -> Clip:
    """Lay clips out in rows of `columns` (0: one row), as long as the shortest, on black."""
    columns = columns or len(clips)
    length = min(len(clip) for clip in clips)
    height, width = clips[0].shape[1:3]
    rows = -(-len(clips) // columns)
    sheet = np.zeros((length, rows * (height + gap) - gap, columns * (width + gap) - gap, 3), np.uint8)
    for number, clip in enumerate(clips):
        row, column = divmod(number, columns)
        top, left = row * (height + gap), column * (width + gap)
        sheet[:, top : top + height, left : left + width] = clip[:length]
    return sheet
