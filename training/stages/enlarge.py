"""Trains the enlarger: adversarially and by a perceptual distance, on photographs and full-size frames.

The discriminator is the encoder of pretraining with heads, of random weights; the losses are those of fine-tuning.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from training.checkpoint import load_checkpoint, load_weights, save_checkpoint
from training.config import Config, load_config
from training.data.pictures import NamedPicture, PairSampler, read_pictures, split_pictures
from training.fabric import precision_sentence, start_engine
from training.model.discriminators import Discriminator, DiscriminatorOutput
from training.model.enlarger import FACTOR, Enlarger
from training.model.perceptual import PerceptualDistance
from training.progress import ProgressLines
from training.stages.losses import (
    finite_difference_penalty,
    pooled_l1,
    relativistic_discriminator,
    relativistic_generator,
    require_finite,
)
from training.stages.records import note_figures, write_sheet

NAME = "enlarge"
_HELD_OUT_PAIRS = 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add = parser.add_argument
    add("config", type=Path, metavar="CONFIG", help="a TOML file, see training/configs/")
    add("--photos", type=Path, nargs="+", required=True, metavar="DIR", help="folders of photographs and videos")
    add("--out", type=Path, required=True, metavar="RUN", help="the run's folder")
    add("--perceptual", type=Path, metavar="FILE", help="LPIPS weights (ONNX), for sharper pictures")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="changes",
        help="override a configuration key, for example enlarge.iterations=100",
    )


def run(arguments: argparse.Namespace) -> None:
    """Train to the end; resumes from `RUN/enlarge.pt` if it exists.

    Raises:
        ValueError: an input cannot be used, or training has diverged.
    """
    config = load_config(arguments.config, arguments.changes)
    fabric = start_engine(config)
    if fabric.world_size > 1:
        raise ValueError(f"enlarge was started in {fabric.world_size} processes; it runs in one: start it alone")
    print(precision_sentence(config.run.precision, fabric.device.type), flush=True)
    trained, held = split_pictures(read_pictures(arguments.photos, config.enlarge.side))
    if not trained or not held:
        raise ValueError(f"{len(trained) + len(held)} scenes are too few: every fifth is held out, give five or more")
    print(f"{len(trained)} pictures to train on, {len(held)} held out", flush=True)
    perceptual = None if arguments.perceptual is None else PerceptualDistance(arguments.perceptual).to(fabric.device)
    arguments.out.mkdir(parents=True, exist_ok=True)
    _Training(config, fabric, trained, held, perceptual, arguments.out).run()


def load_enlarger(path: Path) -> tuple[Enlarger, list[tuple[str, str, str]]]:
    """Read the trained enlarger from a checkpoint, and (file, licence, source) of the pictures it was trained on.

    Raises:
        ValueError: it is missing, damaged or of another stage.
    """
    content = load_checkpoint(path)
    if content["stage"] != NAME:
        raise ValueError(f"{path} is of the stage {content['stage']}, expected {NAME}: name an enlarge.pt")
    settings = content["config"]["enlarge"]
    enlarger = Enlarger(settings["channels"], settings["layers"])
    load_weights(enlarger, content["ema"], path)
    return enlarger.eval().requires_grad_(False), [tuple(row) for row in content["footage"]]


class _Training:
    def __init__(
        self,
        config: Config,
        fabric: Fabric,
        trained: list[NamedPicture],
        held: list[NamedPicture],
        perceptual: PerceptualDistance | None,
        out: Path,
    ) -> None:
        self.config, self.fabric, self.perceptual, self.out = config, fabric, perceptual, out
        settings = self.settings = config.enlarge
        self.path = out / f"{NAME}.pt"
        torch.manual_seed(config.run.seed)
        channels_last = {"memory_format": torch.channels_last}
        self.enlarger = Enlarger(settings.channels, settings.layers).to(fabric.device, **channels_last)
        self.critic = Discriminator(1, settings.critic_scale, 1).to(fabric.device, **channels_last)
        self.average = copy.deepcopy(self.enlarger).requires_grad_(False)
        self.modules: dict[str, nn.Module] = {"enlarger": self.enlarger, "critic": self.critic}
        self.optimisers = {
            "enlarger": torch.optim.Adam(self.enlarger.parameters(), betas=(0.5, 0.99)),
            "critic": torch.optim.Adam(self.critic.parameters(), betas=(0.0, 0.99)),
        }
        self.pairs = PairSampler(trained, settings.side, config.run.seed)
        self.held = PairSampler(held, settings.side, config.run.seed + 1).batch(0, _HELD_OUT_PAIRS)
        self.facts: dict[str, Any] = {
            "footage": sorted((picture.name, picture.licence, picture.source) for picture in trained),
            "held": sorted(picture.name for picture in held),
        }

    def run(self) -> None:
        start = self._resume()
        progress = ProgressLines(NAME, self.settings.iterations, start)
        sums: dict[str, float] = {}
        for iteration in range(start, self.settings.iterations):
            torch.manual_seed(self.config.run.seed * 1_000_003 + iteration)
            for name, value in self._update(iteration).items():
                sums[name] = sums.get(name, 0.0) + value
            decay = min(self.config.run.ema, (1 + iteration) / (10 + iteration))
            with torch.no_grad():
                for mean, value in zip(self.average.parameters(), self.enlarger.parameters(), strict=True):
                    mean.lerp_(value, 1 - decay)
            done = iteration + 1
            progress.advance()
            if done % self.config.run.log_every == 0:
                self._note(
                    "metrics.jsonl", done, {key: value / self.config.run.log_every for key, value in sums.items()}
                )
                sums = {}
            if done % self.config.run.checkpoint_every == 0 or done == self.settings.iterations:
                self._save(done)
                self._evaluate(done)

    def _update(self, iteration: int) -> dict[str, float]:
        settings, device = self.settings, self.fabric.device
        share = iteration / settings.iterations
        shape = min(1.0, (iteration + 1) / 50) * (1 - 0.95 * share)
        rates = {"enlarger": settings.learning_rate, "critic": settings.critic_learning_rate}
        for name, rate in rates.items():
            for group in self.optimisers[name].param_groups:
                group["lr"] = rate * shape
        small, real = (part.to(device) for part in self.pairs.batch(iteration, settings.batch))
        is_adversarial = settings.adversarial > 0 and iteration >= settings.warm_up
        found: dict[str, float] = {}
        with self.fabric.autocast():
            made = self.enlarger(small).float()
        if is_adversarial:
            found |= self._update_critic(made.detach(), real, iteration)
        terms = {"l1": (settings.l1, pooled_l1(made, real, (1, 4)))}
        if self.perceptual is not None:
            with self.fabric.autocast():
                terms["look"] = settings.perceptual, self.perceptual(made, real)
        if is_adversarial:
            self.critic.requires_grad_(False)
            with self.fabric.autocast():
                fake, true = self._judge(made), self._judge(real)
                pairs = zip(fake.logits, true.logits, strict=True)
                terms["critic"] = (
                    settings.adversarial,
                    torch.stack([relativistic_generator(*pair) for pair in pairs]).mean(),
                )
            self.critic.requires_grad_(True)
        loss = torch.stack([weight * term.float() for weight, term in terms.values()]).sum()
        require_finite(loss, NAME, iteration)
        self._step("enlarger", loss)
        return found | {name: float(term.detach()) for name, (_, term) in terms.items()}

    def _update_critic(self, made: Tensor, real: Tensor, iteration: int) -> dict[str, float]:
        settings = self.settings
        with self.fabric.autocast():
            fake, true = self._judge(made), self._judge(real)
            pairs = list(zip(fake.logits, true.logits, strict=True))
            loss = torch.stack([relativistic_discriminator(*pair) for pair in pairs]).mean()
            if iteration % settings.penalty_every == 0:
                both, logits = (made, real), (fake.logits, true.logits)
                for picture, before in zip(both, logits, strict=True):
                    moved = self._judge(picture + settings.penalty_sigma * torch.randn_like(picture)).logits
                    terms = [finite_difference_penalty(*pair) for pair in zip(before, moved, strict=True)]
                    loss = loss + settings.penalty * settings.penalty_every * torch.stack(terms).mean()
        require_finite(loss, NAME, iteration)
        self._step("critic", loss)
        lead = torch.stack([(real - fake).mean() for fake, real in pairs]).mean()
        return {"lead": float(lead.detach())}

    def _judge(self, pictures: Tensor) -> DiscriminatorOutput:
        verdict: DiscriminatorOutput = self.critic(pictures[:, None])
        return verdict

    def _step(self, name: str, loss: Tensor) -> None:
        self.optimisers[name].zero_grad(set_to_none=True)
        loss.backward()
        self.optimisers[name].step()

    @torch.no_grad()
    def _evaluate(self, done: int) -> None:
        """Note held-out figures beside those of bicubic enlargement, and write a strip of pairs."""
        small, real = self.held
        made = torch.cat([self.average(part.to(self.fabric.device)).float().cpu() for part in small.split(4)]).clamp(
            0, 1
        )
        cubic = nn.functional.interpolate(small, scale_factor=float(FACTOR), mode="bicubic", antialias=False).clamp(
            0, 1
        )
        figures = {}
        for name, picture in (("ours", made), ("bicubic", cubic)):
            error = (picture - real).square().mean(dim=(1, 2, 3)).clamp(min=1e-8)
            figures[f"psnr_{name}"] = float((-10 * error.log10()).mean())
            if self.perceptual is not None:
                torch.manual_seed(0)
                distances = [
                    self.perceptual(a.to(self.fabric.device), b.to(self.fabric.device))
                    for a, b in zip(picture.split(4), real.split(4), strict=True)
                ]
                figures[f"lpips_{name}"] = float(torch.stack(distances).mean())
        self._note("heldout.jsonl", done, figures)
        print("  ".join(f"{key} {value:.3f}" for key, value in figures.items()), flush=True)
        shown = [nn.functional.interpolate(small[:8], scale_factor=float(FACTOR)), cubic[:8], made[:8], real[:8]]
        write_sheet(self.out, NAME, done, shown)

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
        theirs = content["config"].get("enlarge")
        ours = self.config.to_dict()["enlarge"]
        if content["stage"] != NAME or theirs != ours or content.get("footage") != self.facts["footage"]:
            raise ValueError(
                f"{self.path} is of other settings or pictures: name another --out, or delete it to train again"
            )
        for name, module in self.modules.items():
            load_weights(module, content["modules"][name], self.path)
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(content["optimisers"][name])
        load_weights(self.average, content["ema"], self.path)
        print(f"resuming {self.path} at iteration {content['iteration']}")
        return int(content["iteration"])
