"""Checks of ONNX graphs against the manifest, before any engine loads them."""

from __future__ import annotations

import onnx

from runtime.bundle.external_weights import check_external
from runtime.bundle.pruning import needed_nodes
from runtime.bundle.size_checks import check_constants, check_sizes
from runtime.bundle.strict_json import describe
from runtime.bundle.tensors import GraphSpec, TensorSpec
from runtime.errors import BundleError

_TYPES = {
    "float32": onnx.TensorProto.FLOAT,
    "float16": onnx.TensorProto.FLOAT16,
    "uint8": onnx.TensorProto.UINT8,
    "int8": onnx.TensorProto.INT8,
    "int32": onnx.TensorProto.INT32,
    "int64": onnx.TensorProto.INT64,
    "bool": onnx.TensorProto.BOOL,
}
MAX_NODES = 12_000  # the UNet of Stable Diffusion has 5,000 to 10,000
_MAX_PARTS = 2**17  # total of the nodes' inputs and outputs, attributes, constants and stated shapes
# String attributes and their values: ONNX's checker accepts any value, but engines do not.
_AUTO_PAD = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
_STRING_VALUES: dict[tuple[str, str], tuple[str, ...]] = {
    (kind, "auto_pad"): _AUTO_PAD for kind in ("Conv", "ConvTranspose", "AveragePool", "MaxPool")
}
_STRING_VALUES |= {
    ("DepthToSpace", "mode"): ("DCR", "CRD"),
    ("GridSample", "mode"): ("linear", "nearest", "cubic", "bilinear", "bicubic"),
    ("GridSample", "padding_mode"): ("zeros", "border", "reflection"),
    ("Pad", "mode"): ("constant", "edge", "reflect", "wrap"),
    ("Resize", "mode"): ("nearest", "linear", "cubic"),
    ("Resize", "nearest_mode"): ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil", "simple"),
    ("Resize", "coordinate_transformation_mode"): (
        *("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"),
        *("tf_crop_and_resize", "tf_half_pixel_for_nn"),
    ),
    ("Resize", "keep_aspect_ratio_policy"): ("stretch", "not_larger", "not_smaller"),
}


def parse_graph(data: bytes, graph: GraphSpec, weights_bytes: int = 0) -> onnx.ModelProto:
    """Parse an ONNX file and check it against the manifest.

    Args:
        data: content of the file.
        graph: the manifest's entry for it.
        weights_bytes: size of its weights file, which is not read here; 0 without one.

    Returns:
        The model, owned by the caller.

    Raises:
        BundleError: it is not ONNX, stores data outside of its weights file, has control flow or custom operators,
            differs from the manifest in its inputs, outputs or picture, or has a tensor that is invalid or too large.
    """
    file = graph.file
    try:
        model = onnx.ModelProto.FromString(data)
    except Exception as error:  # protobuf's DecodeError, from a package without types
        raise BundleError(f"{file} is not an ONNX file: it cannot be parsed; export the bundle again") from error
    _check_counts(model, file)
    if (why_not := why_unreadable(model)) is not None:
        raise BundleError(f"{file} is damaged: it holds a name {why_not}; export the bundle again")
    if not model.graph.node:
        raise BundleError(f"{file} is not an ONNX file or has an empty graph; export the bundle again")
    _check_nodes(model, file)
    check_external(model, file, graph.weights, weights_bytes)
    check_constants(model, file)
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    _check_values(inputs, graph.inputs, f"{file} inputs")
    # The picture may also be an output of the file; it is pruned like an unused frame.
    outputs = [value for value in model.graph.output if value.name != graph.picture]
    _check_values(outputs, graph.outputs, f"{file} outputs")
    if graph.picture:
        _check_picture(model, graph)
    check_sizes(model, file, len(data), weights_bytes)
    return model


def _check_counts(model: onnx.ModelProto, file: str) -> None:
    """Check that a graph is small enough to be checked within one or two seconds."""
    graph = model.graph
    if len(graph.node) > MAX_NODES:
        raise BundleError(f"{file} has {len(graph.node)} nodes, at most {MAX_NODES} are read")
    parts = [graph.input, graph.output, graph.initializer, graph.value_info, model.opset_import]
    parts += [items for node in graph.node for items in (node.input, node.output, node.attribute, node.metadata_props)]
    parts += [attribute.tensors for node in graph.node for attribute in node.attribute]
    if (count := sum(map(len, parts))) > _MAX_PARTS:
        raise BundleError(
            f"{file} has {count} tensors, attributes and references to them, at most {_MAX_PARTS} are read"
        )


def why_unreadable(model: onnx.ModelProto) -> str | None:
    """Return None if all names of a graph are printable text, else the end of the message "it holds a name ...".

    Protobuf does not validate strings: it returns bytes or raises.
    """
    graph = model.graph
    try:
        names: list[object] = [graph.name, *(item.domain for item in model.opset_import)]
        for items in (graph.input, graph.output, graph.initializer, graph.value_info):
            names += [item.name for item in items]
        texts: list[object] = []
        for node in graph.node:
            names += [node.name, node.op_type, node.domain, *node.input, *node.output]
            names += [name for item in node.attribute for name in (item.name, item.ref_attr_name)]
            texts += [node.doc_string, *(item.doc_string for item in node.attribute)]
            texts += [word for item in node.metadata_props for word in (item.key, item.value)]
    except UnicodeDecodeError:
        return "that is not UTF-8"
    if not all(isinstance(text, str) for text in (*names, *texts)):
        return "that is not UTF-8"
    strange = next((name for name in names if not str(name).isprintable()), None)
    return None if strange is None else f"with characters that are not printable, {describe(strange)}"


def _check_nodes(model: onnx.ModelProto, file: str) -> None:
    if model.functions or model.graph.sparse_initializer or model.training_info:
        raise BundleError(f"{file} has local functions, sparse constants or training parts; plain nodes are expected")
    available = {tensor.name for tensor in model.graph.initializer} | {value.name for value in model.graph.input} | {""}
    names: set[str] = set()
    for node in model.graph.node:
        for attribute in node.attribute:
            words = _STRING_VALUES.get((node.op_type, attribute.name))
            if words is not None and attribute.s.decode("utf-8", "replace") not in words:
                raise BundleError(
                    f'{file}: "{attribute.name}" of the node "{node.name}" ({node.op_type}) is '
                    f"{describe(attribute.s)}, expected one of {', '.join(words)}"
                )
            if _is_crash(node, attribute):
                raise BundleError(
                    f'{file}: "{attribute.name}" of the node "{node.name}" ({node.op_type}) is {attribute.i}, which '
                    "does not fit the node; export the bundle again"
                )
        if any(attribute.HasField("sparse_tensor") or attribute.sparse_tensors for attribute in node.attribute):
            raise BundleError(
                f'{file}: the node "{node.name}" ({node.op_type}) has a sparse constant; only dense ones are expected'
            )
        subgraphs = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
        if any(
            attribute.type in subgraphs or attribute.HasField("g") or attribute.graphs for attribute in node.attribute
        ):
            raise BundleError(f'{file} has control flow (a {node.op_type} node, "{node.name}"); a graph is one step')
        if node.domain not in ("", "ai.onnx"):
            raise BundleError(f"{file} uses the operator {node.domain}.{node.op_type}; only standard ONNX is expected")
        for name in node.input:
            if name not in available:
                raise BundleError(
                    f'{file}: the node "{node.name}" ({node.op_type}) reads "{name}", which nothing makes before'
                )
        for name in node.output:
            if name and name in available:
                raise BundleError(f'{file}: the tensor "{name}" is made twice')
            available.add(name)
        if node.name and node.name in names:
            raise BundleError(f'{file} has two nodes named "{node.name}"; give every node a name of its own')
        names.add(node.name)


def _is_crash(node: onnx.NodeProto, attribute: onnx.AttributeProto) -> bool:
    """Return whether ONNX's shape inference would read out of bounds and end the process (onnx 1.23)."""
    match node.op_type, attribute.name:
        case "Split", "num_outputs":
            return bool(attribute.i != len(node.output))
        case "GatherND", "batch_dims":
            return bool(attribute.i < 0)
    return False


def _check_values(values: list[onnx.ValueInfoProto], tensors: tuple[TensorSpec, ...], where: str) -> None:
    names = [value.name for value in values]
    wanted = [tensor.name for tensor in tensors]
    if sorted(names) != sorted(wanted):
        raise BundleError(f"{where} are {sorted(names)}, but the manifest says {sorted(wanted)}")
    by_name = {tensor.name: tensor for tensor in tensors}
    for value in values:
        tensor = by_name[value.name]
        shape = _shape(value)
        if value.type.tensor_type.elem_type != _TYPES[tensor.dtype] or shape != tensor.shape:
            kind = _type_name(value.type.tensor_type.elem_type)
            raise BundleError(
                f'{where}: "{value.name}" is {kind} {shape}, but the manifest says {tensor.dtype} {tensor.shape}'
            )


def _check_picture(model: onnx.ModelProto, graph: GraphSpec) -> None:
    name, file = graph.picture, graph.file
    frames = [tensor.name for tensor in graph.outputs_of("frame")]
    if not any(name in node.output for node in model.graph.node):
        raise BundleError(f'{file} has no tensor "{name}", which the manifest calls the picture')
    inputs = {value.name for value in model.graph.input} - {tensor.name for tensor in model.graph.initializer}
    for frame in frames:
        after = needed_nodes(model.graph, [frame], stop=name)
        read = {item for node in after for item in node.input}
        if name not in read or read & inputs:
            raise BundleError(
                f'{file}: the frame "{frame}" must be computed from the picture "{name}" and nothing else'
            )
    states = [tensor.name for tensor in graph.outputs_of("state")]
    if any(name in node.input for node in needed_nodes(model.graph, states)) or name in states:
        raise BundleError(f'{file}: a state depends on the picture "{name}", from which only frames may be computed')
    # A watermark replaces the picture, so its shape is checked wherever the file states it.
    height, width = _frame_size(graph)
    for value in [*model.graph.value_info, *model.graph.output]:
        if value.name == name:
            shape = _shape(value)
            if value.type.tensor_type.elem_type not in (_TYPES["float32"], _TYPES["float16"]):
                raise BundleError(f'{file}: the picture "{name}" must be a float tensor')
            if shape and shape != (1, 3, height, width):
                raise BundleError(f'{file}: the picture "{name}" must be (1, 3, {height}, {width}), got {shape}')


def _frame_size(graph: GraphSpec) -> tuple[int, int]:
    frame = graph.outputs_of("frame")[0]
    return (frame.shape[1], frame.shape[2]) if frame.pixels == "rgb" else (frame.shape[1] * 2 // 3, frame.shape[2])


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(size.dim_value if size.HasField("dim_value") else -1 for size in value.type.tensor_type.shape.dim)


def _type_name(number: int) -> str:
    try:
        return str(onnx.TensorProto.DataType.Name(number)).lower()
    except ValueError:
        return f"of the unknown type {number}"
