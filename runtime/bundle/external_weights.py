"""Weights of a graph in a file of their own: the rules for them, and views of them that never load the file.

ONNX calls this external data: an initializer names a file, an offset and a length. A bundle allows one such file per
graph, beside it, which the manifest names as `weights` (docs/bundle.md, "Weights in a file of their own").
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from runtime.bundle.strict_json import describe
from runtime.errors import BundleError, EngineError

ALIGNMENT = 64  # bytes; offsets are multiples of it, so that engines can use the mapped file as it is
MAX_EXTERNAL = 16_384  # tensors of a graph in its weights file
MAX_WEIGHTS_BYTES = 2**36  # of a weights file
_MAX_SHARING = 4  # how many times larger than its file the tensors may be together, as several can share a place
_KEYS = ("location", "offset", "length")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,12}")


class Place(NamedTuple):
    """Where a tensor lies in a weights file: the offset of its first byte, and the number of bytes."""

    offset: int
    length: int


@dataclass(frozen=True)
class WeightsFile:
    """A weights file whose hash was checked.

    Args:
        path: of the file; it has the name that the graph's external data give.
        sha256: of its content.
        status: what `status_of` returned while it was hashed.
    """

    path: Path
    sha256: str
    status: tuple[int, int, int]

    def unchanged(self) -> Path:
        """Return the path, for an engine that maps the file.

        Raises:
            EngineError: the file was changed since it was hashed.
        """
        try:
            status = status_of(self.path.stat())
        except OSError as error:
            raise EngineError(f"{self.path} cannot be read any more: {error.strerror}") from error
        if status != self.status:
            raise EngineError(f"{self.path} was changed after the bundle was opened: open the bundle again")
        return self.path


def status_of(status: os.stat_result) -> tuple[int, int, int]:
    """Return what changes if a file is replaced or written: inode, size in bytes, time of the last change in ns."""
    return status.st_ino, status.st_size, status.st_mtime_ns


def is_external(tensor: onnx.TensorProto) -> bool:
    """Return whether a tensor's values lie in another file."""
    return tensor.data_location == TensorProto.EXTERNAL or len(tensor.external_data) > 0


def external_tensors(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Return the initializers whose values lie in another file."""
    return [tensor for tensor in model.graph.initializer if is_external(tensor)]


def place_of(tensor: onnx.TensorProto) -> Place:
    """Return where the values of an external tensor lie; its keys were checked (`check_external`)."""
    found = {entry.key: entry.value for entry in tensor.external_data}
    return Place(int(found["offset"]), int(found["length"]))


def entries_of(tensor: onnx.TensorProto) -> dict[str, str] | None:
    """Return the entries that say where an external tensor lies; None if they are not UTF-8.

    Protobuf does not validate strings: it returns bytes or raises.
    """
    try:
        found = {entry.key: entry.value for entry in tensor.external_data}
    except UnicodeDecodeError:
        return None
    return found if all(isinstance(text, str) for pair in found.items() for text in pair) else None


def check_external(model: onnx.ModelProto, file: str, weights: str, size_bytes: int) -> None:
    """Check that all external tensors of a graph are initializers that lie in its weights file.

    Whether lengths fit types and shapes is checked with the other constants (`runtime.bundle.size_checks`).

    Args:
        model: the graph.
        file: its name, for messages.
        weights: the weights file, as the manifest names it; "" if the graph must not have one.
        size_bytes: of the weights file.

    Raises:
        BundleError: a tensor breaks a rule of docs/bundle.md.
    """
    attributes = [attribute for node in model.graph.node for attribute in node.attribute]
    inner = [attribute.t for attribute in attributes if attribute.HasField("t")]
    inner += [tensor for attribute in attributes for tensor in attribute.tensors]
    for tensor in inner:
        if is_external(tensor):
            raise BundleError(f"{file} keeps the constant of a node in another file; only initializers may lie there")
    external = external_tensors(model)
    if external and not weights:
        raise BundleError(
            f'{file} keeps the tensor "{external[0].name}" in another file; weights belong inside, or in a file that '
            'the manifest names as the graph\'s "weights"'
        )
    if len(external) > MAX_EXTERNAL:
        raise BundleError(f"{file} has {len(external)} tensors in {weights}, at most {MAX_EXTERNAL} are read")
    total = 0
    for tensor in external:
        total += _check_place(tensor, f'{file}: the tensor "{tensor.name}"', weights, size_bytes).length
    if total > _MAX_SHARING * size_bytes:
        raise BundleError(
            f"{file}: its tensors take {total} bytes of {weights}, which has {size_bytes}; at most {_MAX_SHARING} "
            "times the size of the file are read, as tensors may share their values"
        )


def _check_place(tensor: onnx.TensorProto, where: str, weights: str, size_bytes: int) -> Place:
    if tensor.data_location != TensorProto.EXTERNAL:
        raise BundleError(f"{where} names another file, but is not marked as external; export the bundle again")
    if any(len(getattr(tensor, name)) for name in _FIELDS):
        raise BundleError(f"{where} has values both inside the graph and in {weights}; export the bundle again")
    count = len(tensor.external_data)  # checked first, as a list may be long
    found = entries_of(tensor) if count == len(_KEYS) else {}
    if found is None:
        raise BundleError(f"{where} names its place with text that is not UTF-8; export the bundle again")
    if set(found) != set(_KEYS):
        got = describe(sorted(found)) if found else f"{count} entries"
        raise BundleError(f"{where} must say where it lies with {', '.join(_KEYS)}, once each, got {got}")
    name = weights.rpartition("/")[2]
    if found["location"] != name:
        raise BundleError(f'{where} must lie in "{name}", beside the graph, got {describe(found["location"])}')
    for key in ("offset", "length"):
        if _NUMBER.fullmatch(found[key]) is None:
            raise BundleError(f"{where}: its {key} must be a whole number from 0, got {describe(found[key])}")
    place = Place(int(found["offset"]), int(found["length"]))
    if place.offset % ALIGNMENT:
        raise BundleError(f"{where}: its offset must be a multiple of {ALIGNMENT}, got {place.offset}")
    if place.offset + place.length > size_bytes:
        raise BundleError(
            f"{where} ends at byte {place.offset + place.length} of {weights}, which has {size_bytes} bytes; copy or "
            "export the bundle again"
        )
    return place


def without_external(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph with inputs in place of its external tensors, for checks that need types and shapes.

    A graph that has none is returned as it is, else a copy.
    """
    external = external_tensors(model)
    if not external:
        return model
    light = onnx.ModelProto()
    light.CopyFrom(model)
    light.ir_version = max(light.ir_version, 4)  # before 4, every constant has to be an input
    kept = [tensor for tensor in light.graph.initializer if not is_external(tensor)]
    known = {value.name for value in light.graph.input}
    light.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        for tensor in external
        if tensor.name not in known
    )
    del light.graph.initializer[:]
    light.graph.initializer.extend(kept)
    return light


class MappedWeights:
    """A weights file mapped into memory, read-only: pages are read when they are used, and belong to the file.

    Args:
        path: of the file.

    Raises:
        EngineError: it cannot be mapped.
    """

    def __init__(self, path: Path) -> None:
        try:
            is_empty = path.stat().st_size == 0  # an empty file cannot be mapped
            self._bytes: npt.NDArray[np.uint8] = np.zeros(0, np.uint8) if is_empty else np.memmap(path, np.uint8, "r")
        except (OSError, ValueError) as error:
            raise EngineError(f"{path} cannot be mapped: {error}") from error

    @property
    def size_bytes(self) -> int:
        """Size of the file."""
        return self._bytes.nbytes

    def raw(self, tensor: onnx.TensorProto) -> npt.NDArray[np.uint8]:
        """Return the bytes of an external tensor: a view, valid as long as this object."""
        place = place_of(tensor)
        return self._bytes[place.offset : place.offset + place.length]

    def array(self, tensor: onnx.TensorProto) -> npt.NDArray[Any]:
        """Return the values of an external tensor of a type that NumPy has: a view of its shape."""
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        values: npt.NDArray[Any] = self.raw(tensor).view(dtype).reshape(tuple(tensor.dims))
        return values


_FIELDS = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")
