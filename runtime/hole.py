"""What of live frames is to be filled: a painted mask, strokes of a brush, and what a network finds in each frame.

with Hole.open("bundles/person", *generator.live_size) as hole:   # or a picture, white where it is to be filled
    generator.hole = hole
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from runtime.prompts.drawn_motion import painted
from runtime.prompts.hints import HOLE, Stroke
from runtime.prompts.images import centre_box, load_mask

if TYPE_CHECKING:
    from runtime.generator import Generator

FOUND = 40  # of 255: a network's white above which a place is hidden
GROWTH = 0.02  # of the height of the network's frames, by which that grows: mattes are soft at their rim

Mask = npt.NDArray[np.uint8]


class Hole:
    """Says for each live frame which part of it is used; thread-safe.

    Args:
        width: of the live frames in pixels.
        height: the like.
        picture: path of an image file, or uint8 (h, w): white where frames are to be filled, black elsewhere; None for
            nowhere. It is fitted like live frames.
        finder: generator whose live input becomes frames that are white where the live frame is to be filled, such as
            bundles/person; None for none. This object takes ownership.

    Raises:
        ValueError: the picture cannot be read, or the finder has no live input or makes no RGB frames.
    """

    def __init__(
        self, width: int, height: int, picture: str | Path | Mask | None = None, finder: Generator | None = None
    ) -> None:
        if finder is not None and (not finder.has_live_input or finder.pixels != "rgb"):
            raise ValueError(
                f"{finder.manifest.name} finds nothing in live frames: it must turn them into frames that are white "
                "where they are to be filled, as bundles/person does"
            )
        self._finder, self._finding, self._painting = finder, threading.Lock(), threading.Lock()
        if finder is not None:
            live = finder.live_size or (width, height)
            box = centre_box((width, height), live[0] / live[1])  # the part of a frame that the finder gets
            left, top, right, bottom = (round(side) for side in box)
            self._seen_by_finder = left, top, right, bottom
        self._seen = np.full((height, width), 255, np.uint8)
        if picture is not None:
            self._seen[load_mask(picture, width, height)[..., 0] > 127] = 0
        self._strokes: tuple[Stroke, ...] = ()
        self._fixed = self._seen

    @classmethod
    def open(cls, what: str | Path | None, width: int, height: int, **options: Any) -> Self:
        """Open a hole from a picture's file or a bundle's folder.

        Args:
            what: the file or the folder; None for none.
            width: of the live frames in pixels.
            height: the like.
            options: of `Generator.open`, for a bundle.

        Raises:
            BundleError, EngineError, ValueError: as `Generator.open` and the constructor.
        """
        if what is None or not Path(what).is_dir():
            return cls(width, height, what)
        from runtime.generator import Generator

        # FP32: what finds is small, and reduced precision shows at its edges.
        finder = Generator.open(what, **{**options, "precision": "fp32", "pixels": "rgb"})
        try:
            return cls(width, height, None, finder)
        except BaseException:
            finder.close()
            raise

    @property
    def strokes(self) -> tuple[Stroke, ...]:
        """What is painted over frames; may be set by any thread. Strokes of other kinds do not count."""
        return self._strokes

    @strokes.setter
    def strokes(self, strokes: Iterable[Stroke]) -> None:
        with self._painting:
            self._strokes = tuple(strokes)
            is_painted = painted(self._strokes, HOLE, self._seen.shape, soft=0.0) > 0
            self._fixed = np.where(is_painted, 0, self._seen).astype(np.uint8)

    def __call__(self, frame: npt.NDArray[np.uint8]) -> Mask:
        """Return where a live frame, uint8 (height, width, 3), is used: uint8 (height, width), 0 where it is filled.

        Raises:
            EngineError: the network's engine failed.
        """
        fixed = self._fixed
        if self._finder is None:
            return fixed
        from PIL import Image

        with self._finding:
            self._finder.feed_live(frame)
            found = grown(next(self._finder)[..., 0] > FOUND, max(1, round(GROWTH * self._finder.height)))
        left, top, right, bottom = self._seen_by_finder
        fitted = Image.fromarray(found).resize((right - left, bottom - top), Image.Resampling.NEAREST)
        mask = fixed.copy()
        mask[top:bottom, left:right][np.asarray(fitted)] = 0
        return mask

    def tell(self, say: Callable[[str], object]) -> None:
        """Call `say` with a sentence when another engine takes over in the network, in the thread that feeds frames."""
        if self._finder is not None:
            self._finder.on_fall_back = say

    def close(self) -> None:
        """Free the network; closing twice is allowed."""
        if self._finder is not None:
            self._finder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def grown(mask: npt.NDArray[np.bool_], by: int) -> npt.NDArray[np.bool_]:
    """Return a mask (h, w) that is true also up to `by` pixels beside where it was, in a square."""
    for axis in (0, 1):
        wider = mask.copy()
        rows, wide = np.moveaxis(mask, axis, 0), np.moveaxis(wider, axis, 0)
        for step in range(1, min(by, len(rows) - 1) + 1):
            wide[step:] |= rows[:-step]
            wide[:-step] |= rows[step:]
        mask = wider
    return mask
