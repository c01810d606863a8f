"""The frames of diffusers itself: the pipeline's own call, fed with the noise that the runtime draws from a seed."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from export.diffusers.job import PipelineJob
from export.diffusers.loading import load_pipeline, quiet
from export.diffusers.pipeline_folder import LATENT_CHANNELS
from export.diffusers.schedule import full_timesteps, strength_timesteps

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
_LCM = "LCMScheduler"
_CUSTOM_TIMESTEPS = ("EulerDiscreteScheduler", _LCM)  # of diffusers take a list of timesteps
_MAX_TOTAL = 1000  # timesteps of Stable Diffusion
_TOLERANCE = 1e-9


class ReferencePipeline:
    """A pipeline of diffusers that makes frames from given noise.

    Args:
        job: of the export.
        rounded: whether its weights are rounded to FP16 as those of the bundle.

    Attributes:
        pipeline: of diffusers.
        noise_shape: (K, 4, h, w) of the constant noise of a frame.
    """

    def __init__(self, job: PipelineJob, *, rounded: bool = True) -> None:
        self._job = job
        with quiet():
            self.pipeline = load_pipeline(job, rounded=rounded)
        self._folder = job.read()
        scale = self._folder.scale
        self.noise_shape = (
            job.num_noises(self._folder.scheduler),
            LATENT_CHANNELS,
            job.height // scale,
            job.width // scale,
        )

    def frame(self, prompt: str, noise: Floats, live: Pixels | None, strength: float | None = None) -> Pixels:
        """Make one frame.

        Args:
            prompt: the text.
            noise: `noise_shape`, standard normal: that of the first latent, then that of each later step.
            live: the picture to change, uint8 (H, W, 3), in the mode "img2img".
            strength: that of the control; None for the job's default.

        Returns:
            The frame, uint8 (H, W, 3).
        """
        job, kind = self._job, self._folder.scheduler
        strength = job.strength if strength is None else strength
        # Without a guidance embedding, scales up to 1 mean no guidance.
        guidance = job.guidance if self._folder.guidance_values else 0.0
        options: dict[str, Any] = {"prompt": prompt, "guidance_scale": guidance, "output_type": "np"}
        noises = [torch.from_numpy(part[None].copy()) for part in noise]
        if job.mode == "txt2img":
            options |= {"num_inference_steps": job.steps, "latents": noises[0], "height": job.height}
            options["width"] = job.width
            noises = noises[1:]
        else:
            assert live is not None, "a frame of img2img without a picture"
            options["image"] = live[None].astype(np.float32) / 255
            options |= self._strength_options(strength)
        with quiet(), torch.no_grad(), given_noise(self.pipeline, noises):
            if "timesteps" in options and kind not in _CUSTOM_TIMESTEPS:
                timesteps = options.pop("timesteps")
                with _given_timesteps(self.pipeline.scheduler, timesteps):
                    picture = self.pipeline(**options, num_inference_steps=len(timesteps)).images[0]
            else:
                picture = self.pipeline(**options).images[0]
        frame: Pixels = np.floor(picture * 255 + 0.5).astype(np.uint8)
        return frame

    def _strength_options(self, strength: float) -> dict[str, Any]:
        """Return the pipeline's own strength where it makes the job's number of steps, else the timesteps."""
        scheduler, steps = self.pipeline.scheduler, self._job.steps
        is_trailing = scheduler.config.get("timestep_spacing") == "trailing" and self._folder.scheduler != _LCM
        total = whole_steps(steps, strength) if is_trailing else 0
        with quiet():
            # For some numbers diffusers adds a step at -1, by rounding.
            if total and len(full_timesteps(scheduler, total)) == total:
                return {"num_inference_steps": total, "strength": strength}
            wanted = strength_timesteps(full_timesteps(scheduler, steps), strength).tolist()
        if self._folder.scheduler == _LCM:
            wanted = [int(value) for value in wanted]
        return {"timesteps": wanted, "strength": 1.0}


def whole_steps(steps: int, strength: float) -> int:
    """Return how many steps of diffusers make `steps` steps at a strength, 0 if no whole number does.

    A pipeline of diffusers takes `int(total * strength)` of `total` steps.
    """
    total = round(steps / strength)
    is_whole = abs(total * strength - steps) < _TOLERANCE and int(total * strength) == steps
    return total if is_whole and total <= _MAX_TOTAL else 0


@contextlib.contextmanager
def _given_timesteps(scheduler: Any, timesteps: Sequence[float]) -> Iterator[None]:
    """Make ancestral Euler or DDIM take these timesteps: its `set_timesteps` accepts only a number of them."""
    plan, step = scheduler.set_timesteps, scheduler.step
    after = dict(zip(timesteps, [*timesteps[1:], -1.0], strict=True))
    trained = scheduler.config.num_train_timesteps

    @functools.wraps(plan)
    def set_timesteps(num_inference_steps: int, device: Any = None) -> None:
        plan(num_inference_steps, device=device)
        scheduler.timesteps = torch.tensor(timesteps).to(scheduler.timesteps.dtype)
        if hasattr(scheduler, "sigmas"):
            products = scheduler.alphas_cumprod.numpy()
            every = ((1 - products) / products) ** 0.5
            sigmas = np.interp(timesteps, np.arange(len(every)), every)
            scheduler.sigmas = torch.from_numpy(np.append(sigmas, 0).astype(np.float32))

    @functools.wraps(step)
    def step_to_next(output: Any, timestep: Any, *arguments: Any, **options: Any) -> Any:
        if not hasattr(scheduler, "sigmas"):  # DDIM steps by trained // num_inference_steps
            scheduler.num_inference_steps = Fraction(trained, int(timestep - after[float(timestep)]))
        return step(output, timestep, *arguments, **options)

    scheduler.set_timesteps, scheduler.step = set_timesteps, step_to_next
    try:
        yield
    finally:
        del scheduler.set_timesteps, scheduler.step


@contextlib.contextmanager
def given_noise(pipeline: Any, noises: Sequence[Tensor]) -> Iterator[None]:
    """Give the pipeline and its scheduler this noise, in turn, and the autoencoder none: its latent is the mean."""
    from diffusers.models.autoencoders import vae as autoencoder

    left = list(noises)

    def given(shape: Any, *_: Any, **__: Any) -> Tensor:
        value = left.pop(0) if left else torch.zeros(tuple(shape))  # the last step's noise counts for nothing
        assert tuple(value.shape) == tuple(shape), f"noise of the shape {tuple(value.shape)}, wanted {tuple(shape)}"
        return value

    def none(shape: Any, *_: Any, **__: Any) -> Tensor:
        return torch.zeros(tuple(shape))

    modules = [
        (sys.modules[type(pipeline).__module__], given),
        (sys.modules[type(pipeline.scheduler).__module__], given),
    ]
    modules.append((autoencoder, none))
    kept = [(module, getattr(module, "randn_tensor", None)) for module, _ in modules]
    try:
        for module, draw in modules:
            module.randn_tensor = draw  # type: ignore[attr-defined]
        yield
    finally:
        for module, before in kept:
            if before is not None:
                module.randn_tensor = before  # type: ignore[attr-defined]
