"""A small ONNX graph that is being built node by node."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from runtime.bundle.tensors import TensorSpec


class GraphBuilder:
    """Nodes and constants of a graph; names are numbered.

    Args:
        prefix: of all names.
    """

    def __init__(self, prefix: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._prefix = prefix

    def constant(self, value: npt.NDArray[np.generic]) -> str:
        """Add a constant and return its name."""
        name = f"{self._prefix}constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def number(self, value: float) -> str:
        """Add a float32 scalar and return its name."""
        return self.constant(np.array(value, np.float32))

    def add(self, operation: str, inputs: list[str], *, output: str = "", **attributes: object) -> str:
        """Add a node of one output and return the output's name."""
        name = output or f"{self._prefix}{operation.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, inputs, [name], name=f"{name}.node", **attributes))
        return name

    def slice(self, name: str, start: int, stop: int, step: int = 1, axis: int = 1) -> str:
        """Add a slice, of the channels unless another axis is named."""
        bounds = [self.constant(np.array([value], np.int64)) for value in (start, stop, axis, step)]
        return self.add("Slice", [name, *bounds])

    def to_float(self, name: str) -> str:
        """Add a conversion to float32."""
        return self.add("Cast", [name], to=TensorProto.FLOAT)

    def i420_planes(self, name: str, width: int, height: int) -> tuple[str, str]:
        """Add the planes of an I420 frame, as float32: Y (1, 1, H, W), U and V (1, 2, H / 2, W / 2)."""
        flat = self.add("Reshape", [self.to_float(name), self.constant(np.array([1, -1], np.int64))])
        size = width * height
        shape = self.constant(np.array([1, 1, height, width], np.int64))
        luma = self.add("Reshape", [self.slice(flat, 0, size), shape])
        shape = self.constant(np.array([1, 2, height // 2, width // 2], np.int64))
        return luma, self.add("Reshape", [self.slice(flat, size, size * 3 // 2), shape])


def value_info(item: TensorSpec) -> onnx.ValueInfoProto:
    """Return a graph's input or output of a tensor, uint8 or float32."""
    kind = TensorProto.UINT8 if item.dtype == "uint8" else TensorProto.FLOAT
    return helper.make_tensor_value_info(item.name, kind, item.shape)
