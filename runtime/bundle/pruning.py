"""Graph pruning: cut an ONNX graph down to what some of its outputs need."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import onnx
from google.protobuf.message import EncodeError


def prune(model: onnx.ModelProto, outputs: Collection[str]) -> bytes:
    """Prune a model and serialise it; arguments and result as in `pruned_model`.

    Raises:
        MemoryError: there is not enough memory for a second copy of the graph.
    """
    try:
        return bytes(pruned_model(model, outputs).SerializeToString())
    except EncodeError as error:  # the model was parsed from a file, so protobuf is out of memory
        raise MemoryError(str(error)) from error


def pruned_model(model: onnx.ModelProto, outputs: Collection[str]) -> onnx.ModelProto:
    """Return the part of a model that some of its outputs need.

    Args:
        model: a valid model; not changed.
        outputs: names of the graph outputs to keep.

    Returns:
        A new model without the other nodes and constants, of IR version 4 or later. All inputs that are not constants
        stay, so that callers can always feed them.
    """
    nodes = needed_nodes(model.graph, outputs)
    used = {name for node in nodes for name in node.input}
    pruned = onnx.ModelProto()
    pruned.ir_version = max(model.ir_version, 4)  # before 4, constants have to be inputs too
    pruned.opset_import.extend(model.opset_import)
    pruned.graph.name = model.graph.name
    pruned.graph.node.extend(nodes)
    constants = {tensor.name for tensor in model.graph.initializer}
    pruned.graph.input.extend(value for value in model.graph.input if value.name not in constants)
    pruned.graph.output.extend(value for value in model.graph.output if value.name in outputs)
    pruned.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in used)
    return pruned


def needed_nodes(graph: onnx.GraphProto, outputs: Iterable[str], stop: str = "") -> list[onnx.NodeProto]:
    """Return the nodes that `outputs` depend on, in graph order; the search ends at the tensor `stop`."""
    makers = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    seen: set[int] = set()
    names = [name for name in outputs if name != stop]
    while names:
        index = makers.get(names.pop())
        if index is not None and index not in seen:
            seen.add(index)
            names.extend(name for name in graph.node[index].input if name and name != stop)
    return [graph.node[index] for index in sorted(seen)]
