"""Which live frames are so like the last one used that no new frame has to be made for them.

The rule is that of StreamDiffusion's stochastic similarity filter (arXiv 2312.12491, section 3.4).
"""

from __future__ import annotations

import random

import numpy as np
import numpy.typing as npt

MAX_SKIPPED = 10  # frames in a row, as in StreamDiffusion
SETTLE_FRAMES = 8  # until a change has passed through the states of a step graph, e.g. a stream batch of eight steps
_STRIDE = 4  # pixels: one of sixteen is compared


class SimilarFrames:
    """Compares live frames with the last one that was used.

    The more alike two frames are beyond the threshold, the more likely the new one is left out, so that slow changes
    still come through.

    Args:
        threshold: similarity from which frames may be left out, in (0, 1): the lower of the cosine of the pixels in
            -1..1 and of 1 less their mean difference in 0..1.
        seed: of the chance.
        settle: how many frames follow each changed one without being left out. A stream batch of N denoising steps
            shows a change after N frames: left out, they would show the old picture for longer.

    Attributes:
        skipped: how many frames were left out.
    """

    def __init__(self, threshold: float, seed: int = 0, settle: int = 0) -> None:
        if not 0 < threshold < 1:
            raise ValueError(f"the similarity of frames to skip must be above 0 and below 1, got {threshold:g}")
        self.threshold = threshold
        self.skipped = 0
        self._chance = random.Random(seed)
        self._used: npt.NDArray[np.float32] | None = None
        self._in_a_row = 0
        self._settle, self._unsettled = settle, 0

    def forget(self) -> None:
        """Use the next frame whatever it is like."""
        self._used = None

    def may_skip(self, frame: npt.NDArray[np.uint8] | None) -> bool:
        """Return whether a live frame may be left out; if not, it is the one that later frames are compared with.

        Until a change has settled, frames are compared with the changed one, so that slow changes do not add up.

        Args:
            frame: uint8 (h, w, 3); None if no other frame has come since.
        """
        values = self._used if frame is None else _values(frame)
        if self._used is None or values is None:
            self._used, self._in_a_row, self._unsettled = values, 0, self._settle
            return False
        probability = self._probability(values)
        if self._unsettled and probability > 0:
            self._unsettled -= 1
            return False
        is_like = self._chance.random() <= probability
        if is_like and self._in_a_row < MAX_SKIPPED:
            self._in_a_row += 1
            self.skipped += 1
            return True
        self._used, self._in_a_row, self._unsettled = values, 0, 0 if is_like else self._settle
        return False

    def _probability(self, values: npt.NDArray[np.float32]) -> float:
        assert self._used is not None, "there is no frame to compare with"
        if values is self._used:
            return 1.0
        length = float(np.linalg.norm(values) * np.linalg.norm(self._used))
        cosine = float(values @ self._used) / length if length > 0 else 1.0
        # The cosine of two even greys is 1, however bright they are.
        similarity = min(cosine, 1 - float(np.abs(values - self._used).mean()) / 2)
        return max(0.0, 1 - (1 - similarity) / (1 - self.threshold))


def _values(frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return some pixels of a frame in -1..1, in one row."""
    values: npt.NDArray[np.float32] = frame[::_STRIDE, ::_STRIDE].astype(np.float32).reshape(-1)
    values /= 127.5
    values -= 1
    return values
