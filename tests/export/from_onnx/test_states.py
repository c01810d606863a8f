"""States that start with other values than zeros: given, or from the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from export.from_onnx import importer as importing
from export.from_onnx.importer import ImportOptions, import_model
from runtime import Generator
from runtime.bundle.reader import open_bundle
from runtime.engines.table import ENGINES, open_engine
from tests.export.from_onnx import foreign

HERE = [name for name in ENGINES if open_engine(name).available() is None]


@pytest.fixture(autouse=True)
def one_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "available_engines", lambda: [("onnxruntime", "fp32")])


def counting(path: Path, dtype: str = "float", shape: str = "1,2") -> Path:
    """A net whose grey is the mean of a state, which grows by a tenth (or one) up to a limit; without values."""
    step, top = ("tenth", "one") if dtype.startswith("float") else ("unit", "ten")
    kind = f"{dtype}[{shape}]" if shape else dtype
    body = f"""net (float[1,3,16,16] x, {kind} h) => (float[1,3,16,16] y, {kind} h_out) {{
      wide = Cast <to = 1> (h) step = Identity ({step}) more = Add (wide, step) low = Min (more, {top})
      h_out = Cast <to = {getattr(onnx.TensorProto, dtype.upper())}> (low)
      mean = ReduceMean <keepdims = 0> (wide) part = Div (mean, {top}) zero = Sub (x, x) y = Add (zero, part)
    }}"""
    weights = {"tenth": np.float32(0.1), "one": np.float32(1), "unit": np.float32(1), "ten": np.float32(10)}
    return foreign.write(path, body, {name: value for name, value in weights.items() if name in (step, top)})


def with_value(path: Path, value: np.ndarray, ir: int = 8) -> Path:
    """Give the file a value for its input "h"."""
    model = onnx.load(path)
    model.graph.initializer.append(numpy_helper.from_array(value, "h"))
    model.ir_version = ir
    if ir < 4:
        for tensor in model.graph.initializer:
            if tensor.name != "h":
                value_info = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
                model.graph.input.append(value_info)
    onnx.save(model, path)
    return path


def greys(generator: Generator, count: int) -> list[int]:
    return [int(next(generator)[0, 0, 0]) for _ in range(count)]


def imported(model: Path, *roles: str) -> Path:
    out = model.parent / "bundle"
    import_model(model, out, options=ImportOptions(roles=["x=live", *roles], loop_frames=20))
    return out


@pytest.mark.parametrize("engine", HERE)
def test_a_state_starts_at_a_given_value_again_after_a_reset(engine: str, tmp_path: Path) -> None:
    bundle = imported(counting(tmp_path / "m.onnx"), "h=state:h_out@0.4")
    pairs = {item.name: item.next for item in open_bundle(bundle).manifest.step.inputs_of("state")}
    assert pairs == {"h": "h_out", "started": "next_started"}
    with Generator.open(bundle, engine=engine, precision="fp32") as generator:
        generator.feed_live(np.full((16, 16, 3), 200, np.uint8))
        assert greys(generator, 4) == [102, 128, 153, 179]
        position = generator.position()
        generator.reset()
        assert greys(generator, 2) == [102, 128]
        generator.reset()
        generator.skip(2)
        assert greys(generator, 1) == [153]
        generator.go_to(position)
        assert greys(generator, 1) == [204]


@pytest.mark.parametrize(("dtype", "first"), [("float16", 0.4), ("int32", 4), ("int8", 4), ("int64", 4), ("uint8", 4)])
def test_states_of_every_type(dtype: str, first: float, tmp_path: Path) -> None:
    bundle = imported(counting(tmp_path / "m.onnx", dtype), f"h=state:h_out@{first}")
    with Generator.open(bundle, engine="onnxruntime") as generator:
        generator.feed_live(np.full((16, 16, 3), 200, np.uint8))
        assert greys(generator, 3) == [102, 128, 153]


@pytest.mark.parametrize("shape", ["", "1,2,3,4"])
def test_states_of_every_rank(shape: str, tmp_path: Path) -> None:
    bundle = imported(counting(tmp_path / "m.onnx", shape=shape), "h=state:@0.4")
    with Generator.open(bundle, engine="onnxruntime") as generator:
        generator.feed_live(np.full((16, 16, 3), 200, np.uint8))
        assert greys(generator, 3) == [102, 128, 153]


@pytest.mark.parametrize("ir", [3, 8])
def test_the_value_of_the_file_is_used(ir: int, tmp_path: Path) -> None:
    model = with_value(counting(tmp_path / "m.onnx"), np.array([[0.2, 0.6]], np.float32), ir)
    options = ImportOptions(roles=["x=live", "h=state:h_out"], loop_frames=20)
    report = import_model(model, tmp_path / "bundle", options=options)
    assert any("state, next from h_out, starts at 2 values" in line for line in report.lines)
    with Generator.open(tmp_path / "bundle", engine="onnxruntime") as generator:
        generator.feed_live(np.full((16, 16, 3), 200, np.uint8))
        assert greys(generator, 3) == [102, 128, 153]


def test_a_given_value_wins_over_the_file_and_a_pattern_finds_the_input(tmp_path: Path) -> None:
    model = with_value(counting(tmp_path / "m.onnx"), np.array([[0.2, 0.6]], np.float32))
    bundle = imported(model, "*=state:*_out@0.8")
    with Generator.open(bundle, engine="onnxruntime") as generator:
        generator.feed_live(np.full((16, 16, 3), 200, np.uint8))
        assert greys(generator, 2) == [204, 230]


def test_an_input_with_a_value_and_no_role_stays_constant(tmp_path: Path) -> None:
    model = with_value(counting(tmp_path / "m.onnx"), np.array([[0.2, 0.6]], np.float32))
    bundle = imported(model)
    assert not open_bundle(bundle).manifest.step.inputs_of("state")
    with Generator.open(bundle, engine="onnxruntime") as generator:
        generator.feed_live(np.full((16, 16, 3), 200, np.uint8))
        assert greys(generator, 2) == [102, 102]


def test_a_control_takes_its_default_from_the_file(tmp_path: Path) -> None:
    model = with_value(counting(tmp_path / "m.onnx"), np.array([[0.5, 1.5]], np.float32))
    controls = open_bundle(imported(model, "h=control")).manifest.controls
    assert [(item.default, item.maximum) for item in controls.values()] == [(0.5, 1.5), (1.5, 1.5)]


@pytest.mark.parametrize(
    ("role", "sentence"),
    [
        ("h=state:h_out@1,2,3", '"h" has 2 values, got 3'),
        ("h=state:h_out@1,,2", "numbers must be separated by commas"),
        ("h=state:h_out@soon", 'no output "h_out@soon"'),
    ],
)
def test_bad_first_values_are_named(role: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=sentence):
        imported(counting(tmp_path / "m.onnx"), role)
