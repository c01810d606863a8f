"""Clips of the benchmark: marked ones, made by the runtime, and real ones.

Clips are lists of I420 frames, uint8 (H * 3 / 2, W).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.marking.changes import Frame
from runtime import Generator
from runtime.chain import Chain
from runtime.compositing.composite import Composite
from runtime.prompts.images import load_image

FRAMES = 16
VIDEOS = (".mp4", ".mkv", ".avi", ".mpg", ".webm", ".mov")
_PICTURE_SEEDS = 3  # of so many clips, one is a painted picture


class Case(NamedTuple):
    """What makes the clips of one kind.

    Args:
        bundles: of a chain; usually one.
        size: (width, height) in pixels.
        matte: a matte bundle for a person over it, or None.
    """

    bundles: tuple[Path, ...]
    size: tuple[int, int]
    matte: Path | None = None

    @property
    def name(self) -> str:
        """The name in tables."""
        names = " > ".join(bundle.name for bundle in self.bundles)
        over = "" if self.matte is None else f"{self.matte.name} over "
        return f"{over}{names} {self.size[0]}x{self.size[1]}"


def make_clip(case: Case, number: int, payload: int | None, photos: list[Path], people: list[Path]) -> list[Frame]:
    """Return a clip: a scene of the bundle, a photograph or a seed, 5 to 60 frames after its beginning.

    Args:
        case: what makes it.
        number: decides the scene; the same number gives the same clip.
        payload: of the mark; None for none.
        photos: pictures that are animated.
        people: videos of people, for a matte.
    """
    own = payload if case.matte is None else None
    opened: Generator | Chain
    if len(case.bundles) > 1:
        opened = Chain.open(list(case.bundles), pixels="i420", size=case.size, mark=own)
    else:
        opened = Generator.open(case.bundles[0], pixels="i420", size=case.size, seed=number, mark=own)
    with opened as generator:
        scenes = [scene.name for scene in generator.manifest.scenes]
        kind = number % (2 + _PICTURE_SEEDS)
        if "image" in generator.takes and photos and kind < _PICTURE_SEEDS:
            generator.condition(image=load_image(photos[number % len(photos)], *case.size))
        elif scenes and kind == _PICTURE_SEEDS:
            generator.condition(scene=scenes[number // 5 % len(scenes)])
        else:
            generator.condition(seed=number)
        generator.skip(5 + number * 7 % 56)
        if case.matte is None:
            return [frame.copy() for frame in islice(generator, FRAMES)]
        return _with_person(case, generator, people[number % len(people)], payload)


def _with_person(case: Case, show: Generator | Chain, video: Path, payload: int | None) -> list[Frame]:
    assert case.matte is not None
    frames = []
    with Composite.open(case.matte, *case.size, mark=payload) as composite:
        for picture, behind in zip(islice(read_rgb(video), FRAMES), show, strict=False):
            composite.feed_live(picture)
            frames.append(composite.over(behind).copy())
    return frames


def read_rgb(video: Path) -> Iterator[np.ndarray]:
    """Yield the frames of a video, uint8 (H, W, 3) RGB."""
    import av

    with av.open(str(video)) as opened:
        for frame in opened.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def read_i420(video: Path, most: int) -> list[Frame]:
    """Return the first frames of a video as I420, its sides made even."""
    import av

    frames = []
    with av.open(str(video)) as opened:
        for picture in islice(opened.decode(video=0), most):
            sides = picture.width // 2 * 2, picture.height // 2 * 2
            frames.append(picture.reformat(*sides, "yuv420p").to_ndarray())
    return frames


def videos_in(places: list[Path]) -> list[Path]:
    """Return the videos among some files, and in folders, sorted."""
    found: list[Path] = []
    for place in places:
        inside = sorted(place.rglob("*")) if place.is_dir() else [place]
        found += [file for file in inside if file.suffix.lower() in VIDEOS]
    return found
