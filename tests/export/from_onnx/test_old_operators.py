"""Files of converters before 2020: experimental operators, and metadata about the colours of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from export.from_onnx import importer as importing
from export.from_onnx.importer import ImportOptions, import_model
from export.from_onnx.old_operators import replace_old_operators, stated_format
from export.from_onnx.parity import moving_frames
from runtime import Generator
from runtime.bundle.reader import open_bundle
from tests.export.from_onnx import foreign

BGR = {"Image.BitmapPixelFormat": "Bgr8", "Image.NominalPixelRange": "NominalRange_0_255"}


@pytest.fixture(autouse=True)
def one_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "available_engines", lambda: [("onnxruntime", "fp32")])


def test_old_operators_become_standard_ones_and_metadata_is_used(tmp_path: Path) -> None:
    model = foreign.windows_ml(tmp_path / "candy.onnx", BGR)
    report = import_model(model, tmp_path / "bundle")
    bundle = open_bundle(tmp_path / "bundle")
    assert {node.op_type for node in bundle.step.graph.node}.isdisjoint({"ImageScaler", "Crop", "Affine"})
    assert sum(line.startswith("  its metadata") for line in report.lines) == 1
    assert any("states bgr, range 0..255" in line for line in report.lines)
    assert "  image float32 [1, 3, 16, 24] -> live, nchw, bgr, range 0..255, from the metadata, guessed" in report.lines
    live = moving_frames(16, 24, 1)[0]
    with Generator.open(bundle.path, engine="onnxruntime") as generator:
        generator.feed_live(live)
        wanted = (live * 0.5 + [30.0, 20.0, 10.0]) * 1.5 + 2  # the biases are of blue, green and red
        assert np.abs(next(generator) - wanted.clip(0, 255)).max() < 0.51


def test_a_given_role_wins_over_metadata(tmp_path: Path) -> None:
    model = foreign.windows_ml(tmp_path / "candy.onnx", BGR)
    options = ImportOptions(roles=["image=live:rgb,0..255", "out=frame:rgb,0..255"])
    import_model(model, tmp_path / "bundle", options=options)
    live = moving_frames(16, 24, 1)[0]
    with Generator.open(tmp_path / "bundle", engine="onnxruntime") as generator:
        generator.feed_live(live)
        wanted = (live * 0.5 + [10.0, 20.0, 30.0]) * 1.5 + 2
        assert np.abs(next(generator) - wanted.clip(0, 255)).max() < 0.51


def test_old_operators_in_a_newer_opset_are_replaced_too(tmp_path: Path) -> None:
    model = foreign.windows_ml(tmp_path / "candy.onnx", BGR, opset=11)
    loaded = onnx.load(model)
    (pad,) = (node for node in loaded.graph.node if node.op_type == "Pad")
    pad.input.append("pads")
    del pad.attribute[1:]
    loaded.ir_version = 6
    loaded.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0, 0, 4, 2, 0, 0, 6, 8]), "pads"))
    model.write_bytes(loaded.SerializeToString())
    import_model(model, tmp_path / "bundle")
    assert open_bundle(tmp_path / "bundle").manifest.frame.width == 24


def test_a_crop_without_a_border_is_named() -> None:
    node = onnx.helper.make_node("Crop", ["x"], ["y"], name="cut", border=[1, 2])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "net", [], []))
    with pytest.raises(ValueError, match=r'the operator Crop \("cut"\) has the border \[1, 2\]'):
        replace_old_operators(model, 8)


@pytest.mark.parametrize(
    ("inputs", "attributes", "dtype", "sentence"),
    [
        (["x", "z"], {"scale": 0.5}, TensorProto.FLOAT, "has 2 inputs and 1 outputs"),
        (["x"], {"scale": 0.5}, TensorProto.UNDEFINED, "reads a tensor of the type 0"),
        (["x"], {"scale": 2}, TensorProto.FLOAT, "multiplies by 2 and adds 0.0"),
        (["x"], {"bias": [1.0, float("nan")]}, TensorProto.FLOAT, "multiplies by 1.0 and adds"),
    ],
)
def test_a_damaged_image_scaler_is_named(
    inputs: list[str], attributes: dict[str, Any], dtype: int, sentence: str
) -> None:
    node = onnx.helper.make_node("ImageScaler", inputs, ["y"], name="scaled", **attributes)
    values = [onnx.helper.make_tensor_value_info("x", dtype, [1, 3, 16, 24])]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "net", values, []))
    with pytest.raises(ValueError, match=rf'the operator ImageScaler \("scaled"\) {sentence}'):
        replace_old_operators(model, 8)


@pytest.mark.parametrize(
    ("metadata", "order", "range_", "end"),
    [
        ({}, "", "", ""),
        ({"Image.BitmapPixelFormat": "Rgb8"}, "rgb", "", "states rgb"),
        ({"Image.NominalPixelRange": "Normalized_1_1"}, "", "-1..1", "states range -1..1"),
        ({"Image.NominalPixelRange": "NominalRange_16_235"}, "", "", "states nothing that can be used"),
    ],
)
def test_metadata_of_pictures(metadata: dict[str, str], order: str, range_: str, end: str) -> None:
    model = onnx.ModelProto()
    onnx.helper.set_model_props(model, {**metadata, "author": "someone"})
    stated = stated_format(model)
    assert (stated.order, stated.range) == (order, range_)
    assert stated.text.endswith(end)
    assert bool(stated.text) == bool(metadata)
