"""Checks of what an ONNX file says about weights in other files, before any of them is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import TensorProto

from runtime.bundle.external_weights import Place, entries_of
from runtime.bundle.size_checks import size_of
from runtime.bundle.strict_json import describe


def tensor_bytes(tensor: TensorProto) -> int:
    """Return the number of bytes of a constant's values."""
    return 0 if tensor.data_type == TensorProto.STRING else size_of(tensor.data_type, tensor.dims)


def check_source(tensor: TensorProto, path: Path, folder: Path, sizes: dict[str, int]) -> tuple[Path, Place]:
    """Return the file and the place of an external tensor of a file that was read.

    Args:
        tensor: of the model.
        path: of the model.
        folder: of the model, resolved; the file must lie in it or below.
        sizes: in bytes, of the files that were seen; this one is added.

    Raises:
        ValueError: the file is missing or lies outside of the folder, or the tensor does not fit it.
    """
    found = entries_of(tensor)
    if found is None or not all(str(text).isprintable() for text in (tensor.name, *found.values())):
        raise ValueError(
            f"{path.name} keeps the weights {describe(tensor.name)} in a file, and one of the two names is not "
            "printable UTF-8: export the model again"
        )
    where = f'{path.name} keeps the weights "{tensor.name}" in'
    name = found.get("location", "")
    source = (folder / name).resolve()
    if not name or not source.is_relative_to(folder):
        raise ValueError(f'{where} "{name}", outside of its folder: copy both into one folder, and export them again')
    try:
        is_missing = not source.is_file()
    except OSError as error:  # a name that is too long
        raise ValueError(f"{where} {describe(name)}, which cannot be read: {error.strerror}") from None
    if is_missing:
        raise ValueError(f"{where} {source}, which does not exist: put it beside the model")
    if name not in sizes:
        sizes[name] = source.stat().st_size
    size = tensor_bytes(tensor)
    try:
        place = Place(int(found.get("offset") or 0), int(found.get("length") or size))
    except ValueError as error:
        raise ValueError(
            f"{where} {source} at {describe(found)}, which are no numbers: export the model again"
        ) from error
    if min(tensor.dims, default=0) < 0 or place.offset < 0 or place.length != size or place.offset + size > sizes[name]:
        raise ValueError(
            f"{where} {source}, {place.length} bytes from {place.offset} on: it has {sizes[name]} bytes, and the "
            f"shape {list(tensor.dims)} needs {size}; export the model again, or copy the whole file"
        )
    return source, place


def has_sparse(model: onnx.ModelProto) -> bool:
    """Return whether a model has a sparse constant, in its graph, a function or a graph within."""
    functions = (function.node for function in model.functions)
    return len(model.graph.sparse_initializer) > 0 or any(map(_has_sparse_nodes, (model.graph.node, *functions)))


def _has_sparse_nodes(nodes: Sequence[onnx.NodeProto]) -> bool:
    attributes = [attribute for node in nodes for attribute in node.attribute]
    graphs = [graph for item in attributes for graph in ([item.g] if item.HasField("g") else []) + list(item.graphs)]
    return any(item.HasField("sparse_tensor") or item.sparse_tensors for item in attributes) or any(
        graph.sparse_initializer or _has_sparse_nodes(graph.node) for graph in graphs
    )
