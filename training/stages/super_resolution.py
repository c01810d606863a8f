"""Trains super-resolution of live video: by distance at first, then also against a critic with a pretrained encoder.

A pair of clips is played from zeros, frame by frame, as on air. The critic is the encoder of pretraining with heads
(`training.model.discriminators`); it sees three frames in a row, so that it can object to flicker, too.
"""

from __future__ import annotations

import argparse
import copy
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.fabric import Fabric
from torch import Tensor, nn

from training.checkpoint import load_checkpoint, load_weights, part_of, save_checkpoint
from training.config import Config, load_config
from training.data.live_clips import LiveClip, LiveClipSampler, read_clips, split_clips
from training.fabric import precision_sentence, start_engine
from training.model.discriminators import Discriminator
from training.model.super_resolution import FACTOR, SuperResolver
from training.progress import ProgressLines
from training.stages.adaptation import open_start
from training.stages.finetune import against, penalty_of
from training.stages.losses import (
    feature_distance,
    relativistic_discriminator,
    relativistic_generator,
    require_finite,
)
from training.stages.records import note_figures, write_sheet

NAME = "super_resolution"
CONTROLS = (1.0, 0.0, 1.0)  # strength, sharpness, memory
_JUDGED = 3  # frames that the critic sees
_HELD_OUT_PAIRS = 16
_SHOWN = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add = parser.add_argument
    add("config", type=Path, metavar="CONFIG", help="a TOML file, for example training/configs/enlarge-2x.toml")
    add(
        "--data", type=Path, nargs="+", required=True, metavar="DIR", help="folders of full-size videos and photographs"
    )
    add("--out", type=Path, required=True, metavar="RUN", help="the run's folder")
    add("--critic", type=Path, metavar="START", help="a bundle or a run whose encoder the critic begins with")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="changes",
        help="override a configuration key, for example super_resolution.iterations=100",
    )


def run(arguments: argparse.Namespace) -> None:
    """Train to the end; resumes from `RUN/super_resolution.pt` if it exists.

    Raises:
        ValueError: an input cannot be used, or training has diverged.
    """
    config = load_config(arguments.config, arguments.changes)
    settings = config.super_resolution
    fabric = start_engine(config)
    if fabric.world_size > 1:
        raise ValueError(f"{NAME} was started in {fabric.world_size} processes; it runs in one: start it alone")
    print(precision_sentence(config.run.precision, fabric.device.type), flush=True)
    trunk = None
    if arguments.critic is not None:
        if not settings.adversarial:
            raise ValueError("--critic is for training against a critic: add --set super_resolution.adversarial=0.003")
        trunk = part_of(open_start(arguments.critic).weights, "condition.encoder.trunk.")
    clips = read_clips(arguments.data, settings.side, settings.frames + 2, settings.clips, config.run.seed)
    trained, held = split_clips(clips)
    if not trained or not held:
        scenes = len({clip.scene for clip in clips})
        raise ValueError(f"{scenes} scenes are too few: every fifth is held out, give videos or photographs of five")
    count = [len({clip.name for clip in part}) for part in (trained, held)]
    print(f"{len(trained)} clips of {count[0]} files to train on, {len(held)} of {count[1]} held out", flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    _Training(config, fabric, trained, held, trunk, arguments.out).run()


def load_super_resolution(path: Path, width: int, height: int) -> tuple[SuperResolver, dict[str, Any]]:
    """Read the trained network from a checkpoint, for small frames of a size; and the checkpoint's other facts.

    Raises:
        ValueError: it is missing, damaged or of another stage.
    """
    content = load_checkpoint(path)
    if content["stage"] != NAME:
        raise ValueError(f"{path} is of the stage {content['stage']}, expected {NAME}: name a {NAME}.pt")
    settings = content["config"][NAME]
    network = SuperResolver(height, width, settings["channels"], settings["layers"], remembers=settings["remembers"])
    load_weights(network, content["ema"], path)
    return network.eval().requires_grad_(False), {
        key: content[key] for key in ("footage", "held", "clips", "iteration", "config")
    }


def play(network: SuperResolver, small: Tensor) -> Tensor:
    """Return the large frames (B, T, 3, H, W) of small ones (B, T, 3, h, w), played from zeros."""
    state = network.initial_state(len(small), small.device)
    controls = torch.tensor([CONTROLS], device=small.device).expand(len(small), -1)
    made = []
    for frame in small.unbind(1):
        large, state = network(frame, state, controls)
        made.append(large)
    return torch.stack(made, dim=1)


class _Training:
    def __init__(
        self,
        config: Config,
        fabric: Fabric,
        trained: list[LiveClip],
        held: list[LiveClip],
        trunk: dict[str, Tensor] | None,
        out: Path,
    ) -> None:
        self.config, self.fabric, self.out = config, fabric, out
        settings = self.settings = config.super_resolution
        self.path = out / f"{NAME}.pt"
        torch.manual_seed(config.run.seed)
        side = settings.side // FACTOR
        how = {"remembers": settings.remembers}
        self.network = SuperResolver(side, side, settings.channels, settings.layers, **how).to(fabric.device)
        self.critic = Discriminator(_JUDGED, settings.critic_scale, 1)
        if trunk is not None:
            try:
                self.critic.trunk.load_state_dict(trunk)
            except RuntimeError:
                raise ValueError(
                    f"the encoder of --critic is not of super_resolution.critic_scale {settings.critic_scale:g}: "
                    "set the scale that it was trained with"
                ) from None
        self.critic.to(fabric.device, memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.modules: dict[str, nn.Module] = {"network": self.network, "critic": self.critic}
        self.optimisers = {
            "network": torch.optim.Adam(self.network.parameters(), betas=(0.9, 0.99)),
            "critic": torch.optim.Adam(self.critic.parameters(), betas=(0.0, 0.99)),
        }
        self.pairs = LiveClipSampler(trained, settings.side, settings.frames, config.run.seed)
        self.held = LiveClipSampler(held, settings.side, settings.frames, config.run.seed + 1).batch(0, _HELD_OUT_PAIRS)
        self.facts: dict[str, Any] = {
            "footage": sorted({(clip.name, clip.licence, clip.source) for clip in trained}),
            "held": sorted({clip.name for clip in held}),
            "clips": dict(Counter(clip.name for clip in trained)),
        }

    def run(self) -> None:
        start = self._resume()
        progress = ProgressLines(NAME, self.settings.iterations, start)
        sums: dict[str, list[float]] = {}
        for iteration in range(start, self.settings.iterations):
            torch.manual_seed(self.config.run.seed * 1_000_003 + iteration)
            for name, value in self._update(iteration).items():
                sums.setdefault(name, []).append(value)
            decay = min(self.config.run.ema, (1 + iteration) / (10 + iteration))
            with torch.no_grad():
                for mean, value in zip(self.average.parameters(), self.network.parameters(), strict=True):
                    mean.lerp_(value, 1 - decay)
            done = iteration + 1
            progress.advance()
            if done % self.config.run.log_every == 0:
                self._note("metrics.jsonl", done, {key: float(np.mean(value)) for key, value in sums.items()})
                sums = {}
            if done % self.config.run.checkpoint_every == 0 or done == self.settings.iterations:
                self._save(done)
                self._evaluate(done)

    def _update(self, iteration: int) -> dict[str, float]:
        settings, device = self.settings, self.fabric.device
        share = iteration / settings.iterations
        shape = min(1.0, (iteration + 1) / 50) * (1 - 0.95 * share)
        rates = {"network": settings.learning_rate, "critic": settings.critic_learning_rate}
        for name, rate in rates.items():
            for group in self.optimisers[name].param_groups:
                group["lr"] = rate * shape
        small, real = (part.to(device) for part in self.pairs.batch(iteration, settings.batch))
        is_judged = settings.adversarial > 0 and iteration >= settings.warm_up
        made = play(self.network, small)
        error = made - real
        terms = {
            "error": (1.0, torch.sqrt(error.square() + 1e-6).mean()),  # Charbonnier
            "change": (settings.change, (error[:, 1:] - error[:, :-1]).abs().mean()),
        }
        found: dict[str, float] = {}
        if is_judged:
            rows = slice(0, settings.judged)
            fake, true = (part[rows, -_JUDGED:] for part in (made, real))
            found |= self._update_critic(fake.detach(), true, iteration)
            self.critic.requires_grad_(False)
            with self.fabric.autocast():
                verdict = self.critic(torch.cat([fake, true]))
                count = len(fake)
                one, two = verdict.take(0, count), verdict.take(count, 2 * count)
                terms["critic"] = settings.adversarial, against(one, two, relativistic_generator)
                terms["matching"] = settings.feature_matching, feature_distance(one.features, two.features)
            self.critic.requires_grad_(True)
        loss = torch.stack([weight * term.float() for weight, term in terms.values()]).sum()
        require_finite(loss, NAME, iteration)
        self._step("network", loss)
        return found | {name: float(term.detach()) for name, (_, term) in terms.items()}

    def _update_critic(self, made: Tensor, real: Tensor, iteration: int) -> dict[str, float]:
        settings, count = self.settings, len(made)
        is_penalised = iteration % settings.penalty_every == 0
        both = torch.cat([real, made])
        with self.fabric.autocast():
            noisy = [both + settings.penalty_sigma * torch.randn_like(both)] if is_penalised else []
            verdict = self.critic(torch.cat([both, *noisy]))
            true, fake = verdict.take(0, count), verdict.take(count, 2 * count)
            loss = against(fake, true, relativistic_discriminator)
            if is_penalised:
                difference = penalty_of(verdict.take(0, 2 * count), verdict.take(2 * count, 4 * count))
                loss = loss + 2 * settings.penalty * settings.penalty_every * difference
        require_finite(loss, NAME, iteration)
        self._step("critic", loss)
        return {"discriminator": float(loss.detach())}

    def _step(self, name: str, loss: Tensor) -> None:
        self.optimisers[name].zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.modules[name].parameters(), 1.0 if name == "network" else 1e4)
        self.optimisers[name].step()

    @torch.no_grad()
    def _evaluate(self, done: int) -> None:
        """Note held-out figures beside those of bicubic enlargement, and write a strip of last frames."""
        small, real = self.held
        made = torch.cat([play(self.average, part.to(self.fabric.device)).cpu() for part in small.split(4)])
        cubic = F.interpolate(small.flatten(0, 1), scale_factor=float(FACTOR), mode="bicubic").clamp(0, 1)
        figures = {}
        for name, clips in (("ours", made), ("bicubic", cubic.unflatten(0, small.shape[:2]))):
            error = (clips - real)[:, 1:]
            figures[f"psnr_{name}"] = float((-10 * error.square().mean(dim=(1, 2, 3, 4)).log10()).mean())
            figures[f"change_{name}"] = 255 * float((error[:, 1:] - error[:, :-1]).abs().mean())
        self._note("heldout.jsonl", done, figures)
        print("  ".join(f"{key} {value:.3f}" for key, value in figures.items()), flush=True)
        rows = [
            F.interpolate(small[:_SHOWN, -1], scale_factor=float(FACTOR)),
            cubic.unflatten(0, small.shape[:2])[:_SHOWN, -1],
        ]
        rows += [made[:_SHOWN, -1], real[:_SHOWN, -1]]
        write_sheet(self.out, NAME, done, rows)

    def _note(self, file: str, done: int, values: dict[str, float]) -> None:
        note_figures(self.out / file, NAME, done, values)

    def _save(self, done: int) -> None:
        content: dict[str, Any] = {
            "stage": NAME,
            "iteration": done,
            "config": self.config.to_dict(),
            "ema": self.average.state_dict(),
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
            **self.facts,
        }
        save_checkpoint(self.path, content)

    def _resume(self) -> int:
        if not self.path.exists():
            return 0
        content = load_checkpoint(self.path)
        ours, theirs = self.config.to_dict()[NAME], content["config"].get(NAME)
        if content["stage"] != NAME or theirs != ours or content.get("footage") != self.facts["footage"]:
            raise ValueError(
                f"{self.path} is of other settings or footage: name another --out, or delete it to train again"
            )
        for name, module in self.modules.items():
            load_weights(module, content["modules"][name], self.path)
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(content["optimisers"][name])
        load_weights(self.average, content["ema"], self.path)
        print(f"resuming {self.path} at iteration {content['iteration']}")
        return int(content["iteration"])
