"""The sea: waves of a Phillips spectrum, lit and seen in perspective (Tessendorf, Simulating Ocean Water, 2001)."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
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
    sample,
    smoothstep,
    tint,
)

_LIGHTS = {  # sky from the horizon to the zenith; deep water; light that shines through crests; colour of the sun
    "a blue sky": ("cfe3ef 86b4dc 3f78bd", "06263f", "1e7a86", "fff6e0"),
    "an orange sky": ("ffcf7a f08a4a 5c4a78", "1a1626", "6a4038", "ffd080"),
    "a grey sky": ("c4cacd 9aa3a9 78828a", "131f24", "3f5a58", "e8ecee"),
    "a pink evening sky": ("ffd9c9 e8a0b4 6f6aa6", "1b2140", "5d5a86", "ffe3d0"),
    "the moon": ("2c3d5e 141f3c 060a1a", "02060e", "0c2438", "dfe8ff"),
}
_SEAS = [(9.0, 0.55, "small waves"), (14.0, 0.8, "waves"), (22.0, 1.1, "long waves"), (18.0, 1.5, "high waves")]
_GRID, _GRAVITY = 256, 9.81
_CHOP = 0.9  # share of the horizontal displacement that sharpens crests (Tessendorf, equation 29)


class _Waves:
    """A periodic sea of `side` metres; fields are (_GRID, _GRID), rows along z (away), columns along x."""

    def __init__(self, random: np.random.Generator, wavelength: float, height: float, angle: float) -> None:
        self.side, self.wavelength = 7 * wavelength, wavelength
        frequency = 2 * np.pi / self.side * _GRID
        self.kz = np.fft.fftfreq(_GRID)[:, np.newaxis] * frequency
        self.kx = np.fft.fftfreq(_GRID)[np.newaxis, : _GRID // 2 + 1].copy() * frequency
        self.kx[:, -1] = 0  # the highest frequency has no direction
        full_x = np.fft.fftfreq(_GRID)[np.newaxis] * frequency
        k = np.hypot(full_x, self.kz)
        k[0, 0] = 1
        largest = wavelength / (2 * np.pi * np.sqrt(2))  # so that the spectrum peaks at this wavelength
        along = (full_x * np.cos(angle) + self.kz * np.sin(angle)) / k
        spread = np.where(along > 0, along**6, 0)  # no waves against the wind
        spectrum = (
            np.exp(-1 / (k * largest) ** 2) / k**4 * spread * np.exp(-((k * wavelength / 40) ** 2))
        )  # equation 23
        spectrum[0, 0] = 0
        white = random.standard_normal((2, _GRID, _GRID))
        start = (white[0] + 1j * white[1]) * np.sqrt(spectrum)
        mirror = np.conj(np.roll(start[::-1, ::-1], (1, 1), (0, 1)))
        half = np.s_[:, : _GRID // 2 + 1]
        self.start, self.mirror, self.k = start[half], mirror[half], k[half]
        self.rate = np.sqrt(_GRAVITY * self.k)  # equation 14: deep water
        spread_now = np.fft.irfft2(self.start + self.mirror).std()
        self.start, self.mirror = self.start * (height / 4 / spread_now), self.mirror * (height / 4 / spread_now)

    def at(self, time: float) -> tuple[Plane, Plane]:
        """Return at a time in seconds the surface and the motion of its pattern.

        Returns:
            surface: (_GRID, _GRID, 6): height, displacement x and z in metres; slopes x and z; curvature.
            motion: (_GRID, _GRID, 3): velocity x and z in m/s with which the slopes travel, and what part of their
                change it explains. It is the least-squares fit of slopes_t + H v = 0 (H: the second derivatives) over
                windows of a fifth of a wavelength, on exact derivatives.
        """
        forward, backward = self.start * np.exp(-1j * self.rate * time), self.mirror * np.exp(1j * self.rate * time)
        height, change = forward + backward, -1j * self.rate * (forward - backward)
        ix, iz = 1j * self.kx, 1j * self.kz
        spectra = [height, -ix / self.k * height, -iz / self.k * height, ix * height, iz * height]
        spectra += [ix * ix * height, ix * iz * height, iz * iz * height, ix * change, iz * change]
        fields = np.fft.irfft2(np.stack(spectra)).astype(np.float32)
        xx, xz, zz, xt, zt = fields[5:]
        terms = np.stack(
            [
                xx * xx + xz * xz,
                xz * (xx + zz),
                zz * zz + xz * xz,
                xx * xt + xz * zt,
                xz * xt + zz * zt,
                xt * xt + zt * zt,
            ]
        )
        pad = _GRID // 8
        wide = np.pad(terms.transpose(1, 2, 0), ((pad, pad), (pad, pad), (0, 0)), "wrap")
        reach = 0.2 * self.wavelength / self.side * _GRID
        channels = [
            cv2.GaussianBlur(np.ascontiguousarray(wide[..., number]), (0, 0), reach)[pad:-pad, pad:-pad]
            for number in range(6)
        ]
        a, b, c, p, q, whole = channels
        a, c = a + 0.03 * (a + c), c + 0.03 * (a + c)
        determinant = a * c - b * b
        vx, vz = -(c * p - b * q) / determinant, -(a * q - b * p) / determinant
        explained = -(p * vx + q * vz) / whole
        return np.stack([*fields[:5], xx + zz], axis=-1), np.stack([vx, vz, explained], axis=-1).astype(np.float32)


def ocean(random: np.random.Generator, canvas: Canvas) -> Film:
    """Draw the sea.

    Its flow is that of the pattern which is seen, the slopes of the waves; the water itself only moves in circles.
    """
    light = pick(random, list(_LIGHTS))
    wavelength, height, size = pick(random, _SEAS)
    angle, way = pick(
        random,
        [
            (-1.2, "towards the camera"),
            (-0.35, "to the right"),
            (np.pi + 0.35, "to the left"),
            (-2.2, "to the left and forward"),
        ],
    )
    pace, speed = pick(random, [(0.9, "slow "), (1.25, ""), (1.7, "fast ")])
    tall, view = pick(random, [(0.45, "from a boat"), (0.7, "from the shore"), (1.1, "from a cliff")])
    caption = f"{speed}{size} run {way} under {light}, seen {view}"

    def stills() -> Iterator[Still]:
        sky, _, _, sun = _LIGHTS[light]
        waves = _Waves(random, wavelength, height, angle)
        (x, y), focal, centre = canvas.places(), 0.9 * canvas.width, canvas.width / 2
        camera = max(tall * wavelength, 1.6 * height)
        horizon = canvas.height * random.uniform(0.12, 0.3) if tall < 1 else canvas.height * random.uniform(-0.15, 0.05)
        below = np.maximum(y - horizon, 1)
        reach = 4.5 * camera
        ripples = Pyramid(np.stack([fractal(random, _GRID, _GRID, 1.0, finest=3) for _ in range(2)], axis=-1))
        foam_tile = fractal(random, _GRID, _GRID, 1.1, finest=3)
        per_metre = _GRID / waves.side
        second = canvas.tick / 30 * pace
        drift = np.sqrt(_GRAVITY * wavelength / (2 * np.pi)) * np.array([np.cos(angle), np.sin(angle)]) * 0.8

        def seen(surface: Plane, qx: Plane, qz: Plane) -> tuple[Plane, Plane]:
            """Return x and y in the picture of the water at rest at qx, qz in metres."""
            fields = sample(surface[..., :3], qx * per_metre, qz * per_metre, cubic=False)
            fade = 1 / (1 + np.square(qz / reach))  # waves far away are flat, which hides nothing behind them
            px, pz = qx + _CHOP * fade * fields[..., 1], qz + _CHOP * fade * fields[..., 2]
            pz = np.maximum(pz, 0.2 * camera)
            return centre + focal * px / pz, horizon + focal * (camera - fade * fields[..., 0]) / pz

        sky_y = np.clip((horizon - y) / canvas.height, 0, 1)
        glow_x = centre + random.uniform(-0.25, 0.25) * canvas.width
        high = random.uniform(0.08, 0.16)
        picture_sky = tint(np.sqrt(sky_y) * 1.5, sky)
        distance = np.hypot(x - glow_x, y - horizon + high * canvas.height) / canvas.unit
        picture_sky = (
            picture_sky + colour(sun) * (0.35 * np.exp(-distance / 28) + smoothstep(-distance, -9, -8))[..., np.newaxis]
        )
        veil = fractal(random, canvas.height, canvas.width, 1.9)
        picture_sky = mix(
            picture_sky, np.broadcast_to(tint(np.zeros(1), sky)[0], picture_sky.shape), 0.4 * smoothstep(veil, 0, 2)
        )
        toward_sun = np.array([(glow_x - centre) / focal, high * canvas.height / focal, 1.0])
        toward_sun /= np.linalg.norm(toward_sun)
        sun_y = random.uniform(0, 60)
        surface, motion = waves.at(sun_y)
        qx, qz = (x - centre) * camera / below, focal * camera / below
        for number in range(canvas.frames):
            time = number * second
            following, following_motion = waves.at(sun_y + time + second)
            for _ in range(8 if number == 0 else 4):  # the water at rest that is seen at each pixel
                fields = sample(surface[..., :3], qx * per_metre, qz * per_metre, cubic=False)
                fade = 1 / (1 + np.square(qz / reach))
                pz = focal * (camera - fade * fields[..., 0]) / below
                px = (x - centre) / focal * pz
                qx = 0.3 * qx + 0.7 * (px - _CHOP * fade * fields[..., 1])
                qz = 0.3 * qz + 0.7 * (pz - _CHOP * fade * fields[..., 2])
            sx, sy = seen(surface, qx, qz)
            fields = sample(surface, qx * per_metre, qz * per_metre)
            moved = sample(motion, qx * per_metre, qz * per_metre, cubic=False)
            nx, ny = seen(following, qx + moved[..., 0] * second, qz + moved[..., 1] * second)
            flow = np.stack([nx - sx, ny - sy], axis=-1)
            spacing = per_metre * pz * pz / (focal * camera)
            fine = ripples.sample(
                (qx - drift[0] * time) * per_metre * 3.1, (qz - drift[1] * time) * per_metre * 3.1, spacing * 3.1
            )
            far = smoothstep(-spacing, -6, -0.7)
            slopes = fields[..., 3:5] * (0.25 + 0.75 * far[..., np.newaxis]) + 0.045 * fine
            picture = _shaded(
                (x, y), slopes, fields[..., 0] / height, (centre, horizon, focal), _LIGHTS[light], toward_sun
            )
            froth = sample(foam_tile, (qx - drift[0] * time) * per_metre * 4, (qz - drift[1] * time) * per_metre * 4)
            crest = (
                -fields[..., 5] * wavelength / (2 * np.pi) / max(height, 1) * 3.0 + 0.35 * froth - 0.35 * (2 - height)
            )
            picture = mix(
                picture,
                np.broadcast_to(0.5 + 0.5 * colour(sun), picture.shape),
                0.5 * smoothstep(crest, 1.5, 3.2) * far,
            )
            haze = np.exp(-(y - horizon) / (0.05 * canvas.height)) * 0.8
            picture = mix(
                picture,
                np.broadcast_to(tint(np.zeros(1), sky)[0], picture.shape),
                np.clip(haze, 0, 1).astype(np.float32),
            )
            water = y > horizon
            picture = np.where(water[..., np.newaxis], picture, picture_sky)
            close = np.hypot(sx - x, sy - y) < 0.5
            good = close & (moved[..., 2] > 0.7) & (spacing < 3) & (y > horizon + 6 * canvas.unit)
            yield Still(
                picture.astype(np.float32),
                np.where(water[..., np.newaxis], flow, 0).astype(np.float32),
                good | (y < horizon - 1),
            )
            surface, motion = following, following_motion

    return Film(caption, stills())


def _shaded(
    places: tuple[Plane, Plane],
    slopes: Plane,
    rise: Plane,
    eye: tuple[float, float, float],
    colours: tuple[str, str, str, str],
    sun: Plane,
) -> Plane:
    """Return the water's colours: mirrored sky by Fresnel's law (Schlick), light from below, and the sun's glitter.

    Args:
        places: x and y of the pixels.
        slopes: (H, W, 2) of the surface, along x and z.
        rise: (H, W) height of the surface, as a share of the waves' height.
        eye: column of the centre, row of the horizon, focal length; in pixels.
        colours: of the sky, of deep water, of light through crests, of the sun.
        sun: unit vector towards it.
    """
    sky, deep, through, shine = colours
    centre, horizon, focal = eye
    x, y = places
    normal = np.stack([-slopes[..., 0], np.ones_like(x), -slopes[..., 1]], axis=-1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    ray = np.stack([(x - centre) / focal, (horizon - y) / focal, np.ones_like(x)], axis=-1)
    ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
    facing = np.clip(-(ray * normal).sum(axis=-1), 0.02, 1)
    mirrored = ray + 2 * facing[..., np.newaxis] * normal
    share = 0.02 + 0.98 * (1 - facing) ** 5
    lit = np.clip(0.3 + 0.45 * rise + 0.5 * slopes[..., 1], 0, 1).astype(np.float32)
    body = colour(deep) + (colour(through) - colour(deep)) * lit[..., np.newaxis]
    light = tint(np.sqrt(np.clip(mirrored[..., 1], 0, 1)) * 1.1, sky)
    toward = np.clip(mirrored @ sun, 0, 1)
    glitter = colour(shine) * (toward**220 * 0.6 + toward**12 * 0.12)[..., np.newaxis]
    return np.asarray(mix(body, light, np.clip(share * 0.9 + 0.04, 0, 1)) + glitter, np.float32)
