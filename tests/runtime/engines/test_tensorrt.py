"""TensorRT: the real builder of TensorRT-RTX, which needs no GPU, and sessions on a device that is a fake."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from runtime import EngineError
from runtime.bundle.tensors import TensorSpec
from runtime.engines import cuda, tensorrt_builder
from runtime.engines import tensorrt as module
from runtime.engines.engine import Program
from runtime.engines.tensorrt import TensorRTRTX, cache_entries, graph_in, open_session
from runtime.engines.tensorrt_builder import PORTABLE, build, cache_entry, check_targets, share_of_engine
from runtime.engines.tensorrt_progress import PhaseCounter
from tests.runtime.fake_cuda import FakeDevice

needs_builder = pytest.mark.skipif(
    tensorrt_builder.why_not_installed("tensorrt-rtx") is not None, reason="TensorRT-RTX is not installed"
)


def convolving(operator: str = "Relu", domain: str = "") -> bytes:
    """Return a graph of a convolution and another node."""
    weights = numpy_helper.from_array(np.random.default_rng(0).normal(size=(8, 3, 3, 3)).astype(np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["seen"], name="eye", pads=[1, 1, 1, 1]),
        helper.make_node(operator, ["seen"], ["y"], name="nerve", domain=domain),
    ]
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 32, 32))]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 8, 32, 32))]
    graph = helper.make_graph(nodes, "small", values, outputs, [weights])
    opsets = [helper.make_opsetid("", 18), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


@needs_builder
def test_the_graph_states_the_precision_of_its_engine(tmp_path: Path) -> None:
    full = build(convolving(), "tensorrt-rtx", PORTABLE, name="small")
    half = build(graph_in(convolving(), "fp16"), "tensorrt-rtx", PORTABLE, name="small")
    assert (full.share.half, full.share.full) == (0, 1)
    assert (half.share.half, half.share.full) == (1, 0)
    assert full.file is None
    assert not full.is_cached
    assert full.plan != half.plan


@needs_builder
def test_the_cache_is_keyed_by_graph_and_target_and_never_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = convolving()
    built = build(graph, "tensorrt-rtx", "sm89", name="small", cache_dir=tmp_path)
    assert not built.is_cached
    assert built.file is not None
    again = build(graph, "tensorrt-rtx", "sm89", name="small", cache_dir=tmp_path)
    assert again.is_cached
    assert again.plan == built.plan
    assert again.share == built.share
    assert not build(graph, "tensorrt-rtx", "sm86", name="small", cache_dir=tmp_path).is_cached
    assert not build(graph_in(graph, "fp16"), "tensorrt-rtx", "sm89", name="small", cache_dir=tmp_path).is_cached
    monkeypatch.setattr(tensorrt_builder, "version", lambda flavour: "another")
    assert cache_entry(graph, "tensorrt-rtx", "sm89", tmp_path).load() is None, "another version's engine is not taken"
    monkeypatch.undo()
    built.file.write_bytes(built.file.read_bytes()[:-100])
    assert not build(graph, "tensorrt-rtx", "sm89", name="small", cache_dir=tmp_path).is_cached, "it was cut short"
    assert build(graph, "tensorrt-rtx", "sm89", name="small", cache_dir=tmp_path).is_cached
    assert all(path.suffix == ".bin" for path in tmp_path.iterdir()), "nothing half-written lies about"


@needs_builder
def test_progress_rises_and_ctrl_c_stops_a_build_cleanly(tmp_path: Path) -> None:
    told: list[float] = []
    build(convolving(), "tensorrt-rtx", PORTABLE, name="small", report=lambda share, phase: told.append(share))
    assert told == sorted(told)
    assert len(told) > 3
    assert 0 <= told[0] <= told[-1] <= 1
    before = signal.getsignal(signal.SIGINT)

    def press(share: float, phase: str) -> None:
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        build(convolving(), "tensorrt-rtx", PORTABLE, name="small", cache_dir=tmp_path, report=press)
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGINT) is before


@needs_builder
def test_a_refused_graph_is_one_sentence_with_the_node_name() -> None:
    sentence = r'cannot read small: the node "nerve" \(Spark\): .*Plugin not found'
    with pytest.raises(EngineError, match=sentence):
        build(convolving("Spark", "odd"), "tensorrt-rtx", PORTABLE, name="small")
    with pytest.raises(EngineError, match="cannot read small"):
        build(b"no graph", "tensorrt-rtx", PORTABLE, name="small")


@needs_builder
def test_an_unsupported_device_names_node_and_device() -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (64, 64)) for name in "xyz"]
    node = helper.make_node("MatMul", ["x", "y"], ["z"], name="product")
    graph = helper.make_graph([node], "product", values[:2], values[2:])
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()
    with pytest.raises(EngineError, match=r"cannot build small for sm75: .*product.*SM75") as caught:
        build(data, "tensorrt-rtx", "sm75", name="small")
    assert "\n" not in str(caught.value)
    assert ".cpp" not in str(caught.value)


@needs_builder
def test_targets_are_known_ones() -> None:
    assert check_targets(["SM86", " sm120", "sm86"]) == ("sm86", "sm120")
    with pytest.raises(ValueError, match=r'cannot build for the target "sm91" \(did you mean "sm\d+"'):
        check_targets(["sm91"])


def test_a_flavour_that_is_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tensorrt_builder.MODULES, "tensorrt", "no_such_module")
    with pytest.raises(EngineError, match=r"needs the extra: pip install everframe\[tensorrt\]"):
        build(b"", "tensorrt", "a GPU", name="small")
    monkeypatch.setattr(cuda, "has_driver", lambda: True)
    assert "needs the extra" in str(module.TensorRT().available())
    monkeypatch.setattr(cuda, "has_driver", lambda: False)
    sentence = "the engine tensorrt needs a CUDA device: there is no NVIDIA driver here"
    assert module.TensorRT().available() == sentence, "nobody without a GPU is told to install anything"


def test_a_missing_device_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_builder, "why_not_installed", lambda flavour: None)
    monkeypatch.setattr(cuda, "why_no_device", lambda: "this machine has no CUDA device")
    sentence = "the engine tensorrt-rtx needs a CUDA device: this machine has no CUDA device"
    assert TensorRTRTX().available() == sentence
    with pytest.raises(EngineError, match=sentence):
        TensorRTRTX().open(Program(b"", (), ()), "fp16", 1, None)


def test_phases_within_phases_add_up() -> None:
    counter = PhaseCounter()
    assert counter.start("all", None, 4) == 0
    assert counter.start("part", "all", 2) == 0
    assert counter.step("part", 0) == pytest.approx(1 / 8)
    assert counter.step("part", 1) == pytest.approx(1 / 4)
    counter.finish("part")
    assert counter.step("all", 0) == pytest.approx(1 / 4)
    assert counter.start("unheard of", "nobody", 3) == pytest.approx(1 / 4), "it never falls"
    assert counter.step("all", 7) == 1


def test_layers_of_the_inspector_are_counted_by_input_type() -> None:
    def layer(kind: str, read: str, **more: Any) -> dict[str, Any]:
        return {"LayerType": kind, "Inputs": [{"Format/Datatype": read}], **more}

    layers = [
        layer("CaskConvolution", "Half NHWC8"),
        layer("CaskConvolution", "Row major linear FP32"),
        layer("Reformat", "FP32"),
        layer("kgen", "FP16", Metadata="[ONNX Layer: node_conv2d_1]"),
        "a layer without details",
    ]
    share = share_of_engine({"Layers": layers})
    assert (share.half, share.full) == (2, 1)
    assert share_of_engine({}).value == 0


class FakeContext:
    """Runs state_next = state + step; frame = state + step, as an engine would: through addresses alone."""

    def __init__(self, device: FakeDevice) -> None:
        self.device, self.addresses, self.works = device, {}, True

    def set_tensor_address(self, name: str, address: int) -> bool:
        """Note an address."""
        assert name in ("state", "step", "state_next", "frame"), "nothing else is bound in the engine"
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        """Run."""
        assert stream == self.device.stream
        memory, at = self.device.memory, dict(self.addresses)

        def compute() -> None:
            total = memory[at["state"]].view(np.float32) + memory[at["step"]].view(np.float32)
            for name in ("state_next", "frame"):
                memory[at[name]].view(np.float32)[:] = total

        self.device.enqueue(compute)
        return self.works


PROGRAM = Program(
    b"",
    tuple(
        TensorSpec(name, "float32", (1, 2), role)
        for name, role in [("state", "state"), ("step", "control"), ("unread", "noise")]
    ),
    tuple(TensorSpec(name, "float32", (1, 2), role) for name, role in [("frame", "frame"), ("state_next", "state")]),
    (("state", "state_next"),),
)


@pytest.fixture
def device() -> FakeDevice:
    return FakeDevice()


@pytest.fixture
def context(device: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> FakeContext:
    """A fake TensorRT whose engines run on the fake device."""
    context = FakeContext(device)
    names = ["state", "step", "state_next", "frame"]  # what nothing reads is not in an engine
    engine = SimpleNamespace(
        num_io_tensors=len(names), get_tensor_name=names.__getitem__, create_execution_context=lambda: context
    )
    runtime = SimpleNamespace(deserialize_cuda_engine=lambda plan: engine if plan == b"a plan" else None)
    fake = SimpleNamespace(Runtime=lambda logger: runtime, Logger=SimpleNamespace(ERROR=0))
    fake.Logger = type("Logger", (), {"ERROR": 0, "__init__": lambda self, severity: None})
    monkeypatch.setattr(tensorrt_builder, "load_module", lambda flavour: fake)
    return context


def row(*values: float) -> np.ndarray:
    return np.array([values], np.float32)


def test_states_stay_on_the_device_and_go_on(device: FakeDevice, context: FakeContext) -> None:
    session = open_session(PROGRAM, "tensorrt-rtx", b"a plan", device)
    session.write("step", row(1, 10))
    session.write("unread", row(5, 5))
    assert np.array_equal(session.read("state_next"), row(0, 0)), "what the first run starts from"
    for number in (1, 2, 3):
        session.run()
        assert np.array_equal(session.read("frame"), number * row(1, 10))
        assert np.array_equal(session.read("state_next"), number * row(1, 10))
    session.write("state", row(100, 100))
    assert np.array_equal(session.read("state_next"), row(100, 100))
    session.run()
    assert np.array_equal(session.read("frame"), row(101, 110))
    session.reset()
    assert np.array_equal(session.read("state_next"), row(0, 0))
    session.run()
    assert np.array_equal(session.read("frame"), row(1, 10)), "inputs stay as written"
    session.close()
    session.close()
    assert (device.memory, device.pins, device.graphs, device.reached) == ({}, {}, {}, {})
    assert device.is_closed


def test_two_graphs_replayed_in_turn_equal_eager_runs(context: FakeContext) -> None:
    frames: dict[str, list[np.ndarray]] = {}
    for why_not in ("", "this engine cannot be captured"):
        device = FakeDevice()
        device.cannot_capture = why_not
        context.device = device
        session = open_session(PROGRAM, "tensorrt-rtx", b"a plan", device)
        session.write("state", row(5, 7))  # before the first run, which warms up and captures
        found = frames[why_not] = []
        for number in range(10):
            session.write("step", row(number, -number))
            session.run()
            found.append(session.read("frame").copy())
        assert session.why_eager == why_not
        assert device.num_launched == (0 if why_not else 10)
        session.close()
        assert (device.memory, device.pins, device.graphs, device.reached) == ({}, {}, {}, {})
    total = np.array([[5, 7]], np.float32)
    for number, (captured, eager) in enumerate(zip(*frames.values(), strict=True)):
        total = total + row(number, -number)
        assert np.array_equal(captured, total)
        assert np.array_equal(eager, total)


def test_the_host_waits_once_per_frame_and_a_frame_outlives_the_next_run(
    device: FakeDevice, context: FakeContext
) -> None:
    session = open_session(PROGRAM, "tensorrt-rtx", b"a plan", device)
    for _ in range(3):
        session.write("step", row(1, 1))
        session.run()
        session.read("frame")
    waits = device.num_waits
    session.write("step", row(1, 1))
    session.run()
    fourth = session.read("frame")
    assert device.num_waits == waits + 1
    session.write("step", row(1, 1))
    session.run()
    device.wait()
    assert np.array_equal(fourth, row(4, 4))  # made into other memory than the fifth
    assert np.array_equal(session.read("frame"), row(5, 5))
    session.close()


def test_a_value_is_not_written_over_while_it_is_being_copied(device: FakeDevice, context: FakeContext) -> None:
    session = open_session(PROGRAM, "tensorrt-rtx", b"a plan", device)
    session.write("step", row(1, 1))
    session.run()
    session.write("step", row(10, 10))  # the first may not have been copied yet: nobody has waited
    session.run()
    session.write("step", row(100, 100))
    assert np.array_equal(session.read("frame"), row(11, 11))
    session.run()
    session.write("step", row(1000, 1000))  # nor the one that was written after the run that was waited for
    assert np.array_equal(session.read("frame"), row(111, 111))
    session.run()
    assert np.array_equal(session.read("frame"), row(1111, 1111))
    session.close()


def test_wrong_values_and_failures_are_refused(device: FakeDevice, context: FakeContext) -> None:
    session = open_session(PROGRAM, "tensorrt-rtx", b"a plan", device)
    for wrong in (np.zeros((2, 1), np.float32), np.zeros((1, 2), np.float64)):
        with pytest.raises(ValueError, match=r'the input "step" is float32 \(1, 2\), got'):
            session.write("step", wrong)
    context.works = False
    with pytest.raises(EngineError, match="tensorrt-rtx failed to run a frame"):
        session.run()
    with pytest.raises(EngineError, match="cannot load an engine that it has built"):
        open_session(PROGRAM, "tensorrt-rtx", b"another plan", device)


@pytest.fixture
def built(device: FakeDevice, context: FakeContext, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let TensorRT-RTX open engines on the fake device; returns the targets that engines were built for."""
    targets: list[str] = []

    def fake_build(graph: bytes, flavour: str, target: str, *, cache_dir: Path | None, **_: Any) -> Any:
        targets.append(target)
        cache_entry(graph, flavour, target, cache_dir).store(b"a plan")
        return SimpleNamespace(plan=b"a plan")

    monkeypatch.setattr(tensorrt_builder, "version", lambda flavour: "1")
    monkeypatch.setattr(tensorrt_builder, "build", fake_build)
    for engine in (module.TensorRT, TensorRTRTX):
        monkeypatch.setattr(engine, "available", lambda self: None)
    monkeypatch.setattr(cuda, "Cuda", FakeDevice)
    return targets


def test_an_engine_for_the_device_comes_before_one_for_all(
    device: FakeDevice, built: list[str], tmp_path: Path
) -> None:
    entries = cache_entries("tensorrt-rtx", device, b"graph", tmp_path, tmp_path / "trusted")
    for number, entry in enumerate(reversed(entries)):
        entry.store(bytes([number]))
        assert next(filter(None, (entry.load() for entry in entries))) == bytes([number])
    assert len(cache_entries("tensorrt", device, b"graph", tmp_path, None)) == 2, "for one kind of GPU alone"
    module.TensorRT().open(PROGRAM, "fp32", 1, None).close()
    assert built == ["A fake sm89"]


def test_engines_of_a_bundle_are_loaded_only_if_they_are_trusted(built: list[str], tmp_path: Path) -> None:
    shipped, cache = tmp_path / "engines", tmp_path / "cache"
    entry = cache_entry(PROGRAM.graph, "tensorrt-rtx", PORTABLE, shipped, is_private=False)
    entry.store(b"a plan")
    TensorRTRTX().open(replace(PROGRAM, engines=shipped), "fp32", 1, cache).close()
    assert built == []
    shipped.chmod(0o777)  # it is trusted as it is
    entry.store(b"another plan")  # which does not load
    TensorRTRTX().open(replace(PROGRAM, engines=shipped), "fp32", 1, cache).close()
    assert built == ["sm89"]
    assert entry.load() == b"another plan", "a bundle is left as it is"
    TensorRTRTX().open(PROGRAM, "fp32", 1, cache).close()
    assert built == ["sm89"], "what was built is in the cache"
    cache_entry(PROGRAM.graph, "tensorrt-rtx", "sm89", cache).store(b"another plan")
    TensorRTRTX().open(PROGRAM, "fp32", 1, cache).close()
    assert built == ["sm89", "sm89"], "what does not load is built anew"


def test_a_device_is_given_back_when_its_engine_cannot_be_opened(
    device: FakeDevice, built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "Cuda", lambda: device)
    monkeypatch.setattr(tensorrt_builder, "build", lambda *_, **__: SimpleNamespace(plan=b"another plan"))
    with pytest.raises(EngineError, match="cannot load an engine"):
        TensorRTRTX().open(PROGRAM, "fp32", 1, None)
    assert device.is_closed
    with pytest.raises(EngineError, match="runs in fp16 or fp32, got bf16"):
        TensorRTRTX().open(PROGRAM, "bf16", 1, None)


def test_half_precision_is_written_into_the_graph() -> None:
    half = onnx.ModelProto.FromString(graph_in(convolving(), "fp16"))
    assert any(node.op_type == "Cast" for node in half.graph.node)
    assert graph_in(convolving(), "fp32") == convolving()
