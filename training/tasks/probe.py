"""The probe: measures a pretrained encoder on held-out scenes: `python -m training probe RUN`.

Measures every task with chance and a trivial baseline, and a linear classifier of the captions' `class` on frozen
features (Alain and Bengio, arXiv 1610.01644) with untrained encoders as the baseline.

Legend: N clips, F features, K classes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from training.atomic_file import write_text
from training.checkpoint import find_checkpoint, load_checkpoint, load_weights
from training.config import Config, config_from_dict
from training.data.footage import ClipSampler, open_footage, split, zoomed
from training.data.words import WordVectors
from training.model.trunk import Trunk
from training.stages.pretrain import FRAMES, Pretrainer, held_out, measures_of, middle_offsets, pictures_of
from training.tasks.task import Clips, TaskMeasure, Views
from training.tensorboard import TensorBoardLog

UNTRAINED = 3  # untrained encoders to compare with
CLASS_CLIPS = 10  # clips drawn per scene for the linear probe
RIDGE = 1e-2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("run", type=Path, metavar="RUN", help="a run's folder with pretrain.pt in it")
    parser.add_argument("--data", type=Path, metavar="DIR", help="footage; the run's own if not given")
    parser.add_argument("--words", type=Path, metavar="WORDS", help="word vectors; the run's own if not given")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where decoded footage is kept")
    parser.add_argument("--clips", type=int, default=192, metavar="N", help="held-out clips (%(default)s)")


def run(arguments: argparse.Namespace) -> None:
    """Measure, print a table, write `RUN/probe.json` and TensorBoard events.

    Raises:
        ValueError: the run, its footage or an option cannot be used.
    """
    if arguments.clips < 16:
        raise ValueError(f"--clips is {arguments.clips}, expected 16 or more")
    folder: Path = arguments.run
    pretrainer, config, content = load_pretrainer(folder, arguments.words)
    data = arguments.data or Path(content["data"])
    library = open_footage(data, config.footage, arguments.cache)
    spans = {name: split(library, config.footage, name) for name in ("train", "heldout")}
    if not spans["heldout"]:
        raise ValueError(f"{data} leaves nothing held out: the probe needs scenes that were not trained on")
    height, width = (config.pretrain.crop or side for side in (config.model.height, config.model.width))
    part = zoomed(config.footage, height / config.model.height)  # what the tasks were trained on
    samplers = {name: ClipSampler(some, part, height, width, config.run.seed) for name, some in spans.items()}
    torch.manual_seed(config.run.seed)
    held = held_out(pretrainer, samplers["heldout"], config, arguments.clips, torch.device("cpu"))
    measures = measures_of(pretrainer, held)
    measures += probe_classes(pretrainer.generator.condition.encoder.trunk, samplers, config)
    result = {
        "iteration": content["iteration"], "clips": sum(len(clips.frames) for clips in held.batches), "data": str(data),
        "measures": [measure.to_dict() for measure in measures],
    }  # fmt: skip
    write_text(folder / "probe.json", json.dumps(result, indent=1))
    with TensorBoardLog(folder, "probe", content["iteration"] - 1) as board:
        board.add_measures(content["iteration"], measures)
        board.add_pictures(content["iteration"], pictures_of(pretrainer, held))
    Console().print(table_of(measures))
    print(f"wrote {folder / 'probe.json'} and {folder / 'tensorboard' / 'probe'}")


def load_pretrainer(folder: Path, words: Path | None) -> tuple[Pretrainer, Config, dict[str, Any]]:
    """Return the averaged pretrainer of a run, its configuration and its checkpoint.

    Raises:
        ValueError: there is no pretraining checkpoint, or its words are not where they were.
    """
    path = folder / "pretrain.pt"
    if find_checkpoint(path) is None:
        raise ValueError(f"no {path}: run `python -m training pretrain CONFIG --data DIR --out {folder}` first")
    content = load_checkpoint(path)
    config = config_from_dict(content["config"], str(path))
    place = words or (Path(content["words"]) if content["words"] else None)
    pretrainer = Pretrainer(
        config, None, WordVectors.open(place) if place and config.pretrain.weights["alignment"] else None
    )
    load_weights(pretrainer, content["ema"], path)
    return pretrainer.eval().requires_grad_(False), config, content


def table_of(measures: Sequence[TaskMeasure]) -> Table:
    """Return the measures as a table for a terminal."""
    table = Table("task", "measure", "value", "chance", "trivial baseline", "")
    for measure in measures:
        unit = f" {measure.unit}" if measure.unit else ""
        baseline = "" if measure.baseline is None else f"{measure.baseline:.3f}{unit} ({measure.baseline_name})"
        table.add_row(
            measure.task, measure.name, f"{measure.value:.3f}{unit}",
            "" if measure.chance is None else f"{measure.chance:.3f}{unit}", baseline, f"{measure.better} is better",
        )  # fmt: skip
    return table


def probe_classes(trunk: Trunk, samplers: dict[str, ClipSampler], config: Config) -> list[TaskMeasure]:
    """Return the accuracy of a linear classifier on frozen features, or nothing if clips have no class.

    Args:
        trunk: the encoder.
        samplers: of the splits "train" and "heldout".
        config: of the run.
    """
    offsets = middle_offsets(config)
    batches: dict[str, list[Clips]] = {}
    for name, sampler in samplers.items():
        count = -(-CLASS_CLIPS * sampler.num_scenes // 16)
        batches[name] = [Clips.of(sampler.draw(number, 16, offsets), offsets) for number in range(count)]
    labels = {name: [label for clips in found for label in clips.labels] for name, found in batches.items()}
    classes = sorted({*labels["train"]} & {*labels["heldout"]} - {""})
    if len(classes) < 2:
        return []

    def accuracy(encoder: Trunk) -> float:
        features = {name: pooled_features(encoder, found) for name, found in batches.items()}
        kept = {
            name: torch.tensor([label in classes for label in found], dtype=torch.bool)
            for name, found in labels.items()
        }
        truth = {
            name: torch.tensor([classes.index(label) for label in found if label in classes])
            for name, found in labels.items()
        }
        weights = fit_linear(features["train"][kept["train"]], truth["train"], len(classes))
        right = weights(features["heldout"][kept["heldout"]]).argmax(dim=1) == truth["heldout"]
        return float(right.float().mean())

    untrained = []
    for number in range(UNTRAINED):
        torch.manual_seed(1000 + number)
        untrained.append(accuracy(Trunk(config.model.encoder_scale, config.model.encoder_depth).eval()))
    known = [label for label in labels["train"] if label in classes]
    commonest = max(classes, key=known.count)
    asked = [label for label in labels["heldout"] if label in classes]
    return [
        TaskMeasure(
            "classes", f"linear probe, {len(classes)} classes", accuracy(trunk), "higher",
            asked.count(commonest) / len(asked), sum(untrained) / UNTRAINED,
            f"the same on {UNTRAINED} encoders never trained",
        )
    ]  # fmt: skip


@torch.no_grad()
def pooled_features(trunk: Trunk, batches: Sequence[Clips]) -> Tensor:
    """Return each clip's levels at 1/8, 1/16 and 1/32, averaged over its frames and places: (N, F)."""
    rows = []
    for clips in batches:
        views = Views.clips(clips.frames[:, :FRAMES])
        levels = trunk(views.frames, views.previous)
        pooled = torch.cat([level.mean(dim=(2, 3)) for level in levels[1:]], dim=1)
        rows.append(pooled.unflatten(0, (-1, FRAMES)).mean(dim=1))
    return torch.cat(rows)


def fit_linear(features: Tensor, truth: Tensor, classes: int) -> Any:
    """Fit multinomial logistic regression with a ridge and return it as a function (M, F) -> logits (M, K).

    Args:
        features: (N, F), standardised here.
        truth: (N,) int64 in [0, K).
        classes: K.
    """
    mean, spread = features.mean(dim=0), features.std(dim=0) + 1e-6
    x = (features - mean) / spread
    weight = torch.zeros(x.shape[1], classes, requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = F.cross_entropy(x @ weight + bias, truth) + RIDGE * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimiser.step(closure)
    fixed, offset = weight.detach(), bias.detach()
    return lambda asked: ((asked - mean) / spread) @ fixed + offset
