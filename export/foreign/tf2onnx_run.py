"""Runs tf2onnx in a process of its own: TensorFlow stays out of this one, which keeps its memory and its log.

tf2onnx imports TensorFlow for every format, TensorFlow Lite included.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

OPSET = 18  # the newest that tf2onnx 1.17 writes
EXTRA = "pip install 'everframe[tensorflow]' (about 1.6 GB), or name a Python that has both with --python"
_PACKAGES = ("tf2onnx", "tensorflow")
# `python -m tf2onnx.convert`; its reader of TensorFlow.js calls numpy.product, which NumPy 2 no longer has.
_PROGRAM = """import numpy, runpy
numpy.product = numpy.prod
runpy.run_module("tf2onnx.convert", run_name="__main__", alter_sys=True)
"""


def missing_packages(python: str | None) -> list[str]:
    """Return which of tf2onnx and TensorFlow are missing in this Python; of another one, nothing is known yet."""
    return [] if python else [name for name in _PACKAGES if find_spec(name) is None]


def run_tf2onnx(flag: str, model: Path, out: Path, python: str | None = None) -> str:
    """Convert a model to ONNX.

    Args:
        flag: tf2onnx's option for the format, e.g. --saved-model.
        model: what is converted.
        out: file to write.
        python: the Python to run it in; None for this one.

    Returns:
        What converted it, e.g. "tf2onnx 1.17.0 with TensorFlow 2.21.0".

    Raises:
        ValueError: tf2onnx or TensorFlow is missing, or the conversion failed.
    """
    if missing := missing_packages(python):
        raise ValueError(f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed: {EXTRA}")
    interpreter = python or sys.executable
    command = [interpreter, "-c", _PROGRAM, flag, str(model), "--output", str(out), "--opset", str(OPSET)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    print(f"converting {model} with tf2onnx; this takes seconds to minutes", file=sys.stderr)
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment, check=False)
    except OSError as error:
        raise ValueError(f"--python {interpreter} cannot be run: {error.strerror or error}") from None
    if (absent := re.search(r"No module named '?(tf2onnx|tensorflow)", done.stderr)) is not None:
        raise ValueError(f"{interpreter} lacks {absent[1]}: install tf2onnx and tensorflow there")
    if done.returncode or not out.is_file():
        raise ValueError(f"tf2onnx cannot convert {model}: {_reason(done.stderr)}")
    versions = re.search(r"Using tensorflow=([^,\s]+).*?tf2onnx=([^,/\s]+)", done.stderr + done.stdout)
    return f"tf2onnx {versions[2]} with TensorFlow {versions[1]}" if versions else "tf2onnx"


def _reason(text: str) -> str:
    """Return the last line of a traceback, else of the log."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Failure)\b", line)]
    return ((errors or lines)[-1] if lines else "it ended without a message")[:300]
