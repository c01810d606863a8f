"""Fits a person to what is behind: light that bleeds over the person's edge, and brightness, contrast and tint.

Both need only small copies, of half the matte's size, in the frame's own colours (RGB or Y'CbCr). Here the frames are
sampled and the tone is found; the compositing stage blurs the copies, and enlarges and adds the light. NumPy's products
of matrices would wait for threads that the engine uses.

Legend: C channels (3), h, w of the small copies.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from runtime.compositing.placement import Placement

FrameArray = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

SPREAD = 1 / 64  # deviation of the light's blur, of the frame's width
_RATE = 0.06  # share of a new frame in the statistics: about a second at 24 fps
_GAINS = 0.6, 1.6  # bounds of the contrast's change
_FEW = 0.005  # share of the frame; a smaller person has no statistics
_LUMA = (0.2126, 0.7152, 0.0722)  # BT.709


def light_size(matte: tuple[int, int]) -> tuple[int, int]:
    """Return (width, height) of the small copies for a matte of (width, height)."""
    return max(2, matte[0] // 2), max(2, matte[1] // 2)


class Light:
    """Finds what the stage needs to light a person.

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
        self._near = np.zeros((3, high, wide), np.float32)
        self._share = np.zeros((high, wide), np.float32)
        self._statistics: Floats | None = None  # means and deviation behind, then of the person: (2, C + 1)

    def see(self, person: FrameArray, matte: FrameArray, to: Placement) -> None:
        """Look at a new frame with the person.

        Args:
            person: frame, as the constructor says.
            matte: uint8, 255 where the person is, of the live picture.
            to: place of the live picture in the frame.
        """
        self._near = self._sampled(person)
        across, down = (self._columns - to.left) / to.width, (self._rows - to.top) / to.height
        places = [
            np.clip(part * count, 0, count - 1).astype(np.int64)
            for part, count in zip((down, across), matte.shape, strict=True)
        ]
        is_inside = np.outer((down >= 0) & (down < 1), (across >= 0) & (across < 1))
        found = matte[places[0][:, None], places[1]] * is_inside
        self._share = (found / 255).astype(np.float32)

    def update(self, behind: FrameArray, wrap: float, tone: float) -> dict[str, Floats]:
        """Return inputs of the stage for one frame.

        Args:
            behind: frame behind the person, as the constructor says.
            wrap: strength of the light over the edge, 0 to 1.
            tone: how far the person's tone moves, 0 to 1.

        Returns:
            "far" and "near", small copies of the frames, (1, C, h, w); "tone", (1, 5): the person's gain, what is added
            to each channel, and `wrap`.
        """
        far = self._sampled(behind)
        gain, shift = self._tone(far, tone)
        return {"far": far[None], "near": self._near[None], "tone": np.array([[gain, *shift, wrap]], np.float32)}

    def _tone(self, far: Floats, tone: float) -> tuple[float, Floats]:
        """Return the gain, and the shift of each channel after it; statistics move slowly, so that nothing pumps."""
        none = np.zeros(3, np.float32)
        if not tone:
            self._statistics = None
            return 1.0, none
        if self._share.mean() >= _FEW:
            found = np.stack([self._describe(far, np.ones_like(self._share)), self._describe(self._near, self._share)])
            before = found if self._statistics is None else self._statistics
            moved: Floats = (before + _RATE * (found - before)).astype(np.float32)
            self._statistics = moved
        if self._statistics is None:
            return 1.0, none
        behind, own = self._statistics
        ratio = np.clip(behind[3] / max(own[3], 1.0), *_GAINS)
        gain = float(1 + tone * (ratio - 1))
        shift: Floats = (own[:3] + tone * (behind[:3] - own[:3]) - gain * own[:3]).astype(np.float32)
        return gain, shift

    def _describe(self, planes: Floats, weights: Floats) -> Floats:
        """Return the mean of each channel and the deviation of luma, weighted: (C + 1,)."""
        total = weights.sum()
        means = (planes * weights).sum((1, 2)) / total
        luma = sum(part * plane for part, plane in zip(_LUMA, planes, strict=True)) if self._is_rgb else planes[0]
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


def blur_matrices(width: int, height: int, matte: tuple[int, int]) -> tuple[Floats, Floats]:
    """Return the matrices (h, h) and (w, w) of the light's blur, `down @ plane @ across`, for frames of a size."""
    wide, high = light_size(matte)
    deviation = SPREAD * width  # in pixels of the frame
    return _blur(high, deviation * high / height), np.ascontiguousarray(_blur(wide, deviation * wide / width).T)


def _blur(count: int, deviation: float) -> Floats:
    """Return the matrix (count, count) of a Gaussian blur that keeps the mean at the border."""
    places = np.arange(count)
    matrix = np.exp(-0.5 * ((places[:, None] - places) / max(deviation, 0.5)) ** 2)
    blur: Floats = (matrix / matrix.sum(1, keepdims=True)).astype(np.float32)
    return blur
