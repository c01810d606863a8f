"""Rain and snow: layers of drops or flakes at several depths, over a still landscape or town."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from training.made.scene import Canvas, Film, Mask, Plane, Still, colour, landscape, mix, pick, sample, town

_SCENES = {
    "dark hills in the evening": ("2a3145 59637a 8d8f9b", "12161c", False),
    "green hills": ("6f7f88 93a3a5 b3beb8", "1f3324", False),
    "a town at night": ("0c1222 1a2338 303a50", "10141c", True),
    "red hills at dusk": ("38243f 7d4250 c4755a", "241216", False),
    "a town on a winter morning": ("7d8ea3 a6b2bf c9ced2", "3a414c", True),
}
_LAYERS = 5


def snow(random: np.random.Generator, canvas: Canvas) -> Film:
    """Draw snow."""
    return _falling(random, canvas, is_rain=False)


def rain(random: np.random.Generator, canvas: Canvas) -> Film:
    """Draw rain."""
    return _falling(random, canvas, is_rain=True)


def _falling(random: np.random.Generator, canvas: Canvas, is_rain: bool) -> Film:
    what = "rain" if is_rain else "snow"
    amount, number = pick(random, [("light", 60), ("steady", 120), ("heavy", 220)])
    lean, way = pick(
        random, [(-0.45, ", driven to the left by the wind"), (0.0, ""), (0.45, ", driven to the right by the wind")]
    )
    place = pick(random, list(_SCENES))
    caption = f"{amount} {what} falls in front of {place}{way}"

    def stills() -> Iterator[Still]:
        sky, near, has_town = _SCENES[place]
        backdrop = landscape(random, canvas, sky, near, random.uniform(0.6, 0.8))
        if has_town:
            backdrop = town(random, canvas, backdrop)
        light = 0.6 + 0.4 * colour(sky.split()[-1]) if is_rain else colour("f7faff")
        x, y = canvas.places()
        unit, tick = canvas.unit, canvas.tick
        height, width = (int(256 * unit) // 2 * 2, int(384 * unit * canvas.width / canvas.height / 1.6) // 2 * 2)
        layers = []
        for depth in np.linspace(0, 1, _LAYERS):  # far to near
            fall = (2.2 + 2.4 * depth if is_rain else 0.8 + 2.0 * depth) * unit
            velocity = np.array([(lean if is_rain else 1.6 * lean) * fall, fall])
            tile = _tile(random, height, width, velocity, float(depth), number, is_rain, unit)
            sway = 0.0 if is_rain else (3 + 8 * depth) * unit
            layers.append((tile, velocity, sway, random.uniform(0.05, 0.09), random.uniform(0, 6.28), depth))
        for frame in range(canvas.frames):
            picture, flow = backdrop, np.zeros((*x.shape, 2), np.float32)
            valid: Mask = np.ones(x.shape, bool)
            for tile, velocity, sway, rate, phase, depth in layers:
                row = y - velocity[1] * frame * tick  # of the tile; a flake sways as its row does
                angle = 2 * np.pi * 2 * row / height + phase
                now, later = (sway * np.sin(rate * tick * step + angle) for step in (frame, frame + 1))
                alpha = sample(tile, x - velocity[0] * frame * tick - now, row, cubic=False)
                picture = mix(
                    picture,
                    np.broadcast_to(light, picture.shape),
                    alpha * np.float32((0.25 if is_rain else 0.45) + 0.5 * depth),
                )
                step = np.stack([velocity[0] * tick + later - now, np.full_like(now, velocity[1] * tick)], axis=-1)
                flow = np.where(alpha[..., np.newaxis] > 0.3, step, flow)
                valid = np.where(alpha > 0.3, True, valid & (alpha < 0.03))
            yield Still(picture, flow.astype(np.float32), valid)

    return Film(caption, stills())


def _tile(
    random: np.random.Generator,
    height: int,
    width: int,
    velocity: Plane,
    depth: float,
    number: int,
    is_rain: bool,
    unit: float,
) -> Plane:
    """Return one periodic layer: how much of each pixel drops or flakes cover, 0 to 1."""
    tile = np.zeros((height, width), np.uint8)
    direction = velocity / np.hypot(*velocity)
    for _ in range(round(number * (1.6 - depth))):
        centre = random.uniform(0, 1, 2) * (width, height)
        size = random.uniform(0.7, 1.3) * (1 + 2.2 * depth) * unit
        for shift in np.ndindex(3, 3):  # the tile's edges meet
            at = centre + (np.array(shift) - 1) * (width, height)
            if is_rain:
                ends = [
                    np.rint(16 * (at + side * direction * (5 * unit + 5 * size))).astype(int).tolist()
                    for side in (0, 1)
                ]
                cv2.line(tile, ends[0], ends[1], 255, max(1, round(0.36 * size)), cv2.LINE_AA, 4)
            else:
                cv2.circle(tile, np.rint(16 * at).astype(int).tolist(), round(16 * size), 255, -1, cv2.LINE_AA, 4)
    blur = (0.35 if is_rain else 0.5 + 0.5 * depth) * unit
    pad = 8
    wide = cv2.GaussianBlur(np.pad(tile, pad, "wrap"), (0, 0), max(blur, 0.3))
    return np.asarray(wide[pad:-pad, pad:-pad] / 255, np.float32)
