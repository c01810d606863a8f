"""Writes bundles from a training run or from an ONNX model: `python -m export RUN --out BUNDLE`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from export.commandline import add_sizes, sizes_of, to_list
from runtime.errors import BundleError, EngineError
from training.atomic_file import to_sentence

# First arguments that select another command (write ./check for a run folder of that name).
COMMANDS = {
    "from-onnx": "export.from_onnx.command",
    "import": "export.from_onnx.command",  # the old name of from-onnx, kept for one release
    "from-tflite": "export.from_tflite.command",
    "diffusers": "export.diffusers.command",
    "check": "export.check",
    "int8": "export.int8.command",
    "upgrade": "export.upgrade",
    "scenes": "export.scenes",
    "areas": "export.from_areas",
    "enlarge": "export.from_super_resolution",
    "fill": "export.from_fill",
    "triton": "export.triton.command",
}
PRECISIONS = ("fp32", "fp16")
EXAMPLES = """files of a bundle:
  paint.onnx                  makes pictures up from a seed or a text
  condition-WxH.onnx          reads a picture, once per scene; FP32 arithmetic, weights stored in FP16, like the others
  step-WxH.onnx               how the picture moves, for every frame; the runtime adds the pixels, at any size
  golden/                     PyTorch's frames from a seed, an image, a clip and (if the generator takes text) a text
  text/                       token vectors, if the generator takes text
  engines/                    TensorRT and TensorRT-RTX engines: optional; loaded only with --trust-engines
  bundle.json                 the manifest (docs/bundle.md); the parity of every engine is under "verified"

checks before BUNDLE is written:
  Every engine of this machine plays 300 frames from a seed, and 100 each from an image, a clip and a text. Each frame
  is compared with PyTorch's. The gate of the worst frame is 60 dB in FP32, 40 dB in bf16 and 35 dB in FP16. At least
  95 % of a frame's convolutions must run in FP16 in an FP16 engine. If a check fails, nothing is written.

examples:
  python -m export runs/landscape --out bundles/landscape
  python -m export runs/landscape --out bundles/landscape --force           replace it after all checks have passed
  python -m export runs/landscape --out bundles/square --work 320x320       for square pictures
  python -m export runs/landscape --out bundles/rtx --engine tensorrt-rtx --target sm86,sm89,sm120
                                                                            one engine for each; needs no GPU
  python -m export runs/landscape --out bundles/small --engine none         no TensorRT engines
  python -m export from-onnx model.onnx --out bundles/mine                  an existing ONNX model
  python -m export from-onnx model.tflite --out bundles/mine                TensorFlow Lite, or a SavedModel's folder
  python -m export check bundles/landscape                                  golden frames on this machine's engines
  (see also `from-onnx --help` and `check --help`; `import` is the old name of from-onnx)

exit status: 0 the bundle was written; 2 an error, in one sentence; 130 Ctrl-C. BUNDLE is complete or absent.
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of `python -m export RUN`."""
    main_parser = argparse.ArgumentParser(
        prog="python -m export",
        usage="python -m export RUN --out BUNDLE [options]\n"
        "       python -m export from-onnx MODEL --out BUNDLE [options]\n"
        "       python -m export from-tflite MODEL.tflite --out MODEL.onnx\n"
        "       python -m export diffusers PATH --out BUNDLE [options]\n"
        "       python -m export check BUNDLE [options]\n"
        "       python -m export scenes BUNDLE FILE.toml [options]\n"
        "       python -m export areas RUN/areas.pt --out BUNDLE\n"
        "       python -m export enlarge RUN --out BUNDLE\n"
        "       python -m export fill RUN --out BUNDLE\n"
        "       python -m export int8 BUNDLE --out BUNDLE8\n"
        "       python -m export upgrade OLD CONFIG --out BUNDLE\n"
        "       python -m export triton BUNDLE --out REPO",
        description="Write a trained generator as a bundle for the runtime, and check that it makes the same frames.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = main_parser.add_argument
    add("run", type=Path, metavar="RUN", help="folder of a training run; its newest stage is exported")
    add("--out", type=Path, required=True, metavar="BUNDLE", help="folder to write")
    add("--force", action="store_true", help="replace BUNDLE if it exists and is a bundle")
    add_sizes(main_parser)
    add(
        "--precision", default="fp32,fp16", metavar="P,...",
        help="fp32, fp16: precisions of the TensorRT engines and of ONNX Runtime's parity (default: both)",
    )  # fmt: skip
    add(
        "--engine", metavar="E,...",
        help="tensorrt, tensorrt-rtx: engines to build, or none (default: those that can be built here)",
    )  # fmt: skip
    add(
        "--target", default="", metavar="SM,...",
        help="compute capabilities for tensorrt-rtx, e.g. sm86,sm89,sm120 (default: one engine for all of them)",
    )  # fmt: skip
    add("--words", type=Path, metavar="WORDS", help="folder of word vectors (default: those of the training)")
    return main_parser


def run(argv: Sequence[str]) -> Path:
    """Export a run and return the bundle's folder."""
    arguments = parser().parse_args(argv)
    frame, sizes = sizes_of(arguments)
    precisions = to_list(arguments.precision)
    if not precisions or not set(precisions) <= set(PRECISIONS):
        raise ValueError(f"--precision must be fp32, fp16 or both (fp32,fp16), got {arguments.precision!r}")
    engines = None if arguments.engine is None else to_list(arguments.engine)
    if engines is not None and "none" in engines:
        if len(engines) > 1:
            raise ValueError(f'--engine must be "none" or names of engines, got {arguments.engine!r}')
        engines = ()
    from export.bundle_writer import ExportOptions, export_run

    options = ExportOptions(
        words=arguments.words,
        frame=frame,
        sizes=sizes,
        precisions=precisions,
        engines=engines,
        targets=to_list(arguments.target),
    )
    export_run(arguments.run, arguments.out, force=arguments.force, options=options)
    out: Path = arguments.out
    return out


def main() -> int:
    """Run the command line; a user's error is one sentence and status 2."""
    argv = sys.argv[1:]
    signal.signal(signal.SIGTERM, _terminate)  # ends through SystemExit, so that partial files are removed
    try:
        command = import_module(COMMANDS[argv[0]]).run if argv and argv[0] in COMMANDS else None
        out: Path | int = run(argv) if command is None else command(argv[1:])
    except KeyboardInterrupt:
        print("export: stopped; nothing was written", file=sys.stderr)
        return 130
    except (BundleError, EngineError, ValueError, OSError) as error:
        print(f"export: {to_sentence(error, 'nothing was written')}", file=sys.stderr)
        return 2
    if isinstance(out, int):
        return out
    if out.is_file():
        print(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)")
        return 0
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file() and file.parent != out / "engines")
    print(f"wrote {out} ({size / 1e6:.1f} MB without its engines)")
    return 0


def _terminate(*_: object) -> None:
    print("export: terminated; nothing was written", file=sys.stderr)
    sys.exit(143)


if __name__ == "__main__":
    sys.exit(main())
