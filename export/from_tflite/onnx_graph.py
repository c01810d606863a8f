"""The ONNX graph that is being built from a TensorFlow Lite network; pictures are in planes (NCHW)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from export.from_tflite.network import Network, UnsupportedError

_MAX_GROWTH = 8  # how many times the network's constants the graph may hold, as operations can share one
_LEAST_BYTES = 2**20  # of constants that every graph may hold
_ACTIVATIONS = {0: "", 1: "Relu", 3: "Relu6"}  # of the schema's ActivationFunctionType


class OnnxGraph:
    """Nodes and constants; `names` has the value of each tensor, in planes if it has four dimensions."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.names: dict[int, str] = dict(network.inputs)
        self._taken = {name for _, name in (*network.inputs, *network.outputs)}
        self._bytes_left = _LEAST_BYTES + _MAX_GROWTH * sum(array.nbytes for array in network.constants.values())

    def unique(self, name: str) -> str:
        """Return a name that no other value has: with underscores, if it is taken."""
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

    def constant(self, array: npt.NDArray[Any]) -> str:
        """Add a constant and return its name.

        Raises:
            UnsupportedError: the graph's constants would be many times larger than those of the file.
        """
        self._bytes_left -= array.nbytes
        if self._bytes_left < 0:
            raise UnsupportedError(f"its operations share constants more than {_MAX_GROWTH} times")
        name = self.unique(f"constant{len(self.constants)}")
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
        """Return the name of a tensor that is combined with others, with broadcasting, into one of this rank.

        Beside pictures, the axes of a constant are the last ones of NHWC.

        Raises:
            UnsupportedError: it is computed, and does not have the axes of a picture beside pictures.
        """
        constant = self.network.constants.get(number)
        own = len(self.network.shapes[number]) if constant is None else constant.ndim
        if rank != 4 or own == 4:
            return self.name(number)
        if constant is not None:
            return self.constant(constant.reshape((1,) * (4 - own) + constant.shape).transpose(0, 3, 1, 2))
        if own:
            raise UnsupportedError(f"tensor {number} has {own} dimensions and is computed, beside pictures of four")
        return self.name(number)

    def add(self, kind: str, inputs: list[str], output: int, **attributes: Any) -> None:
        """Add a node that computes a tensor, from its own value so far if it has one."""
        name = self.unique(f"t{output}" if output not in self.names else f"t{output}.{len(self.nodes)}")
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
