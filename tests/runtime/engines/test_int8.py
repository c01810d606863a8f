"""Graphs in INT8: where `auto` takes them, CPUs that would overflow, signed bytes for TensorRT, OpenVINO's devices."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from runtime import Generator
from runtime.bundle.reader import open_bundle, write_manifest
from runtime.bundle.tensors import TensorSpec
from runtime.engines import openvino as openvino_module
from runtime.engines.cpu import Cpu, read_cpu
from runtime.engines.engine import INT8, Program, supports
from runtime.engines.int8 import check_overflow, cpu_name, faster_pairs, is_quantised, to_signed
from runtime.engines.table import choose_engine, open_engine
from runtime.errors import BundleError, EngineError
from runtime.marking.marked_bundle import marked
from tests.damaged_files import damaged_count, damaged_seed

CPU = "a CPU"
CPU_WITH_FLAGS = "Quick 9 avx2 avx512_vnni"


def build_graph(weight: int = 64) -> onnx.ModelProto:
    """A matrix product of unsigned bytes whose zero point, 0, stands for a Relu, by bytes up to `weight`."""
    constants = [
        numpy_helper.from_array(np.array(0.02, np.float32), "scale"),
        numpy_helper.from_array(np.array(0, np.uint8), "zero"),
        numpy_helper.from_array(np.array([[weight, 1], [2, -3]], np.int8), "bytes"),
        numpy_helper.from_array(np.array([0.1, 0.2], np.float32), "scales"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["steps"], name="q"),
        helper.make_node("DequantizeLinear", ["steps", "scale", "zero"], ["rounded"], name="dq"),
        helper.make_node("DequantizeLinear", ["bytes", "scales"], ["weights"], name="widen", axis=1),
        helper.make_node("MatMul", ["rounded", "weights"], ["y"], name="product"),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in "xy")
    graph = helper.make_graph(nodes, "bytes", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def run(model: onnx.ModelProto, values: list[float], engine: str = "onnxruntime", precision: str = "fp32") -> Any:
    """Return what an engine computes of (1, 2) values."""
    tensors = [TensorSpec(name, "float32", (1, 2), "state") for name in "xy"]
    program = Program(model.SerializeToString(), (tensors[0],), (tensors[1],))
    session = open_engine(engine).open(program, precision, 1, None)
    session.write("x", np.array([values], np.float32))
    session.run()
    return session.read("y").copy()


def speed(precision: str, ms: object, cpu: object = CPU, engine: str = "openvino") -> dict[str, object]:
    return {"engine": engine, "precision": precision, "cpu": cpu, "ms": ms}


def test_int_8_pays_only_where_it_was_faster_than_every_other_precision() -> None:
    assert faster_pairs({"speed": [speed("fp32", 10), speed("bf16", 8), speed("int8", 5)]}, CPU) == {("openvino", INT8)}
    assert not faster_pairs({"speed": [speed("fp32", 10), speed("bf16", 5), speed("int8", 5)]}, CPU)
    assert not faster_pairs({"speed": [speed("fp32", 10), speed("int8", 5)]}, "another CPU")
    assert not faster_pairs({"speed": [speed("int8", 5)]}, CPU), "there is nothing to compare with"


def test_a_precision_that_failed_does_not_count() -> None:
    times = [speed("fp32", 10), speed("bf16", 5), speed("int8", 6)]
    failed = {"engine": "openvino", "precision": "bf16", "passed": False}
    assert faster_pairs({"speed": times, "parity": [failed]}, CPU) == {("openvino", INT8)}
    assert not faster_pairs({"speed": times, "parity": [failed | {"precision": "int8"}]}, CPU)


@pytest.mark.parametrize(
    "value",
    [
        None, 3, [None], [{}], [speed("int8", "quick"), speed("fp32", None)],
        [speed("int8", 1), speed("fp32", 10**400)], [speed("int8", -1), speed("fp32", True)],
        [speed("int8", 1), speed("fp32", float("nan"))],
    ],
)  # fmt: skip
def test_times_that_are_none_are_no_times(value: object) -> None:
    assert not faster_pairs({"speed": value}, CPU)


STRANGE: tuple[Any, ...] = (
    None, True, -1, 0, 10**400, -(10**400), 1e308, "", "int8", "openvino in int8: x", [], {}, [[]], CPU,
    {"engine": [], "precision": {}},
)  # fmt: skip


def spoil(value: Any, rng: random.Random) -> None:
    """Replace, remove or repeat a value somewhere in JSON."""
    key = rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
    if isinstance(value[key], dict | list) and value[key] and rng.random() < 0.85:
        spoil(value[key], rng)
    elif rng.random() < 0.15:
        del value[key]
    else:
        value[key] = rng.choice(STRANGE)


def test_damaged_records_of_a_bundle_choose_an_engine_or_none() -> None:
    rng, counted = random.Random(damaged_seed(41)), 0
    for _ in range(damaged_count(500)):
        check = {"engine": "openvino", "precision": "bf16", "passed": False}
        times = [speed("fp32", 10), speed("bf16", 5), speed("int8", 6), speed("int8", 3, engine="onnxruntime")]
        verified: dict[str, Any] = {"speed": times, "parity": [check], "refusals": [check]}
        for _ in range(rng.randint(1, 3)):
            spoil(verified, rng)
        pairs = faster_pairs(verified, CPU)
        assert all(isinstance(engine, str) and precision == INT8 for engine, precision in pairs)
        counted += ("openvino", INT8) in pairs
    assert counted > 0


def test_auto_takes_int_8_where_it_is_faster_and_a_name_always(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_engine("onnxruntime", faster={("onnxruntime", INT8)}).precision == INT8
    assert choose_engine("onnxruntime", faster={("openvino", INT8)}).precision == "fp32"
    assert choose_engine("onnxruntime", INT8).precision == INT8
    failed = {("onnxruntime", INT8): "made other frames"}
    assert choose_engine("onnxruntime", failed=failed, faster=set(failed)).precision == "fp32"
    assert not supports(open_engine("onnxruntime-cuda"), INT8)


def test_the_cpu_is_named_with_the_flags_that_matter(tmp_path: Path) -> None:
    assert cpu_name(Cpu("Quick 9", frozenset({"fpu", "sse", "avx512_vnni", "avx2"}), "x86_64")) == CPU_WITH_FLAGS
    assert cpu_name(read_cpu(tmp_path / "missing"))


def test_weights_of_8_bits_are_refused_without_vnni() -> None:
    eight, seven = (build_graph(weight).SerializeToString() for weight in (127, 64))
    old, unknown = Cpu("a CPU", frozenset({"avx2", "fma"}), "x86_64"), Cpu("a CPU", frozenset(), "AMD64")
    with pytest.raises(EngineError, match="and this one has no VNNI: quantise it without --vnni"):
        check_overflow(eight, old)
    with pytest.raises(EngineError, match=r"and this one may have no VNNI \(only Linux tells\): quantise it without"):
        check_overflow(eight, unknown)
    for cpu in (old, unknown):
        check_overflow(seven, cpu)
    check_overflow(eight, Cpu("a CPU", frozenset({"avx2", "avx512_vnni"}), "x86_64"))
    check_overflow(eight, Cpu("a CPU", frozenset({"asimd"}), "aarch64"))
    check_overflow(eight, Cpu("a CPU", frozenset(), "arm64"))


def test_signed_bytes_give_the_same_values_and_keep_the_relu() -> None:
    model = build_graph()
    signed = to_signed(model)
    onnx.checker.check_model(signed)
    kinds = {tensor.name: tensor.data_type for tensor in signed.graph.initializer}
    zeros = {node.input[2] for node in signed.graph.node if "Linear" in node.op_type and len(node.input) == 3}
    assert {kinds[name] for name in zeros} == {TensorProto.INT8}
    assert is_quantised(signed)
    for values in ([1.0, 2.5], [-1.0, 4.0], [-3.0, -0.5], [9.0, 0.0]):
        assert np.allclose(run(signed, values), run(model, values), atol=0.04 * 6.4)
    assert np.array_equal(run(signed, [-3.0, -0.5]), [[0, 0]])


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_a_quantised_graph_runs_on_cpu_engines(engine: str) -> None:
    assert np.allclose(run(build_graph(), [1.0, 2.0], engine, INT8), [[6.8, -1.0]], atol=0.02)


@pytest.fixture
def doubled(bundle: Path, tmp_path: Path) -> Path:
    """A tiny bundle whose graph "in INT8" is one that makes darker frames, so that tests see which one runs."""

    folder = shutil.copytree(bundle, tmp_path / "bundle")
    value = json.loads((folder / "bundle.json").read_text())
    model = onnx.load(folder / "step.onnx")
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and not tensor.dims and numpy_helper.to_array(tensor) == 255:
            tensor.CopyFrom(numpy_helper.from_array(np.array(100, np.float32), tensor.name))
    onnx.save(model, folder / "step-int8.onnx")
    value["graphs"]["step"]["int8"] = "step-int8.onnx"
    write_manifest(folder, value)
    return folder


def test_the_graph_in_int_8_is_used_for_that_precision_alone(doubled: Path) -> None:
    frames = {}
    for precision in ("fp32", INT8):
        with Generator.open(doubled, engine="onnxruntime", precision=precision, seed=1, threads=1) as generator:
            frames[precision] = next(generator).copy()
    assert frames[INT8].max() <= 100 < frames["fp32"].max()
    bundle = open_bundle(doubled)
    assert bundle.int8 is not None
    assert bundle.in_precision(INT8).step is bundle.int8.step
    assert bundle.in_precision("bf16") is bundle
    both = marked(bundle, 5, "rgb")
    assert both.int8 is not None
    assert [item.name for item in both.int8.step.graph.input] == [item.name for item in both.step.graph.input]


def test_a_bundle_without_such_a_graph_says_how_to_add_one(bundle: Path) -> None:
    with pytest.raises(BundleError, match="has no graph in int8: add one with python -m export int8"):
        Generator.open(bundle, precision=INT8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"int8": "missing.onnx"}, "missing.onnx"),
        ({"int8": 3}, "int8"),
        ({"int8": "../step.onnx"}, "step.onnx"),
        ({"int8": "condition.onnx"}, "condition.onnx inputs are"),
    ],
)
def test_a_wrong_file_is_refused(doubled: Path, change: dict[str, object], message: str) -> None:
    value = json.loads((doubled / "bundle.json").read_text())
    value["graphs"]["step"] |= change

    def write_and_open() -> None:
        write_manifest(doubled, value)
        open_bundle(doubled)

    with pytest.raises(BundleError, match=message):
        write_and_open()


def test_openvino_takes_the_name_of_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_engine("openvino:CPU").name == "openvino"
    for name, devices, message in (
        ("openvino:NPU", ["CPU"], "openvino has no device NPU on this machine, only CPU: install its driver"),
        ("openvino:GPU.1", ["CPU", "GPU.0"], "no device GPU.1 on this machine, only CPU, GPU.0"),
        ("openvino", ["GPU"], "no device CPU on this machine, only GPU: use the engine onnxruntime"),
    ):
        monkeypatch.setattr(openvino_module, "_core", lambda devices=devices: FakeCore(devices))
        with pytest.raises(EngineError, match=message):
            choose_engine(name)
    for wrong in ("openvino:gpu", "openvino:", "openvino:GPU,CPU"):
        with pytest.raises(ValueError, match=r"openvino: needs a device, e\.g\. openvino:GPU or openvino:NPU"):
            choose_engine(wrong)


def test_a_graph_is_compiled_for_the_device_without_options_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    core = FakeCore(["CPU", "GPU"])
    monkeypatch.setattr(openvino_module, "_core", lambda: core)
    engine = open_engine("openvino:GPU")
    assert engine.available() is None
    assert engine.precisions() == ("fp32", "fp16")
    tensors = [TensorSpec(name, "float32", (1, 2), "state") for name in "xy"]
    program = Program(build_graph().SerializeToString(), (tensors[0],), (tensors[1],))
    for precision in ("fp16", INT8):
        with pytest.raises(EngineError, match="compiled"):
            engine.open(program, precision, 4, None)
    assert core.compiled == [
        ("GPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f16"}),
        ("GPU", {"PERFORMANCE_HINT": "LATENCY"}),
    ]


class FakeCore:
    """OpenVINO's core on a machine with other devices; it reads graphs and compiles none."""

    def __init__(self, devices: list[str]) -> None:
        self.available_devices = devices
        self.compiled: list[tuple[str, dict[str, object]]] = []

    def get_property(self, device: str, name: str) -> object:
        assert device in self.available_devices
        return {"OPTIMIZATION_CAPABILITIES": ["FP32", "FP16", "INT8"], "FULL_DEVICE_NAME": "a device"}[name]

    def read_model(self, graph: bytes) -> Any:
        import openvino

        return openvino.Core().read_model(graph)

    def compile_model(self, model: object, device: str, options: dict[str, object]) -> object:
        self.compiled.append((device, options))
        raise RuntimeError("compiled, that is all")
