"""Exports the two graphs from PyTorch to ONNX: FP32 arithmetic, weights stored in FP16.

The weights of the PyTorch model are rounded to FP16 before any comparison. In the file each is followed by a Cast to
FP32, which engines fold when they load the graph. This halves the file and does not change a frame.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from export.graphs import ConditionGraph, StepGraph, condition_inputs, step_inputs, step_outputs
from training.model.generator import CLIP, ConditionMemory, VideoGenerator
from training.model.painter import num_code_noise

OPSET = 18
MIN_HALVED = 256  # values; smaller constants (grid scales, biases) stay in FP32


def round_weights(generator: VideoGenerator) -> None:
    """Round every convolution and linear weight and the content prior to FP16, in place."""
    with torch.no_grad():
        for module in generator.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.copy_(module.weight.half().float())
        prior = generator.condition.prior
        for table in (prior.means, prior.spreads, prior.texts):
            table.copy_(table.half().float())


def example_inputs(generator: VideoGenerator) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return example inputs for `ConditionGraph` and `StepGraph`."""
    shape = generator.shape
    random = torch.Generator().manual_seed(0)
    clip = torch.randint(0, 256, (1, CLIP, shape.height, shape.width, 3), generator=random, dtype=torch.uint8)
    mask = torch.full((1, shape.height, shape.width, 1), 255, dtype=torch.uint8)
    noise = torch.randn(1, num_code_noise(shape.height, shape.width), generator=random)
    condition: tuple[Tensor, ...] = (clip[:, -1].clone(), mask, clip, torch.ones(1, 1), noise)
    if shape.text_dimensions:
        condition = (*condition, torch.nn.functional.normalize(torch.randn(1, shape.text_dimensions), dim=1))
    with torch.no_grad():
        memory = ConditionGraph(generator)(*condition)
    kick = torch.randn(1, shape.num_noise, generator=random)
    control = torch.tensor([[1.0, 0.0, 0.0]])
    state = generator.step.initial_state(1)
    return condition, (*memory, *(part.clone() for part in memory), torch.zeros(1), *state, kick, control)


def write_graphs(generator: VideoGenerator, folder: Path) -> None:
    """Write condition.onnx and step.onnx; the weights must have been rounded by `round_weights`."""
    condition, step = example_inputs(generator)
    _write(
        ConditionGraph(generator),
        condition,
        folder / "condition.onnx",
        condition_inputs(generator),
        list(ConditionMemory._fields),
    )
    _write(StepGraph(generator), step, folder / "step.onnx", step_inputs(), step_outputs())


def _write(
    module: nn.Module, inputs: tuple[Tensor, ...], path: Path, names_in: list[str], names_out: list[str]
) -> None:
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        # The exporter prints its progress and warns about optional packages.
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module.eval(), inputs, input_names=names_in, output_names=names_out, opset_version=OPSET, dynamo=True
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
