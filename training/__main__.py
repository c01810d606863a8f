"""Footage in, a trained generator out: `python -m training pretrain|finetune|sample CONFIG --data DIR --out RUN`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

EXAMPLES = """examples:
  python -m training pretrain training/configs/landscape-128.toml --data FOOTAGE --out runs/landscape
  python -m training finetune training/configs/landscape-128.toml --data FOOTAGE --out runs/landscape
  python -m training sample   training/configs/landscape-128.toml --data FOOTAGE --out runs/landscape

FOOTAGE is any folder of videos; captions.csv in it (file,caption[,scene,licence,source]) is optional. The same command
resumes a run that was stopped. RUN holds pretrain.pt and finetune.pt, metrics.jsonl, tensorboard/ and samples/.
"""


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    main_parser = argparse.ArgumentParser(
        prog="python -m training",
        description="Train a video generator on a folder of videos.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    main_parser.add_argument("command", choices=("pretrain", "finetune", "sample"), help="the stage to run, or samples")
    main_parser.add_argument("config", type=Path, metavar="CONFIG", help="a TOML file, see training/configs/")
    main_parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="a folder of videos")
    main_parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="the run's folder")
    main_parser.add_argument("--from-scratch", action="store_true", help="finetune without RUN/pretrain.pt")
    main_parser.add_argument("--perceptual", type=Path, metavar="FILE", help="LPIPS weights (ONNX), to look sharper")
    main_parser.add_argument("--cache", type=Path, metavar="DIR", help="where decoded footage is kept")
    return main_parser


def run(arguments: argparse.Namespace) -> None:
    """Carry out one command; raises ValueError for anything the user can mend."""
    import torch

    from training.checkpoint import load_generator, newest_checkpoint
    from training.config import load_config
    from training.finetune import FinetuneStage
    from training.footage import ClipSampler, load_footage
    from training.loop import Stage, train
    from training.perceptual import PerceptualDistance
    from training.pretrain import PretrainStage
    from training.sampling import write_samples

    config = load_config(arguments.config)
    out: Path = arguments.out
    if arguments.command == "sample":
        newest_checkpoint(out)
        generator, config, facts = load_generator(out)
        videos = load_footage(arguments.data, config.footage, "heldout", arguments.cache)
        videos = videos or load_footage(arguments.data, config.footage, "train", arguments.cache)
        clips = ClipSampler(videos, config.footage, config.model.height, config.model.width, config.run.seed)
        path = out / "samples" / f"{facts['stage']}-{facts['iteration']:06d}"
        write_samples(generator, clips, config, path)
        print(f"wrote {path}.png and {path}.mp4")
        return
    videos = load_footage(arguments.data, config.footage, "train", arguments.cache)
    held_out = load_footage(arguments.data, config.footage, "heldout", arguments.cache)
    if not held_out:
        print("nothing is held out (one scene, or clips too short): samples will show the footage trained on")
    perceptual = None if arguments.perceptual is None else PerceptualDistance(arguments.perceptual)
    stage: Stage
    torch.manual_seed(config.run.seed)
    if arguments.command == "pretrain":
        stage = PretrainStage(config, perceptual)
    else:
        pretrained = out / "pretrain.pt"
        if not arguments.from_scratch and not pretrained.is_file():
            raise ValueError(f"no {pretrained}: run pretrain first, or pass --from-scratch")
        stage = FinetuneStage(config, None if arguments.from_scratch else pretrained, perceptual)
    train(stage, config, videos, held_out, out)


def main() -> int:
    """Run the command line; status 2 and one sentence for what the user can mend."""
    arguments = parser().parse_args()
    try:
        run(arguments)
    except (ValueError, OSError) as error:
        print(f"training: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("training: stopped; the same command resumes from the last checkpoint", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
