"""ONNX files whose weights lie in a file of their own: reads and writes them without loading the weights.

    model = read_external(Path("unet.onnx"))           # the graph alone; weights stay in unet.onnx.data
    ...                                                # prune it, rename tensors, add nodes, join it to others
    save_external(model, folder / "step.onnx", folder / "step.weights")

Between the two, the `location` of a tensor's external data is an absolute path. Values are copied in pieces, so memory
does not grow with the model.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
from onnx import TensorProto, helper

from export.external_checks import check_source, has_sparse, tensor_bytes
from runtime.bundle.external_weights import ALIGNMENT, Place, is_external

INLINE_BYTES = 100 * 2**20  # of a graph's weights; more lie in a file of their own
LEAST_BYTES = 1024  # smaller tensors stay in the graph: shapes and scales, which checks and engines read
PAGE = 4096  # bytes; offsets of tensors of at least this size are multiples of it
_PIECE = 2**24  # bytes that are copied at a time; a multiple of every type's size
_MAX_FP16 = 65504.0

Report = Callable[[float], object]


def read_external(path: Path, least_bytes: int = LEAST_BYTES) -> onnx.ModelProto:
    """Read an ONNX file without its external data.

    Args:
        path: the file; files with its weights lie in the same folder or below.
        least_bytes: tensors below it are loaded.

    Returns:
        The model. Every other external tensor has the keys `location` (an absolute path), `offset` and `length`.

    Raises:
        ValueError: the file is not ONNX or has sparse weights, or the data of a tensor are missing, lie outside of the
            folder, or do not have the size that its shape needs.
    """
    model = read_graph(path)
    resolve_external(model, path, least_bytes)
    return model


def read_graph(path: Path) -> onnx.ModelProto:
    """Read an ONNX file alone, without looking at its external data.

    Raises:
        ValueError: it is not ONNX.
    """
    try:
        return onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's DecodeError, from a package without types
        raise ValueError(f"{path} cannot be read as ONNX: {_first_line(error)}") from error


def resolve_external(model: onnx.ModelProto, path: Path, least_bytes: int = LEAST_BYTES) -> tuple[Path, ...]:
    """Check the external data of a model of `read_graph`, and make their locations absolute, as in `read_external`.

    Returns:
        The files that have its external data, each once.
    """
    if has_sparse(model):  # these could lie in any file
        raise ValueError(f"{path} has sparse weights: export it with dense weights")
    folder = path.parent.resolve()
    sizes: dict[str, int] = {}
    sources: dict[Path, None] = {}
    for tensor in _tensors(model):
        if is_external(tensor):
            source, place = check_source(tensor, path, folder, sizes)
            sources[source] = None
            if place.length < least_bytes:
                with source.open("rb") as stream:
                    stream.seek(place.offset)
                    _to_inline(tensor, stream.read(place.length))
            else:
                _set_place(tensor, str(source), place)
    return tuple(sources)


def external_bytes(model: onnx.ModelProto) -> int:
    """Return the number of bytes of a graph's external tensors."""
    return sum(tensor_bytes(tensor) for tensor in _tensors(model) if is_external(tensor))


def weight_bytes(model: onnx.ModelProto) -> int:
    """Return the number of bytes of all constants of a graph, inside and outside of it."""
    return sum(tensor_bytes(tensor) for tensor in _tensors(model))


def load_external(model: onnx.ModelProto) -> None:
    """Load the external data of a model of `read_external` into it, in place; for small models only."""
    for tensor in _tensors(model):
        if is_external(tensor):
            _to_inline(tensor, b"".join(_pieces(tensor)))


def without_folder(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Return a copy of a model of `read_external` whose locations are relative to a folder that has all of its data."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in _tensors(copy):
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = Path(entry.value).relative_to(folder.resolve()).as_posix()
    return copy


def save_external(
    model: onnx.ModelProto,
    path: Path,
    weights_path: Path,
    *,
    least_bytes: int = LEAST_BYTES,
    halve: bool = False,
    report: Report | None = None,
) -> None:
    """Write a graph, and its weights into one file beside it.

    Args:
        model: external tensors as `read_external` returns them, other weights inside; changed in place: afterwards its
            weights lie in the new file, with absolute locations.
        path: the ONNX file to write; replaced if it exists.
        weights_path: the weights file, in the same folder. It is complete before `path` is written.
        least_bytes: constants below it stay in the graph.
        halve: store float32 weights as float16 (rounded), each followed by a Cast. Weights with values outside of the
            range of float16 stay as they are.
        report: called with the share that is written, 0 to 1.

    Raises:
        ValueError: the two files would not lie in one folder, or the graph alone is larger than ONNX allows.
        OSError: a file cannot be read or written.
    """
    if path.parent.resolve() != weights_path.parent.resolve() or path.name == weights_path.name:
        raise ValueError(f"{weights_path} must lie beside {path}, under another name")
    _constants_to_initializers(model, least_bytes)
    _drop_constant_inputs(model)
    chosen = [tensor for tensor in model.graph.initializer if tensor_bytes(tensor) >= least_bytes]
    for tensor in model.graph.initializer:
        if is_external(tensor) and tensor_bytes(tensor) < least_bytes:
            _to_inline(tensor, b"".join(_pieces(tensor)))
    halved = {tensor.name for tensor in chosen if halve and _fits_half(tensor)}
    temporary = weights_path.with_name(f".{weights_path.name}.{os.getpid()}")
    total, done = max(1, sum(map(tensor_bytes, chosen))), 0
    places: dict[tuple[str, str, int, bool], Place] = {}  # tensors that share their values share them in the new file
    casts: list[onnx.NodeProto] = []
    try:
        with temporary.open("wb") as stream:
            for tensor in chosen:
                size, is_half = tensor_bytes(tensor), tensor.name in halved
                source = {entry.key: entry.value for entry in tensor.external_data}
                key = (source.get("location", ""), source.get("offset", ""), size, is_half)
                if not source or key not in places:
                    places[key] = _append(stream, tensor, size // 2 if is_half else size, halve=is_half)
                _set_place(tensor, str(weights_path.resolve()), places[key])
                if is_half:
                    casts.append(_widen(tensor))
                done += size
                if report is not None:
                    report(done / total)
        temporary.replace(weights_path)
    finally:
        temporary.unlink(missing_ok=True)
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    _write(without_folder(model, weights_path.parent), path)


def _tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Yield the constants of a model: its initializers, and those of its nodes."""
    yield from model.graph.initializer
    for nodes in (model.graph.node, *(function.node for function in model.functions)):
        yield from _node_tensors(nodes)


def _node_tensors(nodes: Sequence[onnx.NodeProto]) -> Iterator[TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for graph in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                yield from graph.initializer
                yield from _node_tensors(graph.node)


def _constants_to_initializers(model: onnx.ModelProto, least_bytes: int) -> None:
    """Make initializers of the large constants of Constant nodes: only these may lie outside."""
    kept = []
    for node in model.graph.node:
        value = next((item.t for item in node.attribute if item.name == "value" and item.HasField("t")), None)
        if node.op_type == "Constant" and value is not None and tensor_bytes(value) >= least_bytes:
            value.name = node.output[0]
            model.graph.initializer.append(value)
        else:
            kept.append(node)
    if len(kept) < len(model.graph.node):
        del model.graph.node[:]
        model.graph.node.extend(kept)


def _drop_constant_inputs(model: onnx.ModelProto) -> None:
    """Drop the inputs that are constants, which IR version 3 asks for."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, 4)


def _append(stream: BinaryIO, tensor: TensorProto, size: int, *, halve: bool) -> Place:
    """Append a tensor's values to the weights file."""
    step = PAGE if size >= PAGE else ALIGNMENT
    stream.write(bytes(-stream.tell() % step))
    start = stream.tell()
    for piece in _pieces(tensor):
        stream.write(np.frombuffer(piece, "<f4").astype("<f2").tobytes() if halve else piece)
    assert stream.tell() - start == size, f"{tensor.name} has {stream.tell() - start} bytes, expected {size}"
    return Place(start, size)


def _pieces(tensor: TensorProto) -> Iterator[bytes]:
    """Yield the bytes of a tensor, as they lie in a file, in pieces of at most `_PIECE` bytes if it is external."""
    if not is_external(tensor):
        raw = tensor.raw_data if tensor.HasField("raw_data") else _raw(tensor)
        if raw:
            yield raw
        return
    found = {entry.key: entry.value for entry in tensor.external_data}
    with ExitStack() as opened:
        stream = opened.enter_context(Path(found["location"]).open("rb"))
        stream.seek(int(found["offset"]))
        left = int(found["length"])
        while left:
            piece = stream.read(min(_PIECE, left))
            if not piece:
                raise OSError(f"{found['location']} ends within the weights {tensor.name}: it was changed meanwhile")
            left -= len(piece)
            yield piece


def _raw(tensor: TensorProto) -> bytes:
    """Return the bytes of a tensor that holds its values in a typed field."""
    packed = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor))
    return bytes(packed.raw_data)


def _fits_half(tensor: TensorProto) -> bool:
    """Return whether the values of a float32 tensor are in the range of float16; False for other types."""
    if tensor.data_type != TensorProto.FLOAT:
        return False
    pieces = (np.frombuffer(piece, "<f4") for piece in _pieces(tensor))
    return all(bool(np.abs(piece).max(initial=0.0) <= _MAX_FP16) for piece in pieces)


def _widen(tensor: TensorProto) -> onnx.NodeProto:
    """Make a tensor float16, and return the Cast that follows it and has its name."""
    name = tensor.name
    tensor.name, tensor.data_type = f"{name}.half", TensorProto.FLOAT16
    return helper.make_node("Cast", [tensor.name], [name], name=f"{name}.widen", to=TensorProto.FLOAT)


def _set_place(tensor: TensorProto, location: str, place: Place) -> None:
    """Make a tensor external; its values inside the graph are removed."""
    for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
        tensor.ClearField(field)
    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", str(place.offset)), ("length", str(place.length))):
        tensor.external_data.add(key=key, value=value)
    tensor.data_location = TensorProto.EXTERNAL


def _to_inline(tensor: TensorProto, values: bytes) -> None:
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
    tensor.raw_data = values


def _write(model: onnx.ModelProto, path: Path) -> None:
    try:
        data = model.SerializeToString()
    except Exception as error:  # protobuf's EncodeError, from a package without types
        raise ValueError(f"the graph {path.name} is larger than 2 GiB without its weights") from error
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
