"""`python -m export from-tflite MODEL.tflite --out MODEL.onnx`: a TensorFlow Lite network as ONNX, to be imported.

`from-onnx` converts such a file itself; this command keeps the ONNX file.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from export.foreign.conversion import add_python, to_onnx_file
from export.foreign.formats import TFLITE, detect_format
from training.atomic_file import written


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    command = argparse.ArgumentParser(
        prog="python -m export from-tflite", description="Convert a TensorFlow Lite network to ONNX, for from-onnx."
    )
    command.add_argument("model", type=Path, metavar="MODEL.tflite", help="the network")
    command.add_argument("--out", type=Path, required=True, metavar="FILE.onnx", help="file to write")
    add_python(command)
    return command


def run(argv: Sequence[str]) -> Path:
    """Convert a file, print what converted it, and return the ONNX file.

    Raises:
        ValueError: the file is no TensorFlow Lite file, is damaged, or nothing installed can convert it.
        OSError: the ONNX file cannot be written.
    """
    arguments = parser().parse_args(argv)
    out: Path = arguments.out
    found = detect_format(arguments.model)
    if found != TFLITE:
        what = "" if found is None else f" but {found.name}"
        raise ValueError(f"{arguments.model} is no TensorFlow Lite file{what}: give a .tflite file")
    with written(out) as partial:
        print(f"converted by {to_onnx_file(arguments.model, TFLITE, partial, arguments.python)}")
    return out
