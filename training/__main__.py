"""Footage in, a trained generator out: `python -m training pretrain|finetune|polish ...` and what goes with it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

EXAMPLES = """examples:
  python -m training pack     FOOTAGE --out PACK --megabytes 20
  python -m training shard    FOOTAGE --out SHARDS
  python -m training words    MODEL --out WORDS
  python -m training pretrain training/configs/landscape-256.toml --data SHARDS --words WORDS --out runs/landscape
  python -m training probe    runs/landscape
  python -m training finetune training/configs/landscape-256.toml --data SHARDS --out runs/landscape
  python -m training polish   training/configs/landscape-256.toml --data SHARDS --out runs/landscape
  python -m training sample   runs/landscape

FOOTAGE is any folder of videos; captions.csv in it (file,caption[,scene,class,licence,source]) is optional, and so is
sharding: --data takes the folder itself, too. The same command resumes a run that was stopped. RUN holds
pretrain.pt, finetune.pt and polish.pt, metrics.jsonl, tensorboard/, samples/ and report.html.
"""


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    from training import pack, probe, shards, words

    main_parser = argparse.ArgumentParser(
        prog="python -m training",
        description="Train a video generator on a folder of videos.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = main_parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    pack.add_arguments(commands.add_parser("pack", help="make a folder of videos small enough to be carried"))
    shards.add_arguments(commands.add_parser("shard", help="decode, cut and pack a folder of videos once"))
    words.add_arguments(commands.add_parser("words", help="distil word vectors from a sentence encoder"))
    for name, sentence in (
        ("pretrain", "learn from video without labels"),
        ("finetune", "train generator and critic against each other"),
        ("polish", "sharpen what is made up from text or a seed"),
    ):
        stage = commands.add_parser(name, help=sentence)
        stage.add_argument("config", type=Path, metavar="CONFIG", help="a TOML file, see training/configs/")
        stage.add_argument(
            "--data", type=Path, required=True, metavar="DIR", help="a folder of videos, or shards of it"
        )
        stage.add_argument("--out", type=Path, required=True, metavar="RUN", help="the run's folder")
        stage.add_argument("--perceptual", type=Path, metavar="FILE", help="LPIPS weights (ONNX), to look sharper")
        stage.add_argument("--cache", type=Path, metavar="DIR", help="where decoded footage is kept")
        stage.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            dest="changes",
            help="change the configuration, for example pretrain.order=0",
        )
        if name != "polish":
            stage.add_argument("--words", type=Path, metavar="WORDS", help="word vectors, for captions and prompts")
        if name == "finetune":
            stage.add_argument(
                "--pretrained", type=Path, metavar="FILE", help="checkpoint to start from (RUN/pretrain.pt)"
            )
    probe.add_arguments(commands.add_parser("probe", help="measure what a pretrained encoder knows"))
    sample = commands.add_parser("sample", help="show what a run's generator makes")
    sample.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    sample.add_argument("--data", type=Path, metavar="DIR", help="footage; the run's own if not given")
    sample.add_argument("--cache", type=Path, metavar="DIR", help="where decoded footage is kept")
    return main_parser


def run(arguments: argparse.Namespace) -> None:
    """Carry out one command; raises ValueError for anything the user can mend."""
    from training import pack, probe, shards, words

    commands = {
        "pack": pack.run, "shard": shards.run, "words": words.run, "probe": probe.run, "sample": show_samples,
        "pretrain": train_stage, "finetune": train_stage, "polish": train_stage,
    }  # fmt: skip
    commands[arguments.command](arguments)


def show_samples(arguments: argparse.Namespace) -> None:
    """Write a contact sheet and a clip of what a run's newest generator makes."""
    from training.checkpoint import load_generator
    from training.footage import ClipSampler, open_footage, split
    from training.sampling import write_samples

    generator, config, facts = load_generator(arguments.run)
    library = open_footage(arguments.data or Path(facts["data"]), config.footage, arguments.cache)
    spans = split(library, config.footage, "heldout") or split(library, config.footage, "train")
    clips = ClipSampler(spans, config.footage, config.model.height, config.model.width, config.run.seed)
    path = arguments.run / "samples" / f"{facts['stage']}-{facts['iteration']:06d}"
    write_samples(generator, clips, config, path)
    print(f"wrote {path}.png and {path}.mp4")


def train_stage(arguments: argparse.Namespace) -> None:
    """Run a stage of training to its end."""
    import torch
    from torch import nn

    from training.config import load_config
    from training.engine import start_engine
    from training.finetune import FinetuneStage
    from training.footage import ClipSampler, open_footage, split, zoomed
    from training.loop import Stage, forget, train
    from training.perceptual import PerceptualDistance
    from training.pictures import write_pictures
    from training.polish import PolishStage
    from training.pretrain import Pretrainer, PretrainStage, held_out, measures_of
    from training.report import write_report
    from training.words import Words

    config = load_config(arguments.config, arguments.changes)
    crop = {"pretrain": config.pretrain.crop, "finetune": config.finetune.crop, "polish": 0}[arguments.command]
    out: Path = arguments.out
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file, expected a folder: name another place for the run")
    fabric = start_engine(config)
    with fabric.rank_zero_first():  # the first process decodes the footage, the others find it decoded
        library = open_footage(arguments.data, config.footage, arguments.cache)
    spans, held_spans = (split(library, config.footage, name) for name in ("train", "heldout"))
    if not held_spans and fabric.is_global_zero:
        print("nothing is held out (one scene, or clips too short): measures and samples are of the footage trained on")
    height, width = (crop or side for side in (config.model.height, config.model.width))
    part = zoomed(config.footage, height / config.model.height)
    clips, watched = (ClipSampler(some, part, height, width, config.run.seed) for some in (spans, held_spans or spans))
    perceptual = None if arguments.perceptual is None else PerceptualDistance(arguments.perceptual).to(fabric.device)
    torch.manual_seed(config.run.seed)
    facts: dict[str, Any] = {
        "data": str(arguments.data.resolve()), "words": "", "footage": spans.provenance(),
        "vocabulary": sorted({word for span in spans for word in library.take(span.take).caption.lower().split()}),
    }  # fmt: skip
    stage: Stage
    evaluate = None
    words = None
    if arguments.command != "polish" and arguments.words is not None:
        words = Words.open(arguments.words)
        facts["words"] = str(arguments.words.resolve())
    if arguments.command == "pretrain":
        if config.pretrain.alignment > 0 and not any(library.take(span.take).caption for span in spans):
            raise ValueError(
                f"{arguments.data} has no captions and pretrain.alignment is {config.pretrain.alignment}: "
                "add captions.csv (file,caption) to the footage, or set pretrain.alignment to 0"
            )
        stage = PretrainStage(config, perceptual, words)
        held = held_out(stage.pretrainer, watched, config, config.run.evaluate_clips, fabric.device)

        def evaluate(average: nn.Module, iteration: int) -> None:
            assert isinstance(average, Pretrainer)
            own = held.by(average.generator)
            path = out / "heldout.jsonl"
            forget(path, "pretrain", iteration - 1)
            measures = [measure.to_dict() for measure in measures_of(average, own)]
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"stage": "pretrain", "iteration": iteration, "measures": measures}) + "\n")
            write_pictures(average, own, out)
            write_report(out)

    elif arguments.command == "polish":
        stage = polishing = PolishStage(config, out / "finetune.pt", perceptual, clips)
        facts |= polishing.facts  # what the prompts' words are is fine-tuning's to say
    else:
        require_not_polished(out, config.finetune.iterations)
        pretrained = arguments.pretrained or out / "pretrain.pt"
        is_needed = config.finetune.pretrained != "none"
        if is_needed and not pretrained.is_file():
            raise ValueError(f'no {pretrained}: run pretrain first, or set finetune.pretrained to "none"')
        whole = ClipSampler(spans, config.footage, config.model.height, config.model.width, config.run.seed)
        stage = finetuning = FinetuneStage(
            config, pretrained if is_needed else None, perceptual, words, whole, watched if held_spans else None
        )

        def evaluate(average: nn.Module, iteration: int) -> None:
            path = out / "heldout.jsonl"
            forget(path, "finetune", iteration - 1)
            figures = finetuning.held_out_figures(average, config.run.evaluate_clips)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"stage": "finetune", "iteration": iteration, "figures": figures}) + "\n")

    note = {
        "name": config.name, "description": config.description, "config_digest": config.digest(),
        "data": facts["data"], "words": facts["words"], "device": str(fabric.device), "processes": fabric.world_size,
    }  # fmt: skip
    train(stage, config, fabric, clips, watched, out, facts, note, evaluate)


def require_not_polished(run: Path, iterations: int) -> None:
    """Raise ValueError if more fine-tuning would leave a `polish.pt` behind that is not of it."""
    from training.checkpoint import load_checkpoint

    if not (run / "polish.pt").exists():
        return
    source = run / "finetune.pt"
    if not source.exists() or int(load_checkpoint(source)["iteration"]) < iterations:
        raise ValueError(f"{run} has a polish.pt, which more fine-tuning outdates: delete it, or name another --out")


def main() -> int:
    """Run the command line; status 2 and one sentence for what the user can mend."""
    try:
        run(parser().parse_args())
    except KeyboardInterrupt:
        print("stopped; the same command resumes from the last checkpoint", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"training: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
