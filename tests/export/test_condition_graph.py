"""The exported condition graph reads hints as PyTorch does, on every engine; TensorRT-RTX builds it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch

from export.graphs import CONDITION_INPUTS, ConditionGraph
from export.manifest_writer import _CONDITION_ROLES, _graph
from export.onnx_writer import graph_file, round_weights, write_graphs
from export.parity.engines import compare_condition
from runtime.bundle.tensors import CONDITION_OUTPUTS, MOVING_CONDITION_INPUTS, GraphSpec, parse_tensors
from runtime.engines import tensorrt_builder
from runtime.engines.engine import Program
from runtime.engines.table import open_engine
from training.model.generator import MotionMemory, Shape, VideoGenerator
from training.model.resizing import at_work_size

WORK = (96, 64)
ON_CPU = [name for name in ("onnxruntime", "openvino") if open_engine(name).available() is None]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def generator() -> VideoGenerator:
    torch.manual_seed(0)
    made = VideoGenerator(Shape(64, 64, 4, encoder_scale=0.25)).eval().requires_grad_(False)
    for weight in made.condition.encoder.hints.parameters():
        torch.nn.init.normal_(weight, 0, 0.1)
    round_weights(made)
    return made


@pytest.fixture(scope="module")
def folder(generator: VideoGenerator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graphs")
    write_graphs(generator, path, [WORK])
    return path


def program_of(folder: Path) -> Program:
    file = graph_file("condition", WORK)
    entry = _graph(folder, file, _CONDITION_ROLES)
    spec = GraphSpec(
        file,
        parse_tensors(entry["inputs"], "condition inputs", MOVING_CONDITION_INPUTS, WORK),
        parse_tensors(entry["outputs"], "condition outputs", CONDITION_OUTPUTS, WORK),
    )
    return Program((folder / file).read_bytes(), spec.inputs, spec.outputs)


def memories(generator: VideoGenerator, hints: torch.Tensor) -> dict[str, npt.NDArray[np.float32]]:
    graph = ConditionGraph(at_work_size(generator, WORK))
    with torch.no_grad():
        found = graph(*graph.example_inputs()[:4], hints)
    return {name: part.numpy() for name, part in zip(MotionMemory._fields, found, strict=True)}


@pytest.mark.parametrize("name", ON_CPU)
def test_every_engine_reads_hints_as_pytorch_does(generator: VideoGenerator, folder: Path, name: str) -> None:
    inputs = ConditionGraph(at_work_size(generator, WORK)).example_inputs()
    session = open_engine(name).open(program_of(folder), "fp32", 1, None)
    try:
        for given in (inputs[4], torch.zeros_like(inputs[4])):
            for key, part in zip(CONDITION_INPUTS, (*inputs[:4], given), strict=True):
                session.write(key, part.numpy())
            session.run()
            for key, wanted in memories(generator, given).items():
                np.testing.assert_allclose(session.read(key), wanted, atol=2e-3 * np.abs(wanted).max(), err_msg=key)
    finally:
        session.close()
    told, bare = memories(generator, inputs[4]), memories(generator, torch.zeros_like(inputs[4]))
    assert np.abs(told["flow"] - bare["flow"]).max() > 0.1, "hints are seen"
    assert np.abs(told["modes"] - bare["modes"]).max() > 0.01


def test_parity_of_the_graph_is_checked_with_hints(generator: VideoGenerator, folder: Path) -> None:
    path = folder / graph_file("condition", WORK)
    check = compare_condition(path, generator, WORK, "hints")
    assert check.passed
    other = VideoGenerator(generator.shape).eval()
    other.load_state_dict(generator.state_dict())
    with torch.no_grad():
        for weight in other.condition.encoder.hints.parameters():
            weight.mul_(0.5)
    assert not compare_condition(path, other, WORK, "hints").passed


def test_the_graph_has_no_control_flow_and_the_contracts_input(folder: Path) -> None:
    model = onnx.load(folder / graph_file("condition", WORK))
    assert not {node.op_type for node in model.graph.node} & {"If", "Loop", "Scan", "NonZero", "Where"}
    (hints,) = (value for value in model.graph.input if value.name == "hints")
    assert [side.dim_value for side in hints.type.tensor_type.shape.dim] == [1, 5, 8, 12]
    assert hints.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_tensorrt_rtx_builds_it(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed", exc_type=ImportError)
    graph = (folder / graph_file("condition", WORK)).read_bytes()
    built = tensorrt_builder.build(
        graph, "tensorrt-rtx", tensorrt_builder.PORTABLE, name="condition", cache_dir=tmp_path, is_private=False
    )
    assert len(built.plan) > 10_000
