"""Pretraining task: predict how a picture will move, from the picture alone.

The target is the footage's optical flow: mean motion over the horizon (as in Eulerian motion fields, arXiv 2011.15128)
and the swing about it. The motion heads are the generator's own. One frame per clip, and no decoder.

Legend: B clips, H height, W width.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.config import Config
from training.data.hints import repaced, sample_hints, tells_direction
from training.model.generator import ConditionMemory, VideoGenerator
from training.model.trunk import Levels
from training.stages.losses import flow_error, sway_error
from training.tasks.hint_scores import hint_scores
from training.tasks.task import Clips, Draw, PretrainingTask, TaskEvaluation, TaskMeasure, Views, recoloured

SWAY = 0.5  # weight of the swing beside that of the flow


class AnticipationTask(PretrainingTask):
    """Predicts motion with the generator's own motion heads; has no layers of its own."""

    name = "anticipation"
    weight = 0.0
    needs_generator = True

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.horizon = config.footage.horizon_frames
        self.either_way = config.footage.either_way
        self.has_hints = config.pretrain.hints

    def views(self, clips: Clips, draw: Draw) -> Views:
        """Return the clips' first frames, recoloured."""
        first = recoloured(clips.frames[:, :1], draw)[:, 0]
        truth = {"flow": clips.flow, "sway": clips.sway}
        if self.has_hints:
            hints = sample_hints(clips.flow, draw)
            truth["flow"], truth["hints"] = repaced(clips.flow, hints, draw)
        return Views.pictures(first, **truth)

    def terms(
        self,
        generator: VideoGenerator,
        memory: ConditionMemory,
        flow: Tensor,
        sway: Tensor,
        hints: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the errors of flow and of swing of a memory that was read with `hints`."""
        free = F.avg_pool2d(memory.flow[:, 2:].float(), 2)
        swings = generator.step.expected_sway(memory, self.horizon) * free
        steady = memory.flow[:, :2] * memory.flow[:, 2:]
        is_known = torch.full((len(flow),), not self.either_way, device=flow.device)
        if hints is not None:
            is_known = is_known | tells_direction(hints)
        return flow_error(steady, flow, is_known), sway_error(swings, F.avg_pool2d(sway, 2))

    def loss(
        self, generator: VideoGenerator, levels: Levels, views: Views, clips: Clips, draw: Draw
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sum of both errors."""
        del clips, draw
        hints = views.truth.get("hints")
        memory = generator.condition.encoder.read(views.frames, levels, hints=hints)
        flow, sway = self.terms(generator, memory, views.truth["flow"], views.truth["sway"], hints)
        return flow + SWAY * sway, {"flow": flow, "sway": sway}

    @torch.no_grad()
    def measure(self, held: TaskEvaluation) -> list[TaskMeasure]:
        """Return both errors on held-out clips, with a still picture as the baseline."""
        ours, still = [], []
        for clips in held.batches:
            memory = held.generator.condition.encoder(clips.frames[:, 0])
            nothing = memory._replace(modes=memory.modes * 0, flow=memory.flow * 0)
            ours.append([float(term) for term in self.terms(held.generator, memory, clips.flow, clips.sway)])
            still.append([float(term) for term in self.terms(held.generator, nothing, clips.flow, clips.sway)])
        pairs = zip(np.mean(ours, axis=0).tolist(), np.mean(still, axis=0).tolist(), strict=True)
        measures = [
            TaskMeasure(self.name, name, value, "lower", None, base, "standing still", "relative")
            for name, (value, base) in zip(("flow error", "swing error"), pairs, strict=True)
        ]
        return measures + (self.hint_measures(held) if self.has_hints else [])

    def hint_measures(self, held: TaskEvaluation) -> list[TaskMeasure]:
        """Return how well what moves follows hints, beside the interpolated hints and standing still."""
        encoder = held.generator.condition.encoder
        pairs = [(clips.frames[:, 0], clips.flow) for clips in held.batches]
        scores = {(score.method, score.vectors): score for score in hint_scores(encoder, pairs, held.seed)}
        measures = []
        for (method, vectors), score in scores.items():
            if method != "network":
                continue
            other = scores.get(("interpolation", vectors))
            base, name = (1.0, "standing still") if other is None else (other.error_moving, "hints interpolated")
            title = f"flow error, {vectors} hints"
            measures.append(TaskMeasure(self.name, title, score.error_moving, "lower", None, base, name, "relative"))
        return measures
