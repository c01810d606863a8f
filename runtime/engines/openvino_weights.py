"""Weights of a graph in OpenVINO that lie in a mapped file: constants that share its memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
from onnx import TensorProto

from runtime.bundle.external_weights import MappedWeights

_TYPES = {
    TensorProto.FLOAT: "f32",
    TensorProto.FLOAT16: "f16",
    TensorProto.BFLOAT16: "bf16",
    TensorProto.DOUBLE: "f64",
    TensorProto.UINT8: "u8",
    TensorProto.INT8: "i8",
    TensorProto.UINT16: "u16",
    TensorProto.INT16: "i16",
    TensorProto.UINT32: "u32",
    TensorProto.INT32: "i32",
    TensorProto.UINT64: "u64",
    TensorProto.INT64: "i64",
    TensorProto.BOOL: "boolean",
}


def map_weights(model: Any, tensors: Sequence[onnx.TensorProto], mapped: MappedWeights) -> None:
    """Replace inputs of a model by constants.

    Args:
        model: `openvino.Model`, which has an input for each tensor; changed in place.
        tensors: the external tensors.
        mapped: their file; it has to outlive the model and everything that is compiled from it.

    Raises:
        RuntimeError: OpenVINO has no such type, or refuses the changed model.
    """
    import openvino

    inputs = {name: item for item in model.get_parameters() for name in item.output(0).names}
    for tensor in tensors:
        if tensor.name not in inputs:  # nothing reads it
            continue
        if tensor.data_type not in _TYPES:
            kind = TensorProto.DataType.Name(tensor.data_type).lower()
            raise RuntimeError(f'the weights "{tensor.name}" are {kind}, which openvino does not read from a file')
        kind = getattr(openvino.Type, _TYPES[tensor.data_type])
        values = openvino.Tensor(mapped.raw(tensor), openvino.Shape(list(tensor.dims)), kind)
        constant = openvino.op.Constant(values, shared_memory=True)
        parameter = inputs[tensor.name]
        constant.output(0).get_tensor().add_names(parameter.output(0).names)
        for target in parameter.output(0).get_target_inputs():
            target.replace_source_output(constant.output(0))
        model.remove_parameter(parameter)
    model.validate_nodes_and_infer_types()
