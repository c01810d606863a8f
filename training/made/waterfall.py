"""Falling water: streaks that accelerate over a rock face into a pool."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from training.made.scene import Canvas, Film, Plane, Still, fractal, mix, pick, sample, smoothstep, tint

_COLOURS = {
    "grey rocks": ("15181a 34383a 6a6d6a", "2d4a52 86a8ac e4eff0"),
    "mossy rocks": ("0f1a10 2c4023 61703f", "2c5145 86ab97 e6f2ea"),
    "red rocks": ("1f0f0a 59301f 99633f", "4a4a44 a9b0a4 f2efe4"),
    "dark rocks in the evening": ("07080d 171b2a 33384e", "1c2a4c 6f86ad d6e0ef"),
}


def waterfall(random: np.random.Generator, canvas: Canvas) -> Film:
    """Draw a waterfall.

    Water that fell for s ticks is at y(s) = v s + g s^2 / 2 below the top. The streaks are noise of (x, s - t), so that
    they move exactly as the water does. The pool is noise of the logarithm of the distance from the fall.
    """
    where = pick(random, list(_COLOURS))
    wide, body = pick(random, [(0.16, "a narrow waterfall"), (0.3, "a waterfall"), (0.5, "a wide curtain of water")])
    pace, verb = pick(random, [(0.7, "falls slowly"), (1.0, "falls"), (1.3, "crashes down")])
    caption = f"{body} {verb} over {where} into a pool"

    def stills() -> Iterator[Still]:
        rocks, water = _COLOURS[where]
        (x, y), unit = canvas.places(), canvas.unit
        first, gravity = 1.1 * pace, 0.035 * pace**2
        foot = random.uniform(0.72, 0.86) * canvas.height
        fall = np.maximum(y / unit, 0)
        fallen = (np.sqrt(first**2 + 2 * gravity * fall) - first) / gravity  # ticks since the top
        relief = fractal(random, canvas.height, canvas.width, 1.9, stretch=1.6)
        light = relief - np.roll(relief, (2, 3), (0, 1))
        rock = tint(
            0.45 + 0.1 * relief + 0.16 * light / light.std() + 0.04 * fractal(random, canvas.height, canvas.width, 0.6),
            rocks,
        )
        bend, swing = random.uniform(5, 14), random.uniform(30, 60)

        def aside(depth: Plane) -> Plane:  # the stream's way to the side, pixels
            return np.asarray(bend * unit * np.sin(depth / swing), np.float32)

        centre = random.uniform(0.35, 0.65) * canvas.width
        column = (x - aside(fall) - centre) / unit
        frayed = fractal(random, 1, 1024, 1.3)[0][(np.arange(canvas.width) * 1024 // canvas.width)]
        border = wide * 320 / 2 + 9 * frayed[np.clip(np.rint(x - aside(fall)), 0, canvas.width - 1).astype(int)]
        cover = smoothstep(border + 0.06 * fall - np.abs(column), -2, 5)
        streaks = fractal(random, 512, 512, 1.25, stretch=7)
        drops = fractal(random, 512, 512, 0.9, stretch=3)
        mist = fractal(random, 256, 256, 1.9)
        out = np.maximum(y - foot, 0) / unit + 20
        speed = 0.018 * pace
        below = smoothstep(y, foot - 1, foot + 2)
        next_fall = first * (fallen + canvas.tick) + gravity / 2 * (fallen + canvas.tick) ** 2
        down = np.stack([aside(next_fall) - aside(fall), (next_fall - fall) * unit], axis=-1)
        middle = canvas.width / 2
        grown = np.float32(np.exp(speed * canvas.tick) - 1)
        away = np.stack([(x - middle) * grown, out * unit * grown], axis=-1)
        flow = np.where((y > foot)[..., np.newaxis], away, down * (cover > 0.5)[..., np.newaxis]).astype(np.float32)
        for frame in range(canvas.frames):
            time = frame * canvas.tick
            age = (fallen - time) * 1.5  # pixels of the tile
            stripe = sample(streaks, column * 1.3, age) + 0.5 * sample(drops, column * 1.9, age * 1.1)
            body = tint(0.5 + 0.2 * stripe + 0.1 * np.minimum(fall / 120, 1), water)
            picture = mix(rock, body, cover * smoothstep(stripe, -1.9, -0.2))
            ripple = sample(streaks, (np.log(out) - speed * time) * 50, (x - middle) / out / unit * 16)
            ripple += sample(mist, (x - middle) / out / unit * 30, (np.log(out) - speed * time) * 50) * 0.7
            picture = mix(picture, tint(0.3 + 0.18 * ripple + 9 / out, water), below)
            cloud = sample(mist, x / unit * 1.1, y / unit * 1.3 + 0.7 * time) * 0.5 + 0.7
            veil = np.exp(-np.square((y - foot) / (20 * unit))) * np.exp(-np.square(column / (wide * 320 * 0.9)))
            veil = np.clip(veil * cloud, 0, 0.85).astype(np.float32)
            picture = mix(picture, np.broadcast_to(tint(np.ones(1), water)[0], picture.shape), veil)
            edge = (np.abs(cover - 0.5) < 0.4) | (np.abs(y - foot) < 2)
            yield Still(picture, flow, (veil < 0.15) & ~edge | (veil < 0.01) & (cover < 0.01) & (y < foot - 2))

    return Film(caption, stills())
