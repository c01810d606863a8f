"""Runs a stage from the command line: opens footage and words, builds the stage and trains it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.fabric import Fabric
from torch import nn

from training.checkpoint import STAGES, find_checkpoint, load_checkpoint, newest_checkpoint
from training.config import Config, changed_config, load_config
from training.data.footage import ClipSampler, FootageLibrary, Spans, open_footage, split, zoomed
from training.data.loading import require_shareable
from training.data.words import WordVectors
from training.fabric import choose_precision, precision_sentence, require_shared, start_engine
from training.loop import TrainingStage, forget, train
from training.model.perceptual import PerceptualDistance
from training.stages.adaptation import adapted_config, open_start, write_parts
from training.stages.finetune import FinetuneStage
from training.stages.hints import HintsStage
from training.stages.polish import PolishStage
from training.stages.pretrain import Pretrainer, PretrainStage, held_out, measures_of, pictures_of
from training.start import Start, joined_footage
from training.tensorboard import TensorBoardLog

Evaluate = Callable[[nn.Module, int, TensorBoardLog], None]


class StageInputs(NamedTuple):
    """The inputs of a stage."""

    config: Config
    out: Path  # the run's folder
    fabric: Fabric
    library: FootageLibrary
    spans: Spans  # to train on
    held: Spans  # never trained on; may be empty
    clips: ClipSampler  # of `spans`, of the size that the stage trains on
    watched: ClipSampler  # of `held`, or of `spans` where nothing is held out
    perceptual: PerceptualDistance | None
    words: WordVectors | None
    facts: dict[str, Any]  # for every checkpoint
    start: Start | None  # a trained generator to start from


def gather(arguments: argparse.Namespace) -> StageInputs:
    """Open the inputs that the command line names.

    Raises:
        ValueError: an input cannot be used.
    """
    config, start = configuration(arguments)
    crop = {
        "pretrain": config.pretrain.crop,
        "finetune": config.finetune.crop,
        "polish": 0,
        "hints": config.hints.crop,
    }[arguments.command]
    if arguments.out.exists() and not arguments.out.is_dir():
        raise ValueError(f"--out {arguments.out} is a file, expected a folder: name another place for the run")
    fabric = start_engine(config, getattr(arguments, "environment", None))
    if arguments.command == "pretrain":  # the other stages run in one process, and say so
        require_shareable(config.pretrain.batch, fabric.world_size)
        require_shared(fabric, arguments.out)
    if fabric.is_global_zero:
        print(precision_sentence(config.run.precision, fabric.device.type), flush=True)
    with fabric.rank_zero_first():  # the first process decodes the footage for all
        library = open_footage(arguments.data, config.footage, arguments.cache)
    spans, held = (split(library, config.footage, name) for name in ("train", "heldout"))
    if not held and fabric.is_global_zero:
        print("nothing is held out (one scene, or clips too short): measures and samples use training footage")
    height, width = (crop or side for side in (config.model.height, config.model.width))
    part = zoomed(config.footage, height / config.model.height)
    unweighted = replace(part, motion_weight=0.0)  # measures and samples show scenes as they are
    clips = ClipSampler(spans, part, height, width, config.run.seed)
    watched = ClipSampler(held or spans, unweighted, height, width, config.run.seed)
    perceptual = None if arguments.perceptual is None else PerceptualDistance(arguments.perceptual).to(fabric.device)
    torch.manual_seed(config.run.seed)
    facts: dict[str, Any] = {
        "data": str(arguments.data.resolve()), "words": "", "footage": spans.provenance(),
        "vocabulary": sorted({word for span in spans for word in library.take(span.take).caption.lower().split()}),
    }  # fmt: skip
    words, folder = None, getattr(arguments, "words", None)
    if start is not None:
        facts["start"] = start.note()
        facts["vocabulary"] = sorted({*facts["vocabulary"], *start.vocabulary})
        own = write_parts(start, arguments.out)
        folder = folder or own
    if folder is not None:
        words = WordVectors.open(folder)
        facts["words"] = str(folder.resolve())
    return StageInputs(
        config, arguments.out, fabric, library, spans, held, clips, watched, perceptual, words, facts, start
    )


def configuration(arguments: argparse.Namespace) -> tuple[Config, Start | None]:
    """Return the configuration of a stage, and the trained generator that it starts from, if any.

    Raises:
        ValueError: it cannot be read, or is missing where it is needed.
    """
    path: Path | None = arguments.config
    if (named := getattr(arguments, "start", None)) is not None:
        if arguments.pretrained is not None:
            raise ValueError("--from and --pretrained are both there: name one of them")
        start = open_start(named)
        return adapted_config(start, path, arguments.changes), start
    if path is not None:
        return load_config(path, arguments.changes), None
    if arguments.command == "polish":
        source = arguments.out / "finetune.pt"
        return changed_config(load_checkpoint(source)["config"], arguments.changes, str(source)), None
    raise ValueError(
        f"{arguments.command} needs CONFIG, for example training/configs/own-256.toml, or --from BUNDLE to start from "
        "a trained generator"
    )


def note_held_out(run: Path, stage: str, iteration: int, **found: Any) -> None:
    """Append held-out measures to `RUN/heldout.jsonl`."""
    path = run / "heldout.jsonl"
    forget(path, stage, iteration - 1)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"stage": stage, "iteration": iteration, **found}) + "\n")


def pretraining(material: StageInputs, arguments: argparse.Namespace) -> tuple[TrainingStage, Evaluate]:
    """Return the first stage and its evaluation."""
    config, library = material.config, material.library
    weight = config.pretrain.weights["alignment"]
    if weight > 0 and not any(library.take(span.take).caption for span in material.spans):
        raise ValueError(
            f"{arguments.data} has no captions and pretrain.alignment is {weight}: "
            "add captions.csv (file,caption) to the footage, or set pretrain.alignment to 0"
        )
    stage = PretrainStage(config, material.perceptual, material.words)
    held = held_out(stage.pretrainer, material.watched, config, config.run.evaluate_clips, material.fabric.device)

    def evaluate(average: nn.Module, iteration: int, board: TensorBoardLog) -> None:
        assert isinstance(average, Pretrainer)
        own = held.by(average.generator)
        measures = measures_of(average, own)
        note_held_out(material.out, "pretrain", iteration, measures=[measure.to_dict() for measure in measures])
        board.add_measures(iteration, measures)
        board.add_pictures(iteration, pictures_of(average, own))

    return stage, evaluate


def finetuning(material: StageInputs, arguments: argparse.Namespace) -> tuple[TrainingStage, Evaluate]:
    """Return the second stage and its evaluation."""
    config, model = material.config, material.config.model
    require_not_polished(material.out, config.finetune.iterations)
    pretrained: Path | None = arguments.pretrained or material.out / "pretrain.pt"
    if config.finetune.pretrained == "none" or material.start is not None:
        pretrained = None
    elif pretrained is not None and find_checkpoint(pretrained) is None:
        raise ValueError(f'no {pretrained}: run pretrain first, or set finetune.pretrained to "none"')
    footage = replace(config.footage, motion_weight=0.0)  # the mixture has every scene's share of the footage
    whole = ClipSampler(material.spans, footage, model.height, model.width, config.run.seed)
    watched = material.watched if material.held else None
    stage = FinetuneStage(config, pretrained, material.perceptual, material.words, whole, watched, material.start)

    def evaluate(average: nn.Module, iteration: int, board: TensorBoardLog) -> None:
        figures = stage.held_out_figures(average, config.run.evaluate_clips)
        note_held_out(material.out, "finetune", iteration, figures=figures)
        board.add_scalars(iteration, figures, "heldout")

    return stage, evaluate


def require_not_polished(run: Path, iterations: int, stage: str = "finetune") -> None:
    """Raise ValueError if more fine-tuning (or polishing) would make the checkpoint of a later stage outdated."""
    later = [name for name in STAGES[STAGES.index(stage) + 1 :] if (run / f"{name}.pt").exists()]
    source = run / f"{stage}.pt"
    if later and (not source.exists() or int(load_checkpoint(source)["iteration"]) < iterations):
        more = {"finetune": "fine-tuning", "polish": "polishing"}[stage]
        raise ValueError(
            f"{run} has a {later[0]}.pt, which more {more} would outdate: delete it, or name another --out"
        )


def polishing(material: StageInputs, arguments: argparse.Namespace) -> tuple[TrainingStage, None]:  # noqa: ARG001 - as the others
    """Return the third stage, which has no held-out measures."""
    require_not_polished(material.out, material.config.polish.iterations, "polish")
    stage = PolishStage(material.config, material.out / "finetune.pt", material.perceptual, material.clips)
    material.facts.update(stage.facts)  # words, vocabulary and start are those of fine-tuning
    return stage, None


def hinting(material: StageInputs, arguments: argparse.Namespace) -> tuple[TrainingStage, Evaluate]:
    """Return the stage that learns to follow motion hints, and its evaluation."""
    config, source = material.config, arguments.pretrained or newest_checkpoint(material.out, STAGES[:-1])
    stage = HintsStage(config, source)
    material.facts.update(stage.facts)  # words and vocabulary are those of the generator
    material.facts["footage"] = joined_footage(material.facts["footage"], stage.footage)

    def evaluate(average: nn.Module, iteration: int, board: TensorBoardLog) -> None:
        figures = stage.held_out_figures(average, material.watched, config.run.evaluate_clips)
        note_held_out(material.out, "hints", iteration, figures=figures)
        board.add_scalars(iteration, figures, "heldout")

    return stage, evaluate


BUILDERS: dict[str, Callable[[StageInputs, argparse.Namespace], tuple[TrainingStage, Evaluate | None]]] = {
    "pretrain": pretraining,
    "finetune": finetuning,
    "polish": polishing,
    "hints": hinting,
}


def run(arguments: argparse.Namespace) -> None:
    """Run a stage of training to its end."""
    material = gather(arguments)
    stage, evaluate = BUILDERS[arguments.command](material, arguments)
    config, fabric, facts = material.config, material.fabric, material.facts
    note = {
        "name": config.name, "description": config.description, "config_digest": config.digest(),
        "data": facts["data"], "words": facts["words"], "device": str(fabric.device), "processes": fabric.world_size,
        "precision": choose_precision(config.run.precision, fabric.device.type),
    }  # fmt: skip
    train(stage, config, fabric, material.clips, material.watched, material.out, facts, note, evaluate)
