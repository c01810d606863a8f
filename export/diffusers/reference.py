"""The frames of diffusers itself: the pipeline's own call, fed with the noise that the runtime draws from a seed."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
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
_CUSTOM_TIMESTEPS = ("EulerDiscreteScheduler", "LCMScheduler")  # of diffusers take a list of timesteps


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
            if kind in _CUSTOM_TIMESTEPS:
                with quiet():
                    full = full_timesteps(self.pipeline.scheduler, job.steps)
                options |= {"timesteps": strength_timesteps(full, strength).tolist(), "strength": 1.0}
                if kind == "LCMScheduler":
                    options["timesteps"] = [int(value) for value in options["timesteps"]]
            else:
                options |= {"num_inference_steps": round(job.steps / strength), "strength": strength}
        with quiet(), torch.no_grad(), _given_noise(self.pipeline, noises):
            picture = self.pipeline(**options).images[0]
        frame: Pixels = np.floor(picture * 255 + 0.5).astype(np.uint8)
        return frame


@contextlib.contextmanager
def _given_noise(pipeline: Any, noises: Sequence[Tensor]) -> Iterator[None]:
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
