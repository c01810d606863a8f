"""The arithmetic of a scheduler as tables: one row for each strength, one column for each step. Imports no PyTorch.

A step of every supported scheduler is linear in its tensors: with x the latent, e the UNet's output for `scale * x` at
`timestep`, and n constant noise, the next latent is `keep * x + add * e + renoise * n`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_SIGMA_DATA = 0.5  # of the boundary conditions of consistency models (Song et al. 2023, appendix C)
STOCHASTIC = ("LCMScheduler", "EulerAncestralDiscreteScheduler")


@dataclass(frozen=True)
class ScheduleTables:
    """The tables of a schedule: L levels of strength, the last one full, and N steps.

    Args:
        timestep, scale, keep, add, renoise: (L, N), see above; `renoise` of the last step is 0.
        latent, noise: (L,): the first latent is `latent * encoded picture + noise * n`.
    """

    timestep: Floats
    scale: Floats
    keep: Floats
    add: Floats
    renoise: Floats
    latent: Floats
    noise: Floats

    @property
    def levels(self) -> int:
        """Number of levels of strength."""
        return len(self.timestep)


def strength_timesteps(full: Floats, strength: float) -> Floats:
    """Return the timesteps of a strength, which scale linearly with it.

    With trailing spacing they are those of diffusers wherever N / strength is a whole number.

    Args:
        full: (N,) timesteps of the whole schedule, descending.
        strength: in (0, 1].
    """
    if strength == 1:
        return full
    steps = len(full)
    exact = (full[0] + 1) * np.arange(steps, 0, -1) / steps  # trailing timesteps + 1, not rounded
    if not np.array_equal(np.round(exact) - 1, full):
        exact = full + 1
    scaled = np.maximum(np.round(exact * strength) - 1, np.arange(steps - 1, -1, -1))
    for place in range(steps - 2, -1, -1):  # strictly descending
        scaled[place] = max(scaled[place], scaled[place + 1] + 1)
    return scaled


def full_timesteps(scheduler: Any, steps: int) -> Floats:
    """Return the timesteps of a diffusers scheduler for a number of steps, (N,) descending."""
    scheduler.set_timesteps(steps)
    return np.array(scheduler.timesteps.tolist(), np.float64)


def schedule_tables(scheduler: Any, steps: int, levels: int, *, from_noise: bool) -> ScheduleTables:
    """Make the tables of a scheduler of diffusers.

    Args:
        scheduler: with its class in `export.diffusers.pipeline_folder.SCHEDULERS`.
        steps: N.
        levels: L; level k stands for the strength (k + 1) / L.
        from_noise: whether the first latent is noise alone, as in a text-to-image pipeline.
    """
    full = full_timesteps(scheduler, steps)
    first_noise = float(scheduler.init_noise_sigma)
    products = np.array(scheduler.alphas_cumprod.tolist(), np.float64)
    rows = [_row(scheduler, products, strength_timesteps(full, (level + 1) / levels)) for level in range(levels)]
    timestep, scale, keep, add, renoise, latent, noise = (
        np.array([row[place] for row in rows], np.float64) for place in range(7)
    )
    if from_noise:
        latent, noise = np.zeros_like(latent), np.full_like(noise, first_noise)
    return ScheduleTables(timestep, scale, keep, add, renoise, latent, noise)


def _row(scheduler: Any, products: Floats, timesteps: Floats) -> tuple[Any, ...]:
    """Return the columns of one level; `products` are the cumulative products of the alphas."""
    kind, is_v = type(scheduler).__name__, scheduler.config.prediction_type == "v_prediction"
    if kind.startswith("Euler"):
        return _euler_row(timesteps, products, is_v=is_v, is_ancestral="Ancestral" in kind)
    signal = products[timesteps.astype(int)]
    last = float(scheduler.final_alpha_cumprod)
    after = np.append(signal[1:], last if kind == "DDIMScheduler" else 1.0)
    root, rest = np.sqrt(signal), np.sqrt(1 - signal)
    # x0 = of_x * x + of_e * e
    of_x, of_e = (root, -rest) if is_v else (1 / root, -rest / root)
    if kind == "LCMScheduler":
        scaled = timesteps * scheduler.config.timestep_scaling
        skip = _SIGMA_DATA**2 / (scaled**2 + _SIGMA_DATA**2)
        out = scaled / np.sqrt(scaled**2 + _SIGMA_DATA**2)
        onward, renoise = np.sqrt(after), np.sqrt(1 - after)
        keep, add = onward * (out * of_x + skip), onward * out * of_e
    else:  # DDIM with eta 0 (Song et al. 2021, equation 12); noise = n_x * x + n_e * e
        n_x, n_e = (rest, root) if is_v else (np.zeros_like(root), np.ones_like(root))
        keep = np.sqrt(after) * of_x + np.sqrt(1 - after) * n_x
        add = np.sqrt(after) * of_e + np.sqrt(1 - after) * n_e
        renoise = np.zeros_like(keep)
    return timesteps, np.ones_like(keep), keep, add, renoise, root[0], rest[0]


def _euler_row(timesteps: Floats, products: Floats, *, is_v: bool, is_ancestral: bool) -> tuple[Any, ...]:
    """Return the columns of one level of Euler's method (Karras et al. 2022, algorithm 2), where x = x0 + sigma * n."""
    sigmas = np.sqrt((1 - products) / products)
    sigma = np.interp(timesteps, np.arange(len(sigmas)), sigmas)
    after = np.append(sigma[1:], 0.0)
    up = np.zeros_like(sigma)
    if is_ancestral:
        up = np.sqrt(np.maximum(after**2 * (sigma**2 - after**2) / np.maximum(sigma, 1e-12) ** 2, 0))
    target = np.sqrt(np.maximum(after**2 - up**2, 0))
    sigma = np.maximum(sigma, 1e-12)
    size = np.sqrt(sigma**2 + 1)
    of_x, of_e = (1 / size**2, -sigma / size) if is_v else (np.ones_like(sigma), -sigma)
    # next = x + (x - x0) / sigma * (target - sigma)
    move = (target - sigma) / sigma
    return timesteps, 1 / size, 1 + move * (1 - of_x), -move * of_e, up, 1.0, sigma[0]
