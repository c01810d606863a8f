"""The tables of schedulers against the steps that the schedulers of diffusers take."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from benchmarks.diffusion.pipeline import TRAINED
from export.diffusers.reference import whole_steps
from export.diffusers.schedule import full_timesteps, schedule_tables, strength_timesteps

LEVELS = 100
KINDS = [
    ("EulerDiscreteScheduler", {"timestep_spacing": "trailing"}),
    ("EulerDiscreteScheduler", {"timestep_spacing": "linspace"}),
    ("EulerDiscreteScheduler", {"timestep_spacing": "trailing", "prediction_type": "v_prediction"}),
    ("EulerAncestralDiscreteScheduler", {"timestep_spacing": "trailing"}),
    ("EulerAncestralDiscreteScheduler", {"timestep_spacing": "trailing", "prediction_type": "v_prediction"}),
    ("LCMScheduler", {}),
    ("LCMScheduler", {"prediction_type": "v_prediction"}),
    ("DDIMScheduler", {"timestep_spacing": "trailing", "clip_sample": False}),
    ("DDIMScheduler", {"timestep_spacing": "trailing", "clip_sample": False, "set_alpha_to_one": False}),
    ("DDIMScheduler", {"timestep_spacing": "trailing", "clip_sample": False, "prediction_type": "v_prediction"}),
]


@pytest.fixture(autouse=True)
def _plain_warnings() -> Any:
    """Allow the warnings of diffusers, which are about NumPy's next version."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize(("kind", "settings"), KINDS)
@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("strength", [1.0, 0.5, 0.25])
def test_steps_are_those_of_the_scheduler(
    kind: str, settings: dict[str, Any], steps: int, strength: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    import diffusers
    import torch

    scheduler = getattr(diffusers, kind)(**TRAINED, **settings)
    tables = schedule_tables(scheduler, steps, LEVELS, from_noise=False)
    level, tolerance = round(strength * LEVELS) - 1, 1e-3
    if strength == 1 or settings.get("timestep_spacing") == "trailing":  # the strength of diffusers itself
        total = round(steps / strength)
        scheduler.set_timesteps(total)
        scheduler.set_begin_index(total - steps) if hasattr(scheduler, "set_begin_index") else None
        tolerance = 1e-3 if 1000 % total == 0 else 1e-2  # DDIM goes from t to t - 1000 // total
    else:
        wanted = strength_timesteps(full_timesteps(scheduler, steps), strength).tolist()
        scheduler.set_timesteps(timesteps=[int(value) for value in wanted])
    timesteps = scheduler.timesteps[-steps:]
    assert np.allclose(timesteps.tolist(), tables.timestep[level])

    drawn = torch.Generator().manual_seed(1)
    latent, noise, *more = (torch.randn(1, 4, 8, 8, generator=drawn) for _ in range(2 + 2 * steps))
    predicted, renoised = more[:steps], more[steps:]
    left = list(renoised)
    monkeypatch.setattr(sys.modules[type(scheduler).__module__], "randn_tensor", lambda *_, **__: left.pop(0))
    theirs = scheduler.add_noise(latent, noise, timesteps[:1])
    ours = tables.latent[level] * latent + tables.noise[level] * noise
    for place, timestep in enumerate(timesteps):
        assert _is_close(ours, theirs, tolerance)
        scaled = scheduler.scale_model_input(theirs, timestep)
        assert _is_close(tables.scale[level, place] * ours, scaled, tolerance)
        ours = tables.keep[level, place] * ours + tables.add[level, place] * predicted[place]
        ours = ours + tables.renoise[level, place] * renoised[place]
        theirs = scheduler.step(predicted[place], timestep, theirs, return_dict=False)[0]
    assert _is_close(ours, theirs, tolerance)
    assert tables.renoise[level, -1] == 0


def test_first_noise_of_text_pipelines() -> None:
    import diffusers

    scheduler = diffusers.EulerDiscreteScheduler(**TRAINED, timestep_spacing="leading")
    tables = schedule_tables(scheduler, 2, 1, from_noise=True)
    assert tables.noise[0] == pytest.approx(float(scheduler.init_noise_sigma))
    assert tables.latent[0] == 0


@pytest.mark.parametrize("steps", range(1, 9))
def test_strengths_are_those_of_diffusers(steps: int) -> None:
    import diffusers

    scheduler = diffusers.EulerDiscreteScheduler(**TRAINED, timestep_spacing="trailing")
    full, compared = full_timesteps(scheduler, steps), 0
    for total in range(steps, 61):
        theirs = full_timesteps(scheduler, total)
        if whole_steps(steps, steps / total) == total and len(theirs) == total:
            assert strength_timesteps(full, steps / total).tolist() == theirs[-steps:].tolist()
            compared += 1
    assert compared > 45


def test_whole_steps() -> None:
    assert [whole_steps(1, strength) for strength in (1.0, 0.5, 0.2, 0.7, 0.6, 0.0005)] == [1, 2, 5, 0, 0, 0]
    assert [whole_steps(4, strength) for strength in (0.8, 0.5, 0.9)] == [5, 8, 0]


@pytest.mark.parametrize("strength", [0.001, 0.01, 0.37, 0.999])
def test_timesteps_descend_at_every_strength(strength: float) -> None:
    found = strength_timesteps(np.array([999.0, 749.0, 499.0, 249.0]), strength)
    assert (np.diff(found) < 0).all()
    assert found[-1] >= 0


def _is_close(ours: Any, theirs: Any, tolerance: float) -> bool:
    return bool(np.allclose(ours.numpy(), theirs.numpy(), rtol=tolerance, atol=tolerance * float(theirs.abs().max())))
