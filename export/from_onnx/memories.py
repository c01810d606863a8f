"""Which output of the first of two models fills which input of the second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from export.from_onnx.model import GraphPort, OnnxSource
from export.from_onnx.planned_graph import TensorType
from export.from_onnx.role_parser import TensorRole
from export.from_onnx.roles import picture_layouts
from runtime.bundle.strict_json import nearest


def wanted_outputs(first: OnnxSource, step: OnnxSource, given: Mapping[str, TensorRole]) -> set[str]:
    """Return the outputs of the first model that the step can take; empty if there are none.

    They were named, or have an input's name, or the type and the number of axes of an input that nothing fits yet.
    """
    outputs = {port.name for port in first.outputs}
    inputs = {port.name for port in step.inputs}
    named = {role.output for name, role in given.items() if role.kind == "memory" and name in inputs and role.output}
    rest = [
        port for port in step.inputs if port.name not in given and port.name not in outputs and _is_other(port, step)
    ]
    kinds = {(port.dtype, len(port.shape)) for port in rest}
    like = {port.name for port in first.outputs if port.name not in inputs and (port.dtype, len(port.shape)) in kinds}
    return (outputs & inputs) | (outputs & named) | like


def match_memories(
    step: OnnxSource, given: Mapping[str, TensorRole], outputs: Mapping[str, TensorType]
) -> dict[str, str]:
    """Find the output of the first model for every memory of the step model.

    An input and an output of one name are a memory. An output of another name is one if it alone fits an input that
    nothing else fits: same type and number of axes, same lengths, three axes or more, and no picture or state.

    Args:
        step: the model that runs once per frame.
        given: roles given by the user; that of a memory may name the output.
        outputs: (dtype, shape) of the first model's outputs.

    Returns:
        Input of the step -> output of the first model.

    Raises:
        ValueError: a memory has no such output.
    """
    found: dict[str, str] = {}
    for port in step.inputs:
        role = given.get(port.name)
        if role is not None and role.kind == "memory":
            found[port.name] = role.output or port.name
            if found[port.name] not in outputs:
                raise ValueError(
                    f'the memory "{found[port.name]}" is not an output of the first model '
                    f"{nearest(found[port.name], outputs)}; name it with --role {port.name}=memory:OUTPUT"
                )
        elif role is None and port.name in outputs:
            found[port.name] = port.name
    rest = {name: kind for name, kind in outputs.items() if name not in found.values()}
    ports = [
        port for port in step.inputs if port.name not in given and port.name not in found and _is_other(port, step)
    ]
    fitting = {port.name: [name for name, kind in rest.items() if _fits(port, kind)] for port in ports}
    for name, names in fitting.items():
        if len(names) == 1 and sum(names[0] in others for others in fitting.values()) == 1:
            found[name] = names[0]
    return found


def _is_other(port: GraphPort, step: OnnxSource) -> bool:
    """Return whether an input is neither a picture nor can be a state."""
    states: Sequence[GraphPort] = [
        other for other in step.outputs if other.dtype == port.dtype and len(other.shape) == len(port.shape)
    ]
    is_state = any(_agree(port.shape, other.shape) for other in states)
    return len(port.shape) > 2 and not picture_layouts(port.shape) and not is_state


def _fits(port: GraphPort, kind: TensorType) -> bool:
    dtype, shape = kind
    return port.dtype == dtype and len(port.shape) == len(shape) and _agree(port.shape, shape)


def _agree(first: Sequence[int | str], second: Sequence[int | str]) -> bool:
    """Return whether two shapes can be the same; a free axis has any length."""
    return all(
        one == other or isinstance(one, str) or isinstance(other, str) for one, other in zip(first, second, strict=True)
    )
