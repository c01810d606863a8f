"""Sound files for tests."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np


def write_tone(path: Path, *, seconds: float, hertz: float = 1000.0, rate: int = 48_000) -> Path:
    """Write a mono sine at half of the full scale."""
    samples = np.rint(16_000 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.int16)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return path
