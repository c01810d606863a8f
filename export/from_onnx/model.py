"""Reads an ONNX file, rejects unsupported content, extracts what a frame needs, and converts it to a supported opset.

Every error names the tensor or operator and suggests a fix.
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

from export.external_weights import INLINE_BYTES, external_bytes, load_external, read_graph, resolve_external
from export.from_onnx.old_operators import StatedFormat, replace_old_operators, stated_format
from runtime.bundle.graph_checks import why_unreadable
from runtime.bundle.pruning import needed_nodes, pruned_model

OPSET = 18  # opset of our own bundles; older models are converted to it
NEWEST_OPSET = 21  # the newest opset that all supported engines read; newer models are converted to it
OLDEST_OPSET = 7
MAX_IR = 10
CONTROL_FLOW = ("If", "Loop", "Scan", "SequenceMap")
RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli")
_STANDARD = ("", "ai.onnx")
_LAST_OLD_OPSET = 9
_TF2ONNX = "ai.onnx.converters.tensorflow"

Shape = tuple[int | str, ...]  # a string is the name of a free axis, "" if it has none


@dataclass(frozen=True)
class GraphPort:
    """An input or output of the file: its name, NumPy's name of its type, and its shape in the file."""

    name: str
    dtype: str
    shape: Shape

    def __str__(self) -> str:
        sizes = ", ".join(str(size) or "?" for size in self.shape)
        return f'"{self.name}" ({self.dtype} [{sizes}])'


@dataclass(frozen=True)
class OnnxSource:
    """A file that was read.

    Args:
        path: of the file.
        sha256: of the file.
        model: its content, of standard operators where these have replaced old ones.
        inputs: without weights.
        outputs: all of them.
        stated: format of pictures according to the file's metadata.
        is_runnable: whether ONNX Runtime is to run the file; if not, it runs the model, which was changed.
        before: the source before its batch was made 1 (export/from_onnx/batch.py), or None.
        batch: the batch that it had.
        weights_files: the files that have its external data.
        is_split: whether the file keeps weights in other files.
    """

    path: Path
    sha256: str
    model: onnx.ModelProto
    inputs: tuple[GraphPort, ...]
    outputs: tuple[GraphPort, ...]
    stated: StatedFormat
    is_runnable: bool
    before: OnnxSource | None = None
    batch: int = 1
    weights_files: tuple[Path, ...] = ()
    is_split: bool = False

    @property
    def opset(self) -> int:
        """The opset of the standard operators."""
        return opset_of(self.model)


def read_source(path: Path, inline_bytes: int = INLINE_BYTES) -> OnnxSource:
    """Read a file and reject inputs and outputs that cannot have a role.

    Args:
        path: an ONNX file; files with its weights lie beside it.
        inline_bytes: external weights of up to as many bytes are loaded; larger ones stay in their files.

    Returns:
        The model, with local functions inlined.

    Raises:
        ValueError: the file does not exist or is not ONNX, its opset is below 7, an input or output is not a numeric
            tensor of known rank, or an input has five dimensions or more.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}: give an ONNX file")
    digest = file_sha256(path)
    model = read_graph(path)
    if not model.graph.node:
        raise ValueError(f"{path} is not an ONNX file or has an empty graph: give a file that a framework exported")
    if (why_not := why_unreadable(model)) is not None:
        raise ValueError(f"{path} holds a name {why_not}: rename it, or export the model again")
    is_split = external_bytes(model) > 0
    weights_files = resolve_external(model, path)
    if external_bytes(model) <= inline_bytes:
        load_external(model)
    if opset_of(model) < OLDEST_OPSET:
        raise ValueError(f"{path} uses opset {opset_of(model)}: export it with opset {OLDEST_OPSET} or newer")
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    # ONNX Runtime runs old operators up to opset 9, with which they were defined.
    is_runnable = not replace_old_operators(model, opset_of(model)) or opset_of(model) <= _LAST_OLD_OPSET
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(to_port(value, "input") for value in model.graph.input if value.name not in weights)
    outputs = tuple(to_port(value, "output") for value in model.graph.output)
    for port in inputs:
        if len(port.shape) > 4:
            raise ValueError(
                f"the input {port} has {len(port.shape)} dimensions, and a frame has four: export the model for "
                "single frames, with its memory as states"
            )
    stated = stated_format(model)
    return OnnxSource(
        path, digest, model, inputs, outputs, stated, is_runnable, weights_files=weights_files, is_split=is_split
    )


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, which is read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def opset_of(model: onnx.ModelProto) -> int:
    """Return the opset of a model's standard operators, 1 if it names none."""
    return max((item.version for item in model.opset_import if item.domain in _STANDARD), default=1)


def refuse_custom_operators(source: OnnxSource, frame: Collection[str]) -> None:
    """Reject a model whose frame depends on operators that are not standard ONNX, before anything else is asked.

    Args:
        source: the model.
        frame: the output that is the frame, if it is known; else every output may be it.

    Raises:
        ValueError: the message names all of them.
    """
    outputs = [[name] for name in frame] or [[port.name] for port in source.outputs]
    found = [
        [_label(node) for node in needed_nodes(source.model.graph, names) if not _is_standard(node)]
        for names in outputs
    ]
    if not found or not all(found):
        return
    names = list(dict.fromkeys(name for names in found for name in names))
    what = f"the operator {names[0]} is" if len(names) == 1 else f"the operators {', '.join(names)} are"
    fix = "export the model without fused or custom operators"
    if any(name.startswith(_TF2ONNX) for name in names):
        fix = (
            "tf2onnx found no ONNX operator for them; rewrite that part of the TensorFlow model, or use a newer tf2onnx"
        )
    raise ValueError(f"{what} not standard ONNX, and no other engine runs {source.path.name}: {fix}")


def needed_inputs(source: OnnxSource, outputs: Collection[str]) -> set[str]:
    """Return the names of the inputs that these outputs depend on."""
    return {value.name for value in _extract(source, outputs).graph.input}


def extract_graph(
    source: OnnxSource,
    inputs: Mapping[str, tuple[int, ...]],
    outputs: Mapping[str, tuple[int, ...]],
) -> onnx.ModelProto:
    """Extract what some outputs depend on, fix every shape, and convert the opset.

    Args:
        source: the model; not changed.
        inputs: shape of each input that the outputs depend on.
        outputs: shape of each wanted output.

    Returns:
        A model of standard operators, at an opset from 18 to 21.

    Raises:
        ValueError: the extracted graph has control flow, operators that are not standard, or random operators, or
            cannot be converted.
    """
    model = _extract(source, outputs)
    for node in model.graph.node:
        _check_node(node)
    for values, shapes in ((model.graph.input, inputs), (model.graph.output, outputs)):
        for value in values:
            _set_shape(value, shapes[value.name])
    del model.graph.value_info[:]  # they may contradict the fixed shapes
    opset = opset_of(model)
    target = min(max(opset, OPSET), NEWEST_OPSET)
    if target != opset:
        try:
            model = onnx.version_converter.convert_version(model, target)
        except Exception as error:  # the converter raises RuntimeError, IndexError and its own types
            raise ValueError(
                f"{source.path} cannot be converted from opset {opset} to {target}: {first_line(error)}; export it "
                f"with opset {OPSET}"
            ) from error
    del model.opset_import[:]
    model.opset_import.extend([helper.make_opsetid("", target)])
    model.ir_version = min(max(model.ir_version, 8), MAX_IR)
    return model


def _extract(source: OnnxSource, outputs: Collection[str]) -> onnx.ModelProto:
    """Return what the outputs need, without the inputs that they do not."""
    model = pruned_model(source.model, outputs)
    read = {name for node in model.graph.node for name in node.input} | set(outputs)
    read |= {name for node in model.graph.node for name in _captured(node)}
    inputs = [value for value in model.graph.input if value.name in read]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    return model


def _captured(node: onnx.NodeProto) -> set[str]:
    """Return all names that a node's subgraphs read."""
    names: set[str] = set()
    for attribute in node.attribute:
        for graph in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
            for inner in graph.node:
                names |= {*inner.input, *_captured(inner)}
    return names


def _is_standard(node: onnx.NodeProto) -> bool:
    return node.domain in _STANDARD and onnx.defs.has(node.op_type)


def _label(node: onnx.NodeProto) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain else str(node.op_type)


def _check_node(node: onnx.NodeProto) -> None:
    label = f'the operator {node.op_type} ("{node.name or node.output[0]}")'
    if not _is_standard(node):
        raise ValueError(
            f"the operator {_label(node)} is not standard ONNX and runs in no other engine: export the "
            "model without fused or custom operators"
        )
    if node.op_type in CONTROL_FLOW:
        raise ValueError(
            f"{label} is control flow, which frames may not depend on: export the model with a fixed branch or a "
            "fixed number of iterations"
        )
    if node.op_type in RANDOM:
        raise ValueError(
            f"{label} draws random numbers, so frames would not be reproducible: export the model with its noise as "
            "an input"
        )


def to_port(value: onnx.ValueInfoProto, side: str) -> GraphPort:
    """Return an input or output, which `side` says; raises ValueError unless it is a numeric tensor of known rank."""
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        what = str(kind or "untyped").removesuffix("_type").replace("_", " ")
        raise ValueError(
            f'the {side} "{value.name}" is a {what}, and only tensors are supported: export the model with tensors'
        )
    tensor = value.type.tensor_type
    name = TensorProto.DataType.Name(tensor.elem_type).lower()
    if tensor.elem_type in (TensorProto.UNDEFINED, TensorProto.STRING):
        raise ValueError(
            f'the {side} "{value.name}" is of the type {name}, and only numbers are supported: export it with numbers'
        )
    if not tensor.HasField("shape") and side == "input":
        raise ValueError(f'the input "{value.name}" has no shape and no rank: export the model with shapes')
    shape = tuple(
        size.dim_value if size.HasField("dim_value") and size.dim_value > 0 else size.dim_param
        for size in tensor.shape.dim
    )
    return GraphPort(value.name, helper.tensor_dtype_to_np_dtype(tensor.elem_type).name, shape)


def _set_shape(value: onnx.ValueInfoProto, shape: tuple[int, ...]) -> None:
    value.CopyFrom(helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, shape))


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, at most 300 characters."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
