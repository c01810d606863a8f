"""Flames, smoke and ink: an incompressible fluid that carries heat or dye (Stam, Stable Fluids, 1999).

Each frame advects velocity and dye backwards along the flow (section 2.2), adds buoyancy and vorticity confinement
(Fedkiw, Stam and Jensen 2001, equations 8 to 11), and projects the velocity on fields without divergence by FFT.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from training.made.scene import (
    Canvas,
    Film,
    Plane,
    Still,
    fractal,
    landscape,
    mix,
    pick,
    sample,
    smoothstep,
    tint,
)

_FIRES = {
    "orange": "000000 5a0e02 c63c06 f79a1e ffe38a fffbe8",
    "blue": "000000 06124a 1640b0 3f97f0 b8e8ff ffffff",
    "green": "000000 05320f 128a35 63d25a dcf7a0 ffffef",
    "purple": "000000 2a0646 7a1aa0 d458c8 ffc0e8 fff4ff",
}
_PLUMES = [  # words, sky, colour of the dye from shadow to light, direction (1 rises, -1 sinks)
    ("white smoke rises over dark hills", "232a3c 4d5a70 8c8f96", "8a93a3 f4f6f8", 1),
    ("black smoke rises into a grey sky", "8d959c b0b6ba cfd2d2", "0c0c0e 5a5750", 1),
    ("smoke glows in the evening light", "2a2a52 8c4a5c e88a4e", "5d3a52 ffb888", 1),
    ("blue ink sinks in clear water", "dfe9ec d3e3e8 c3d8e0", "0d1f6a 5c86dd", -1),
    ("red ink sinks in milky water", "efe8dc e9dfd0 e0d3c2", "5c0812 e05a50", -1),
    ("green dye sinks in dark water", "0a1618 0c1c20 0e2428", "0c5a3c 8ef0b0", -1),
]
_SOURCES = [(1, "in one column"), (2, "from two places"), (3, "from three places")]
_WARM_UP = 70  # steps of two ticks before the first frame


class _Fluid:
    """A periodic fluid on half of the picture's resolution; hidden rows below and above let it start and fade."""

    def __init__(self, random: np.random.Generator, canvas: Canvas, buoyancy: float, swirl: float, wind: float) -> None:
        self.height, self.width = canvas.height * 5 // 4 // 4 * 4, canvas.width // 2 * 2
        self.rows, self.columns = self.height // 2, self.width // 2
        self.velocity = np.zeros((self.rows, self.columns, 2), np.float32)  # pixels of the picture per tick
        self.dye = np.zeros((self.height, self.width), np.float32)
        self.buoyancy, self.swirl, self.wind = buoyancy, swirl, wind
        self.y, self.x = np.mgrid[: self.height, : self.width].astype(np.float32)
        self.v, self.u = np.mgrid[: self.rows, : self.columns].astype(np.float32)
        self.ky, self.kx = np.fft.fftfreq(self.rows)[:, np.newaxis], np.fft.rfftfreq(self.columns)
        self.gusts = np.stack([fractal(random, self.rows, self.columns, 1.6, finest=6) for _ in range(2)], axis=-1)
        self.unit, self.tick = canvas.unit, canvas.tick

    def flow(self) -> Plane:
        """Return the velocity at the picture's resolution, (height, width, 2) pixels per tick."""
        return np.asarray(
            cv2.resize(self.velocity, (self.width, self.height), interpolation=cv2.INTER_LINEAR), np.float32
        )

    def step(self, time: float, source: Plane, cooling: float) -> None:
        """Advance by one frame; the dye moves exactly along `flow()` as it was before."""
        flow = self.flow() * np.float32(self.tick)
        dye = sample(self.dye, self.x - flow[..., 0], self.y - flow[..., 1])
        self.dye = np.clip(np.maximum(dye * (1 - cooling * self.tick) - 0.1 * cooling * self.tick, source), 0, 1)
        self.dye[: self.height // 10] *= 0.9  # what leaves above must not come back below
        self.dye[-4:] *= 0.5
        half, tick = self.velocity, self.tick
        half = sample(half, self.u - half[..., 0] * tick / 2, self.v - half[..., 1] * tick / 2, cubic=False)
        heat = cv2.resize(self.dye, (self.columns, self.rows), interpolation=cv2.INTER_AREA)
        half[..., 1] -= tick * self.buoyancy * self.unit * heat
        half += tick * 0.035 * self.unit * sample(self.gusts, self.u + 0.9 * time, self.v + 1.3 * time, cubic=False)
        curl = self._slope(half[..., 1], 1) - self._slope(half[..., 0], 0)
        size = np.abs(curl)
        across, down = self._slope(size, 1), self._slope(size, 0)
        length = np.hypot(across, down) + 1e-4
        half += tick * self.swirl * np.stack([down / length * curl, -across / length * curl], axis=-1)
        half = half * np.float32(0.985**tick)
        half[..., 0] += (self.wind * self.unit - half[..., 0].mean()) * 0.1
        half[..., 1] -= half[..., 1].mean()
        top = np.minimum(1, np.minimum(self.v, self.rows - 1 - self.v) / 6 + 0.5)[..., np.newaxis]
        self.velocity = np.clip(self._projected(half * top), -5.5 * self.unit, 5.5 * self.unit).astype(np.float32)

    @staticmethod
    def _slope(field: Plane, axis: int) -> Plane:
        return np.asarray((np.roll(field, -1, axis) - np.roll(field, 1, axis)) / 2, np.float32)

    def _projected(self, field: Plane) -> Plane:
        """Return the field without its divergence (Stam 1999, equation 4, in the frequency domain)."""
        across, down = (np.fft.rfft2(field[..., axis]) for axis in (0, 1))
        square = self.kx**2 + self.ky**2
        square[0, 0] = 1
        pressure = (self.kx * across + self.ky * down) / square
        parts = (across - self.kx * pressure, down - self.ky * pressure)
        return np.stack([np.fft.irfft2(part, field.shape[:2]) for part in parts], axis=-1).astype(np.float32)


def _forward(flow: Plane, x: Plane, y: Plane) -> Plane:
    """Return f with f(p) = flow(p + f(p)): the way forward of dye that was moved backwards along the flow."""
    forward = flow
    for _ in range(4):
        forward = cv2.remap(
            flow, x + forward[..., 0], y + forward[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
    return np.asarray(forward, np.float32)


def _film(
    fluid: _Fluid,
    canvas: Canvas,
    random: np.random.Generator,
    places: list[float],
    size: float,
    cooling: float,
    sinks: bool,
) -> Iterator[tuple[Plane, Plane]]:
    """Yield (dye, flow) of each frame, each of the picture's size."""
    noise = fractal(random, 256, 256, 1.3)
    hidden = (fluid.height - canvas.height) // 2
    base = hidden + canvas.height * (0.97 if not sinks else 0.99)
    for number in range(-_WARM_UP, canvas.frames):
        fluid.tick = canvas.tick if number >= 0 else 2.0
        time = number * fluid.tick
        source = np.zeros_like(fluid.dye)
        for index, place in enumerate(places):
            centre = place * fluid.width + 4 * fluid.unit * np.sin(time / 11 + 2 * index)
            spot = np.exp(
                -np.square((fluid.x - centre) / (size * fluid.unit)) - np.square((fluid.y - base) / (8 * fluid.unit))
            )
            source = np.maximum(source, spot)
        grain = sample(noise, fluid.x / fluid.unit * 1.3 + 7, fluid.y / fluid.unit * 1.3 + 2.4 * time)
        source = np.clip(source * (0.75 + 0.4 * grain), 0, 1).astype(np.float32)
        if number >= 0:
            flow = fluid.flow() * np.float32(fluid.tick)
            window = np.s_[hidden : hidden + canvas.height, : canvas.width]
            yield fluid.dye[window], _forward(flow, fluid.x, fluid.y)[window]
        fluid.step(time, source, cooling)


def flames(random: np.random.Generator, canvas: Canvas) -> Film:
    """Draw fire: heat that rises and cools, in the colours of `_FIRES`."""
    hue = pick(random, list(_FIRES))
    number, place = pick(random, [*_SOURCES, (6, "along the ground")])
    power, pace = pick(random, [(0.28, "low"), (0.40, ""), (0.52, "tall")])
    lean, way = pick(random, [(-0.5, " in wind from the right"), (0.0, ""), (0.5, " in wind from the left")])
    caption = " ".join(f"{pace} {hue} flames burn {place}{way} at night".split())

    def stills() -> Iterator[Still]:
        fluid = _Fluid(random, canvas, power, 0.22, lean)
        places = ((np.arange(number) + 0.5 + random.uniform(-0.15, 0.15, number)) / number).tolist()
        backdrop = landscape(random, canvas, "05060c 0a0b16 141420", "060606", 0.9) * 0.8
        size = 30 if number == 1 else 26 if number < 4 else 30
        for heat, flow in _film(fluid, canvas, random, places, size, 0.034 - 0.04 * power, sinks=False):
            fire = tint(heat**0.8, _FIRES[hue])
            glow = cv2.GaussianBlur(fire, (0, 0), 16 * canvas.unit)
            picture = backdrop * (1 + 2.5 * glow) + 0.35 * glow + fire
            yield Still(picture.astype(np.float32), flow, heat > 0.12)

    return Film(caption, stills())


def smoke(random: np.random.Generator, canvas: Canvas) -> Film:
    """Draw smoke that rises, or ink that sinks: dye, lit from the upper left."""
    words, sky, shades, sense = pick(random, _PLUMES)
    number, place = pick(random, _SOURCES)
    lean, way = pick(random, [(-0.6, ", blown to the left"), (0.0, ""), (0.6, ", blown to the right")])
    caption = f"{words} {place}{way if sense > 0 else ''}"

    def stills() -> Iterator[Still]:
        fluid = _Fluid(random, canvas, 0.12, 0.1, lean if sense > 0 else 0.0)
        places = ((np.arange(number) + 0.5 + random.uniform(-0.15, 0.15, number)) / number).tolist()
        if sense > 0:
            backdrop = landscape(random, canvas, sky, "15181c", 0.85)
        else:
            y = canvas.places()[1]
            backdrop = tint(y / canvas.height, sky) * (
                1 + 0.02 * fractal(random, canvas.height, canvas.width, 1.8)[..., np.newaxis]
            )
        for density, flow in _film(fluid, canvas, random, places, 30 / number**0.5, 0.003, sinks=sense < 0):
            thick = cv2.GaussianBlur(density, (0, 0), 1.5 * canvas.unit)
            shade = thick - np.roll(thick, (3, 3), (0, 1))
            lit = tint(0.55 - 0.5 * (thick - 0.5) + 2.2 * shade, shades)
            picture = mix(backdrop, lit, 0.95 * smoothstep(density, 0.02, 0.55))
            valid = density > 0.1
            if sense < 0:
                picture, valid = picture[::-1], valid[::-1]
                flow = flow[::-1] * np.array([1, -1], np.float32)
            yield Still(picture, np.ascontiguousarray(flow), valid)

    return Film(caption, stills())
