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

import onnx
import torch
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
from export.packed_weights import pack_weights, to_bytes
from training.model.generator import MotionMemory, VideoGenerator
from training.model.resizing import at_work_size

OPSET = 18


def round_weights(generator: VideoGenerator) -> None:
    """Round every convolution and linear weight and the content prior to FP16, in place."""
    round_module(generator)
    with torch.no_grad():
        prior = generator.condition.prior
        for table in (prior.means, prior.spreads, prior.texts):
            table.copy_(table.half().float())


def round_module(network: nn.Module, *, in_bytes: bool = False) -> None:
    """Round every convolution and linear weight, in place.

    Args:
        network: with its weights in FP32.
        in_bytes: to 8 bits with a scale per output channel; else to FP16.
    """
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                weight = module.weight
                rounded = torch.from_numpy(to_bytes(weight.numpy())) if in_bytes else weight.half().float()
                weight.copy_(rounded)


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
    pack_weights(model)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
