"""Values that a file has for its inputs: an input with a weight of its name starts with this weight's values.

Before IR version 4 every weight was an input too, so only an input that the user gives a role is taken for one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx
from onnx import numpy_helper

from export.from_onnx.model import OnnxSource, to_port
from export.from_onnx.original import Array
from export.from_onnx.role_parser import TensorRole

_WEIGHTS_APART = 4  # the first IR version whose weights need not be inputs


def optional_inputs(source: OnnxSource) -> set[str]:
    """Return the names of the inputs for which a file has values, in versions in which weights need not be inputs."""
    return set(_defaults(source)) if source.model.ir_version >= _WEIGHTS_APART else set()


def use_defaults(source: OnnxSource, given: Mapping[str, TensorRole]) -> tuple[OnnxSource, dict[str, TensorRole]]:
    """Make inputs of the weights that the user gave a role, and take a state's and a control's first value from them.

    Args:
        source: the file.
        given: roles given by the user.

    Returns:
        The source with these inputs, and the roles with the values.

    Raises:
        ValueError: a weight is too damaged to be read.
    """
    defaults = _defaults(source)
    named = [name for name in defaults if name in given]
    if not named:
        return source, dict(given)
    roles = dict(given)
    for name in named:
        role, values = roles[name], tuple(float(value) for value in _array(defaults[name]).reshape(-1))
        if role.kind in ("state", "control") and not role.values and (role.kind == "control" or any(values)):
            low, high = role.limits
            roles[name] = replace(role, values=values, limits=(min(low, *values), max(high, *values)))
    model = onnx.ModelProto()
    model.CopyFrom(source.model)
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in named]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    ports = tuple(to_port(value, "input") for value in model.graph.input if value.name in named)
    return replace(source, model=model, inputs=(*source.inputs, *ports), is_runnable=False), roles


def _defaults(source: OnnxSource) -> dict[str, onnx.TensorProto]:
    """Return the weights of a file that are inputs too, by name."""
    inputs = {value.name for value in source.model.graph.input}
    return {tensor.name: tensor for tensor in source.model.graph.initializer if tensor.name in inputs}


def _array(tensor: onnx.TensorProto) -> Array:
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, RuntimeError, onnx.checker.ValidationError) as error:
        raise ValueError(f'the weight "{tensor.name}" cannot be read: {error}; export the model again') from error
