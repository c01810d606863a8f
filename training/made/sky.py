"""Clouds over a plane in perspective, and a spiral storm from above: pictures displaced by exact flow."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from training.made.scene import (
    Canvas,
    Film,
    Plane,
    Pyramid,
    Still,
    colour,
    fractal,
    mix,
    pick,
    ridge,
    sample,
    smoothstep,
    tint,
)  # fmt: skip

_LIGHTS = {  # sky from zenith to horizon; clouds from shadow to light
    "a blue sky": ("2c66ad 5f97cf b9d7ec", "8d9db3 dfe6ee ffffff"),
    "an orange sky at sunset": ("2a3266 9a5a78 f39a54 ffd58a", "4a3a5c d8785a ffe0a8"),
    "a grey sky": ("66707c 8a949e b4bbc0", "4d555f 8f989f d5d9da"),
    "a pink sky at dawn": ("5a6ea8 b49ac0 f4b9b0 ffe3c4", "7a6c92 e7a7a8 fff0e0"),
    "a night sky in moonlight": ("070b1c 101b38 24365c", "0e1526 33456a a8bce0"),
}
_TILE = 512


def clouds(random: np.random.Generator, canvas: Canvas) -> Film:
    """Draw clouds of fractal noise at one height above the camera, moved by the wind.

    A place at x, y sees the cloud at depth z = c / (horizon - y); the wind moves it in the plane of x z and z.
    """
    light = pick(random, list(_LIGHTS))
    cover, amount = pick(random, [(0.55, "a few"), (0.05, "broken"), (-0.5, "thick")])
    speed, pace = pick(random, [(1.6, "slowly "), (2.6, ""), (3.8, "quickly ")])
    angle, way = pick(
        random, [(0.1, "to the right"), (np.pi - 0.1, "to the left"), (-np.pi / 2 + 0.3, "towards the camera")]
    )
    has_hills = random.random() < 0.6
    place = " over dark hills" if has_hills else ""
    caption = f"{amount} clouds drift {pace}{way} across {light}{place}"

    def stills() -> Iterator[Still]:
        sky, shades = _LIGHTS[light]
        x, y = canvas.places()
        unit, centre = canvas.unit, canvas.width / 2
        horizon = canvas.height * (random.uniform(0.85, 1.0) if has_hills else random.uniform(1.05, 1.4))
        zoom = random.uniform(0.9, 1.5)
        density = fractal(random, _TILE, _TILE, 1.75)
        shade = density - np.roll(density, (5, 5), (0, 1))  # light falls on one side
        tiles = Pyramid(np.stack([density, shade / shade.std()], axis=-1))
        wind = np.array([np.cos(angle), np.sin(angle)]) * speed * canvas.tick * zoom
        above = np.maximum(horizon - y, 2 * unit)
        z = horizon / above  # 1 at the top of the picture
        across, along = (x - centre) / unit * zoom * z, horizon / unit * zoom * z
        backdrop = tint(y / horizon, sky)
        moved_z = z + np.float32(wind[1] / (horizon / unit * zoom))
        moved_x = centre + (across + wind[0]) * unit / zoom / moved_z
        flow = np.stack([moved_x - x, horizon - horizon / moved_z - y], axis=-1).astype(np.float32)
        hills = ridge(random, canvas, 0.82, 0.05) if has_hills else np.zeros_like(x)
        ground = tint(np.full_like(x, 0.3), f"0b0f14 {sky.split()[-1]}") * (
            1 + 0.15 * fractal(random, canvas.height, canvas.width, 0.8)[..., np.newaxis]
        )
        far = smoothstep(above / horizon, 0.06, 0.3)
        flow *= (hills < 0.5)[..., np.newaxis]
        for number in range(canvas.frames):
            seen = tiles.sample(across - wind[0] * number, along - wind[1] * number, zoom * z**1.5)
            swell = 0.06 * np.sin(number * canvas.tick / 40)
            alpha = smoothstep(seen[..., 0] + np.float32(swell), cover - 0.35, cover + 0.9) * (0.35 + 0.65 * far)
            lit = tint(0.5 + 0.22 * seen[..., 1] - 0.12 * (seen[..., 0] - cover), shades)
            picture = mix(mix(backdrop, mix(backdrop, lit, 0.3 + 0.7 * far), alpha), ground, hills)
            valid = ((alpha > 0.12) & (above > 6 * unit) & (hills < 0.01)) | (hills > 0.99)
            yield Still(picture, flow, valid)

    return Film(caption, stills())


_SEAS = {
    "white": ("9fb4c4 e9eff3 ffffff", "0a2440", "a white storm turns over a dark blue sea"),
    "grey": ("4f5a66 a8b0b6 e4e6e6", "0c1a22", "a grey storm turns over a black sea"),
    "red": ("7a2f1c c8703f f7d9a8", "2c0f10", "a red storm turns on a strange planet"),
    "sand": ("8a6a44 cda873 f5e2bb", "4a3520", "a sand-coloured vortex turns over a desert"),
    "teal": ("2f6f78 7fc4c0 e6fbf4", "06262c", "a green vortex turns over deep water"),
}


def storm(random: np.random.Generator, canvas: Canvas) -> Film:
    """Draw a storm from above: noise along logarithmic spirals, rotated faster near the eye (a Rankine vortex).

    The painting of the middle of the film is displaced: a place at distance r of the eye turns by rate(r) a tick.
    """
    name = pick(random, list(_SEAS))
    sense, way = pick(random, [(1.0, "clockwise"), (-1.0, "counterclockwise")])
    speed, pace = pick(random, [(1.6, "slowly "), (2.4, ""), (3.4, "fast and ")])
    shades, sea, sentence = _SEAS[name]
    caption = f"{sentence}, {pace}{way}, seen from above"

    def stills() -> Iterator[Still]:
        unit, side = canvas.unit, int(np.hypot(canvas.height, canvas.width) * 1.5) // 2 * 2
        arms, pitch = int(random.integers(2, 5)), sense * random.uniform(1.6, 2.6)
        y, x = (np.mgrid[:side, :side].astype(np.float32) - side / 2) / (side / (1.5 * 367))  # units
        r, theta = np.hypot(x, y) + 0.5, np.arctan2(y, x)
        phase = theta + pitch * np.log(r)  # constant along a spiral; trails the rotation
        along = sample(
            fractal(random, 256, 512, 1.35, stretch=2.5),
            phase * 512 / (2 * np.pi),
            95 * np.log(r) - 256 / (2 * np.pi) * theta,
        )
        puffs = fractal(random, side, side, 1.5)
        density = 0.75 * np.cos(arms * phase) + 0.45 * along + 0.5 * puffs + 1.9 * np.exp(-r / 40) - 0.2 - r / 170
        eye = smoothstep(r, 4, 11)
        alpha = smoothstep(density, -0.9, 0.7) * eye
        shade = density - np.roll(density, (4, 4), (0, 1))
        water = colour(sea) * (1 + 0.14 * fractal(random, side, side, 1.0)[..., np.newaxis])
        painting = mix(water, tint(0.35 + 0.2 * density + 0.35 * shade / shade.std() * 0.5, shades), alpha)
        x, y = canvas.places()
        core = random.uniform(35, 55)
        drift = np.array([random.uniform(-0.25, 0.25), random.uniform(-0.12, 0.12)])
        start = np.array([canvas.width, canvas.height]) * random.uniform(0.42, 0.58, 2)

        def turned(x: Plane, y: Plane, angle: Plane) -> tuple[Plane, Plane]:
            return x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)

        for number in range(canvas.frames):
            time = (number - canvas.frames / 2) * canvas.tick
            px, py = (
                (place - at - move * time * unit) / unit for place, at, move in zip((x, y), start, drift, strict=True)
            )
            r = np.hypot(px, py)
            rate = (sense * speed / core * 1.3 / (1 + (r / core) ** 1.5)).astype(np.float32)
            ox, oy = turned(px, py, -rate * time)
            scale = side / (1.5 * 367)
            picture = sample(painting, ox * scale + side / 2, oy * scale + side / 2)
            nx, ny = turned(px, py, rate * canvas.tick)
            flow = np.stack([(nx - px) + drift[0] * canvas.tick, (ny - py) + drift[1] * canvas.tick], axis=-1) * unit
            yield Still(picture, flow.astype(np.float32), np.ones(x.shape, bool))

    return Film(caption, stills())
