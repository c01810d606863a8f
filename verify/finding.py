"""What was found in one window of frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Finding:
    """A mark in a window of frames.

    Args:
        payload: 12 hexadecimal digits.
        first, last: numbers of the window's frames; both belong to it.
        agreement: share of the coded bits that were received right before the correction, 0.5 (noise) to 1.
        pilots: strength of the pilots, in standard deviations of noise.
        period: side of a tile in pixels of the frame, as it was found.
        degrees: by which the picture was turned.
        is_mirrored: whether it was mirrored.
        places: float32 (rows, columns): how strongly each part of the frame carries the mark, in standard deviations.
    """

    payload: str
    first: int
    last: int
    agreement: float
    pilots: float
    period: float
    degrees: float
    is_mirrored: bool
    places: npt.NDArray[np.float32] = field(repr=False)

    @property
    def confidence(self) -> float:
        """How clean the mark was received, 0 to 1. A found payload is right in any case: its check was (see docs)."""
        return max(0.0, min(1.0, 2 * self.agreement - 1))

    @property
    def share(self) -> float:
        """Share of the frame that carries the mark, 0 to 1, in cells of `places`."""
        return float(np.mean(self.places > 3))

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "payload": self.payload,
            "first_frame": self.first,
            "last_frame": self.last,
            "confidence": round(self.confidence, 3),
            "pilots": round(self.pilots, 1),
            "tile_pixels": round(self.period, 2),
            "turned_degrees": round(self.degrees, 2),
            "mirrored": self.is_mirrored,
            "share_of_frame": round(self.share, 3),
            "places": [[round(float(value), 1) for value in row] for row in self.places],
        }
