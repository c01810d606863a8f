"""Trains super-resolution of live video: by distance at first, then also against a critic with a pretrained encoder."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning.fabric import Fabric
from torch import Tensor

from training.checkpoint import load_weights
from training.config import Config
from training.data.live_clips import LiveClip, LiveClipSampler
from training.model.super_resolution import FACTOR, SuperResolver
from training.stages.live_network import LiveTraining, Terms, add_live_arguments, facts_of, open_live_run, read_live
from training.stages.records import write_sheet
from training.start import Start

NAME = "super_resolution"
CONTROLS = (1.0, 0.0, 1.0)  # strength, sharpness, memory
_HELD_OUT_PAIRS = 16
_SHOWN = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_live_arguments(
        parser, "training/configs/enlarge-2x.toml", f"{NAME}.iterations=100", "encoder the critic begins"
    )


def run(arguments: argparse.Namespace) -> None:
    """Train to the end; resumes from `RUN/super_resolution.pt` if it exists.

    Raises:
        ValueError: an input cannot be used, or training has diverged.
    """
    opened = open_live_run(NAME, arguments)
    settings = opened.config.super_resolution
    if opened.start is not None and not (settings.adversarial or settings.look):
        raise ValueError(
            "--start is for a critic or for comparing features: add --set super_resolution.adversarial=0.003 or "
            "--set super_resolution.look=0.05"
        )
    trained, held = opened.clips(settings)
    _Training(opened.config, opened.fabric, trained, held, opened.start, arguments.out).run()


def load_super_resolution(path: Path, width: int, height: int) -> tuple[SuperResolver, dict[str, Any]]:
    """Read the trained network from a checkpoint, for small frames of a size; and the checkpoint's other facts.

    Raises:
        ValueError: it is missing, damaged or of another stage.
    """
    content = read_live(path, NAME)
    settings = content["config"][NAME]
    network = SuperResolver(height, width, settings["channels"], settings["layers"], remembers=settings["remembers"])
    load_weights(network, content["ema"], path)
    return network.eval().requires_grad_(False), facts_of(content)


def play(network: SuperResolver, small: Tensor) -> Tensor:
    """Return the large frames (B, T, 3, H, W) of small ones (B, T, 3, h, w), played from zeros."""
    state = network.initial_state(len(small), small.device)
    controls = torch.tensor([CONTROLS], device=small.device).expand(len(small), -1)
    made = []
    for frame in small.unbind(1):
        large, state = network(frame, state, controls)
        made.append(large)
    return torch.stack(made, dim=1)


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
        settings = self.settings = config.super_resolution
        torch.manual_seed(config.run.seed)
        side = settings.side // FACTOR
        how = {"remembers": settings.remembers}
        self.network = SuperResolver(side, side, settings.channels, settings.layers, **how)
        super().__init__(NAME, config, settings, fabric, self.network, trained, held, start, out)
        self.pairs = LiveClipSampler(trained, settings.side, settings.frames, config.run.seed)
        self.held = LiveClipSampler(held, settings.side, settings.frames, config.run.seed + 1).batch(0, _HELD_OUT_PAIRS)

    def losses(self, iteration: int) -> tuple[Tensor, Tensor, Terms]:
        """Return made and real clips, the distance, and that of what changes."""
        small, real = (part.to(self.fabric.device) for part in self.pairs.batch(iteration, self.settings.batch))
        made = play(self.network, small)
        error = made - real
        terms: Terms = {
            "error": (1.0, torch.sqrt(error.square() + 1e-6).mean()),  # Charbonnier
            "change": (self.settings.change, (error[:, 1:] - error[:, :-1]).abs().mean()),
        }
        if self.settings.look > 0:
            some = iteration % made.shape[1]  # one frame of each clip
            terms["look"] = self.settings.look, self.look(made[:, some], real[:, some])
        return made, real, terms

    @torch.no_grad()
    def evaluate(self, done: int) -> None:
        """Note held-out figures beside those of bicubic enlargement, and write a strip of last frames."""
        small, real = self.held
        made = torch.cat([play(self.averaged, part.to(self.fabric.device)).cpu() for part in small.split(4)])
        cubic = F.interpolate(small.flatten(0, 1), scale_factor=float(FACTOR), mode="bicubic").clamp(0, 1)
        figures = {}
        for name, clips in (("ours", made), ("bicubic", cubic.unflatten(0, small.shape[:2]))):
            error = (clips - real)[:, 1:]
            figures[f"psnr_{name}"] = float((-10 * error.square().mean(dim=(1, 2, 3, 4)).log10()).mean())
            figures[f"change_{name}"] = 255 * float((error[:, 1:] - error[:, :-1]).abs().mean())
        self.note("heldout.jsonl", done, figures)
        print("  ".join(f"{key} {value:.3f}" for key, value in figures.items()), flush=True)
        rows = [
            F.interpolate(small[:_SHOWN, -1], scale_factor=float(FACTOR)),
            cubic.unflatten(0, small.shape[:2])[:_SHOWN, -1],
        ]
        rows += [made[:_SHOWN, -1], real[:_SHOWN, -1]]
        write_sheet(self.out, NAME, done, rows)
