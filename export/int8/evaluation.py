"""Evaluates a step graph once per set of inputs, in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

Array = np.ndarray[Any, Any]


def evaluate(model: onnx.ModelProto, feeds: Sequence[Mapping[str, Array]]) -> list[list[Array]]:
    """Return all outputs of a graph for each set of inputs; unused inputs may be among them.

    Args:
        model: of less than 2 GB.
        feeds: inputs by name.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # fatal: errors are raised as exceptions anyway
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    known = {item.name for item in session.get_inputs()}
    return [session.run(None, {name: row[name] for name in row if name in known}) for row in feeds]
