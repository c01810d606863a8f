"""A trained generator, or somebody's ONNX model -> a bundle: `python -m export RUN --out BUNDLE`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from export.arguments import to_list, to_size
from runtime.errors import BundleError, EngineError
from training.atomic_file import to_sentence

# A first argument of this name is a command of its own (a run folder of that name is written ./import).
COMMANDS = {"import": "export.from_onnx.command", "check": "export.check"}
PRECISIONS = ("fp32", "fp16")
EXAMPLES = """what is written:
  condition.onnx, step.onnx   both graphs, from pixels to pixels; FP32 arithmetic, weights at rest in FP16
  golden/                     PyTorch's own frames, from a seed, a picture, a clip and (if it listens) a text
  text/                       token vectors, if the generator listens to text
  engines/                    engines of TensorRT and TensorRT-RTX: may be deleted; loaded with --trust-engines alone
  bundle.json                 the manifest (docs/bundle.md), with the parity of every engine under "verified"

what is checked, before anything takes BUNDLE's name:
  Every engine that this machine can run plays 300 frames from a seed, 100 each from a picture, a clip and a
  text, and is compared with PyTorch frame by frame. Gates of the worst frame: 60 dB in FP32, 40 dB in bf16, 35 dB in
  FP16. At least 95 % of the convolutions of a frame must run in FP16 in an FP16 engine. What fails
  leaves nothing behind.

examples:
  python -m export runs/landscape --out bundles/landscape-256
  python -m export runs/landscape --out bundles/landscape-256 --force       replace it, in one move at the end
  python -m export runs/landscape --out bundles/wide --size 384x256         the same weights at another size
  python -m export runs/landscape --out bundles/rtx --engine tensorrt-rtx --target sm86,sm89,sm120
                                                                            an engine for each; needs no GPU
  python -m export runs/landscape --out bundles/small --engine none         graphs alone
  python -m export import model.onnx --out bundles/mine                     somebody's ONNX model
  python -m export check bundles/landscape-256                              golden frames on this machine's engines
  (python -m export import --help and check --help say more)

exit status: 0 the bundle is written, 2 it is not, and one sentence says why; 130 Ctrl-C. BUNDLE is complete or absent.
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line without a command."""
    main_parser = argparse.ArgumentParser(
        prog="python -m export",
        usage="python -m export RUN --out BUNDLE [options]\n"
        "       python -m export import MODEL.onnx --out BUNDLE [options]\n"
        "       python -m export check BUNDLE [options]",
        description="Turn a trained generator into a bundle for the runtime, and prove that both make the same frames.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = main_parser.add_argument
    add("run", type=Path, metavar="RUN", help="folder of a training run; its newest stage is taken")
    add("--out", type=Path, required=True, metavar="BUNDLE", help="folder to write")
    add("--force", action="store_true", help="replace BUNDLE if it exists and is a bundle")
    add("--size", metavar="WxH", help="frame size in pixels, multiples of 32 (default: that of the training)")
    add(
        "--precision", default="fp32,fp16", metavar="P,...",
        help="fp32, fp16: of TensorRT's engines and of ONNX Runtime's parity (default: both)",
    )  # fmt: skip
    add(
        "--engine", metavar="E,...",
        help="tensorrt, tensorrt-rtx: engines to build, or none (default: those that can be built here)",
    )  # fmt: skip
    add(
        "--target", default="", metavar="SM,...",
        help="compute capabilities for tensorrt-rtx, e.g. sm86,sm89,sm120 (default: one engine for all of them)",
    )  # fmt: skip
    add("--words", type=Path, metavar="WORDS", help="word vectors (default: those of the training)")
    return main_parser


def run(words: Sequence[str]) -> Path:
    """Export a run and return the bundle's folder."""
    arguments = parser().parse_args(words)
    size = None if arguments.size is None else to_size(arguments.size)
    precisions = to_list(arguments.precision)
    if not precisions or not set(precisions) <= set(PRECISIONS):
        raise ValueError(f"--precision must be fp32, fp16 or both (fp32,fp16), got {arguments.precision!r}")
    engines = None if arguments.engine is None else to_list(arguments.engine)
    if engines is not None and "none" in engines:
        if len(engines) > 1:
            raise ValueError(f'--engine is "none" or names of engines, got {arguments.engine!r}')
        engines = ()
    from export.bundle_writer import ExportOptions, export_run

    wish = ExportOptions(
        words=arguments.words, size=size, precisions=precisions, engines=engines, targets=to_list(arguments.target)
    )
    export_run(arguments.run, arguments.out, force=arguments.force, wish=wish)
    out: Path = arguments.out
    return out


def main() -> int:
    """Run the command line; status 2 and one sentence for what the user can mend."""
    words = sys.argv[1:]
    # As Ctrl-C: what was begun is cleared away.
    signal.signal(signal.SIGTERM, _end)
    try:
        command = import_module(COMMANDS[words[0]]).run if words and words[0] in COMMANDS else None
        out: Path | int = run(words) if command is None else command(words[1:])
    except KeyboardInterrupt:
        print("export: stopped; nothing was written", file=sys.stderr)
        return 130
    except (BundleError, EngineError, ValueError, OSError) as error:
        print(f"export: {to_sentence(error, 'nothing was written')}", file=sys.stderr)
        return 2
    if isinstance(out, int):
        return out
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file() and file.parent != out / "engines")
    print(f"wrote {out} ({size / 1e6:.1f} MB without its engines)")
    return 0


def _end(*_: object) -> None:
    print("export: ended; nothing was written", file=sys.stderr)
    sys.exit(143)


if __name__ == "__main__":
    sys.exit(main())
