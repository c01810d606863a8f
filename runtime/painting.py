"""Paints pictures with a bundle whose frames depend on a text or a seed.

with PicturePainter.open("bundles/NAME") as painter:
    for painted in painter.paint(text="a lake at dawn", seed=7):
        ...                                # the last one is the picture: uint8 (H, W, 3) RGB

Most bundles need one frame. Where states are carried from frame to frame, as by a stream batch of several denoising
steps (Kodaira et al., StreamDiffusion, 2023), the picture is complete when neither it nor the states change any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from runtime.bundle.manifest import Manifest
from runtime.bundle.reader import read_manifest
from runtime.engines.engine import Array
from runtime.generator import Generator
from runtime.prompts.clip_scenes import kinds_taken

MAX_FRAMES = 8  # for one picture
_SAME_LEVELS = 1  # of 255, by which two frames may differ that count as the same
_SAME_SHARE = 1e-3  # the like for states, of their largest value


class PaintedFrame(NamedTuple):
    """A frame on the way to a picture.

    Args:
        picture: uint8 (H, W, 3) RGB, owned by the caller.
        number: from 1.
        is_complete: whether it is the picture.
    """

    picture: npt.NDArray[np.uint8]
    number: int
    is_complete: bool


def kinds_painted(manifest: Manifest) -> tuple[str, ...]:
    """Return what a bundle paints pictures from: "text", "seed" or both.

    Raises:
        ValueError: it takes neither, or needs a live input.
    """
    name = manifest.name
    if manifest.step.only_input("live") is not None or manifest.step.only_input("low_res") is not None:
        raise ValueError(
            f"{name} cannot paint from a text or a seed: it changes the pictures of a live input; name a bundle that "
            "makes pictures"
        )
    taken = kinds_taken(manifest, plays_clips=False)
    has_seed = "seed" in taken or (manifest.step.only_input("noise") is not None and not manifest.shapes)
    kinds = tuple(kind for kind, is_there in (("text", "text" in taken), ("seed", has_seed)) if is_there)
    if not kinds:
        raise ValueError(
            f"{name} cannot paint: its frames depend neither on a text nor on a seed; name a bundle that makes pictures"
        )
    return kinds


class PicturePainter:
    """Paints one picture after the other; for one thread.

    Args:
        generator: of the bundle; this object takes ownership.

    Raises:
        ValueError: as of `kinds_painted`.
    """

    def __init__(self, generator: Generator) -> None:
        self.takes = kinds_painted(generator.manifest)
        self.generator = generator
        manifest = generator.manifest
        self._is_complete_at_once = bool(manifest.shapes) or not manifest.step.inputs_of("state")

    @classmethod
    def open(cls, path: str | Path, **options: Any) -> Self:
        """Open a bundle.

        Args:
            path: its folder.
            options: of `Generator.open`, e.g. engine, precision and threads.

        Returns:
            The painter, to be closed by the caller; use `with`. One of schema 2 has the size at which its bundle
            paints.

        Raises:
            BundleError, EngineError: as `Generator.open`.
            ValueError: as `Generator.open`, or the bundle cannot paint.
        """
        manifest = read_manifest(Path(path))
        kinds_painted(manifest)
        size = None
        if manifest.paint is not None:
            height, width = manifest.paint.outputs[0].shape[1:3]
            size = (width - width % 2, height - height % 2)
        generator = Generator.open(path, pixels="rgb", renewal=False, size=size, **options)
        try:
            return cls(generator)
        except BaseException:
            generator.close()
            raise

    def paint(
        self, text: str | None = None, seed: int | None = None, controls: Mapping[str, float] | None = None
    ) -> Iterator[PaintedFrame]:
        """Yield the frames of one picture; the last one is the picture. It may be abandoned at any frame.

        Args:
            text: description, or None.
            seed: the same one gives the same picture; None for the bundle's default.
            controls: of the bundle, by name; others have their defaults.

        Raises:
            EngineError: the engine failed.
            BundleError: the files of the text encoder are damaged.
            ValueError: a value is wrong, or the bundle does not take it.
        """
        generator, manifest = self.generator, self.generator.manifest
        generator.reset(manifest.default_seed if seed is None else seed)
        for spec in generator.control_specs:
            if spec.target == "step":
                generator.set_control(spec.name, (controls or {}).get(spec.name, spec.default))
        if generator.takes:
            takes_seed = "seed" in generator.takes
            generator.condition(text=text, seed=seed if takes_seed else None)
        elif text is not None:
            raise ValueError(f"{manifest.name} takes no text: give a seed")
        before: tuple[Array, Mapping[str, Array]] | None = None
        for number in range(1, MAX_FRAMES + 1):
            picture = next(generator).copy()
            is_complete = self._is_complete_at_once or number == MAX_FRAMES
            if not is_complete:
                states = generator.position().states
                is_complete = (
                    before is not None and _is_same_picture(before[0], picture) and _is_same(before[1], states)
                )
                before = picture, states
            yield PaintedFrame(picture, number, is_complete)
            if is_complete:
                return

    def close(self) -> None:
        """Free the engine."""
        self.generator.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _is_same_picture(before: Array, after: Array) -> bool:
    return bool(np.abs(before.astype(np.int16) - after).max() <= _SAME_LEVELS)


def _is_same(before: Mapping[str, Array], after: Mapping[str, Array]) -> bool:
    """Return whether states have come to rest."""
    for name, value in after.items():
        old, new = before[name].astype(np.float64), value.astype(np.float64)
        if np.abs(old - new).max(initial=0) > _SAME_SHARE * np.abs(new).max(initial=0):
            return False
    return True
