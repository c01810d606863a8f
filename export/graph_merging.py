"""Joins several ONNX files to one graph with one weights file, without loading the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx.compose

from export.external_weights import Report, read_external, save_external


@dataclass(frozen=True)
class GraphPart:
    """A part of a merged graph.

    Args:
        model: a file, or a graph from `read_external`.
        prefix: put before all of its names, e.g. "unet/".
    """

    model: Path | onnx.ModelProto
    prefix: str


def merge_external(
    parts: Sequence[GraphPart],
    path: Path,
    weights_path: Path,
    *,
    connections: Mapping[str, str],
    outputs: Sequence[str],
    halve: bool = False,
    report: Report | None = None,
) -> onnx.ModelProto:
    """Join several graphs to one graph and one weights file.

    Args:
        parts: in the order in which they are evaluated, of one opset. Nodes between them are parts too.
        path, weights_path, halve, report: as of `save_external`.
        connections: input -> the output of an earlier part, or another input, that feeds it; all with their prefixes.
        outputs: of the merged graph, with their prefixes.

    Returns:
        The merged graph as `save_external` leaves it. Its inputs are those of the parts that nothing feeds.

    Raises:
        ValueError: opsets differ, a name is unknown, or as of `read_external` and `save_external`.
        OSError: a file cannot be read or written.
    """
    merged = onnx.ModelProto()
    merged.graph.name = "merged"
    known: dict[str, onnx.ValueInfoProto] = {}
    unused = set(connections)
    for part in parts:
        model = read_external(part.model) if isinstance(part.model, Path) else part.model
        model = onnx.compose.add_prefix(model, part.prefix)
        if merged.opset_import and _opsets(merged) != _opsets(model):
            raise ValueError(f"the opsets of the parts differ: {_opsets(merged)} and {_opsets(model)} of {part.prefix}")
        if not merged.opset_import:
            merged.opset_import.extend(model.opset_import)
        merged.ir_version = max(merged.ir_version, model.ir_version, 4)
        constants = {tensor.name for tensor in model.graph.initializer}
        renamed: dict[str, str] = {}
        for value in model.graph.input:
            if value.name in constants:
                continue
            source = connections.get(value.name)
            if source is None:
                known[value.name] = value
                merged.graph.input.append(value)
                continue
            unused.discard(value.name)
            if source not in known:
                raise ValueError(f'"{value.name}" is to be fed by "{source}", which no earlier part makes')
            renamed[value.name] = source
        for node in model.graph.node:
            for index, name in enumerate(node.input):
                node.input[index] = renamed.get(name, name)
        merged.graph.node.extend(model.graph.node)
        merged.graph.initializer.extend(model.graph.initializer)
        known |= {value.name: value for value in model.graph.output}
    missing = [*unused, *(name for name in outputs if name not in known)]
    if missing:
        raise ValueError(f'no part has the tensor "{missing[0]}"; names have the prefixes of their parts')
    merged.graph.output.extend(known[name] for name in outputs)
    save_external(merged, path, weights_path, halve=halve, report=report)
    return merged


def _opsets(model: onnx.ModelProto) -> dict[str, int]:
    return {item.domain: item.version for item in model.opset_import}
