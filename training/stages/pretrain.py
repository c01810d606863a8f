"""The first stage: pretraining on video without labels. Its tasks are in `training.tasks.table`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from training.checkpoint import require_same_model
from training.config import Config
from training.data.footage import Batch, ClipSampler
from training.data.words import WordVectors
from training.model.generator import VideoGenerator
from training.model.perceptual import PerceptualDistance
from training.stages.losses import require_finite
from training.tasks.table import TASKS
from training.tasks.task import Clips, Draw, PretrainingTask, TaskEvaluation, TaskMeasure, Views

FRAMES = 4  # of a clip that the encoder sees


class Pretrainer(nn.Module):
    """The generator and the tasks with a weight, in one module with one forward pass.

    Raises:
        ValueError: no task has a weight, or a task needs something that was not given.
    """

    def __init__(
        self, config: Config, perceptual: PerceptualDistance | None = None, words: WordVectors | None = None
    ) -> None:
        super().__init__()
        weights = {name: config.pretrain.weights.get(name, 0.0) for name in TASKS}
        self.weights = {name: weight for name, weight in weights.items() if weight > 0}
        if not self.weights:
            raise ValueError(f"every pretraining task has weight 0: give one of {', '.join(TASKS)} a weight")
        self.generator = VideoGenerator(config.model, config.pretrain.crop or None)
        if not (config.pretrain.hints and "anticipation" in self.weights):
            self.generator.condition.encoder.hints.requires_grad_(False)
        seen = config.cropped(config.pretrain.crop)
        self.tasks = nn.ModuleDict({name: TASKS[name].create(seen, perceptual, words) for name in self.weights})
        if not any(task.needs_generator for task in self.each_task()):
            # Distributed training would wait for gradients of parameters that no loss reaches.
            self.generator.requires_grad_(False)
            self.generator.condition.encoder.trunk.requires_grad_(True)

    def each_task(self) -> list[PretrainingTask]:
        """Return the tasks with a weight, in the order of the table."""
        return [task for task in self.tasks.values() if isinstance(task, PretrainingTask)]

    def forward(self, clips: Clips, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted loss and each task's metrics, named TASK/METRIC."""
        tasks = self.each_task()
        draws = [draw.fork(task.name) for task in tasks]
        views = [task.views(clips, own) for task, own in zip(tasks, draws, strict=True)]
        together = Views.joined(views)
        levels = self.generator.condition.encoder.trunk(together.frames, together.previous)
        total = clips.frames.new_zeros(())
        figures: dict[str, Tensor] = {}
        start = 0
        for task, view, own in zip(tasks, views, draws, strict=True):
            stop = start + len(view.frames)
            loss, found = task.loss(self.generator, levels.rows(start, stop), view, clips, own)
            total = total + self.weights[task.name] * loss
            figures |= {f"{task.name}/{key}": value.detach().float() for key, value in found.items()}
            start = stop
        return total, figures


class PretrainStage:
    """Trains the encoder, and for some tasks the whole generator, on the weighted sum of the tasks' losses."""

    name = "pretrain"
    stop_reason = ""
    rewinds = 3

    def __init__(
        self, config: Config, perceptual: PerceptualDistance | None = None, words: WordVectors | None = None
    ) -> None:
        settings = config.pretrain
        self.config, self.iterations, self.batch = config, settings.iterations, settings.batch
        self.pretrainer = Pretrainer(config, perceptual, words).to(memory_format=torch.channels_last)
        self.modules: dict[str, nn.Module] = {"generator": self.pretrainer.generator, "tasks": self.pretrainer.tasks}
        self.averaged: nn.Module = self.pretrainer
        self.rate = 1.0  # halved by every rewind
        self.is_shown = any(task.needs_generator for task in self.pretrainer.each_task())
        self.parameters = [parameter for parameter in self.pretrainer.parameters() if parameter.requires_grad]
        # No weight decay for biases, temperatures and the oscillators' rates.
        groups = [
            {"params": [p for p in self.parameters if p.dim() > 1], "weight_decay": settings.weight_decay},
            {"params": [p for p in self.parameters if p.dim() <= 1], "weight_decay": 0.0},
        ]
        optimiser = torch.optim.AdamW(groups, settings.learning_rate, betas=(0.9, 0.99))
        self.optimisers: dict[str, torch.optim.Optimizer] = {"all": optimiser}

    def setup(self, fabric: Fabric) -> None:
        """Set up modules and optimisers with Fabric."""
        self.fabric = fabric
        self.model, self.optimiser = fabric.setup(self.pretrainer, self.optimisers["all"])

    def check(self, path: Path, content: dict[str, Any]) -> None:
        """Raise ValueError unless a checkpoint has the same model and the same tasks."""
        require_same_model(path, content, self.config)
        theirs = [name for name in TASKS if content["config"]["pretrain"].get(name, 0) > 0]
        if theirs != list(self.pretrainer.weights):
            raise ValueError(
                f"{path} was trained on {', '.join(theirs)}, the configuration asks for "
                f"{', '.join(self.pretrainer.weights)}: use the configuration of that run, or another --out"
            )

    def prepare(self, clips: ClipSampler) -> None:
        """Do nothing: this stage reads nothing from the footage beforehand."""

    def refresh(self, averaged: nn.Module) -> None:
        """Do nothing: no weight of this stage is read from the footage."""

    def extra_state(self) -> dict[str, Any]:
        """Return the state that a checkpoint stores besides weights."""
        return {"rate": self.rate}

    def load_extra_state(self, content: dict[str, Any]) -> None:
        """Restore what `extra_state` returned; a rewind keeps the reduced learning rate."""
        self.rate = min(self.rate, float(content["rate"]))

    def slow_down(self) -> None:
        """Halve the learning rate."""
        self.rate *= 0.5

    def offsets(self, step: int) -> list[int]:
        """Return the frames of a step's clips: four at an equal distance, and one farther ahead for the decoder."""
        settings = self.config.pretrain
        rng = np.random.default_rng((self.config.run.seed, 1, step))
        stride = int(rng.integers(settings.stride_min, settings.stride_max + 1))
        near = [stride * frame for frame in range(FRAMES)]
        return [*near, int(rng.integers(near[-1] + 1, self.config.footage.horizon_frames + 1))]

    def draw(self, step: int) -> Draw:
        """Return the random numbers of a step."""
        fabric = self.fabric
        count = self.batch // fabric.world_size
        return Draw((self.config.run.seed, step), self.batch, fabric.global_rank * count, count, fabric.device)

    def update(self, batch: Batch, offsets: list[int], iteration: int) -> dict[str, float]:
        """Do one iteration; the learning rate warms up over 50 and falls on a cosine to a tenth."""
        share = iteration / max(1, self.iterations)
        rate = self.rate * self.config.pretrain.learning_rate * min(1.0, (iteration + 1) / 50)
        for group in self.optimisers["all"].param_groups:
            group["lr"] = rate * (0.1 + 0.45 * (1 + math.cos(math.pi * share)))
        clips = Clips.of(batch, offsets, self.fabric.device)
        if self.config.pretrain.still:
            clips = stilled(clips)
        loss, figures = self.model(clips, self.draw(iteration))
        # The mean over all processes, so that either all of them rewind or none.
        mean = self.fabric.all_reduce(loss.detach().float(), reduce_op="mean")
        assert isinstance(mean, Tensor)
        require_finite(mean, self.name, iteration)
        self.optimiser.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimiser.step()
        names = ["loss", *figures]
        values = torch.stack([loss.detach().float(), *figures.values()])
        means = self.fabric.all_reduce(values, reduce_op="mean")
        assert isinstance(means, Tensor)
        return dict(zip(names, means.tolist(), strict=True))


def stilled(clips: Clips) -> Clips:
    """Return still clips: every frame is the first one."""
    frames = clips.frames[:, :1].expand_as(clips.frames).contiguous()
    return clips._replace(frames=frames, flow=torch.zeros_like(clips.flow), sway=torch.zeros_like(clips.sway))


def middle_offsets(config: Config) -> list[int]:
    """Return the frames of evaluation clips: at the middle stride, and at the horizon."""
    stride = (config.pretrain.stride_min + config.pretrain.stride_max) // 2
    return [*(stride * frame for frame in range(FRAMES)), config.footage.horizon_frames]


def held_out(
    pretrainer: Pretrainer, clips: ClipSampler, config: Config, count: int, device: torch.device
) -> TaskEvaluation:
    """Return the evaluation of a pretrainer on `count` clips, the same for equal configuration and footage."""
    offsets = middle_offsets(config)
    size = min(16, count)
    batches = [Clips.of(clips.draw(number, size, offsets), offsets, device) for number in range(-(-count // size))]
    return TaskEvaluation(pretrainer.generator, batches, config.run.seed)


def measures_of(pretrainer: Pretrainer, held: TaskEvaluation) -> list[TaskMeasure]:
    """Return every task's measures on held-out clips."""
    return [measure for task in pretrainer.each_task() for measure in task.measure(held)]


def pictures_of(pretrainer: Pretrainer, held: TaskEvaluation) -> dict[str, tuple[np.ndarray, str]]:
    """Return every task's pictures of held-out clips: name -> (uint8 RGB (h, w, 3), caption)."""
    return {name: picture for task in pretrainer.each_task() for name, picture in task.pictures(held).items()}
