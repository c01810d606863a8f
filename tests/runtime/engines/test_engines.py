"""Engines: the table, the choice, swapped states, and operations that always stay in fp32."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from runtime import EngineError
from runtime.bundle.reader import open_bundle
from runtime.bundle.tensors import TensorSpec
from runtime.engines import table as engine_module
from runtime.engines.engine import Program, Session
from runtime.engines.opening import open_sessions
from runtime.engines.table import ENGINES, PRECISIONS, choose_engine, engine_choices, failed_pairs, open_engine
from tests import tiny

HERE = [name for name in ENGINES if open_engine(name).available() is None]
PAIRS = [(name, precision) for name in HERE for precision in open_engine(name).precisions()]


def open_step(bundle: Path, name: str, precision: str, cache_dir: Path) -> Session:
    """Return a session of the tiny bundle's step graph."""
    engine = open_engine(name)
    step, condition = open_sessions(
        open_bundle(bundle), engine, precision, pixels="rgb", threads=1, cache_dir=cache_dir
    )
    assert condition is not None
    condition.close()
    return step


@pytest.mark.parametrize(("name", "precision"), PAIRS)
def test_states_go_on_like_a_numpy_reference(bundle: Path, tmp_path: Path, name: str, precision: str) -> None:
    session = open_step(bundle, name, precision, tmp_path)
    rng = np.random.default_rng(0)
    turn = tiny.DAMPING * np.exp(1j * tiny.ANGLE)
    wave, clock = np.zeros(tiny.MODES, np.complex128), 0.0
    for _ in range(10):
        noise = rng.normal(size=(1, tiny.NOISE)).astype(np.float32)
        session.write("noise", noise)
        session.run()
        drive = noise.reshape(2, tiny.MODES)
        wave = turn * wave + 0.3 * (drive[0] + 1j * drive[1])
        clock += 1
        # States stay in fp32 whatever the precision: bf16 would be off by a hundred times as much.
        np.testing.assert_allclose(session.read("wave_next")[0], [wave.real, wave.imag], atol=3e-6)
        assert session.read("clock_next")[0, 0] == clock
        assert (session.read("rgb")[0, :8, :8] == clock - 1).all()
    session.reset()
    session.run()
    assert session.read("clock_next")[0, 0] == 1
    session.close()
    session.close()


@pytest.mark.parametrize(("name", "precision"), PAIRS)
def test_states_are_handed_from_one_session_to_another(bundle: Path, tmp_path: Path, name: str, precision: str) -> None:
    whole = open_step(bundle, name, precision, tmp_path)
    noises = np.random.default_rng(0).normal(size=(9, 1, tiny.NOISE)).astype(np.float32)
    relay = [open_step(bundle, name, precision, tmp_path) for _ in range(2)]
    assert not relay[0].read("wave_next").any()  # before the first run
    turn = 0
    for number, noise in enumerate(noises):
        if number in (0, 1, 4, 6):  # after even and odd numbers of runs
            before, turn = turn, 1 - turn
            for state in ("wave", "clock"):
                relay[turn].write(state, relay[before].read(f"{state}_next"))
        for session in (whole, relay[turn]):
            session.write("noise", noise)
            session.run()
        for output in ("wave_next", "clock_next", "rgb"):
            assert np.array_equal(whole.read(output), relay[turn].read(output))
    for session in (whole, *relay):
        session.close()


@pytest.mark.parametrize(("name", "precision"), PAIRS)
def test_a_wrong_value_is_refused_before_it_is_copied(bundle: Path, tmp_path: Path, name: str, precision: str) -> None:
    session = open_step(bundle, name, precision, tmp_path)
    for value in (np.zeros((1, tiny.NOISE + 1), np.float32), np.zeros((1, tiny.NOISE))):
        with pytest.raises(ValueError, match='the input "noise" is float32'):
            session.write("noise", value)
    session.close()


def warp_program(size: int) -> tuple[Program, np.ndarray]:
    """Return a graph that shifts a picture by a flow, and such a picture.

    The flow, 40.3 pixels to the right and 8.1 down, comes from a small one that is enlarged, and from a vector times a
    matrix; convolutions before it and after the warp stand for the rest of a network.
    """
    columns = (2 * np.arange(size) + 1.0) / size - 1
    grid = np.stack(np.meshgrid(columns, columns), axis=-1)[np.newaxis]
    graph = tiny.GraphBuilder()
    pooled = graph.add("AveragePool", "picture", kernel_shape=[4, 4], strides=[4, 4])
    small = graph.add("Conv", pooled, graph.constant(np.zeros((2, 3, 1, 1))), graph.constant([10.3, 4.1]))
    target = graph.constant([1, 2, size, size], np.int64)
    large = graph.add("Resize", small, "", "", target, mode="linear", coordinate_transformation_mode="half_pixel")
    vector = graph.constant([[[1.0, 29.0]]])
    basis = graph.add(
        "Reshape",
        graph.add("Conv", pooled, graph.constant(np.zeros((2, 3, 1, 1)))),
        graph.constant([1, 2, -1], np.int64),
    )
    rows = graph.add("Add", basis, graph.constant(np.array([1.0, 1.0]).reshape(1, 2, 1)))
    total = graph.add("ReduceMean", graph.add("MatMul", vector, rows), graph.constant([2], np.int64))  # (1, 1, 1): 30
    push = graph.add(
        "Mul",
        graph.add("Unsqueeze", total, graph.constant([3], np.int64)),
        graph.constant(np.array([1, 4 / 30]).reshape(1, 2, 1, 1)),
    )
    flow = graph.add("Add", large, push)
    shift = graph.add("Mul", graph.add("Transpose", flow, perm=[0, 2, 3, 1]), graph.constant([2 / size, 2 / size]))
    moved = graph.add("Add", shift, graph.constant(grid))
    warped = graph.add("GridSample", "picture", moved, mode="linear", padding_mode="border", align_corners=0)
    identity = np.zeros((3, 3, 3, 3))
    identity[range(3), range(3), 1, 1] = 1
    graph.add("Conv", warped, graph.constant(identity), pads=[1, 1, 1, 1], out="warped")
    shape = (1, 3, size, size)
    names = [{"name": name, "dtype": "float32", "shape": shape} for name in ("picture", "warped")]
    tensors = [TensorSpec(name, "float32", shape, "memory") for name in ("picture", "warped")]
    down, right = np.mgrid[0:size, 0:size]
    picture = 0.5 + 0.5 * np.sin(1.3 * right + 0.2 * down + np.arange(3).reshape(3, 1, 1))
    model = graph.to_model(names[:1], names[1:])
    return Program(model.SerializeToString(), (tensors[0],), (tensors[1],)), picture[np.newaxis].astype(np.float32)


@pytest.mark.skipif(("openvino", "bf16") not in PAIRS, reason="this CPU does not compute in bf16")
def test_positions_stay_in_fp32_in_bf16() -> None:
    program, picture = warp_program(256)
    results = {}
    for name, precision in [("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16")]:
        session = open_engine(name).open(program, precision, 1, None)
        session.write("picture", picture)
        session.run()
        results[name, precision] = session.read("warped").copy()
        session.close()
    exact = results["onnxruntime", "fp32"]
    # The flow is what it should be: the middle is the picture moved by 40.3 and 8.1 pixels, if for the interpolation.
    down, right = np.mgrid[0:256, 0:256]
    moved = 0.5 + 0.5 * np.sin(1.3 * (right + 40.3) + 0.2 * (down + 8.1))
    assert np.abs(exact[0, 0] - moved)[8:200, 8:200].max() < 0.12
    assert np.abs(exact - results["openvino", "fp32"]).max() < 1e-4
    # Positions in bf16 give an error of 0.005 and more here, rounding the values alone one of 0.001.
    assert np.sqrt(np.mean((exact - results["openvino", "bf16"]) ** 2)) < 0.002


@pytest.mark.parametrize("is_transposed", [False, True])
@pytest.mark.parametrize(("name", "precision"), PAIRS)
def test_a_state_that_a_matrix_turns_stays_in_fp32(name: str, precision: str, is_transposed: bool) -> None:
    turn = 0.9995 * np.array([[np.cos(0.1), -np.sin(0.1)], [np.sin(0.1), np.cos(0.1)]])
    graph = tiny.GraphBuilder()
    by = {"transB": 1} if is_transposed else {}
    matrix = graph.constant(turn.T if is_transposed else turn)
    graph.add("Gemm" if is_transposed else "MatMul", "q", matrix, out="q_next", **by)
    driven = graph.add("Add", "q", "x")
    graph.nodes[0].input[0] = driven
    graph.nodes.reverse()
    values = [{"name": item, "dtype": "float32", "shape": (1, 2)} for item in ("x", "q", "q_next")]
    tensors = [TensorSpec(item, "float32", (1, 2), "state") for item in ("x", "q", "q_next")]
    data = graph.to_model(values[:2], values[2:]).SerializeToString()
    session = open_engine(name).open(
        Program(data, tuple(tensors[:2]), (tensors[2],), (("q", "q_next"),)), precision, 1, None
    )
    state = np.zeros((1, 2))
    push = np.array([[0.7, -0.2]], np.float32)
    for _ in range(50):
        session.write("x", push)
        session.run()
        state = (state + push) @ turn
    np.testing.assert_allclose(session.read("q_next"), state, rtol=2e-5)
    session.close()


@pytest.mark.parametrize(("name", "precision"), PAIRS)
def test_inputs_that_nothing_reads_and_states_that_stay_are_fine(name: str, precision: str) -> None:
    shape = (1, 4)
    values = [helper.make_tensor_value_info(item, TensorProto.FLOAT, shape) for item in ("x", "unread", "kept")]
    results = [helper.make_tensor_value_info(item, TensorProto.FLOAT, shape) for item in ("y", "kept_next")]
    nodes = [helper.make_node("Add", ["x", "kept"], ["y"]), helper.make_node("Identity", ["kept"], ["kept_next"])]
    model = helper.make_model(
        helper.make_graph(nodes, "odd", values, results), opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    )
    inputs = [
        TensorSpec(item, "float32", shape, "state" if item == "kept" else "noise") for item in ("x", "unread", "kept")
    ]
    outputs = [TensorSpec(item, "float32", shape, "state") for item in ("y", "kept_next")]
    program = Program(model.SerializeToString(), tuple(inputs), tuple(outputs), (("kept", "kept_next"),))
    session = open_engine(name).open(program, precision, 1, None)
    session.write("unread", np.full(shape, 9, np.float32))
    for number in (1, 2, 3):
        session.write("x", np.full(shape, number, np.float32))
        session.run()
        assert (session.read("y") == number).all()
    session.close()


@pytest.mark.parametrize("name", HERE)
def test_a_graph_that_the_engine_refuses_is_an_engine_error(name: str) -> None:
    values = [helper.make_tensor_value_info(item, TensorProto.FLOAT, (1, 4)) for item in ("x", "y")]
    graph = helper.make_graph([helper.make_node("NoSuchOperator", ["x"], ["y"])], "bad", values[:1], values[1:])
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    tensors = [TensorSpec(item, "float32", (1, 4), "state") for item in ("x", "y")]
    with pytest.raises(EngineError, match=f"{name} refused the graph"):
        open_engine(name).open(Program(data, (tensors[0],), (tensors[1],)), "fp32", 1, None)


def test_every_engine_of_the_table_has_its_name_and_known_precisions() -> None:
    for name in ENGINES:
        engine = open_engine(name)
        assert engine.name == name
        assert set(engine.precisions()) <= set(PRECISIONS)
        assert "fp32" in engine.precisions()


class Engine:
    """An engine with given answers."""

    def __init__(self, name: str, why_not: str | None, precisions: Sequence[str]) -> None:
        self.name = name
        self._why_not, self._precisions = why_not, precisions

    def available(self) -> str | None:
        return self._why_not

    def precisions(self) -> Sequence[str]:
        return self._precisions


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of a missing engine, one with bf16 and one without."""
    engines = [
        Engine("gone", "the engine gone needs the extra: pip install everframe[gone]", ()),
        Engine("quick", None, ("bf16", "fp32")),
        Engine("plain", None, ("fp32",)),
    ]
    by_name = {engine.name: engine for engine in engines}
    monkeypatch.setattr(engine_module, "ENGINES", dict.fromkeys(by_name, "x:y"))
    monkeypatch.setattr(engine_module, "open_engine", by_name.__getitem__)


@pytest.mark.usefixtures("table")
def test_auto_takes_the_first_available_engine_and_says_why() -> None:
    choice = choose_engine()
    assert (choice.engine.name, choice.precision) == ("quick", "bf16")
    assert "the first of gone, quick, plain that runs here" in choice.reason
    assert "pip install everframe[gone]" in choice.reason
    assert choose_engine(precision="fp32").precision == "fp32"


@pytest.mark.usefixtures("table")
def test_auto_skips_engines_that_failed_at_export() -> None:
    failed = failed_pairs(
        {
            "parity": [
                {"engine": "quick", "precision": "bf16", "passed": False},
                {"engine": "quick", "precision": "fp32", "passed": True},
                {"engine": "plain", "passed": False},
                "nonsense",
            ]
        }
    )
    assert failed == {("quick", "bf16"): "made other frames than the original at export"}
    choice = choose_engine(failed=failed)
    assert (choice.engine.name, choice.precision) == ("quick", "fp32")
    assert "quick in bf16 made other frames than the original at export" in choice.reason
    assert choose_engine("quick", failed=failed).precision == "fp32"
    assert choose_engine("quick", "bf16", failed).precision == "bf16", "whoever names both gets them"
    assert choose_engine(failed={("quick", "bf16"): "failed", ("quick", "fp32"): "failed"}).engine.name == "plain"
    with pytest.raises(EngineError, match="quick in bf16 made other frames"):
        choose_engine(precision="bf16", failed=failed)
    assert failed_pairs({}) == failed_pairs({"parity": None}) == {}


@pytest.mark.usefixtures("table")
def test_auto_skips_engines_that_could_not_run_at_the_import() -> None:
    refusals = ["quick in bf16: quick refused the graph: x", {"engine": "quick", "precision": "fp32", "reason": "x"}]
    failed = failed_pairs({"refusals": [*refusals, "nonsense", {"engine": "plain"}, 1]})
    assert set(failed) == {("quick", "bf16"), ("quick", "fp32")}
    choice = choose_engine(failed=failed)
    assert choice.engine.name == "plain"
    assert "quick in bf16 could not run this bundle at the import" in choice.reason
    with pytest.raises(EngineError, match="quick in fp32 could not run this bundle at the import"):
        choose_engine("quick", failed=failed)
    assert choose_engine("quick", "bf16", failed).precision == "bf16"


@pytest.mark.usefixtures("table")
def test_all_choices_come_best_first() -> None:
    choices = [choice.label for choice in engine_choices()]
    assert choices == ["quick bf16", "quick fp32", "plain fp32"]


@pytest.mark.usefixtures("table")
def test_a_named_engine_is_taken_or_refused_and_never_replaced() -> None:
    assert choose_engine("plain").engine.name == "plain"
    assert "as asked" in choose_engine("plain").reason
    with pytest.raises(EngineError, match=r"pip install everframe\[gone\]"):
        choose_engine("gone")
    with pytest.raises(EngineError, match="plain cannot run in bf16 on this machine, only in fp32"):
        choose_engine("plain", "bf16")


@pytest.mark.usefixtures("table")
def test_if_no_engine_is_available_all_reasons_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "ENGINES", {"gone": "x:y", "plain": "x:y"})
    with pytest.raises(EngineError, match=r"everframe\[gone\]; plain cannot run in bf16"):
        choose_engine(precision="bf16")


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_missing_package_is_one_sentence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = open_engine(name)
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    with pytest.raises(EngineError, match=rf"^the engine {name} needs the extra: pip install everframe\[cpu\]$"):
        engine.open(Program(b"", (), ()), "fp32", 1, None)


def test_two_onnxruntimes_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: name)
    with pytest.raises(EngineError, match="are both installed and overwrite each other"):
        open_engine("onnxruntime").open(Program(b"", (), ()), "fp32", 1, None)


@pytest.mark.parametrize("name", HERE)
def test_a_precision_that_the_engine_has_not_is_refused(name: str) -> None:
    with pytest.raises(EngineError, match="got fp8"):
        open_engine(name).open(Program(b"", (), ()), "fp8", 1, None)


def test_the_step_graph_gets_the_threads_and_the_condition_graph_a_few(bundle: Path) -> None:
    from tests.fakes import FakeEngine

    for threads, few in ((1, 1), (4, 1), (16, 4)):
        engine = FakeEngine()
        open_sessions(open_bundle(bundle), engine, "fp32", pixels="rgb", threads=threads, cache_dir=None)
        assert engine.threads == [threads, few]


def test_onnx_can_check_the_tiny_bundle(bundle: Path) -> None:
    for name in ("step.onnx", "condition.onnx"):
        onnx.checker.check_model(onnx.load(bundle / name), full_check=True)
