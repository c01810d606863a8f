"""Writes a large network in pieces: convolutions and products of matrices with random weights, for pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
from onnx import TensorProto, helper

SIDE = 128  # pixels of the picture
_PATCH = 16  # pixels of a side that one place of the features stands for
_CHANNELS = 1024
_HIDDEN = 4096
_PAGE = 4096  # bytes
_TILE = 2**20  # random values that are repeated
_BLOCK_VALUES = 9 * _CHANNELS**2 + 2 * _CHANNELS * _HIDDEN
_KINDS = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}


@dataclass(frozen=True)
class LargeModel:
    """An ONNX file with its weights beside it, and the number of bytes of these."""

    file: Path
    weight_bytes: int


def write_model(file: Path, size_bytes: int, dtype: str) -> LargeModel:
    """Write a network whose weights take about as many bytes, at least those of one block, in `FILE.data`.

    Args:
        file: of the graph.
        size_bytes: of the weights.
        dtype: "float32" or "float16", of the weights and of all features.
    """
    data = file.with_name(f"{file.name}.data")
    with data.open("wb") as stream:
        network = _Network(stream, data.name, dtype)
        for _ in range(max(1, round(size_bytes / (_BLOCK_VALUES * np.dtype(dtype).itemsize)))):
            network.add_block()
        model = network.finish()
    onnx.save(model, file)
    return LargeModel(file, data.stat().st_size)


class _Network:
    """The network as it is written: x = x + f(x) per block, f a convolution, then two products with matrices."""

    def __init__(self, stream: BinaryIO, location: str, dtype: str) -> None:
        self._stream, self._location, self._dtype = stream, location, dtype
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._tile = np.random.default_rng(0).normal(size=_TILE).astype(dtype)
        self._side = SIDE // _PATCH
        self._add("Cast", "picture", out="seen", to=_KINDS[dtype])
        first = self._weights((_CHANNELS, 3, _PATCH, _PATCH), 0.05)
        self._features = self._add("Conv", "seen", first, strides=[_PATCH, _PATCH])

    def add_block(self) -> None:
        """Add a block."""
        kernel = self._weights((_CHANNELS, _CHANNELS, 3, 3), 0.01)
        convolved = self._add("Tanh", self._add("Conv", self._features, kernel, pads=[1, 1, 1, 1]))
        joined = self._add("Add", self._features, convolved)
        rows = self._add("Transpose", self._add("Reshape", joined, self._shape(1, _CHANNELS, -1)), perm=[0, 2, 1])
        wide = self._add("Relu", self._add("MatMul", rows, self._weights((_CHANNELS, _HIDDEN), 0.01)))
        made = self._add("Tanh", self._add("MatMul", wide, self._weights((_HIDDEN, _CHANNELS), 0.01)))
        planes = self._add("Transpose", made, perm=[0, 2, 1])
        shaped = self._add("Reshape", planes, self._shape(1, _CHANNELS, self._side, self._side))
        self._features = self._add("Add", joined, shaped)

    def finish(self) -> onnx.ModelProto:
        """Add the end, and return the model."""
        last = self._weights((_CHANNELS, 3, _PATCH, _PATCH), 0.001)
        made = self._add("Sigmoid", self._add("ConvTranspose", self._features, last, strides=[_PATCH, _PATCH]))
        self._add("Cast", made, out="frame", to=TensorProto.FLOAT)
        picture, frame = (
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, SIDE, SIDE]) for name in ("picture", "frame")
        )
        graph = helper.make_graph(self._nodes, "large", [picture], [frame], self._constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)

    def _add(self, kind: str, *inputs: str, out: str = "", **attributes: object) -> str:
        out = out or f"{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [out], name=out, **attributes))
        return out

    def _shape(self, *sizes: int) -> str:
        name = f"shape_{len(self._constants)}"
        self._constants.append(helper.make_tensor(name, TensorProto.INT64, [len(sizes)], sizes))
        return name

    def _weights(self, shape: tuple[int, ...], scale: float) -> str:
        """Append random weights to the file, and return their name."""
        self._stream.write(bytes(-self._stream.tell() % _PAGE))
        start = self._stream.tell()
        for piece in self._pieces(int(np.prod(shape)), scale):
            self._stream.write(piece)
        name = f"weights_{len(self._constants)}"
        tensor = TensorProto(name=name, data_type=_KINDS[self._dtype], dims=shape)
        tensor.data_location = TensorProto.EXTERNAL
        length = self._stream.tell() - start
        for key, value in (("location", self._location), ("offset", str(start)), ("length", str(length))):
            tensor.external_data.add(key=key, value=value)
        self._constants.append(tensor)
        return name

    def _pieces(self, count: int, scale: float) -> Iterator[bytes]:
        scaled = (self._tile * np.array(scale, self._dtype)).astype(self._dtype)
        turn = len(self._constants) * 7919 % _TILE  # so that no two tensors are equal
        scaled = np.roll(scaled, turn)
        for start in range(0, count, _TILE):
            yield scaled[: count - start].tobytes()
