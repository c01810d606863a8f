"""The first stage: pretraining on video without labels. A task is one file and one line in `TASKS`."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from training.config import Config
from training.footage import Batch, ClipSampler
from training.generator import VideoGenerator
from training.perceptual import PerceptualDistance
from training.reconstruction import Reconstruction

TASKS = {"reconstruction": Reconstruction}


class PretrainStage:
    """Trains the generator on the weighted sum of the tasks."""

    name = "pretrain"

    def __init__(self, config: Config, perceptual: PerceptualDistance | None = None) -> None:
        settings = config.pretrain
        self.config, self.iterations, self.batch = config, settings.iterations, settings.batch
        self.generator = VideoGenerator(config.model)
        weights = {name: float(getattr(settings, name)) for name in TASKS}
        self.weights = {name: weight for name, weight in weights.items() if weight > 0}
        if not self.weights:
            raise ValueError(f"every pretraining task has weight 0: give one of {', '.join(TASKS)} a weight")
        tasks = nn.ModuleDict({name: TASKS[name](config, perceptual) for name in self.weights})
        self.modules: dict[str, nn.Module] = {"generator": self.generator, "tasks": tasks}
        self.tasks = tasks
        parameters = [*self.generator.parameters(), *tasks.parameters()]
        optimiser = torch.optim.Adam(parameters, settings.learning_rate, betas=(0.9, 0.99))
        self.optimisers: dict[str, torch.optim.Optimizer] = {"all": optimiser}
        for module in self.modules.values():
            module.to(memory_format=torch.channels_last)

    def prepare(self, clips: ClipSampler) -> None:
        """Nothing has to be read from the footage before this stage."""

    def offsets(self, rng: np.random.Generator) -> list[int]:
        """Return two frames of the clip: one near, one anywhere up to the horizon."""
        horizon = self.config.footage.horizon_frames
        near = int(rng.integers(1, 4))
        return [near, int(rng.integers(near + 1, horizon + 1))]

    def update(self, batch: Batch, offsets: list[int], iteration: int) -> dict[str, float]:
        """Do one iteration; the learning rate warms up over 50 and falls on a cosine to a tenth."""
        share = iteration / max(1, self.iterations)
        rate = self.config.pretrain.learning_rate * min(1.0, (iteration + 1) / 50)
        optimiser = self.optimisers["all"]
        for group in optimiser.param_groups:
            group["lr"] = rate * (0.1 + 0.45 * (1 + math.cos(math.pi * share)))
        total = torch.zeros(())
        metrics: dict[str, float] = {}
        with torch.autocast("cpu", torch.bfloat16, enabled=self.config.run.bf16):
            for name, weight in self.weights.items():
                loss, found = self.tasks[name](self.generator, batch, offsets)
                total = total + weight * loss
                metrics.update(found)
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_([*self.generator.parameters(), *self.tasks.parameters()], 1.0)
        optimiser.step()
        return {"loss": float(total.detach()), **metrics}
