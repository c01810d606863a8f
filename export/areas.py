"""Areas of pictures: polygons in fractions of the width and height."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Areas = Sequence[Sequence[Sequence[float]]]  # polygons of points (x, y) in [0, 1]


def are_areas(value: Any) -> bool:
    """Return whether a value of a TOML file is a list of polygons."""

    def is_point(point: Any) -> bool:
        numbers = isinstance(point, list) and len(point) == 2 and all(isinstance(side, (int, float)) for side in point)
        return numbers and all(0 <= side <= 1 for side in point)

    return isinstance(value, list) and all(
        isinstance(area, list) and len(area) >= 3 and all(map(is_point, area)) for area in value
    )


def filled(areas: Areas, width: int, height: int) -> npt.NDArray[np.uint8]:
    """Return polygons as a mask, uint8 (height, width), 255 inside."""
    from PIL import Image, ImageDraw

    mask = Image.new("L", (width, height))
    for area in areas:
        ImageDraw.Draw(mask).polygon([(x * width, y * height) for x, y in area], fill=255)
    return np.asarray(mask)
