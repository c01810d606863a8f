"""A fixed batch of pictures made 1: a file that was exported for several pictures then makes one frame.

The changed model is compared with the file, which gets the same picture several times.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
import onnx
from onnx import helper, numpy_helper

from export.from_onnx.model import GraphPort, OnnxSource, first_line
from export.from_onnx.original import Array, OriginalModel, single_batch_error
from export.from_onnx.planned_graph import MAX_VALUES, PlannedGraph
from export.from_onnx.role_parser import PICTURES, TensorRole
from export.from_onnx.roles import picture_layouts

_SHAPES = {"Reshape": 1, "Expand": 1, "Resize": 3, "ConstantOfShape": 0}  # operator -> its input that is a shape
_MAX_BATCH = 256  # pictures; the file is run with all of them
_TOLERANCE = 1e-3  # of the largest value


def to_single_batch(source: OnnxSource, given: Mapping[str, TensorRole]) -> OnnxSource:
    """Return a source whose pictures have a batch of 1, if all have the same fixed batch up to 256; else the source.

    Args:
        source: the file.
        given: roles given by the user.
    """
    pictures = [port for port in source.inputs if _is_picture(port, given)]
    lengths = {port.shape[0] for port in pictures}
    if len(lengths) != 1:
        return source
    (batch,) = lengths
    if not isinstance(batch, int) or batch == 1 or batch > _MAX_BATCH:
        return source
    model = onnx.ModelProto()
    model.CopyFrom(source.model)
    graph = model.graph
    for value in (*graph.input, *graph.output):
        sizes = value.type.tensor_type.shape.dim
        if len(sizes) > 1 and sizes[0].dim_value == batch:
            sizes[0].dim_value = 1
    del graph.value_info[:]
    _change_shapes(graph, batch)
    model.ir_version = max(model.ir_version, 4)  # the new constants are no inputs
    inputs = tuple(
        replace(port, shape=(1, *port.shape[1:])) if len(port.shape) > 1 and port.shape[0] == batch else port
        for port in source.inputs
    )
    return replace(source, model=model, inputs=inputs, is_runnable=False, before=source, batch=batch)


def check_single_batch(stage: PlannedGraph, outputs: Collection[str]) -> None:
    """Compare a model whose batch was made 1 with its file.

    Args:
        stage: the model; nothing happens if its batch was not changed.
        outputs: the outputs that are needed.

    Raises:
        ValueError: they differ.
    """
    source = stage.source
    if source.before is None:
        return
    generator = np.random.default_rng(0)
    one: dict[str, Array] = {}
    for name, (dtype, shape) in (stage.inputs | stage.unused).items():
        is_given = name in stage.roles and stage.roles[name].kind in ("fixed", "control")
        is_random = np.issubdtype(np.dtype(dtype), np.floating) and not is_given
        one[name] = generator.random(shape).astype(dtype) if is_random else np.zeros(shape, dtype)
        if is_given:
            one[name] = stage.value(name)
    before = {port.name: port.shape for port in source.before.inputs}
    changed = {port.name for port in source.inputs if port.shape != before[port.name]}
    if any(one[name].size * source.batch > MAX_VALUES for name in changed):
        raise ValueError(f"{single_batch_error(source)}: the batch is too large to be compared")
    many = {name: value.repeat(source.batch, axis=0) if name in changed else value for name, value in one.items()}
    wanted = list(outputs)
    found = stage.original.run(one, wanted)
    try:
        expected = OriginalModel(source.before).run(many, wanted)
    except ValueError as error:
        raise ValueError(f"{single_batch_error(source)}: {first_line(error)}") from error
    for name in wanted:
        value, reference = found[name], expected[name]
        if value.ndim == 4 and len(value) == source.batch:
            raise ValueError(f'{single_batch_error(source)}: its output "{name}" keeps the batch')
        if reference.shape != value.shape:
            reference = reference[:1]
        if reference.shape != value.shape or not np.allclose(
            value, reference, rtol=0, atol=_TOLERANCE * max(1.0, float(np.abs(reference).max(initial=0)))
        ):
            raise ValueError(f'{single_batch_error(source)}: its output "{name}" changes')


def _is_picture(port: GraphPort, given: Mapping[str, TensorRole]) -> bool:
    return given[port.name].kind in PICTURES if port.name in given else bool(picture_layouts(port.shape))


def _change_shapes(graph: onnx.GraphProto, batch: int) -> None:
    """Make 1 of the batch where a constant shape begins with it."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            for item in node.attribute:
                if item.name == "value":
                    constants[node.output[0]] = item.t
    for node in graph.node:
        place = _SHAPES.get(node.op_type)
        if place is None or place >= len(node.input) or node.input[place] not in constants:
            continue
        sizes = numpy_helper.to_array(constants[node.input[place]]).copy()
        if sizes.ndim == 1 and sizes.size > 1 and sizes[0] == batch:
            sizes[0] = 1
            name = f"{node.output[0]}/single_batch"  # a new constant, since others may read the old one
            graph.initializer.append(helper.make_tensor(name, onnx.TensorProto.INT64, sizes.shape, sizes))
            node.input[place] = name
