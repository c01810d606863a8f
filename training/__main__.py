"""The command line of training: `python -m training footage|shard|words|pretrain|finetune|polish|hints|...`."""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

from training.atomic_file import to_sentence

EXAMPLES = """examples:
  python -m training footage  --out FOOTAGE --clips 8 --kinds ocean,clouds
  python -m training shard    FOOTAGE --out SHARDS
  python -m training words    MODEL --out WORDS
  python -m training pretrain training/configs/landscape.toml --data SHARDS --words WORDS --out runs/landscape
  python -m training pretrain training/configs/landscape.toml --data SHARDS --out /mnt/runs/a --cluster auto --workers 4
  python -m training probe    runs/landscape
  python -m training finetune training/configs/landscape.toml --data SHARDS --out runs/landscape
  python -m training polish   training/configs/landscape.toml --data SHARDS --out runs/landscape
  python -m training hints    training/configs/landscape.toml --data SHARDS --out runs/landscape
  python -m training finetune --from bundles/landscape --data FOOTAGE --out runs/mine     a shipped generator, adapted
  python -m training enlarge  training/configs/landscape.toml --photos PHOTOS --out runs/landscape
  python -m training areas    --areas examples/moving-areas.toml --pictures PHOTOS --backbone FILE --out runs/areas
  python -m training super-resolution training/configs/enlarge-2x.toml --data FOOTAGE --out runs/enlarge
  python -m training sample   runs/landscape

FOOTAGE is a folder of videos, optionally with captions.csv (file,caption[,scene,class,licence,source]). Sharding is
optional: --data also takes the folder itself. The same command resumes a stopped run. The folder of a run holds
pretrain.pt, finetune.pt, polish.pt, hints.pt and enlarge.pt, metrics.jsonl, heldout.jsonl, tensorboard/ and samples/.
"""


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    from training.data import shards, words
    from training.made import command as made
    from training.stages import areas, enlarge, fill, super_resolution
    from training.tasks import probe

    main_parser = argparse.ArgumentParser(
        prog="python -m training",
        description="Train a video generator on a folder of videos.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = main_parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    made.add_arguments(commands.add_parser("footage", help="make moving scenes with captions, from nothing"))
    shards.add_arguments(commands.add_parser("shard", help="decode and cut folders of videos into shards, once"))
    words.add_arguments(commands.add_parser("words", help="create word vectors from a sentence encoder"))
    for name, sentence in (
        ("pretrain", "learn from video without labels"),
        ("finetune", "train generator and discriminators against each other"),
        ("polish", "sharpen scenes generated from text or a seed"),
        ("hints", "train only the layers that read motion hints"),
    ):
        stage = commands.add_parser(name, help=sentence)
        optional = {
            "finetune": "; may be left out with --from",
            "polish": "; that of finetune if left out",
        }.get(name)
        stage.add_argument(
            "config", type=Path, metavar="CONFIG", nargs="?" if optional else None,
            help=f"a TOML file, see training/configs/{optional or ''}",
        )  # fmt: skip
        stage.add_argument("--data", type=Path, required=True, metavar="DIR", help="a folder of videos or of shards")
        stage.add_argument("--out", type=Path, required=True, metavar="RUN", help="the run's folder")
        stage.add_argument("--perceptual", type=Path, metavar="FILE", help="LPIPS weights (ONNX), for sharper pictures")
        stage.add_argument("--cache", type=Path, metavar="DIR", help="folder for decoded footage")
        stage.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            dest="changes",
            help="override a configuration key, for example pretrain.order=0",
        )
        if name in ("pretrain", "finetune"):
            stage.add_argument("--words", type=Path, metavar="WORDS", help="word vectors, for captions and prompts")
        if name == "pretrain":
            add_cluster_arguments(stage)
        if name in ("finetune", "hints"):
            usual = "RUN/pretrain.pt" if name == "finetune" else "the newest in RUN"
            stage.add_argument("--pretrained", type=Path, metavar="FILE", help=f"checkpoint to start from ({usual})")
        if name == "finetune":
            stage.add_argument(
                "--from", type=Path, metavar="START", dest="start",
                help="a bundle or a run whose trained generator is adapted, for example bundles/landscape",
            )  # fmt: skip
    enlarge.add_arguments(commands.add_parser("enlarge", help="train the network that enlarges painted pictures"))
    super_resolution.add_arguments(
        commands.add_parser("super-resolution", help="train the network that enlarges live video")
    )
    fill.add_arguments(commands.add_parser("fill", help="train the network that fills holes of live video"))
    areas.add_arguments(commands.add_parser("areas", help="train the network that says what may move in a picture"))
    probe.add_arguments(commands.add_parser("probe", help="measure a pretrained encoder on held-out footage"))
    sample = commands.add_parser("sample", help="write samples of a run's generator")
    sample.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    sample.add_argument("--data", type=Path, metavar="DIR", help="footage; the run's own if not given")
    sample.add_argument("--cache", type=Path, metavar="DIR", help="folder for decoded footage")
    return main_parser


def add_cluster_arguments(stage: argparse.ArgumentParser) -> None:
    """Add the arguments of a stage that can be trained on several machines."""
    group = stage.add_argument_group("on several machines, with Ray (docs/cluster.md)")
    group.add_argument(
        "--cluster", metavar="ADDRESS",
        help="train in a Ray cluster: HOST:PORT, auto (the one of this machine), or local (this machine alone)",
    )  # fmt: skip
    group.add_argument(
        "--workers", type=int, metavar="N", help="processes (one for each GPU, without GPUs one for each machine)"
    )
    group.add_argument("--use-gpu", action="store_true", help="give every worker a GPU")
    group.add_argument(
        "--retries", type=int, default=3, metavar="N",
        help="how often failed workers are started again; they resume (%(default)s)",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> None:
    """Run one command; raises ValueError for a mistake of the user."""
    from training.data import shards, words
    from training.made import command as made
    from training.stages import areas, enlarge, fill, super_resolution
    from training.tasks import probe

    commands = {
        "footage": made.run, "shard": shards.run, "words": words.run, "probe": probe.run, "sample": show_samples,
        "pretrain": train_stage, "finetune": train_stage, "polish": train_stage, "hints": train_stage,
        "enlarge": enlarge.run, "areas": areas.run, "super-resolution": super_resolution.run,
        "fill": fill.run,
    }  # fmt: skip
    commands[arguments.command](arguments)


def show_samples(arguments: argparse.Namespace) -> None:
    """Write a contact sheet and a clip of a run's newest generator."""
    from training.checkpoint import load_generator
    from training.data.footage import ClipSampler, open_footage, split
    from training.sampling import write_samples

    generator, config, facts = load_generator(arguments.run)
    library = open_footage(arguments.data or Path(facts["data"]), config.footage, arguments.cache)
    spans = split(library, config.footage, "heldout") or split(library, config.footage, "train")
    clips = ClipSampler(spans, config.footage, config.model.height, config.model.width, config.run.seed)
    path = arguments.run / "samples" / f"{facts['stage']}-{facts['iteration']:06d}"
    write_samples(generator, clips, config, path)
    print(f"wrote {path}.png and {path}.mp4")


def train_stage(arguments: argparse.Namespace) -> None:
    """Run a stage of training to its end, here or in a cluster."""
    from training.stages import command as stages

    if getattr(arguments, "cluster", None):
        run_in_cluster(arguments)
        return
    for option in ("workers", "use_gpu"):
        if getattr(arguments, option, None):
            raise ValueError(f"--{option.replace('_', '-')} is for a cluster: name one with --cluster ADDRESS")
    stages.run(arguments)


def run_in_cluster(arguments: argparse.Namespace) -> None:
    """Run a stage of training to its end in a Ray cluster."""
    if arguments.workers is not None and arguments.workers < 1:
        raise ValueError(f"--workers is {arguments.workers}, expected 1 or more")
    if arguments.retries < 0:
        raise ValueError(f"--retries is {arguments.retries}, expected 0 or more")
    try:
        from training import cluster
    except ImportError as error:
        if (error.name or "ray").split(".")[0] == "training":
            raise
        raise ValueError(f"--cluster needs Ray ({error}): pip install 'everframe[cluster]'") from None
    cluster.run(arguments)


def main() -> int:
    """Run the command line; a mistake of the user gives one sentence and exit status 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # no buffering in files and pipes; print any file name
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    try:
        run(parser().parse_args())
    except KeyboardInterrupt:
        print("stopped; the same command resumes from the last checkpoint", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"training: {to_sentence(error, 'files written before are kept')}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
