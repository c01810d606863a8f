"""Reads a TensorFlow Lite file with the package tflite: its tensors, constants and operations as plain data.

A file comes from anywhere: every number in it is checked before it is used, and a damaged file is one ValueError.
"""

from __future__ import annotations

import struct
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

MARK = b"TFL3"  # at byte 4 of every file
_MAX_ENTRIES = 2**18  # of all lists: tensors, sizes, operations and their tensors
_LEAST_BYTES = 2**20  # of constants and names that are read from every file
_MAX_SHARING = 4  # how many times larger than the file its constants may be together, as tensors can share them
_TYPES = {0: np.float32, 1: np.float16, 2: np.int32}  # of the schema's TensorType
# What the schema's reader and NumPy raise for numbers that point outside of the file.
_DAMAGE = (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, MemoryError, struct.error)
_OPTIONS = {  # the schema's table of options, by operation
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
    "ADD": "AddOptions",
    "MUL": "MulOptions",
    "CONCATENATION": "ConcatenationOptions",
}


class UnsupportedError(ValueError):
    """A sound file has something that this reader does not know; TensorFlow's converter may."""


class Operation(NamedTuple):
    """One operation of the network.

    Args:
        name: of the schema, or of a custom operation.
        inputs, outputs: numbers of tensors; -1 for a missing input.
        options: the schema's object of options, or None.
        custom: bytes of a custom operation's options.
    """

    name: str
    inputs: list[int]
    outputs: list[int]
    options: Any
    custom: bytes


class Network(NamedTuple):
    """A TensorFlow Lite network as plain data.

    Args:
        shapes: of every tensor, NHWC.
        constants: by number of the tensor; FP16 is widened.
        inputs, outputs: of the network, (number, name).
        operations: in order.
    """

    shapes: list[tuple[int, ...]]
    constants: dict[int, npt.NDArray[Any]]
    inputs: list[tuple[int, str]]
    outputs: list[tuple[int, str]]
    operations: list[Operation]


def read_network(path: Path) -> Network:
    """Read a file.

    Raises:
        UnsupportedError: the package tflite is missing, or the file has several subgraphs or types of tensors that
            are not float.
        ValueError: the file cannot be read, or is damaged.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    if data[4:8] != MARK:
        raise ValueError(f"{path} is no TensorFlow Lite file: its bytes 4 to 7 are {data[4:8]!r}, expected {MARK!r}")
    try:
        schema = import_module("tflite")
    except ImportError:
        raise UnsupportedError("the package tflite is not installed (pip install tflite)") from None
    try:
        return _Reader(schema, data).network()
    except UnsupportedError:
        raise
    except _DAMAGE as error:
        text = str(error) or type(error).__name__
        raise ValueError(
            f"{path} is a TensorFlow Lite file that cannot be read: {text.splitlines()[0][:200]}"
        ) from None


class _Reader:
    """The schema's reader of one file, with every count compared with the file's length.

    Lists and constants of a file may share their bytes, so their totals are limited too.
    """

    def __init__(self, schema: Any, data: bytes) -> None:
        self._schema = schema
        self._model = schema.Model.GetRootAsModel(data, 0)
        self._limit = len(data) // 4  # an entry of a list takes four bytes or more
        self._entries_left = _MAX_ENTRIES
        self._bytes_left = _LEAST_BYTES + _MAX_SHARING * len(data)
        self._names = {value: key for key, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}

    def network(self) -> Network:
        if self._model.SubgraphsLength() != 1:
            raise UnsupportedError(f"it has {self._model.SubgraphsLength()} subgraphs, expected one")
        graph = self._model.Subgraphs(0)
        shapes: list[tuple[int, ...]] = []
        constants: dict[int, npt.NDArray[Any]] = {}
        for number in self._range(graph.TensorsLength()):
            tensor = graph.Tensors(number)
            shape = tuple(int(tensor.Shape(axis)) for axis in self._range(tensor.ShapeLength()))
            if any(side < 0 for side in shape):
                raise ValueError(f"tensor {number} has the shape {list(shape)}")
            shapes.append(shape)
            array = self._constant(tensor, number, shape)
            if array is not None:
                constants[number] = array
        operations = []
        for index in self._range(graph.OperatorsLength()):
            operation = self._operation(graph.Operators(index), len(shapes))
            if operation.name == "DEQUANTIZE" and operation.inputs and operation.inputs[0] in constants:
                constants[operation.outputs[0]] = constants[operation.inputs[0]]
                continue
            operations.append(operation)
        ends = []
        for length, item in ((graph.InputsLength(), graph.Inputs), (graph.OutputsLength(), graph.Outputs)):
            numbers = [self._number(item(index), len(shapes)) for index in self._range(length)]
            for number in numbers:
                if _TYPES.get(kind := graph.Tensors(number).Type()) is not np.float32:
                    raise UnsupportedError(f"tensor {number} is {self._type_name(kind)}, expected float32")
            ends.append([(number, self._text(graph.Tensors(number).Name())) for number in numbers])
        return Network(shapes, constants, ends[0], ends[1], operations)

    def _constant(self, tensor: Any, number: int, shape: tuple[int, ...]) -> npt.NDArray[Any] | None:
        if tensor.Buffer() >= self._model.BuffersLength():
            raise ValueError(f"tensor {number} has the buffer {tensor.Buffer()} of {self._model.BuffersLength()}")
        buffer = self._model.Buffers(tensor.Buffer())
        kind = _TYPES.get(tensor.Type())
        if not buffer.DataLength():
            return None
        if tensor.Sparsity() is not None:
            raise ValueError(f"tensor {number} has sparse weights: convert the network with dense ones")
        if kind is None:
            raise UnsupportedError(f"tensor {number} is {self._type_name(tensor.Type())}, expected floats or int32")
        self._count(buffer.DataLength())
        array = np.frombuffer(buffer.DataAsNumpy().tobytes(), kind).reshape(shape)
        return array.astype(np.float32) if kind is np.float16 else array

    def _operation(self, item: Any, num_tensors: int) -> Operation:
        if item.OpcodeIndex() >= self._model.OperatorCodesLength():
            raise ValueError(f"an operation has the code {item.OpcodeIndex()}")
        code = self._model.OperatorCodes(item.OpcodeIndex())
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = self._names.get(number, f"number {number}")
        inputs = [int(item.Inputs(k)) for k in self._range(item.InputsLength())]
        outputs = [self._number(item.Outputs(k), num_tensors) for k in self._range(item.OutputsLength())]
        for tensor in inputs:
            if tensor != -1:
                self._number(tensor, num_tensors)
        custom = b""
        if name == "CUSTOM":
            name = self._text(code.CustomCode())
            self._count(item.CustomOptionsLength())
            custom = bytes(item.CustomOptionsAsNumpy()) if item.CustomOptionsLength() else b""
        if not outputs:
            raise ValueError(f"the operation {name} has no output")
        return Operation(name, inputs, outputs, self._options(name, item), custom)

    def _options(self, name: str, item: Any) -> Any:
        """Return the options of an operation; None if it has none of its own."""
        table = item.BuiltinOptions()
        if name not in _OPTIONS or table is None:
            return None
        options = getattr(self._schema, _OPTIONS[name])()
        options.Init(table.Bytes, table.Pos)
        return options

    def _range(self, length: int) -> range:
        if length > self._limit:
            raise ValueError(f"a list has {length} entries, more than the file can hold")
        self._entries_left -= length
        if self._entries_left < 0:
            raise ValueError(f"its lists have more than {_MAX_ENTRIES} entries")
        return range(length)

    def _count(self, num_bytes: int) -> None:
        """Note that bytes of the file are copied."""
        self._bytes_left -= num_bytes
        if self._bytes_left < 0:
            raise ValueError(f"its constants and names take more than {_MAX_SHARING} times the size of the file")

    def _text(self, text: bytes | None) -> str:
        if text is None:
            raise ValueError("a tensor or a custom operation has no name")
        self._count(len(text))
        return text.decode()

    def _number(self, number: int, num_tensors: int) -> int:
        if not 0 <= number < num_tensors:
            raise ValueError(f"there is no tensor {number}, only {num_tensors}")
        return int(number)

    def _type_name(self, number: int) -> str:
        names = {value: key for key, value in vars(self._schema.TensorType).items() if isinstance(value, int)}
        return str(names.get(number, f"of the type {number}")).lower()
