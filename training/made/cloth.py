"""A waving flag, or cloth that fills the picture: a painted texture on travelling waves."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from training.made.scene import Canvas, Film, Plane, Still, colour, fractal, landscape, mix, pick, two_colours

_SIDE = 512  # of the painted texture
_SKIES = ["4a7fb8 8fb6d8 cfe0ea", "8a929c b0b6bb d2d5d6", "3a3a68 b06a78 f3b27a"]


def flag(random: np.random.Generator, canvas: Canvas) -> Film:
    """Draw cloth whose points move about their places: sums of travelling waves, larger away from the pole."""
    design = pick(random, ["striped", "checked", "dotted", "quartered", "printed"])
    is_near = random.random() < 0.4
    pace, name = pick(random, [(0.055, "gently"), (0.085, ""), (0.12, "in a strong wind")])
    verb = "cloth ripples" if is_near else "flag waves on a pole"
    colours = [*two_colours(random), colour("f2efe6")]
    caption = " ".join(f"a {design} {_hue(colours[0])} and {_hue(colours[1])} {verb} {name}".split())

    def stills() -> Iterator[Still]:
        unit, (x, y) = canvas.unit, canvas.places()
        texture = _texture(random, design, colours)
        backdrop = landscape(random, canvas, pick(random, _SKIES), "23301f", random.uniform(0.75, 0.95))
        if is_near:
            left, top, wide, high = -25 * unit, -25 * unit, canvas.width + 50 * unit, canvas.height + 50 * unit
        else:
            left, top = random.uniform(0.1, 0.22) * canvas.width, random.uniform(0.1, 0.2) * canvas.height
            wide, high = random.uniform(0.62, 0.7) * canvas.width, random.uniform(0.55, 0.68) * canvas.height
        waves = [
            (
                size,
                number * random.uniform(0.85, 1.15),
                random.uniform(-0.5, 0.5),
                rate * pace * random.uniform(0.9, 1.1),
                random.uniform(0, 6.28),
            )
            for size, number, rate in ((4.6, 1.6, 1.0), (2.0, 3.1, 1.6), (0.6, 6.3, 2.6))
        ]
        grow = 0.35 if is_near else 0.0

        def moved(u: Plane, v: Plane, time: float) -> tuple[Plane, Plane, Plane]:
            """Return displacement x and y in pixels, and the height's slope, of places u, v of the cloth (0 to 1)."""
            dx, dy, slope = (np.zeros_like(u) for _ in range(3))
            size = np.clip(u + grow, 0, 1) ** 0.7 * np.float32(unit)
            for swing, number, lean, rate, phase in waves:
                angle = np.float32(2 * np.pi) * (number * u + lean * v - rate * time / 2) + np.float32(phase)
                dx += 0.55 * swing * size * np.sin(angle + 1)
                dy += 1.4 * swing * size * np.cos(angle)
                slope += swing * number * size / np.float32(unit) * np.cos(angle + 0.6)
            return dx, dy, slope

        for number in range(canvas.frames):
            time = number * canvas.tick
            u, v = (x - left) / wide, (y - top) / high
            for _ in range(8):  # u, v with left + u * wide + dx(u, v) = x
                dx, dy, slope = moved(np.clip(u, 0, 1.05), np.clip(v, -0.05, 1.05), time)
                u, v = (x - left - dx) / wide, (y - top - dy) / high
            later = moved(np.clip(u, 0, 1.05), np.clip(v, -0.05, 1.05), time + canvas.tick)
            rows = [np.asarray(np.clip(at, 0, 1) * (_SIDE - 1), np.float32) for at in (u, v)]
            surface = cv2.remap(texture, rows[0], rows[1], cv2.INTER_LINEAR)
            surface = surface * (0.86 + 0.017 * slope)[..., np.newaxis]
            inside = np.minimum(np.minimum(u, 1 - u) * wide, np.minimum(v, 1 - v) * high)
            cover = np.clip(inside + 0.5, 0, 1).astype(np.float32)
            picture = mix(backdrop, surface.astype(np.float32), cover)
            pole = np.clip(2.5 * unit - np.abs(x - left + 2 * unit) + 0.5, 0, 1) * (y > top - 12 * unit) * (not is_near)
            picture = mix(
                picture,
                (colour("8d8577") * (1.2 - np.abs(x - left) / 6 / unit)[..., np.newaxis]).astype(np.float32),
                pole.astype(np.float32),
            )
            flow = np.stack([later[0] - dx, later[1] - dy], axis=-1) * ((cover > 0.5) & (pole < 0.5))[..., np.newaxis]
            edge = np.abs(inside) < 1.5
            yield Still(picture, flow.astype(np.float32), ~edge)

    return Film(caption, stills())


def _hue(shade: Plane) -> str:
    """Return the name of a saturated colour."""
    red, green, blue = shade
    high, low = max(shade), min(shade)
    hue = {
        red: (green - blue) / (high - low) % 6,
        green: (blue - red) / (high - low) + 2,
        blue: (red - green) / (high - low) + 4,
    }[high]
    names = [
        (0.3, "red"),
        (0.75, "orange"),
        (1.3, "yellow"),
        (2.6, "green"),
        (3.4, "turquoise"),
        (4.3, "blue"),
        (5.2, "purple"),
        (5.7, "pink"),
        (7, "red"),
    ]
    return next(name for border, name in names if hue < border)


def _texture(random: np.random.Generator, design: str, colours: list[Plane]) -> Plane:
    """Return the cloth flat, (_SIDE, _SIDE, 3)."""
    v, u = np.mgrid[:_SIDE, :_SIDE].astype(np.float32) / _SIDE
    count = int(random.integers(3, 7))
    if design == "striped":
        index = ((v if random.random() < 0.5 else u + 0.3 * v) * count * 2).astype(int) % 3
    elif design == "checked":
        index = ((u * count * 1.6).astype(int) + (v * count).astype(int)) % 2
    elif design == "dotted":
        index = (np.hypot((u * count * 1.6) % 1 - 0.5, (v * count) % 1 - 0.5) < 0.3).astype(int)
    elif design == "quartered":
        index = np.where((np.abs(u - 0.4) < 0.06) | (np.abs(v - 0.5) < 0.09), 2, (u > 0.4).astype(int) ^ (v > 0.5))
    else:
        index = np.digitize(fractal(random, _SIDE, _SIDE, 2.0, finest=20), [-0.35, 0.45])
    weave = 1 + 0.06 * fractal(random, _SIDE, _SIDE, 0.6, finest=4) + 0.03 * fractal(random, _SIDE, _SIDE, 1.5)
    return cv2.GaussianBlur(np.stack(colours)[index] * weave[..., np.newaxis], (0, 0), 0.8).astype(np.float32)
