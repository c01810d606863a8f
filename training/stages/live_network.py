"""What the training of live networks has in common: iterations, an average, checkpoints, and a critic.

Such a network turns live frames into frames. A clip is played from zeros, frame by frame, as on air. The critic is the
encoder of pretraining with heads (`training.model.discriminators`); it sees three frames in a row, so that it can
object to flicker, too.
"""

from __future__ import annotations

import abc
import argparse
import copy
import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from training.checkpoint import load_checkpoint, load_weights, part_of, save_checkpoint
from training.config import Config, LiveConfig, load_config
from training.data.live_clips import MAX_SHORT, LiveClip, read_clips, split_clips
from training.fabric import precision_sentence, start_engine
from training.model.discriminators import Discriminator
from training.model.trunk import Trunk
from training.progress import ProgressLines
from training.stages.adaptation import open_start
from training.stages.finetune import against, penalty_of
from training.stages.losses import (
    feature_distance,
    relativistic_discriminator,
    relativistic_generator,
    require_finite,
)
from training.stages.records import note_figures
from training.start import Start

JUDGED = 3  # frames that the critic sees

Terms = dict[str, tuple[float, Tensor]]  # name -> weight and value of a loss


def add_live_arguments(parser: argparse.ArgumentParser, config: str, change: str, start: str) -> None:
    """Add the arguments that all live networks have.

    Args:
        parser: of the stage.
        config: a file, for the help.
        change: of a key, for the help.
        start: what begins with --start, for the help.
    """
    add = parser.add_argument
    add("config", type=Path, metavar="CONFIG", help=f"a TOML file, for example {config}")
    add(
        "--data", type=Path, nargs="+", required=True, metavar="DIR", help="folders of full-size videos and photographs"
    )
    add("--out", type=Path, required=True, metavar="RUN", help="the run's folder")
    add(
        "--start",
        type=Path,
        metavar="START",
        help=f"a bundle or a run with whose {start}, for example bundles/landscape",
    )
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="changes",
        help=f"override a configuration key, for example {change}",
    )


class LiveRun(NamedTuple):
    """A run whose arguments have been read."""

    config: Config
    fabric: Fabric
    data: Sequence[Path]
    out: Path
    start: Start | None

    def clips(self, settings: LiveConfig, short: int = MAX_SHORT) -> tuple[list[LiveClip], list[LiveClip]]:
        """Read the clips to train on and those held out, and make the run's folder.

        Raises:
            ValueError: there are too few.
        """
        count = settings.frames + 2
        clips = read_clips(self.data, settings.side, count, settings.clips, self.config.run.seed, short)
        trained, held = split_clips(clips)
        if not trained or not held:
            scenes = len({clip.scene for clip in clips})
            raise ValueError(
                f"{scenes} scenes are too few: every fifth is held out, give videos or photographs of five"
            )
        files = [len({clip.name for clip in part}) for part in (trained, held)]
        print(f"{len(trained)} clips of {files[0]} files to train on, {len(held)} of {files[1]} held out", flush=True)
        self.out.mkdir(parents=True, exist_ok=True)
        return trained, held


def open_live_run(name: str, arguments: argparse.Namespace) -> LiveRun:
    """Read a stage's configuration and start its engine.

    Raises:
        ValueError: the configuration or the start is wrong, or there are several processes.
    """
    config = load_config(arguments.config, arguments.changes)
    fabric = start_engine(config)
    if fabric.world_size > 1:
        raise ValueError(f"{name} was started in {fabric.world_size} processes; it runs in one: start it alone")
    print(precision_sentence(config.run.precision, fabric.device.type), flush=True)
    start = None if arguments.start is None else open_start(arguments.start, "--start")
    return LiveRun(config, fabric, arguments.data, arguments.out, start)


def checkpoint_of(run: Path, name: str) -> Path:
    """Return the checkpoint of a stage in a run's folder, or the file itself."""
    return run / f"{name}.pt" if run.is_dir() else run


def read_live(path: Path, name: str) -> dict[str, Any]:
    """Read the checkpoint of a live network's stage.

    Raises:
        ValueError: it is missing, damaged or of another stage.
    """
    content = load_checkpoint(path)
    if content["stage"] != name:
        raise ValueError(f"{path} is of the stage {content['stage']}, expected {name}: name a {name}.pt")
    return content


def facts_of(content: dict[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint says beside weights."""
    return {key: content[key] for key in ("footage", "held", "clips", "iteration", "config")}


class LiveTraining(abc.ABC):
    """Trains a live network to the end; resumes from `OUT/NAME.pt` if it exists.

    Args:
        name: of the stage, and of its section of the configuration.
        config: of the run.
        settings: that section.
        fabric: an engine of one process.
        network: what is trained.
        trained: the clips; what they are is noted in checkpoints.
        held: clips held out.
        start: a generator with whose encoder the critic begins, and whose features are compared; None for a random
            one, and no comparison.
        out: the run's folder.

    Raises:
        ValueError: the encoder has another size.
    """

    def __init__(
        self,
        name: str,
        config: Config,
        settings: LiveConfig,
        fabric: Fabric,
        network: nn.Module,
        trained: Sequence[LiveClip],
        held: Sequence[LiveClip],
        start: Start | None,
        out: Path,
    ) -> None:
        trunk = None if start is None else part_of(start.weights, "condition.encoder.trunk.")
        self.name, self.config, self.live, self.fabric, self.out = name, config, settings, fabric, out
        self.path = out / f"{name}.pt"
        self.critic = Discriminator(JUDGED, settings.critic_scale, 1)
        self.eye: Trunk | None = None
        if trunk is not None:
            try:
                self.critic.trunk.load_state_dict(trunk)
            except RuntimeError:
                raise ValueError(
                    f"the encoder of --start is not of {name}.critic_scale {settings.critic_scale:g}: "
                    "set the scale that it was trained with"
                ) from None
            self.eye = copy.deepcopy(self.critic.trunk).requires_grad_(False)
            self.eye.to(fabric.device, memory_format=torch.channels_last)
        elif settings.look > 0:
            raise ValueError(f"{name}.look compares features of an encoder: name one with --start, or set it to 0")
        self.critic.to(fabric.device, memory_format=torch.channels_last)
        network.to(fabric.device)
        self.modules: dict[str, nn.Module] = {"network": network, "critic": self.critic}
        self.optimisers = {
            "network": torch.optim.Adam(network.parameters(), betas=(0.9, 0.99)),
            "critic": torch.optim.Adam(self.critic.parameters(), betas=(0.0, 0.99)),
        }
        self.averaged = copy.deepcopy(network).requires_grad_(False)
        self.facts: dict[str, Any] = {
            "footage": sorted({(clip.name, clip.licence, clip.source) for clip in trained}),
            "held": sorted({clip.name for clip in held}),
            "clips": dict(Counter(clip.name for clip in trained)),
            "start": "" if start is None else start.sha256,
        }

    @abc.abstractmethod
    def losses(self, iteration: int) -> tuple[Tensor, Tensor, Terms]:
        """Play a batch; return made and real clips (B, T, 3, H, W) in [0, 1], and the losses without the critic's."""

    @abc.abstractmethod
    def evaluate(self, done: int) -> None:
        """Note held-out figures and write a picture, after `done` iterations."""

    def run(self) -> None:
        """Train to the end."""
        start = self._resume()
        progress = ProgressLines(self.name, self.live.iterations, start)
        sums: dict[str, list[float]] = {}
        for iteration in range(start, self.live.iterations):
            torch.manual_seed(self.config.run.seed * 1_000_003 + iteration)
            for name, value in self._update(iteration).items():
                sums.setdefault(name, []).append(value)
            decay = min(self.config.run.ema, (1 + iteration) / (10 + iteration))
            with torch.no_grad():
                network = self.modules["network"]
                for mean, value in zip(self.averaged.parameters(), network.parameters(), strict=True):
                    mean.lerp_(value, 1 - decay)
            done = iteration + 1
            progress.advance()
            if done % self.config.run.log_every == 0:
                self.note("metrics.jsonl", done, {key: float(np.mean(value)) for key, value in sums.items()})
                sums = {}
            if done % self.config.run.checkpoint_every == 0 or done == self.live.iterations:
                self.save(done)
                self.evaluate(done)

    def look(self, made: Tensor, real: Tensor) -> Tensor:
        """Return the mean L1 distance of the encoder's features over its levels, for (N, 3, H, W) in [0, 1]."""
        if self.eye is None:
            return made.new_zeros(())
        with self.fabric.autocast():
            pair = self.eye(torch.cat([made, real]))
        count = len(made)
        return torch.stack([(x[:count].float() - x[count:].float()).abs().mean() for x in pair]).mean()

    def note(self, file: str, done: int, values: dict[str, float]) -> None:
        """Add figures to a file of the run's folder."""
        note_figures(self.out / file, self.name, done, values)

    def save(self, done: int) -> None:
        """Write the checkpoint."""
        content: dict[str, Any] = {
            "stage": self.name,
            "iteration": done,
            "config": self.config.to_dict(),
            "ema": self.averaged.state_dict(),
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
            **self.facts,
        }
        save_checkpoint(self.path, content)

    def _update(self, iteration: int) -> dict[str, float]:
        settings = self.live
        shape = min(1.0, (iteration + 1) / 50) * (1 - 0.95 * iteration / settings.iterations)
        rates = {"network": settings.learning_rate, "critic": settings.critic_learning_rate}
        for name, rate in rates.items():
            for group in self.optimisers[name].param_groups:
                group["lr"] = rate * shape
        made, real, terms = self.losses(iteration)
        found: dict[str, float] = {}
        if settings.adversarial > 0 and iteration >= settings.warm_up:
            rows = slice(0, settings.judged)
            fake, true = (part[rows, -JUDGED:] for part in (made, real))
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
        require_finite(loss, self.name, iteration)
        self._step("network", loss)
        return found | {name: float(term.detach()) for name, (_, term) in terms.items()}

    def _update_critic(self, made: Tensor, real: Tensor, iteration: int) -> dict[str, float]:
        settings, count = self.live, len(made)
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
        require_finite(loss, self.name, iteration)
        self._step("critic", loss)
        return {"discriminator": float(loss.detach())}

    def _step(self, name: str, loss: Tensor) -> None:
        self.optimisers[name].zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.modules[name].parameters(), 1.0 if name == "network" else 1e4)
        self.optimisers[name].step()

    def _resume(self) -> int:
        if not self.path.exists():
            return 0
        content = load_checkpoint(self.path)
        ours = self.config.to_dict()[self.name]
        theirs = dataclasses.asdict(type(self.live)()) | content["config"].get(self.name, {})  # older ones have fewer
        if content["stage"] != self.name or theirs != ours or content.get("footage") != self.facts["footage"]:
            raise ValueError(
                f"{self.path} is of other settings or footage: name another --out, or delete it to train again"
            )
        if content.get("start", self.facts["start"]) != self.facts["start"]:
            raise ValueError(f"{self.path} began with another --start: name that one, or another --out")
        for name, module in self.modules.items():
            load_weights(module, content["modules"][name], self.path)
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(content["optimisers"][name])
        load_weights(self.averaged, content["ema"], self.path)
        print(f"resuming {self.path} at iteration {content['iteration']}")
        return int(content["iteration"])
