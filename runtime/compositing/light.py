"""Fits a person to what is behind: light that bleeds over the person's edge, and brightness, contrast and tint.

Both are computed from copies of half the matte's size, in the frame's own colours (RGB or Y'CbCr): a gain, and what is
added, which changes slowly over the frame. The compositing stage enlarges and applies them.

Legend: C channels (3), h, w of the small copies.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FrameArray = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

_SPREAD = 1 / 64  # deviation of the light's blur, of the frame's width
_RATE = 0.06  # share of a new frame in the statistics: about a second at 24 fps
_GAINS = 0.6, 1.6  # bounds of the contrast's change
_FEW = 0.005  # share of the frame; a smaller person has no statistics
_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)  # BT.709


def light_size(matte: tuple[int, int]) -> tuple[int, int]:
    """Return (width, height) of the small copies for a matte of (width, height)."""
    return max(2, matte[0] // 2), max(2, matte[1] // 2)


class Light:
    """Computes the light for each frame.

    Args:
        width, height: of a frame in pixels, even.
        pixels: "rgb" or "i420".
        matte: (width, height) of the matte.
    """

    def __init__(self, width: int, height: int, pixels: str, matte: tuple[int, int]) -> None:
        self._height, self._width, self._is_rgb = height, width, pixels == "rgb"
        wide, high = light_size(matte)
        self._rows = ((np.arange(high) + 0.5) * height / high).astype(np.int64)
        self._columns = ((np.arange(wide) + 0.5) * width / wide).astype(np.int64)
        deviation = _SPREAD * wide
        self._down, self._across = _blur(high, deviation * (high / height) / (wide / width)), _blur(wide, deviation)
        self._statistics: Floats | None = None  # means and deviation behind, then of the person: (2, C + 1)

    def update(
        self, behind: FrameArray, person: FrameArray, share: Floats, wrap: float, tone: float
    ) -> tuple[Floats, Floats]:
        """Compute the light of one frame.

        Args:
            behind: frame behind the person, as the constructor says.
            person: frame with the person.
            share: of the person in it, float32 (h, w) in [0, 1].
            wrap: strength of the light over the edge, 0 to 1.
            tone: how far the person's tone moves, 0 to 1.

        Returns:
            What is added to the person, float32 (1, C, h, w), and the person's gain before that, float32 (1, 1).
        """
        far, near = self._sampled(behind), self._sampled(person)
        gain, shift = self._tone(far, near, share, tone)
        added = np.repeat(np.repeat(shift[:, None, None], share.shape[0], axis=1), share.shape[1], axis=2)
        if wrap:
            around = self._blurred(share)
            own = self._blurred((near * gain + added) * share) / np.maximum(around, 0.05)
            amount = wrap * np.minimum(2 * (1 - around), 1)  # half of the blur is outside: all of it at a straight edge
            added = (added + amount * (self._blurred(far) - own)).astype(np.float32)
        return np.ascontiguousarray(added[None], np.float32), np.array([[gain]], np.float32)

    def _tone(self, far: Floats, near: Floats, share: Floats, tone: float) -> tuple[np.float32, Floats]:
        """Return the gain, and the shift of each channel after it; statistics move slowly, so that nothing pumps."""
        one, none = np.float32(1), np.zeros(3, np.float32)
        if not tone:
            self._statistics = None
            return one, none
        if share.mean() >= _FEW:
            found = np.stack([self._describe(far, np.ones_like(share)), self._describe(near, share)])
            before = found if self._statistics is None else self._statistics
            moved: Floats = (before + _RATE * (found - before)).astype(np.float32)
            self._statistics = moved
        if self._statistics is None:
            return one, none
        (*behind, contrast), (*own, own_contrast) = self._statistics
        ratio = np.clip(contrast / max(own_contrast, np.float32(1)), *_GAINS)
        gain = np.float32(1 + tone * (ratio - 1))
        means = np.array(own, np.float32)
        return gain, means + np.float32(tone) * (np.array(behind, np.float32) - means) - gain * means

    def _describe(self, planes: Floats, weights: Floats) -> Floats:
        """Return the mean of each channel and the deviation of luma, weighted: (C + 1,)."""
        total = weights.sum()
        means = (planes * weights).sum((1, 2)) / total
        luma = np.tensordot(_LUMA, planes, 1) if self._is_rgb else planes[0]
        middle = (luma * weights).sum() / total
        deviation = np.sqrt(((luma - middle) ** 2 * weights).sum() / total)
        return np.append(means, deviation).astype(np.float32)

    def _sampled(self, frame: FrameArray) -> Floats:
        """Return a small copy, (C, h, w)."""
        rows, columns = self._rows, self._columns
        if self._is_rgb:
            return np.moveaxis(frame[rows[:, None], columns], 2, 0).astype(np.float32)
        chroma = frame[self._height :].reshape(2, self._height // 2, self._width // 2)
        planes = [frame[rows[:, None], columns][None], chroma[:, rows[:, None] // 2, columns // 2]]
        return np.concatenate(planes).astype(np.float32)

    def _blurred(self, planes: Floats) -> Floats:
        blurred: Floats = (self._down @ planes @ self._across.T).astype(np.float32)
        return blurred


def _blur(count: int, deviation: float) -> Floats:
    """Return the matrix (count, count) of a Gaussian blur that keeps the mean at the border."""
    places = np.arange(count)
    matrix = np.exp(-0.5 * ((places[:, None] - places) / max(deviation, 0.5)) ** 2)
    blur: Floats = (matrix / matrix.sum(1, keepdims=True)).astype(np.float32)
    return blur
