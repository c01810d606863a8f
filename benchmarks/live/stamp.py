"""A number written into a picture in cells that survive lossy video, and read back at the far end.

32 cells of 16 x 16 pixels, two rows at the top left: 16 bits of the number, most significant first, then the same bits
inverted, which detects torn and foreign pictures. Large numbers are written over the whole picture, 8 bits in the same
way: they survive a blur.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

CELL = 16
BITS = 16
WIDTH, HEIGHT = CELL * BITS, CELL * 2
LARGE_BITS = 8
_BLACK, _WHITE = 16, 235  # limited range; far enough apart in full range, too


def write(luma: npt.NDArray[np.uint8], number: int) -> None:
    """Write a number into the top left of a luma plane or of one channel.

    Args:
        luma: uint8 (H, W, ...), at least 32 x 256 pixels; changed in place.
        number: [0, 65536).

    Raises:
        ValueError: the picture is too small, or the number too large.
    """
    if luma.shape[0] < HEIGHT or luma.shape[1] < WIDTH:
        raise ValueError(f"a frame must be at least {WIDTH} x {HEIGHT} to carry a number, got {luma.shape[:2][::-1]}")
    if not 0 <= number < 2**BITS:
        raise ValueError(f"a number must be at least 0 and below {2**BITS}, got {number}")
    bits = number >> np.arange(BITS - 1, -1, -1) & 1
    cells = np.where(np.stack([bits, 1 - bits]), _WHITE, _BLACK).astype(np.uint8)
    pixels = cells.repeat(CELL, axis=0).repeat(CELL, axis=1)
    luma[:HEIGHT, :WIDTH] = pixels.reshape(pixels.shape + (1,) * (luma.ndim - 2))


def read(luma: npt.NDArray[Any]) -> int | None:
    """Return the number that a luma plane (H, W) carries, or None."""
    cells = luma[:HEIGHT, :WIDTH].reshape(2, CELL, BITS, CELL)[:, 4:12, :, 4:12].mean(axis=(1, 3))  # their middles
    bits = cells > (_BLACK + _WHITE) / 2
    if bool((bits[0] == bits[1]).any()):
        return None
    return int(bits[0] @ (1 << np.arange(BITS - 1, -1, -1)))


def write_large(luma: npt.NDArray[np.uint8], number: int) -> None:
    """Write a number, [0, 256), over a whole luma plane (H, W); changed in place."""
    bits = number >> np.arange(LARGE_BITS - 1, -1, -1) & 1
    cells = np.where(np.stack([bits, 1 - bits]), _WHITE, _BLACK).astype(np.uint8)
    rows = np.arange(luma.shape[0]) * 2 // luma.shape[0]
    columns = np.arange(luma.shape[1]) * LARGE_BITS // luma.shape[1]
    luma[:] = cells[rows][:, columns]


def read_large(luma: npt.NDArray[Any]) -> int | None:
    """Return the number that `write_large` wrote over a luma plane (H, W), or None."""
    height, width = luma.shape[0] // 2, luma.shape[1] // LARGE_BITS
    middles = luma[: 2 * height, : width * LARGE_BITS].reshape(2, height, LARGE_BITS, width)
    cells = middles[:, height // 3 : -height // 3, :, width // 3 : -width // 3].mean(axis=(1, 3))
    if np.abs(cells[0] - cells[1]).min() < (_WHITE - _BLACK) / 4:
        return None
    return int((cells[0] > cells[1]) @ (1 << np.arange(LARGE_BITS - 1, -1, -1)))
