"""The command line of the ONNX import: `python -m export from-onnx MODEL.onnx --out BUNDLE`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from export.commandline import to_fps, to_size
from export.foreign.conversion import add_python, onnx_file

EXAMPLES = """roles of inputs (TENSOR=ROLE or TENSOR=ROLE:DETAILS):
  live      the frame of the live input, e.g. input=live:-1..1,bgr
  image     an image that is given as a prompt (--image of the show)
  latent    normal values drawn from the show's seed: one scene per seed, with cross-fades between scenes
  noise     normal values drawn for every frame
  state     carried from frame to frame, starting at zeros: h_in=state:h_out, or many: 'h_*=state:h_*_out';
            at other values: h_in=state:h_out@0.5, or those that the file has for the input
  control   changed during the show: strength=control:0.5@0..2 (defaults, then limits; default limits 0..1)
  fixed     constant: rate=fixed:16000
  mask      255 where the live frame is valid
  memory    an output of the condition model: encoder_hidden_states=memory:last_hidden_state; assigned automatically if
            it has the same name, or if no other fits
  tokens    of the condition model: the tokens of a text, made by --tokenizer; guessed for input_ids and the like
  token_mask  of the condition model: 1 for tokens, 0 for padding: attention_mask=token_mask:input_ids
roles of outputs:
  frame     the picture to show, e.g. output=frame:0..255
details of pictures: nchw or nhwc; rgb or bgr; 0..1, -1..1, 0..255, -128..127 or imagenet (mean and
  deviation); mean=R/G/B,std=R/G/B (of the values in the range 0..1, or of the range that is given); of a frame also
  channel=N (one channel in grey, from 0)

Roles and layouts are guessed where the shapes are unambiguous, and printed. A shape does not show the range: the
default is 0..255 for uint8, -128..127 for int8, else -1..1 after Tanh, else 0..1.

examples:
  python -m export from-onnx style.onnx --out bundles/style --size 640x360
  python -m export from-onnx style.onnx --out bundles/style --size 640x360 \\
      --role input=live:0..255 --role output=frame:0..255
  python -m export from-onnx gan.onnx --out bundles/faces --role z=latent --fps 25
  python -m export from-onnx matting.onnx --out bundles/cutout \\
      --role src=live --role h_in=state:h_out --role alpha=frame
  python -m export from-onnx transfer.onnx --condition predict.onnx --out bundles/painting
  python -m export from-onnx unet.onnx --condition text_encoder.onnx --tokenizer tokenizer/ --out bundles/words
  python -m export from-onnx selfie.tflite --out bundles/person           TensorFlow Lite, or the folder of a SavedModel
"""


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    import_parser = argparse.ArgumentParser(
        prog="python -m export from-onnx",
        description="Turn an existing ONNX model into a bundle that the runtime can stream (docs/import.md).",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = import_parser.add_argument
    add(
        "model",
        type=Path,
        metavar="MODEL",
        help="the model that makes a frame: ONNX, .tflite, or a SavedModel's folder",
    )
    add("--out", type=Path, required=True, metavar="BUNDLE", help="folder to write")
    add("--condition", type=Path, metavar="FIRST.onnx", help="the first of two models: runs when the prompt changes")
    add(
        "--tokenizer",
        action="append",
        default=[],
        metavar="FILE_OR_FOLDER",
        help="tokenizer of texts for FIRST.onnx: tokenizer.json, or a folder with it or with vocab.json and merges.txt "
        "of CLIP; INPUT=FILE_OR_FOLDER for one of several inputs; repeatable",
    )
    add(
        "--text-length",
        type=int,
        metavar="N",
        help="tokens of a text, where FIRST.onnx leaves it free: 1 to 512 (default: the tokenizer's, 77 for CLIP)",
    )
    add("--role", action="append", default=[], metavar="TENSOR=ROLE", help="role of a tensor; repeatable")
    add("--shape", action="append", default=[], metavar="TENSOR=AxBx...", help="shape of a tensor; repeatable")
    add("--size", metavar="WxH", help="width and height of pictures whose size is free")
    add("--fps", default="30", help="frames per second, e.g. 25 or 30000/1001 (default 30)")
    add("--name", default="", help="name of the bundle (default: the folder's)")
    add("--description", default="", help="one or two sentences about the model")
    add("--licence", default="not stated", help="licence of the model, stored in the manifest")
    add("--source", default="not stated", help="where the model comes from, stored in the manifest")
    add(
        "--accept-parity",
        action="store_true",
        help="write the bundle although its frames in ONNX Runtime differ from the model's",
    )
    add("--force", action="store_true", help="replace BUNDLE if it exists and is a bundle")
    add_python(import_parser)
    return import_parser


def run(argv: Sequence[str]) -> Path:
    """Import a model, print what was found, and return the bundle's folder.

    Args:
        argv: the arguments after `from-onnx`.

    Raises:
        ValueError: as `export.from_onnx.importer.import_model`, or an option is malformed.
        OSError: a file cannot be read or written.
    """
    arguments = parser().parse_args(argv)
    from export.from_onnx.importer import ImportOptions, import_model
    from export.from_onnx.preview import PREVIEW
    from export.from_onnx.text_inputs import TextOptions
    from export.parity.checks import print_checks

    with ExitStack() as stack:
        model = stack.enter_context(onnx_file(arguments.model, arguments.python))
        first = arguments.condition and stack.enter_context(onnx_file(arguments.condition, arguments.python))
        notes = [file.note for file in (first, model) if file and file.note]
        options = ImportOptions(
            roles=arguments.role,
            size=None if arguments.size is None else to_size(arguments.size),
            shapes=dict(_to_shape(text) for text in arguments.shape),
            fps=to_fps(arguments.fps),
            name=arguments.name,
            description=arguments.description,
            licence=arguments.licence,
            source="; ".join([arguments.source, *notes]),
            text=TextOptions(arguments.tokenizer, arguments.text_length),
            accept_parity=arguments.accept_parity,
        )
        report = import_model(
            model.path,
            arguments.out,
            condition=first and first.path,
            options=options,
            force=arguments.force,
            say=lambda line: print(line, file=sys.stderr),
        )
    for note in notes:
        print(f"converted: {note}")
    print("\n".join(report.lines))
    print_checks(report.checks, "parity with the original in ONNX Runtime")
    times = zip(report.checks, report.frame_ms, strict=True)
    print(", ".join(f"{check.engine} {check.precision}: {ms:.1f} ms per frame" for check, ms in times))
    print(f"preview, input beside frame: {arguments.out / PREVIEW}")
    for refusal in report.refusals:
        print(f"cannot run on {refusal}")
    for note in report.notes:
        print(f"note: {note}")
    if report.refusals or not all(check.passed for check in report.checks):
        usable = [check for check in report.checks if check.passed] or report.checks[:1]
        flags = [f"--engine {check.engine} --precision {check.precision}" for check in usable]
        print(f"stream it with {' or '.join(flags)}")
    out: Path = arguments.out
    return out


def _to_shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, _, sizes = text.rpartition("=")
    if not name or re.fullmatch(r"[1-9][0-9]*(x[1-9][0-9]*)*", sizes) is None:
        raise ValueError(f"--shape must be TENSOR=AxBx..., e.g. h_in=1x8x32x32, got {text!r}")
    return name, tuple(int(part) for part in sizes.split("x"))
