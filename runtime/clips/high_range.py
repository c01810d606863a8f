"""Shows pictures of high dynamic range (HDR) in the standard one: PQ and HLG of Rec. ITU-R BT.2100.

Display light in units of the reference white (203 cd/m2, Rec. ITU-R BT.2408) keeps its value up to a knee; what is
brighter is compressed, without changing its hue. The result is coded for BT.709 with the gamma of BT.1886.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Rgb = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
RANGES = {16: "PQ", 18: "HLG"}  # FFmpeg's numbers of the transfer characteristics (ITU-T H.273)
_SIDE = 65  # of the table, in each direction; Pillow's largest
_WHITE = 203.0  # cd/m2
_PEAK = 1000.0  # cd/m2, of the display that HLG is shown on
_KNEE = 0.7
_GAMMA = 2.4
# Rec. ITU-R BT.2087: linear light with the primaries of BT.2020 to those of BT.709.
_PRIMARIES = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
_LUMA = np.array([0.2627, 0.6780, 0.0593])  # of BT.2020


class ToStandardRange:
    """A table of colours; thread-safe.

    Args:
        transfer: one of `RANGES`.
    """

    def __init__(self, transfer: int) -> None:
        from PIL import ImageFilter

        axis = np.linspace(0, 1, _SIDE)
        blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")  # red varies fastest
        table = to_standard(np.stack([red, green, blue], axis=-1).reshape(-1, 3), transfer)
        self._filter: Any = ImageFilter.Color3DLUT(_SIDE, table.ravel().tolist())

    @classmethod
    @cache
    def of(cls, transfer: int) -> ToStandardRange:
        """Return the table of a transfer characteristic, made once."""
        return cls(transfer)

    def convert(self, picture: Rgb) -> Rgb:
        """Return a picture, uint8 (H, W, 3) as coded, in standard range."""
        from PIL import Image

        return np.asarray(Image.fromarray(picture).filter(self._filter))


def to_standard(coded: Floats, transfer: int) -> Floats:
    """Return coded colours (N, 3), 0 to 1, in standard range, 0 to 1."""
    light = (_pq(coded) if RANGES[transfer] == "PQ" else _hlg(coded)) / _WHITE
    light = np.maximum(light @ _PRIMARIES.T, 0)
    most = np.maximum(light.max(axis=1, keepdims=True), 1e-6)
    above = np.maximum(most - _KNEE, 0) / (1 - _KNEE)
    shown = np.minimum(most, _KNEE) + (1 - _KNEE) * (1 - np.exp(-above))
    coded_again: Floats = np.clip(light * shown / most, 0, 1) ** (1 / _GAMMA)
    return coded_again


def _pq(coded: Floats) -> Floats:
    """Return light in cd/m2 (BT.2100, table 4)."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 4096 * 128, 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    power = coded ** (1 / m2)
    found: Floats = 10000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
    return found


def _hlg(coded: Floats) -> Floats:
    """Return light in cd/m2 on a display of `_PEAK` (BT.2100, table 5)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(coded <= 0.5, coded**2 / 3, (np.exp((coded - c) / a) + b) / 12)
    luma = np.maximum(scene @ _LUMA, 1e-9)[:, np.newaxis]
    found: Floats = _PEAK * luma**0.2 * scene
    return found
