"""Converts a model of another format to ONNX for the import, or says what to do with it."""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from export.foreign.formats import TFLITE, ModelFormat, convertible_path, detect_format
from export.foreign.tf2onnx_run import EXTRA, missing_packages, run_tf2onnx
from export.from_tflite.conversion import convert
from export.from_tflite.network import UnsupportedError


class OnnxFile(NamedTuple):
    """An ONNX file, and what it was made from.

    Args:
        path: of the ONNX file.
        note: what it was made from, and by what; "" if it is the user's own.
    """

    path: Path
    note: str


def add_python(parser: argparse.ArgumentParser) -> None:
    """Add the option --python."""
    parser.add_argument(
        "--python", metavar="PYTHON", help="another Python that has tf2onnx and TensorFlow (default: this one)"
    )


@contextmanager
def onnx_file(path: Path, python: str | None = None) -> Iterator[OnnxFile]:
    """Yield a model as an ONNX file; a converted one is in a temporary folder and is removed at the end.

    Args:
        path: an ONNX file, a TensorFlow Lite network, a SavedModel or a TensorFlow.js graph model.
        python: the Python in which tf2onnx runs; None for this one.

    Raises:
        ValueError: it is of another format; the message says what to do. Or it cannot be converted. An error of the
            block about the converted file names the original.
    """
    found = detect_format(path)
    if found is None:
        if path.is_dir():
            raise ValueError(
                f"{path} is a folder without a model that is known here (a saved_model.pb, for example): give an ONNX "
                "file, a .tflite file or a SavedModel"
            )
        yield OnnxFile(path, "")
        return
    if not found.flag:
        raise ValueError(f"{path} is {found.name}, and from-onnx reads ONNX: {found.advice}")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / f"{path.stem or path.name}.onnx"
        source = convertible_path(path, found)
        by = to_onnx_file(source, found, target, python)
        digest = f" (SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()})" if path.is_file() else ""
        try:
            yield OnnxFile(target, f"{source.name}{digest}, by {by}")
        except ValueError as error:
            raise ValueError(str(error).replace(str(target), str(path))) from error


def to_onnx_file(path: Path, found: ModelFormat, out: Path, python: str | None = None) -> str:
    """Write a model as ONNX.

    A TensorFlow Lite network is read by our own reader, which needs no TensorFlow, and by tf2onnx if that reader does
    not know an operation or type.

    Args:
        path: the model; of `convertible_path`.
        found: its format.
        out: file to write.
        python: the Python in which tf2onnx runs; None for this one.

    Returns:
        What converted it, e.g. "export.from_tflite".

    Raises:
        ValueError: the file is damaged, or nothing that is installed can convert it.
    """
    if found != TFLITE:
        return run_tf2onnx(found.flag, path, out, python)
    try:
        out.write_bytes(convert(path).SerializeToString())
    except UnsupportedError as reason:
        if missing := missing_packages(python):
            raise ValueError(f"{path} cannot be converted without {' and '.join(missing)}, {reason}: {EXTRA}") from None
        return f"{run_tf2onnx(found.flag, path, out, python)}; our own reader: {reason}"
    return "export.from_tflite"
