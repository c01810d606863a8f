"""Somebody's ONNX file: read, checked for what cannot go on air, cut to what a frame needs, and brought to our opset.

Everything that is refused is refused by the name of its tensor or operator, with what would help.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx.inliner
import onnx.version_converter
from onnx import TensorProto, helper

from runtime.bundle.graph_checks import why_unreadable
from runtime.bundle.pruning import pruned_model

OPSET = 18  # that of our own bundles; older models are converted to it
NEWEST = 21  # engines of the versions that we ask for read up to this one; newer models are converted down to it
OLDEST = 7
MAX_IR = 10
CONTROL_FLOW = ("If", "Loop", "Scan", "SequenceMap")
RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli")
_STANDARD = ("", "ai.onnx")

Shape = tuple[int | str, ...]  # a string is the name of a free axis, "" one without a name


@dataclass(frozen=True)
class GraphPort:
    """An input or output of the file: its name, NumPy's name of its type, and its shape as the file states it."""

    name: str
    dtype: str
    shape: Shape

    def __str__(self) -> str:
        sizes = ", ".join(str(size) or "?" for size in self.shape)
        return f'"{self.name}" ({self.dtype} [{sizes}])'


@dataclass(frozen=True)
class OnnxSource:
    """A file that was read: where it was, its bytes' SHA-256, the model, its inputs (without weights) and outputs."""

    path: Path
    sha256: str
    model: onnx.ModelProto
    inputs: tuple[GraphPort, ...]
    outputs: tuple[GraphPort, ...]

    @property
    def opset(self) -> int:
        """The opset of the standard operators."""
        return opset_of(self.model)


def read_source(path: Path) -> OnnxSource:
    """Read a file and refuse what no role could be given to.

    Args:
        path: an ONNX file; weights in files beside it are read too.

    Returns:
        The model, with local functions inlined.

    Raises:
        ValueError: there is no such file, it is no ONNX, its opset is below 7, an input or output is no tensor of
            numbers with a known rank, or an input has five dimensions or more.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}: give an ONNX file")
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's DecodeError, from a package without types; missing weights beside it
        raise ValueError(f"{path} cannot be read as ONNX: {_first_line(error)}") from error
    if not model.graph.node:
        raise ValueError(f"{path} is no ONNX file or holds an empty graph: give the file that a framework exported")
    if (why_not := why_unreadable(model)) is not None:
        raise ValueError(f"{path} holds a name {why_not}: rename it, or export the model again")
    if opset_of(model) < OLDEST:
        raise ValueError(f"{path} uses opset {opset_of(model)}: export it with opset {OLDEST} or newer")
    if model.graph.sparse_initializer:
        raise ValueError(f"{path} has sparse weights: export it with dense ones")
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_port(value, "input") for value in model.graph.input if value.name not in weights)
    outputs = tuple(_port(value, "output") for value in model.graph.output)
    for port in inputs:
        if len(port.shape) > 4:
            raise ValueError(
                f"the input {port} has {len(port.shape)} dimensions: one frame has four; export the model for single "
                "frames, and what it remembers as states"
            )
    return OnnxSource(path, digest, model, inputs, outputs)


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of the standard operators that a model is written in, 1 if it names none."""
    return max((item.version for item in model.opset_import if item.domain in _STANDARD), default=1)


def needed_inputs(source: OnnxSource, outputs: Collection[str]) -> set[str]:
    """Return the names of the inputs that some outputs depend on."""
    return {value.name for value in _cut(source, outputs).graph.input}


def cut_core(
    source: OnnxSource,
    inputs: Mapping[str, tuple[int, ...]],
    outputs: Mapping[str, tuple[int, ...]],
) -> onnx.ModelProto:
    """Cut a model to some outputs, pin every axis, and convert it.

    Args:
        source: the model, which is left as it is.
        inputs: shape of each input that the outputs depend on.
        outputs: shape of each output that is wanted.

    Returns:
        A model of standard operators, at an opset from 18 to 21.

    Raises:
        ValueError: what is left has control flow, an operator that is not standard, or random numbers of its own; or
            it cannot be converted.
    """
    model = _cut(source, outputs)
    for node in model.graph.node:
        _check_node(node)
    for values, shapes in ((model.graph.input, inputs), (model.graph.output, outputs)):
        for value in values:
            _pin(value, shapes[value.name])
    del model.graph.value_info[:]  # stated for free axes, or for others than these
    opset = opset_of(model)
    target = min(max(opset, OPSET), NEWEST)
    if target != opset:
        try:
            model = onnx.version_converter.convert_version(model, target)
        except Exception as error:  # the converter raises RuntimeError, IndexError and its own
            raise ValueError(
                f"{source.path} cannot be converted from opset {opset} to {target}: {_first_line(error)}; export it "
                f"with opset {OPSET}"
            ) from error
    del model.opset_import[:]
    model.opset_import.extend([helper.make_opsetid("", target)])
    model.ir_version = min(max(model.ir_version, 8), MAX_IR)
    return model


def _cut(source: OnnxSource, outputs: Collection[str]) -> onnx.ModelProto:
    """Return what the outputs need, without the inputs that they do not."""
    model = pruned_model(source.model, outputs)
    read = {name for node in model.graph.node for name in node.input} | set(outputs)
    read |= {name for node in model.graph.node for name in _captured(node)}
    inputs = [value for value in model.graph.input if value.name in read]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    return model


def _captured(node: onnx.NodeProto) -> set[str]:
    """Return the names that a node's subgraphs read, their own among them."""
    names: set[str] = set()
    for attribute in node.attribute:
        for graph in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
            for inner in graph.node:
                names |= {*inner.input, *_captured(inner)}
    return names


def _check_node(node: onnx.NodeProto) -> None:
    label = f'the operator {node.op_type} ("{node.name or node.output[0]}")'
    if node.domain not in _STANDARD:
        raise ValueError(
            f"the operator {node.domain}.{node.op_type} is not standard ONNX, and no other engine has it: export the "
            "model without fused or custom operators"
        )
    if node.op_type in CONTROL_FLOW:
        raise ValueError(
            f"{label} is control flow on the way to the frame, and a frame is one pass: export the model with the "
            "branch or the number of turns fixed"
        )
    if node.op_type in RANDOM:
        raise ValueError(
            f"{label} draws random numbers of its own, and frames would differ on every machine: export the model with "
            "its noise as an input"
        )


def _port(value: onnx.ValueInfoProto, side: str) -> GraphPort:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        what = str(kind or "untyped").removesuffix("_type").replace("_", " ")
        raise ValueError(
            f'the {side} "{value.name}" is a {what}, and only tensors can be fed: export the model with tensors'
        )
    tensor = value.type.tensor_type
    name = TensorProto.DataType.Name(tensor.elem_type).lower()
    if tensor.elem_type in (TensorProto.UNDEFINED, TensorProto.STRING):
        raise ValueError(
            f'the {side} "{value.name}" is of the type {name}, and only numbers can be fed: export it with numbers'
        )
    if not tensor.HasField("shape") and side == "input":
        raise ValueError(f'the input "{value.name}" has no shape, not even a rank: export the model with shapes')
    shape = tuple(
        size.dim_value if size.HasField("dim_value") and size.dim_value > 0 else size.dim_param
        for size in tensor.shape.dim
    )
    return GraphPort(value.name, helper.tensor_dtype_to_np_dtype(tensor.elem_type).name, shape)


def _pin(value: onnx.ValueInfoProto, shape: tuple[int, ...]) -> None:
    value.CopyFrom(helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, shape))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
