"""A trained generator, or somebody's ONNX model -> a bundle: `python -m export RUN --out BUNDLE`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

# A first argument of this name is a command of its own (a run folder of that name is written ./import).
COMMANDS = {"import": "export.import_command"}
EXAMPLES = """examples:
  python -m export runs/landscape --out bundles/landscape-256
  python -m export runs/landscape --out bundles/landscape-256 --force
  python -m export import model.onnx --out bundles/mine       somebody's ONNX model; python -m export import --help

Writes condition.onnx and step.onnx, golden frames and bundle.json (docs/bundle.md). Every engine that is installed is
then run in a closed loop against PyTorch, frame by frame; a bundle that differs by more than its gate (60 dB in FP32,
40 dB in bf16, worst frame) is not written. The bundle is complete or absent.
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line without a command."""
    main_parser = argparse.ArgumentParser(
        prog="python -m export",
        description="Turn a trained generator into a bundle that the runtime puts on air.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    main_parser.add_argument("run", type=Path, metavar="RUN", help="folder of a training run")
    main_parser.add_argument("--out", type=Path, required=True, metavar="BUNDLE", help="folder to write")
    main_parser.add_argument("--words", type=Path, metavar="WORDS", help="word vectors (those of the training)")
    main_parser.add_argument("--force", action="store_true", help="replace BUNDLE if it exists")
    return main_parser


def run(words: Sequence[str]) -> Path:
    """Export a run and return the bundle's folder."""
    arguments = parser().parse_args(words)
    from export.assembly import export_run

    export_run(arguments.run, arguments.out, force=arguments.force, words=arguments.words)
    out: Path = arguments.out
    return out


def main() -> int:
    """Run the command line; status 2 and one sentence for what the user can mend."""
    words = sys.argv[1:]
    try:
        if words and words[0] in COMMANDS:
            out: Path = import_module(COMMANDS[words[0]]).run(words[1:])
        else:
            out = run(words)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 2
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    print(f"wrote {out} ({size / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
