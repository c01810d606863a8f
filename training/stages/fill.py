"""Trains the fill of holes in live video: by distance at first, then also against a critic.

Clips get holes of three kinds (`training.data.holes`). What counts is the distance in the holes alone; what is seen
comes back untouched.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor

from training.checkpoint import load_weights
from training.config import Config
from training.data.holes import KINDS, draw_holes
from training.data.live_clips import LiveClip, LiveClipSampler, to_tensor
from training.model.fill import Filler
from training.model.painter import filled_in
from training.stages.live_network import LiveTraining, Terms, add_live_arguments, facts_of, open_live_run, read_live
from training.stages.records import write_sheet
from training.start import Start

NAME = "fill"
MEMORY = 1.0
_HELD_OUT_CLIPS = 24
_SHOWN = 8


class Played(NamedTuple):
    """Clips as the network makes them."""

    frames: Tensor  # (B, T, 3, H, W) RGB in [0, 1]
    painted: Tensor  # (B, T, 3, h, w)
    trust: Tensor  # (B, T, 1, H, W)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_live_arguments(parser, "training/configs/fill.toml", f"{NAME}.iterations=100", "encoder and painter it begins")


def run(arguments: argparse.Namespace) -> None:
    """Train to the end; resumes from `RUN/fill.pt` if it exists.

    Raises:
        ValueError: an input cannot be used, or training has diverged.
    """
    opened = open_live_run(NAME, arguments)
    trained, held = opened.clips(opened.config.fill, opened.config.fill.short)
    _Training(opened.config, opened.fabric, trained, held, opened.start, arguments.out).run()


def load_fill(path: Path, width: int, height: int) -> tuple[Filler, dict[str, Any]]:
    """Read the trained network from a checkpoint, for frames of a size; and the checkpoint's other facts.

    Raises:
        ValueError: it is missing, damaged or of another stage.
    """
    content = read_live(path, NAME)
    network = Filler(height, width, remembers=content["config"][NAME]["remembers"])
    load_weights(network, content["ema"], path)
    return network.eval().requires_grad_(False), facts_of(content)


def play(network: Filler, frames: Tensor, masks: Tensor, memory: float = MEMORY) -> Played:
    """Fill clips (B, T, 3, H, W) where the masks (B, T, 1, H, W) are 0, played from zeros."""
    state = network.initial_state(len(frames), frames.device)
    control = torch.full((len(frames), 1), memory, device=frames.device)
    made = []
    for frame, mask in zip(frames.unbind(1), masks.unbind(1), strict=True):
        filled = network(frame, mask, state, control)
        state = filled.state
        made.append(filled)
    return Played(
        torch.stack([filled.frame for filled in made], dim=1),
        torch.stack([filled.painted for filled in made], dim=1),
        torch.stack([filled.trust for filled in made], dim=1),
    )


class _Training(LiveTraining):
    def __init__(
        self,
        config: Config,
        fabric: Fabric,
        trained: Sequence[LiveClip],
        held: Sequence[LiveClip],
        start: Start | None,
        out: Path,
    ) -> None:
        settings = self.settings = config.fill
        torch.manual_seed(config.run.seed)
        self.network = Filler(settings.side, settings.side, remembers=settings.remembers)
        if start is not None:
            self.network.start_from(start.weights)
        super().__init__(NAME, config, settings, fabric, self.network, trained, held, start, out)
        self.sampler = LiveClipSampler(trained, settings.side, settings.frames, config.run.seed)
        self.held = self._batch(
            LiveClipSampler(held, settings.side, settings.frames, config.run.seed + 1), 0, _HELD_OUT_CLIPS
        )

    def _batch(self, sampler: LiveClipSampler, number: int, count: int) -> tuple[Tensor, Tensor]:
        """Return clips (B, T, 3, H, W) and masks (B, T, 1, H, W), kinds of holes in turn."""
        random = np.random.default_rng((sampler.seed, number))
        clips = sampler.clips(random, count)
        masks = [
            draw_holes(KINDS[(number * count + index) % len(KINDS)], len(clip), clip.shape[1], clip.shape[2], random)[
                ..., np.newaxis
            ]
            for index, clip in enumerate(clips)
        ]
        return to_tensor(clips), to_tensor(masks)

    def losses(self, iteration: int) -> tuple[Tensor, Tensor, Terms]:
        """Return made and real clips, and the distances in the holes."""
        settings = self.settings
        batch = self._batch(self.sampler, iteration, settings.batch)
        real, masks = (part.to(self.fabric.device) for part in batch)
        with self.fabric.autocast():
            made = play(self.network, real, masks)
        frames, hidden = made.frames.float(), 1 - masks
        area = hidden.mean() + 1e-3
        error, painted = (frames - real) * hidden, (made.painted.float() - real) * hidden
        change = (error[:, 1:] - error[:, :-1]).abs().mean() / area
        terms: Terms = {
            "error": (1.0, torch.sqrt(error.square() + 1e-6).mean() / area),  # Charbonnier
            "change": (settings.change, change),
            "painted": (settings.painted, torch.sqrt(painted.square() + 1e-6).mean() / area),
        }
        if settings.look > 0:
            some = slice(iteration % 2, None, 2)  # every other frame
            whole = made.painted[:, some] * hidden[:, some] + real[:, some] * masks[:, some]
            terms["look"] = settings.look, self.look(whole.flatten(0, 1), real[:, some].flatten(0, 1)) / area
        return frames, real, terms

    @torch.no_grad()
    def evaluate(self, done: int) -> None:
        """Note held-out figures in the holes beside those of a smooth fill, and write a sheet of last frames."""
        real, masks = self.held
        pairs = zip(real.to(self.fabric.device).split(6), masks.to(self.fabric.device).split(6), strict=True)
        made = torch.cat([play(self.averaged, *pair).frames.cpu() for pair in pairs])
        smooth = filled_in(real.flatten(0, 1), masks.flatten(0, 1)).unflatten(0, real.shape[:2])
        hidden = 1 - masks
        figures = {}
        for name, clips in (("ours", made), ("smooth", smooth)):
            error = (clips - real) * hidden
            for number, kind in enumerate(KINDS):
                squares = error[number :: len(KINDS)].square().sum() / (3 * hidden[number :: len(KINDS)].sum() + 1)
                figures[f"psnr_{name}_{kind}"] = float(-10 * squares.log10())
            change = (error[:, 1:] - error[:, :-1]).abs().sum() / (3 * hidden[:, 1:].sum() + 1)
            figures[f"change_{name}"] = 255 * float(change)
        self.note("heldout.jsonl", done, figures)
        print("  ".join(f"{key} {value:.2f}" for key, value in figures.items()), flush=True)
        shown = [(part * masks if part is real else part)[:_SHOWN, -1] for part in (real, smooth, made)]
        write_sheet(self.out, NAME, done, [*shown, real[:_SHOWN, -1]])
