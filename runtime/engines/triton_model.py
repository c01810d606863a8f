"""Checks that a model of a Triton server is the one that a bundle needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runtime.engines.engine import Program
from runtime.engines.triton_connection import Connection
from runtime.engines.triton_interface import GRAPH_KEY, INTERFACE, INTERFACE_KEY, TYPES
from runtime.errors import EngineError

Tensors = Mapping[str, tuple[str, tuple[int, ...]]]  # name -> (dtype, shape with -1 where it is free)


def check_model(
    connection: Connection,
    model: str,
    program: Program,
    inputs: Tensors,
    outputs: Tensors,
) -> None:
    """Check that a model of the server is the one that a program needs.

    Args:
        connection: to the server.
        model: its name.
        program: of the bundle that is here.
        inputs, outputs: that are expected.

    Raises:
        EngineError: there is no such model, or it is of another version, bundle or frame size.
        ServerLostError: the server does not answer.
    """
    config, origin = connection.config(model), program.origin
    assert origin is not None, "a model of the server for a graph that is not a bundle's"
    made = {key: value.string_value for key, value in config.parameters.items()}
    where = f'the model "{model}" at {connection.url}'
    if INTERFACE_KEY not in made:
        raise EngineError(f"{where} was not written by python -m export triton: give the name of one that was")
    if made[INTERFACE_KEY] != INTERFACE:
        raise EngineError(
            f"{where} has version {made[INTERFACE_KEY]} of the interface, this everframe has {INTERFACE}: "
            "export it again with this everframe"
        )
    found, wanted = _shapes(config.output), _named(outputs)
    if found != wanted:
        raise EngineError(
            f"{where} makes {_describe(found)}, expected {_describe(wanted)}: use its --size, or export it again"
        )
    if made.get(GRAPH_KEY) != origin.sha256:
        raise EngineError(
            f"{where} was exported from another version of the bundle {origin.bundle} (graph "
            f"{made.get(GRAPH_KEY, '')[:12]}, here {origin.sha256[:12]}): export this bundle again"
        )
    found, wanted = _shapes(config.input), _named(inputs)
    if found != wanted:
        odd = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
        raise EngineError(f"{where} has other inputs than this bundle ({', '.join(odd)}): export it again")


def _shapes(tensors: Any) -> Tensors:
    from tritonclient.grpc.model_config_pb2 import DataType

    return {item.name: (DataType.Name(item.data_type), tuple(item.dims)) for item in tensors}


def _named(tensors: Tensors) -> Tensors:
    return {name: (TYPES[dtype], shape) for name, (dtype, shape) in tensors.items()}


def _describe(tensors: Tensors) -> str:
    return ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, (_, shape) in sorted(tensors.items()))
