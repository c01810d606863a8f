"""`python -m export import MODEL.onnx --out BUNDLE`: the command line of the import."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from export.arguments import to_size

EXAMPLES = """roles of inputs (TENSOR=ROLE or TENSOR=ROLE:DETAILS):
  live      the picture of the live input, e.g. input=live:-1..1,bgr
  image     a picture that is given as a prompt: --image of the show
  latent    normal values drawn from the show's seed: one scene each, dissolving to the next
  noise     normal values drawn anew for every frame
  state     carried from frame to frame, starting at zeros: h_in=state:h_out
  control   steered while the show runs: strength=control:0.5@0..2 (defaults, then limits; 0..1 if left out)
  fixed     always the same: rate=fixed:16000
  mask      255 where the live picture counts
  memory    made by the first of two models: shared by name, and never need be said
roles of outputs:
  frame     the picture that is shown, e.g. output=frame:0..255
details of pictures: nchw or nhwc; rgb or bgr; 0..1, -1..1, 0..255 or imagenet (mean and deviation)

Roles and layouts are guessed where shapes leave no doubt, and printed. A range cannot be read off a shape: 0..1 is
assumed, or what the last operator says; for uint8 0..255.

examples:
  python -m export import style.onnx --out bundles/style --size 640x360
  python -m export import style.onnx --out bundles/style --size 640x360 \\
      --role input=live:0..255 --role output=frame:0..255
  python -m export import gan.onnx --out bundles/faces --role z=latent --fps 25
  python -m export import matting.onnx --out bundles/cutout --role src=live --role h_in=state:h_out --role alpha=frame
  python -m export import transfer.onnx --condition predict.onnx --out bundles/painting
"""


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    import_parser = argparse.ArgumentParser(
        prog="python -m export import",
        description="Turn somebody's ONNX model into a bundle that the runtime puts on air (docs/import.md).",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = import_parser.add_argument
    add("model", type=Path, metavar="MODEL.onnx", help="the model that makes a frame")
    add("--out", type=Path, required=True, metavar="BUNDLE", help="folder to write")
    add("--condition", type=Path, metavar="FIRST.onnx", help="the first of two models: runs when the prompt changes")
    add("--role", action="append", default=[], metavar="TENSOR=ROLE", help="what a tensor is for; repeatable")
    add("--shape", action="append", default=[], metavar="TENSOR=AxBx...", help="pins a tensor's free axes; repeatable")
    add("--size", metavar="WxH", help="pins the free width and height of pictures")
    add("--fps", default="30", help="frames per second, e.g. 25 or 30000/1001 (default 30)")
    add("--name", default="", help="of the bundle (default: its folder's)")
    add("--description", default="", help="one or two sentences for people")
    add("--licence", default="not stated", help="of the model, kept in the manifest")
    add("--source", default="not stated", help="where the model comes from, kept in the manifest")
    add("--force", action="store_true", help="replace BUNDLE if it exists")
    return import_parser


def run(words: Sequence[str]) -> Path:
    """Import what a command line says, and print what was found.

    Args:
        words: the arguments after `import`.

    Returns:
        The bundle's folder.

    Raises:
        ValueError: as `export.from_onnx.importer.import_model`, or an option is malformed.
        OSError: a file cannot be read or written.
    """
    arguments = parser().parse_args(words)
    from export.from_onnx.importer import ImportOptions, import_model
    from export.parity.checks import print_rungs

    wish = ImportOptions(
        roles=arguments.role,
        size=None if arguments.size is None else to_size(arguments.size),
        shapes=dict(_to_shape(text) for text in arguments.shape),
        fps=_to_fps(arguments.fps),
        name=arguments.name,
        description=arguments.description,
        licence=arguments.licence,
        source=arguments.source,
    )
    report = import_model(
        arguments.model, arguments.out, condition=arguments.condition, wish=wish, force=arguments.force
    )
    print("\n".join(report.lines))
    print_rungs(report.rungs, "parity with the original in ONNX Runtime")
    for refusal in report.refusals:
        print(f"cannot run on {refusal}")
    if report.refusals or not all(rung.passed for rung in report.rungs):
        fit = [f"--engine {rung.engine} --precision {rung.precision}" for rung in report.rungs if rung.passed]
        print(f"put it on air with {' or '.join(fit)}")
    out: Path = arguments.out
    return out


def _to_shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, _, sizes = text.rpartition("=")
    if not name or re.fullmatch(r"[1-9][0-9]*(x[1-9][0-9]*)*", sizes) is None:
        raise ValueError(f"--shape must be TENSOR=AxBx..., e.g. h_in=1x8x32x32, got {text!r}")
    return name, tuple(int(part) for part in sizes.split("x"))


def _to_fps(text: str) -> Fraction:
    try:
        fps = Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(f"--fps must be a number or a fraction, e.g. 25 or 30000/1001, got {text!r}") from error
    if not 1 <= fps <= 240:
        raise ValueError(f"--fps must be from 1 to 240, got {text}")
    return fps.limit_denominator(1001)
