"""The cross-fade to what is shown while nobody is there."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from streaming.show.away import AWAY_S, FADE_S, AwayFrames


class OneBuffer:
    """A composite whose marker reads every frame into the same memory, as the sessions of the engines do."""

    def __init__(self) -> None:
        self._buffer = np.zeros((48, 64, 3), np.uint8)
        self.blurred = None
        self.num_marked = 0

    def marked(self, frame: np.ndarray) -> np.ndarray:
        self.num_marked += 1
        self._buffer[:] = frame + 1  # the mark
        return self._buffer


def test_a_frame_in_the_markers_memory_is_cross_faded(tmp_path: Path) -> None:
    Image.fromarray(np.full((48, 64, 3), 199, np.uint8)).save(tmp_path / "away.png")
    composite = OneBuffer()
    generator: Any = SimpleNamespace(manifest=SimpleNamespace(scenes=()), width=64, height=48, fit="cover")
    away = AwayFrames(str(tmp_path / "away.png"), generator, composite, "rgb")  # type: ignore[arg-type]
    show = np.full((48, 64, 3), 99, np.uint8)
    away.update(0.0, generator, Fraction(0))
    levels = []
    for number in (1, 2, 3):
        away.update(AWAY_S, generator, Fraction(FADE_S) * number / 4)
        levels.append(away.over(composite.marked(show), show))
    assert [int(frame[0, 0, 0]) for frame in levels] == [125, 150, 175]
    assert all(np.ptp(frame) == 0 for frame in levels)
