"""Exports the graphs from PyTorch to ONNX: FP32 arithmetic, weights stored in FP16.

The weights of the PyTorch model are rounded to FP16 before any comparison. In the file each is followed by a Cast to
FP32, which engines fold when they load the graph. This halves the file and does not change a frame.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from export.graphs import (
    CONDITION_INPUTS,
    PAINT_INPUTS,
    STEP_INPUTS,
    STEP_OUTPUTS,
    ConditionGraph,
    PaintGraph,
    StepGraph,
)
from training.model.generator import MotionMemory, VideoGenerator
from training.model.resizing import at_work_size

OPSET = 18
MIN_HALVED = 256  # values; smaller constants (grid scales, biases) stay in FP32


def round_weights(generator: VideoGenerator) -> None:
    """Round every convolution and linear weight and the content prior to FP16, in place."""
    round_module(generator)
    with torch.no_grad():
        prior = generator.condition.prior
        for table in (prior.means, prior.spreads, prior.texts):
            table.copy_(table.half().float())


def round_module(network: nn.Module) -> None:
    """Round every convolution and linear weight to FP16, in place."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.copy_(module.weight.half().float())


def write_graphs(generator: VideoGenerator, folder: Path, sizes: Sequence[tuple[int, int]]) -> None:
    """Write paint.onnx, and a condition and a step graph for each work size.

    Args:
        generator: at its trained size; its weights must have been rounded by `round_weights`.
        folder: to write to.
        sizes: (width, height) in pixels, multiples of 32; see `graph_file`.
    """
    paint, text_dimensions = PaintGraph(generator), generator.shape.text_dimensions
    names = PAINT_INPUTS if text_dimensions else PAINT_INPUTS[:1]
    write_graph(paint, paint.example_inputs(text_dimensions), folder / "paint.onnx", names, ["picture"])
    for size in sizes:
        sized = at_work_size(generator, size)
        condition, step = ConditionGraph(sized), StepGraph(sized)
        inputs = condition.example_inputs()
        with torch.no_grad():
            memory = condition(*inputs)
        write_graph(condition, inputs, folder / graph_file("condition", size), CONDITION_INPUTS, MotionMemory._fields)
        write_graph(step, step.example_inputs(memory), folder / graph_file("step", size), STEP_INPUTS, STEP_OUTPUTS)


def graph_file(graph: str, size: tuple[int, int]) -> str:
    """Return the name of the file of a graph for a work size."""
    return f"{graph}-{size[0]}x{size[1]}.onnx"


def write_graph(
    module: nn.Module, inputs: tuple[Tensor, ...], path: Path, names_in: Sequence[str], names_out: Sequence[str]
) -> None:
    """Write a module as an ONNX file; weights that FP16 represents exactly are stored in FP16."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        # The exporter prints its progress and warns about optional packages.
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module.eval(),
                inputs,
                input_names=list(names_in),
                output_names=list(names_out),
                opset_version=OPSET,
                dynamo=True,
            )
    finally:
        logger.setLevel(level)
    assert program is not None
    model = program.model_proto
    _halve_weights(model)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def _halve_weights(model: onnx.ModelProto) -> None:
    """Store weights that FP16 represents exactly in FP16, each followed by a Cast to FP32."""
    graph = model.graph
    casts = []
    for position, tensor in enumerate(graph.initializer):
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if values.size < MIN_HALVED or not np.array_equal(half.astype(np.float32), values):
            continue
        name = tensor.name
        graph.initializer[position].CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], name=f"{name}.widen", to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
