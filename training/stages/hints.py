"""A stage of its own for motion hints: trains the layers that read them, and nothing else.

Those layers are exactly zero where there are no hints (`training.model.hints`), so a generator whose quality is known
learns to follow hints and moves as before without them. The target is the flow of the footage, as in pretraining.

Legend: B clips of a batch, H height, W width.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.fabric import Fabric
from torch import nn

from training.checkpoint import load_checkpoint, load_weights, part_of, require_same_model
from training.config import Config
from training.data.footage import Batch, ClipSampler
from training.data.hints import repaced, sample_hints, tells_direction
from training.model.generator import CLIP, VideoGenerator
from training.stages.losses import flow_error, require_finite, sway_error
from training.tasks.hint_scores import hint_scores
from training.tasks.task import Draw, recoloured

SWAY = 0.5  # weight of the swing beside that of the flow


class HintsStage:
    """Trains `FrameEncoder.hints` against the footage's flow; every other weight is frozen.

    Args:
        config: of the run.
        source: checkpoint of any other stage, whose averaged generator is continued.

    Raises:
        ValueError: the checkpoint is missing, damaged or of another model.
    """

    name = "hints"
    is_shown = False  # samples are made without hints, which do not change
    stop_reason = ""

    def __init__(self, config: Config, source: Path) -> None:
        settings = config.hints
        self.config, self.iterations, self.batch, self.rewinds = config, settings.iterations, settings.batch, 2
        content = load_checkpoint(source)
        require_same_model(source, content, config, played=True)
        self.source = f"{content['stage']} {content['iteration']}"
        self.facts: dict[str, Any] = {key: content[key] for key in ("words", "vocabulary", "start") if key in content}
        self.footage = [tuple(entry) for entry in content.get("footage", [])]
        self.generator = VideoGenerator(config.model, settings.crop or None)
        load_weights(self.generator, part_of(content["ema"], "generator."), source)
        self.generator.requires_grad_(False).to(memory_format=torch.channels_last)
        self.layers = self.generator.condition.encoder.hints.requires_grad_(True)
        self.modules: dict[str, nn.Module] = {"hints": self.layers}
        self.averaged: nn.Module = nn.ModuleDict({"generator": self.generator})
        self.rate = 1.0
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            "hints": torch.optim.AdamW(self.layers.parameters(), weight_decay=0.01, betas=(0.9, 0.99))
        }

    def setup(self, fabric: Fabric) -> None:
        """Move everything to the engine's device.

        Raises:
            ValueError: there is more than one process.
        """
        if fabric.world_size > 1:
            raise ValueError(
                f"hints was started in {fabric.world_size} processes; it runs in one: start it without torchrun"
            )
        self.fabric = fabric
        self.generator.to(fabric.device)

    def check(self, path: Path, content: dict[str, Any]) -> None:
        """Raise ValueError unless a checkpoint has the same model and started from the same weights."""
        require_same_model(path, content, self.config)
        if (theirs := content["extra"]["source"]) != self.source:
            raise ValueError(
                f"{path} started from {theirs}, the run's checkpoint is of {self.source}: delete it to start again"
            )

    def prepare(self, clips: ClipSampler) -> None:
        """Do nothing: nothing is read from the footage before the first iteration."""

    def refresh(self, averaged: nn.Module) -> None:
        """Do nothing: no weight of this stage is read from the footage."""

    def extra_state(self) -> dict[str, Any]:
        """Return the state that a checkpoint stores besides weights."""
        return {"source": self.source, "rate": self.rate}

    def load_extra_state(self, content: dict[str, Any]) -> None:
        """Restore what `extra_state` returned."""
        self.rate = min(self.rate, float(content["rate"]))

    def slow_down(self) -> None:
        """Halve the learning rate, after a rewind."""
        self.rate *= 0.5

    def offsets(self, step: int) -> list[int]:
        """Return the frames of a step's clips: the first, and in a share `past` of the steps the frames before it."""
        rng = np.random.default_rng((self.config.run.seed, 1, step))
        return list(range(CLIP)) if rng.random() < self.config.hints.past else [0]

    def update(self, batch: Batch, offsets: list[int], iteration: int) -> dict[str, float]:
        """Do one iteration; the learning rate warms up over 50 and falls to a tenth."""
        settings, device, encoder = self.config.hints, self.fabric.device, self.generator.condition.encoder
        share = iteration / max(1, self.iterations)
        for group in self.optimisers["hints"].param_groups:
            group["lr"] = settings.learning_rate * self.rate * min(1.0, (iteration + 1) / 50) * (1 - 0.9 * share)
        frames = batch.frames.to(device).float() / 255.0
        flow, sway = batch.flow.to(device), batch.sway.to(device)
        count = len(frames)
        draw = Draw((self.config.run.seed, "hints", iteration), count, 0, count, device)
        frames = recoloured(frames, draw)
        hints = sample_hints(flow, draw, none=0.0)
        if len(offsets) == 1:  # with frames before, the speed is seen
            flow, hints = repaced(flow, hints, draw)
        with self.fabric.autocast():
            memory = encoder(frames[:, -1], frames[:, :-1] if len(offsets) > 1 else None, hints=hints)
            steady = memory.flow[:, :2] * memory.flow[:, 2:]
            is_told = tells_direction(hints) | (len(offsets) > 1 or not self.config.footage.either_way)
            free = F.avg_pool2d(memory.flow[:, 2:].float(), 2)
            swings = self.generator.step.expected_sway(memory, self.config.footage.horizon_frames) * free
            terms = {"flow": flow_error(steady, flow, is_told), "sway": sway_error(swings, F.avg_pool2d(sway, 2))}
            loss = terms["flow"] + SWAY * terms["sway"]
        require_finite(loss, self.name, iteration)
        self.optimisers["hints"].zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.layers.parameters(), 1.0)
        self.optimisers["hints"].step()
        return {name: float(term.detach()) for name, term in terms.items()} | {"gradient": float(norm)}

    def held_out_figures(self, averaged: nn.Module, clips: ClipSampler, count: int) -> dict[str, float]:
        """Return the scores of `training.tasks.hint_scores` on held-out clips, as METHOD VECTORS SCORE."""
        assert isinstance(averaged, nn.ModuleDict)
        generator = averaged["generator"]
        assert isinstance(generator, VideoGenerator)
        batches = []
        for number in range(max(1, count // 8)):
            batch = clips.draw(2**22 + number, 8, [0])
            batches.append(
                (batch.frames[:, 0].to(self.fabric.device).float() / 255.0, batch.flow.to(self.fabric.device))
            )
        figures: dict[str, float] = {}
        for score in hint_scores(generator.condition.encoder, batches, self.config.run.seed):
            for key in ("error", "error_moving", "cosine"):
                figures[f"{score.method} {score.vectors} {key}"] = getattr(score, key)
        return figures
