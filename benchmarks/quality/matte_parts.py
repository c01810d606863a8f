"""The compositing stage's matte with one of its parts left out, in NumPy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from runtime.compositing.controls import SPECS, edge_of
from runtime.compositing.stage import CALM, HASTE

Alpha = npt.NDArray[np.float32]
PARTS = ("smoothing in time", "the ramp", "bilinear enlargement")
_DEFAULTS = {spec.name: spec.default for spec in SPECS}


class PartialMatte:
    """Refines the mattes of one clip as the compositing stage does, but for one part.

    Args:
        left_out: one of `PARTS`: without smoothing each matte stands alone; without the ramp the matte is the share of
            the person; without bilinear enlargement the nearest value is taken. "" for none.
        width, height: of the refined matte, even.
        feather: width of the ramp; None for the default.
    """

    def __init__(self, left_out: str, width: int, height: int, feather: float | None = None) -> None:
        self._left_out, self._size = left_out, (width, height)
        values = _DEFAULTS if feather is None else {**_DEFAULTS, "matte.feather": feather}
        self._feather, self._threshold = edge_of(values)
        self._before: Alpha | None = None

    def refine(self, matte: npt.NDArray[np.uint8]) -> Alpha:
        """Return the next matte refined: float32 (height, width) in [0, 1].

        Args:
            matte: uint8 (h, w), 255 where the person is.
        """
        from PIL import Image

        new = matte.astype(np.float32) / 255
        before = np.zeros_like(new) if self._before is None else self._before
        change = new - before
        calm = 1.0 if self._left_out == PARTS[0] else CALM
        smooth: Alpha = (before + np.minimum(calm + HASTE * np.abs(change), 1) * change).astype(np.float32)
        self._before = smooth
        half = (self._size[0] // 2, self._size[1] // 2)
        how = Image.Resampling.NEAREST if self._left_out == PARTS[2] else Image.Resampling.BILINEAR
        share = np.asarray(Image.fromarray(smooth).resize(half, how))
        if self._left_out != PARTS[1]:
            share = np.clip((share - self._threshold) / max(self._feather, 0.02) + 0.5, 0, 1)
        large: Alpha = share.repeat(2, axis=0).repeat(2, axis=1).astype(np.float32)
        return large
