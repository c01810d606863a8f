"""Normal values from a seed, the same on every machine and engine (docs/bundle.md, "Noise").

Philox 4x64-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3; SC 2011) is counter-based: the
value for frame 1,000,000 costs as much as the value for frame 0, and there is no state.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numpy.random import Philox  # imported here because NumPy loads it late, when an engine may have used up the memory

FRAMES = 0  # stream of the noise of each frame; indexed by frames
CODES = 1  # stream of the content codes; indexed by renewals
JUMPS = 2  # stream of the jumps of endless clips; indexed by frames


def check_seed(seed: int) -> int:
    """Check a seed.

    Args:
        seed: a whole number.

    Returns:
        The seed as a plain int.

    Raises:
        ValueError: it is not a whole number in [0, 2**64).
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise ValueError(f"a seed must be a whole number, got {seed!r}")
    if not 0 <= seed < 2**64:
        raise ValueError(f"a seed must be at least 0 and below 2**64, got {seed}")
    return int(seed)


def normals(seed: int, stream: int, index: int, count: int) -> npt.NDArray[np.float32]:
    """Draw standard normal values.

    Args:
        seed: [0, 2**64).
        stream: `FRAMES`, `CODES` or `JUMPS`.
        index: number of the frame or of the renewal, from 0.
        count: how many values.

    Returns:
        float32 (count,), owned by the caller. A shorter draw is a prefix of a longer one.
    """
    # NumPy increments the counter before it draws: the first block has the counter (1, index, 0, 0).
    key = np.array((seed, stream), np.uint64)
    bits = Philox(key=key, counter=np.array((0, index, 0, 0), np.uint64)).random_raw(count + count % 2)
    # The half avoids ln(0); a float64 in [0.5, 1) holds 53 bits.
    uniforms = ((bits >> np.uint64(11)) + 0.5) * 2.0**-53
    radius = np.sqrt(-2.0 * np.log(uniforms[0::2]))
    angle = (2.0 * np.pi) * uniforms[1::2]
    values = np.empty(count + count % 2, np.float32)
    values[0::2] = radius * np.cos(angle)
    values[1::2] = radius * np.sin(angle)
    return values[:count]
