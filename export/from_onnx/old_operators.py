"""Content of files that WinMLTools and the Core ML converters wrote before 2020: their operators, and their metadata.

ImageScaler, Crop and Affine were experimental operators until opset 9. Their definitions are those of ONNX 1.4
(docs/Operators.md). The metadata is described in docs/MetadataProps.md of ONNX.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

_DOMAINS = ("", "ai.onnx", "ai.onnx.experimental")
_KINDS = ("ImageScaler", "Crop", "Affine")
_SLICE_WITH_INPUTS = 10  # the first opset whose Slice has its bounds as inputs
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
_MAX = 2**31  # of a number in a file; larger ones are damage
_FORMAT, _RANGE = "Image.BitmapPixelFormat", "Image.NominalPixelRange"
_ORDERS = {"bgr8": "bgr", "bgra8": "bgr", "rgb8": "rgb", "rgba8": "rgb"}
_RANGES = {"nominalrange_0_255": "0..255", "normalized_0_1": "0..1", "normalized_1_1": "-1..1"}


@dataclass(frozen=True)
class StatedFormat:
    """Format of the pictures that a file's metadata states.

    Args:
        order: "rgb" or "bgr"; "" if it is not stated.
        range: a name of `export.from_onnx.pixels.RANGES`; "" if it is not stated.
        text: the metadata in one line; "" if there is none.
    """

    order: str = ""
    range: str = ""
    text: str = ""


def stated_format(model: onnx.ModelProto) -> StatedFormat:
    """Return the format of pictures that a model's metadata states; unknown values are only in the text."""
    found = {item.key: item.value for item in model.metadata_props if item.key in (_FORMAT, _RANGE)}
    order = _ORDERS.get(found.get(_FORMAT, "").lower(), "")
    range_ = _RANGES.get(found.get(_RANGE, "").lower(), "")
    if not found:
        return StatedFormat()
    used = [part for part in (order, range_ and f"range {range_}") if part]
    text = f"its metadata ({', '.join(f'{key} {value!a}' for key, value in found.items())}) states "
    return StatedFormat(order, range_, text + (", ".join(used) or "nothing that can be used"))


def replace_old_operators(model: onnx.ModelProto, opset: int) -> bool:
    """Replace ImageScaler, Crop and Affine by Mul, Add and Slice, in place.

    Args:
        model: the model; its constants need not be inputs afterwards (IR version 4).
        opset: of its standard operators.

    Returns:
        Whether there was one.

    Raises:
        ValueError: an operator lacks an attribute.
    """
    graph = model.graph
    if not any(_is_old(node) for node in graph.node):
        return False
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info)}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if not _is_old(node):
            nodes.append(node)
            continue
        if len(node.input) != 1 or len(node.output) != 1:
            raise ValueError(
                f'the operator {node.op_type} ("{node.name}") has {len(node.input)} inputs and {len(node.output)} '
                "outputs, expected one each: export the model again"
            )
        dtype = types.get(node.input[0], onnx.TensorProto.FLOAT)
        types[node.output[0]] = dtype
        attributes = {item.name: _value(item) for item in node.attribute}
        if dtype not in _FLOATS:
            raise ValueError(
                f"{_label(node)} reads a tensor of the type {dtype}, expected a floating-point one: export the model "
                "again"
            )
        replacement = _Replacement(graph, node, helper.tensor_dtype_to_np_dtype(dtype))
        if node.op_type == "Crop":
            replacement.crop(attributes.get("border", []), attributes.get("scale", []), opset)
        elif node.op_type == "Affine":
            replacement.scale(attributes.get("alpha", 1.0), attributes.get("beta", 0.0), ())
        else:
            replacement.scale(attributes.get("scale", 1.0), attributes.get("bias", 0.0), (-1, 1, 1))
        nodes += replacement.nodes
    del graph.node[:]
    graph.node.extend(nodes)
    model.ir_version = max(model.ir_version, 4)
    return True


class _Replacement:
    """The nodes that take the place of one node; their constants are added to the graph."""

    def __init__(self, graph: onnx.GraphProto, node: onnx.NodeProto, dtype: np.dtype[Any]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._graph, self._node, self._dtype = graph, node, dtype

    def scale(self, factor: object, offset: object, shape: tuple[int, ...]) -> None:
        """Multiply by a number and add an offset, one number or one per channel."""
        if not isinstance(factor, float) or not _are_numbers(offset if isinstance(offset, list) else [offset], float):
            raise ValueError(
                f"{_label(self._node)} multiplies by {factor!r} and adds {offset!r}, expected numbers: export the "
                "model again"
            )
        source, out = self._node.input[0], self._node.output[0]
        scaled = f"{out}/scaled"
        factors = self._constant("factor", np.asarray(factor, self._dtype))
        offsets = self._constant("offset", np.asarray(offset, self._dtype).reshape(shape))
        self.nodes = [
            helper.make_node("Mul", [source, factors], [scaled], name=scaled),
            helper.make_node("Add", [scaled, offsets], [out], name=f"{out}/moved"),
        ]

    def crop(self, border: Any, size: Any, opset: int) -> None:
        """Cut off the border (left, top, right, bottom), or keep (height, width) from the left and top border on."""
        source, out = self._node.input[0], self._node.output[0]
        if not (_are_numbers(border, int) and _are_numbers(size, int)) or len(border) != 4 or len(size) not in (0, 2):
            raise ValueError(
                f"{_label(self._node)} has the border {border} and the scale {size}, expected four numbers and none or "
                "two: export the model with Slice"
            )
        left, top, right, bottom = border
        ends = [top + size[0], left + size[1]] if size else [-bottom or 2**31 - 1, -right or 2**31 - 1]
        bounds = {"starts": [top, left], "ends": ends, "axes": [2, 3]}
        if opset < _SLICE_WITH_INPUTS:
            self.nodes = [helper.make_node("Slice", [source], [out], name=f"{out}/cropped", **bounds)]
            return
        names = [self._constant(name, np.array(value, np.int64)) for name, value in bounds.items()]
        self.nodes = [helper.make_node("Slice", [source, *names], [out], name=f"{out}/cropped")]

    def _constant(self, name: str, value: npt.NDArray[Any]) -> str:
        label = f"{self._node.output[0]}/{name}"
        self._graph.initializer.append(numpy_helper.from_array(value, label))
        return label


def _value(attribute: onnx.AttributeProto) -> object:
    """Return an attribute's value, lists as such."""
    value = helper.get_attribute_value(attribute)
    return list(value) if attribute.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS) else value


def _are_numbers(values: Any, kind: type[int] | type[float]) -> bool:
    return isinstance(values, list) and all(isinstance(value, kind) and abs(value) < _MAX for value in values)


def _label(node: onnx.NodeProto) -> str:
    return f'the operator {node.op_type} ("{node.name or node.output[0]}")'


def _is_old(node: onnx.NodeProto) -> bool:
    return node.op_type in _KINDS and node.domain in _DOMAINS
