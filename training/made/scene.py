"""What the kinds of scenes share: canvas, film, periodic noise, sampling, colours, backdrops.

Coordinates are pixels (x to the right, y down). Times are ticks of 1/30 s, so speeds are pixels per tick at 192 rows.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Canvas:
    """Size of the frames, their number and their rate."""

    height: int
    width: int
    frames: int
    fps: float = 30.0

    @property
    def unit(self) -> float:
        """Return the pixels of one unit of length: 1/192 of the height."""
        return self.height / 192

    @property
    def tick(self) -> float:
        """Return the ticks of 1/30 s from one frame to the next."""
        return 30 / self.fps

    def places(self) -> tuple[Plane, Plane]:
        """Return x and y of every pixel, each (height, width)."""
        y, x = np.mgrid[: self.height, : self.width].astype(np.float32)
        return x, y


class Still(NamedTuple):
    """One frame of a film."""

    picture: Plane  # (H, W, 3) RGB, 0 to 1; values beyond are clipped
    flow: Plane  # (H, W, 2) x and y, pixels from this frame to the next
    valid: Mask  # (H, W) whether the flow is defined there


class Film(NamedTuple):
    """A scene: its caption is known before the first frame is made."""

    caption: str
    stills: Iterator[Still]


Draw = Callable[[np.random.Generator, Canvas], Film]


def pick(random: np.random.Generator, choices: Sequence[Any]) -> Any:
    """Return one of the choices."""
    return choices[int(random.integers(len(choices)))]


def fractal(
    random: np.random.Generator, height: int, width: int, slope: float = 1.8, stretch: float = 1.0, finest: float = 2.0
) -> Plane:
    """Return periodic noise (height, width) of mean 0 and deviation 1.

    Args:
        random: source of the noise.
        height: rows.
        width: columns.
        slope: the amplitude falls as frequency to this power.
        stretch: structures are so many times as long in y as in x.
        finest: wavelengths below this number of pixels are damped.
    """
    fy, fx = np.fft.fftfreq(height)[:, np.newaxis] * stretch, np.fft.rfftfreq(width)
    radius = np.hypot(fy, fx)
    radius[0, 0] = np.inf
    amplitude = radius**-slope * np.exp(-np.square(np.where(np.isinf(radius), 0, radius) * finest))
    field = np.fft.irfft2(np.fft.rfft2(random.standard_normal((height, width))) * amplitude, (height, width))
    return np.asarray(field / field.std(), np.float32)


def sample(tile: Plane, x: Plane, y: Plane, cubic: bool = True) -> Plane:
    """Return a periodic tile (h, w) or (h, w, C) at places x, y in its pixels."""
    height, width = tile.shape[:2]
    method = cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR
    x, y = (np.asarray(place, np.float32) % np.float32(side) for place, side in ((x, width), (y, height)))
    if tile.ndim == 3 and tile.shape[2] > 4:  # more channels than OpenCV takes
        parts = [tile[..., first : first + 4] for first in range(0, tile.shape[2], 4)]
        return np.concatenate([sample(part, x, y, cubic).reshape(*x.shape, -1) for part in parts], axis=-1)
    return np.asarray(cv2.remap(tile, x, y, method, borderMode=cv2.BORDER_WRAP), np.float32)


class Pyramid:
    """A periodic tile with blurred copies, for places where many of its pixels fall into one of the picture."""

    def __init__(self, tile: Plane, levels: int = 4) -> None:
        self.tiles = [tile]
        for level in range(1, levels):
            pad = 4 * 2**level
            wide = np.pad(tile, [(pad, pad), (pad, pad)] + [(0, 0)] * (tile.ndim - 2), "wrap")
            self.tiles.append(cv2.GaussianBlur(wide, (0, 0), 0.6 * 2**level)[pad:-pad, pad:-pad])

    def sample(self, x: Plane, y: Plane, spacing: Plane) -> Plane:
        """Return the tile at x, y, where neighbouring pixels of the picture are `spacing` of its pixels apart."""
        level = np.clip(np.log2(np.maximum(spacing, 1)), 0, len(self.tiles) - 1)
        out = np.zeros((*x.shape, *self.tiles[0].shape[2:]), np.float32)
        for number, tile in enumerate(self.tiles):
            weight = np.maximum(0, 1 - np.abs(level - number))
            if weight.any():
                out += (weight if tile.ndim == 2 else weight[..., np.newaxis]) * sample(tile, x, y, cubic=number == 0)
        return out


def smoothstep(values: Plane, low: float, high: float) -> Plane:
    """Return 0 below `low`, 1 above `high`, and a smooth step between them."""
    share = np.clip((values - low) / (high - low), 0, 1)
    return np.asarray(share * share * (3 - 2 * share), np.float32)


def colour(text: str) -> Plane:
    """Return "rrggbb" as (3,) float32, 0 to 1."""
    return np.array([int(text[place : place + 2], 16) / 255 for place in (0, 2, 4)], np.float32)


def tint(values: npt.NDArray[np.floating[Any]], stops: str) -> Plane:
    """Return the colours of values in 0 to 1, (..., 3); `stops` are colours at equal distances, "rrggbb rrggbb"."""
    known = np.stack([colour(text) for text in stops.split()])
    where = np.linspace(0, 1, len(known))
    return np.stack([np.interp(values, where, known[:, channel]) for channel in range(3)], axis=-1).astype(np.float32)


def two_colours(random: np.random.Generator) -> list[Plane]:
    """Return two strong colours (3,) of different hues."""
    hue = float(random.random())
    hues = (hue, (hue + random.uniform(0.25, 0.75)) % 1)
    shades = [colorsys.hsv_to_rgb(hue, random.uniform(0.6, 0.9), random.uniform(0.6, 0.95)) for hue in hues]
    return [np.array(shade, np.float32) for shade in shades]


def mix(below: Plane, above: Plane, share: Plane) -> Plane:
    """Return two pictures mixed: `share` (H, W) of the one above."""
    return np.asarray(below + (above - below) * share[..., np.newaxis], np.float32)


def ridge(random: np.random.Generator, canvas: Canvas, base: float, rise: float) -> Plane:
    """Return where hills cover the sky: (H, W), 0 to 1. `base` and `rise` are shares of the height."""
    line = base * canvas.height - rise * canvas.height * fractal(random, 1, 2 * canvas.width, 1.6)[0, : canvas.width]
    return np.clip(canvas.places()[1] - line + 0.5, 0, 1).astype(np.float32)


def landscape(random: np.random.Generator, canvas: Canvas, sky: str, near: str, base: float = 0.7) -> Plane:
    """Return a still picture: a sky, and three ranges of hills whose colours run from the sky's last to `near`."""
    y = canvas.places()[1]
    picture = tint(y / (base * canvas.height), sky)
    grain = fractal(random, canvas.height, canvas.width, 0.9)[..., np.newaxis]
    for number in (1, 2, 3):
        hills = tint(np.full_like(y, number / 3), f"{sky.split()[-1]} {near}") * (1 + 0.07 * grain)
        picture = mix(picture, hills, ridge(random, canvas, base + 0.1 * (number - 1), 0.05))
    return picture


def town(random: np.random.Generator, canvas: Canvas, picture: Plane) -> Plane:
    """Return the picture with the dark houses of a town and their lit windows in front of it."""
    picture, unit, left = picture.copy(), canvas.unit, 0.0
    while left < canvas.width:
        width, top = random.integers(22, 50) * unit, int(canvas.height * random.uniform(0.35, 0.75))
        picture[top:, round(left) : round(left + width)] = colour("14161f") * random.uniform(0.7, 1.5)
        for row in np.arange(top + 6 * unit, canvas.height, 11 * unit):
            for column in np.arange(left + 4 * unit, left + width - 6 * unit, 8 * unit):
                if random.random() < 0.4:
                    window = np.s_[round(row) : round(row + 5 * unit), round(column) : round(column + 4 * unit)]
                    picture[window] = colour("ffd27a") * random.uniform(0.5, 1)
        left += width
    return picture
