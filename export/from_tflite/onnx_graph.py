"""The ONNX graph that is being built from a TensorFlow Lite network; pictures are in planes (NCHW)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from export.from_tflite.network import Network, UnsupportedError

_ACTIVATIONS = {0: "", 1: "Relu", 3: "Relu6"}  # of the schema's ActivationFunctionType


class OnnxGraph:
    """Nodes and constants; `names` has the value of each tensor, in planes if it has four dimensions."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.names: dict[int, str] = dict(network.inputs)

    def constant(self, array: npt.NDArray[Any]) -> str:
        """Add a constant and return its name."""
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def value(self, number: int, rank: int | None = None) -> npt.NDArray[Any]:
        """Return a constant tensor as it is stored.

        Raises:
            UnsupportedError: it is not constant.
            ValueError: it does not have this number of dimensions.
        """
        if number not in self.network.constants:
            raise UnsupportedError(f"tensor {number} has to be constant")
        array = self.network.constants[number]
        if rank is not None and array.ndim != rank:
            raise ValueError(f"tensor {number} has the shape {list(array.shape)}, expected {rank} dimensions")
        return array

    def name(self, number: int) -> str:
        """Return the name of a tensor; a constant is added in planes.

        Raises:
            UnsupportedError: it is neither computed before nor constant.
        """
        if number not in self.names:
            array = self.value(number)
            self.names[number] = self.constant(array.transpose(0, 3, 1, 2) if array.ndim == 4 else array)
        return self.names[number]

    def per_channel(self, number: int, rank: int) -> str:
        """Return the name of a tensor; a constant vector beside pictures belongs to their channels."""
        if rank == 4 and number in self.network.constants and self.value(number).ndim == 1:
            return self.constant(self.value(number).reshape(1, -1, 1, 1))
        return self.name(number)

    def add(self, kind: str, inputs: list[str], output: int, **attributes: Any) -> None:
        """Add a node that computes a tensor, from its own value so far if it has one."""
        name = f"t{output}" if output not in self.names else f"t{output}.{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        self.names[output] = name

    def activate(self, output: int, activation: int) -> None:
        """Add the activation that is part of an operation.

        Raises:
            UnsupportedError: it is not known.
        """
        if activation not in _ACTIVATIONS:
            raise UnsupportedError(f"the activation {activation} is not supported")
        kind = _ACTIVATIONS[activation]
        if kind == "Relu6":
            bounds = [self.constant(np.array(bound, np.float32)) for bound in (0, 6)]
            self.add("Clip", [self.names[output], *bounds], output)
        elif kind:
            self.add(kind, [self.names[output]], output)
