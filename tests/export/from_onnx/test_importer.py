"""Imported ONNX models run like the originals, or are rejected with one sentence."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from export.__main__ import main
from export.from_onnx import importer as importing
from export.from_onnx.importer import ImportOptions, import_model
from export.from_onnx.parity import GOLDEN_FRAMES, OriginalRun, moving_frames
from export.from_onnx.preview import write_preview
from runtime import Generator
from runtime.bundle.reader import open_bundle
from runtime.golden import check_golden
from tests.export.from_onnx import foreign


@pytest.fixture(autouse=True)
def one_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "available_engines", lambda: [("onnxruntime", "fp32")])


def imported(model: Path, *roles: str, condition: Path | None = None, **options: object) -> Path:
    out = model.parent / "bundle"
    report = import_model(model, out, condition=condition, options=ImportOptions(roles=roles, **options))
    frames = 300 if open_bundle(out).manifest.step.inputs_of("state") else 8
    assert [(check.engine, check.frames, check.passed) for check in report.checks] == [("onnxruntime", frames, True)]
    results = check_golden(out, "onnxruntime", "fp32")
    assert tuple(result.frame for result in results) == GOLDEN_FRAMES
    assert min(result.psnr_db for result in results) >= 60
    return out


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def roles_of(bundle: Path) -> dict[str, str]:
    step = open_bundle(bundle).manifest.step
    return {tensor.name: tensor.role for tensor in (*step.inputs, *step.outputs)}


@pytest.mark.parametrize("opset", [7, 12, 18, 21])
def test_a_style_net_of_any_opset_transforms_live_frames(opset: int, tmp_path: Path) -> None:
    model = foreign.style(tmp_path / "style.onnx", opset)
    bundle = imported(model, size=(48, 32))
    assert roles_of(bundle) == {"input": "live", "rgb": "frame", "i420": "frame"}
    assert open_bundle(bundle).step.opset_import[0].version == max(18, opset)
    frames = moving_frames(32, 48, 2)
    planes = (frames / 255).astype(np.float32).transpose(0, 3, 1, 2)
    (wanted,) = session(model).run(None, {"input": planes})
    with Generator.open(bundle, engine="onnxruntime") as generator:
        for live, values in zip(frames, wanted, strict=True):
            generator.feed_live(live)
            difference = np.abs(next(generator) - values.transpose(1, 2, 0) * 255)
            assert difference.max() < 0.51


def test_weights_that_are_inputs_too_stay_weights(tmp_path: Path) -> None:
    first, step = foreign.two_stages(tmp_path)
    bundle = imported(foreign.as_before_2020(step), condition=foreign.as_before_2020(first))
    opened = open_bundle(bundle)
    assert roles_of(bundle)["content"] == "live"
    assert opened.step.ir_version >= 4
    assert {value.name for value in opened.step.graph.input}.isdisjoint(
        tensor.name for tensor in opened.step.graph.initializer
    )


@pytest.mark.parametrize("opset", [7, 11, 18])
def test_a_style_net_of_ir_version_3(opset: int, tmp_path: Path) -> None:
    model = foreign.as_before_2020(foreign.style(tmp_path / "style.onnx", opset))
    assert roles_of(imported(model, size=(32, 32)))["input"] == "live"


def test_given_ranges_and_colour_orders_are_used(tmp_path: Path) -> None:
    model = foreign.style(tmp_path / "style.onnx", end="Tanh")
    bundle = imported(model, "input=live:0..255,bgr", "output=frame:bgr", size=(32, 32))
    live = moving_frames(32, 32, 1)
    planes = live[..., ::-1].astype(np.float32).transpose(0, 3, 1, 2)
    (values,) = session(model).run(None, {"input": planes})
    with Generator.open(bundle, engine="onnxruntime") as generator:
        generator.feed_live(live[0])
        assert np.abs(next(generator) - (values[0].transpose(1, 2, 0)[..., ::-1] + 1) * 127.5).max() < 0.51


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_one_channel_of_many_is_the_frame(layout: str, tmp_path: Path) -> None:
    text = """net (float[1,3,16,24] x) => (float[?] y) {
      mean = ReduceMean <keepdims = 1> (x, axes) wide = Mul (mean, gains) y = Identity (wide)
    }""".replace("?", "1,5,16,24" if layout == "nchw" else "1,16,24,5")
    if layout == "nhwc":
        text = text.replace("Identity (", "Transpose <perm = [0,2,3,1]> (")
    gains = np.array([9, 0.5, 9, 9, 9], np.float32).reshape(1, 5, 1, 1)
    model = foreign.write(tmp_path / "m.onnx", text, {"axes": np.array([1], np.int64), "gains": gains})
    bundle = imported(model, f"y=frame:{layout},channel=1")
    with Generator.open(bundle, engine="onnxruntime") as generator:
        generator.feed_live(np.full((16, 24, 3), 100, np.uint8))
        assert set(next(generator).reshape(-1)) == {50}


@pytest.mark.parametrize(
    "words", ["mean=0.5/0.4/0.3,std=0.2/0.25/0.5", "0..255,mean=127.5/102/76.5,std=51/63.75/127.5"]
)
def test_an_own_mean_and_deviation(words: str, tmp_path: Path) -> None:
    text = "net (float[1,3,16,24] x) => (float[1,3,16,24] y) { y = Mul (x, one) }"
    model = foreign.write(tmp_path / "m.onnx", text, {"one": np.float32(1)})
    report = import_model(
        model, tmp_path / "bundle", options=ImportOptions(roles=[f"x=live:bgr,{words}", "y=frame:-1..1"])
    )
    assert any("mean" in line and "std" in line for line in report.lines)
    with Generator.open(tmp_path / "bundle", engine="onnxruntime") as generator:
        generator.feed_live(np.full((16, 24, 3), [128, 100, 90], np.uint8))
        red, green, blue = (np.array([128, 100, 90]) / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.25, 0.5]
        wanted = (np.array([blue, green, red]) + 1) * 127.5  # the model does not swap blue and red back
        assert np.abs(next(generator)[0, 0] - wanted).max() < 0.51


def test_a_fixed_batch_is_made_one(tmp_path: Path) -> None:
    text = """net (float[4,3,16,24] x) => (float[4,3,16,24] y) {
      shape = Constant <value = int64[4] {4, 3, -1, 24}> () flat = Reshape (x, whole)
      tall = Reshape (flat, shape) half = Mul (tall, gain) y = Conv <pads = [1,1,1,1]> (half, kernel)
    }"""
    weights = {"whole": np.array([4, -1]), "gain": np.float32(0.5), "kernel": foreign.random(3, 3, 3, 3, scale=0.1)}
    model = foreign.as_before_2020(foreign.write(tmp_path / "m.onnx", text, weights, opset=11))
    options = ImportOptions(roles=["x=live:0..1", "y=frame:0..1"])
    report = import_model(model, tmp_path / "bundle", options=options)
    assert "  its batch of 4 is made 1" in report.lines
    live = moving_frames(16, 24, 1)[0]
    planes = (live / 255).astype(np.float32).transpose(2, 0, 1)[np.newaxis].repeat(4, axis=0)
    (wanted,) = session(model).run(None, {"x": planes})
    with Generator.open(tmp_path / "bundle", engine="onnxruntime") as generator:
        generator.feed_live(live)
        assert np.abs(next(generator) - wanted[0].transpose(1, 2, 0).clip(0, 1) * 255).max() < 0.51


@pytest.mark.parametrize(
    ("batch", "match"), [(257, "is a batch of 257: export the model for a batch of 1"), (2**31, "values, at most")]
)
def test_a_batch_that_is_too_large_to_be_run_is_refused(batch: int, match: str, tmp_path: Path) -> None:
    text = f"net (float[{batch},3,16,24] x) => (float[{batch},3,16,24] y) {{ y = Relu (x) }}"
    model = foreign.write(tmp_path / "m.onnx", text)
    with pytest.raises(ValueError, match=match):
        import_model(model, tmp_path / "bundle", options=ImportOptions(roles=["x=live", "y=frame:0..1"]))


@pytest.mark.parametrize("width", [2**31, 2**40])
def test_a_picture_that_is_too_large_is_refused(width: int, tmp_path: Path) -> None:
    text = f"net (float[1,3,16,{width}] x) => (float[1,3,16,{width}] y) {{ y = Relu (x) }}"
    model = foreign.write(tmp_path / "m.onnx", text)
    with pytest.raises(
        ValueError, match=rf"has {48 * width} values, at most 268435456 are read: give a smaller --size"
    ):
        import_model(model, tmp_path / "bundle")


def test_super_resolution_is_larger_than_its_live_input(tmp_path: Path) -> None:
    model = foreign.super_resolution(tmp_path / "large.onnx")
    bundle = imported(model, "small=live:bgr", "large=frame:bgr")
    manifest = open_bundle(bundle).manifest
    assert (manifest.frame.width, manifest.frame.height) == (48, 40)
    live = manifest.step.only_input("live")
    assert live is not None
    assert live.shape == (1, 20, 24, 3)
    frame = moving_frames(20, 24, 1)
    (wanted,) = session(model).run(None, {"small": frame[..., ::-1].copy()})
    with Generator.open(bundle, engine="onnxruntime") as generator:
        generator.feed_live(frame[0])
        assert np.array_equal(next(generator), wanted[0][..., ::-1])


def test_a_recurrent_net_keeps_its_state_and_finds_its_shape(tmp_path: Path) -> None:
    model = foreign.recurrent(tmp_path / "matting.onnx")
    bundle = imported(model, "r_in=state:r_out", size=(32, 16))
    manifest = open_bundle(bundle).manifest
    (state,) = manifest.step.inputs_of("state")
    assert (state.name, state.shape, state.next) == ("r_in", (1, 8, 8, 16), "r_out")
    live = moving_frames(16, 32, 1)
    with Generator.open(bundle, engine="onnxruntime") as generator:
        generator.feed_live(live[0])
        frames = [next(generator).copy() for _ in range(3)]
        assert np.ptp(frames[0], axis=-1).max() == 0, "one channel is grey"
        assert not np.array_equal(frames[0], frames[2]), "the state goes on"
        generator.reset()
        assert np.array_equal(next(generator), frames[0])


def test_a_pattern_gives_roles_to_many_tensors(tmp_path: Path) -> None:
    model = foreign.many_states(tmp_path / "m.onnx", 12)
    options = ImportOptions(roles=["h_*=state:h_*_out", "h_3=fixed:0.5"], loop_frames=8)
    import_model(model, tmp_path / "bundle", options=options)
    states = open_bundle(tmp_path / "bundle").manifest.step.inputs_of("state")
    pairs = {state.name: state.next for state in states}
    assert pairs == {f"h_{number}": f"h_{number}_out" for number in range(12) if number != 3}


def test_an_input_that_the_memories_do_not_need_has_no_role(tmp_path: Path) -> None:
    first, step = foreign.two_stages(tmp_path)
    loaded = onnx.load(first)
    loaded.graph.input.append(onnx.helper.make_tensor_value_info("unread", 1, [1, 2]))
    onnx.save(loaded, first)
    import_model(step, tmp_path / "bundle", condition=first)
    manifest = open_bundle(tmp_path / "bundle").manifest
    assert manifest.condition is not None
    assert [item.role for item in manifest.condition.inputs] == ["image"]


def test_a_state_of_known_shape_is_guessed(tmp_path: Path) -> None:
    text = """net (float[1,3,16,16] x, float[1,5] memory) => (float[1,3,16,16] y, float[1,5] later) {
      more = Add (memory, ones)
      later = Min (more, top)
      mean = ReduceMean <keepdims = 0> (memory)
      y = Mul (x, mean)
    }"""
    constants = {"ones": np.full((1, 5), 0.1, np.float32), "top": np.float32(1)}
    model = foreign.write(tmp_path / "m.onnx", text, constants)
    bundle = imported(model)
    assert roles_of(bundle)["memory"] == "state"
    with Generator.open(bundle, engine="onnxruntime") as generator:
        generator.feed_live(np.full((16, 16, 3), 200, np.uint8))
        assert [int(next(generator)[0, 0, 0]) for _ in range(4)] == [0, 20, 40, 60]


def test_a_state_that_grows_out_of_range_is_an_error(tmp_path: Path) -> None:
    text = """net (float[1,3,16,16] x, float[1,5] memory) => (float[1,3,16,16] y, float[1,5] later) {
      later = Add (memory, ones)
      mean = ReduceMean <keepdims = 0> (memory)
      y = Mul (x, mean)
    }"""
    model = foreign.write(tmp_path / "m.onnx", text, {"ones": np.full((1, 5), 0.1, np.float32)})
    with pytest.raises(ValueError, match=r'the frame "y" goes from 0 to 2\d\.?\d*, which is not the range 0..1'):
        import_model(model, tmp_path / "bundle", options=ImportOptions())
    assert {path.name for path in tmp_path.iterdir()} == {"m.onnx"}


def test_a_latent_makes_a_scene_of_each_seed_and_renews_itself(tmp_path: Path) -> None:
    model = foreign.gan(tmp_path / "gan.onnx")
    bundle = imported(model)
    manifest = open_bundle(bundle).manifest
    assert manifest.condition is not None
    assert manifest.renewal is not None
    assert set(manifest.controls) == {"seed", "drift"}
    with Generator.open(bundle, engine="onnxruntime", seed=3) as generator:
        still = [next(generator).copy() for _ in range(2)]
        assert np.array_equal(*still)
        generator.condition(seed=4)
        other = next(generator).copy()
    assert np.abs(other.astype(int) - still[0]).mean() > 3
    code = generator_code(4, 16)
    (values,) = session(model).run(None, {"z": code.reshape(1, 16, 1, 1)})
    assert np.abs(other - (values[0].transpose(1, 2, 0) + 1) * 127.5).max() < 0.51


def generator_code(seed: int, count: int) -> np.ndarray:
    from runtime.noise import CODES, normals

    return normals(seed, CODES, 0, count)


def test_options_are_optional(tmp_path: Path) -> None:
    report = import_model(foreign.gan(tmp_path / "gan.onnx"), tmp_path / "bundle")
    assert all(check.passed for check in report.checks)
    assert open_bundle(tmp_path / "bundle").manifest.name == "bundle"


def test_the_preview_shows_the_input_beside_the_golden_frames(tmp_path: Path) -> None:
    bundle = imported(foreign.passing_on(tmp_path / "same.onnx", 48, 32))
    with Image.open(bundle / "preview.png") as picture:
        sheet = np.asarray(picture)
    assert sheet.shape == (3 * 32 + 2 * 4, 2 * 48 + 4, 3)
    live = moving_frames(32, 48, 5)
    for row, number in enumerate(GOLDEN_FRAMES):
        cells = sheet[row * 36 : row * 36 + 32]
        assert np.array_equal(cells[:, :48], live[(number - 1) % 5])
        assert np.array_equal(cells[:, :48], cells[:, 52:])
    assert "preview.png" in open_bundle(bundle).manifest.files


def test_a_large_preview_is_made_smaller_and_can_be_left_out(tmp_path: Path) -> None:
    import_model(foreign.gan(tmp_path / "gan.onnx"), tmp_path / "gan", options=ImportOptions(preview=False))
    assert not (tmp_path / "gan" / "preview.png").exists()
    run = OriginalRun([np.zeros((540, 960, 3), np.uint8)], None, None, 0.0, 0.0, 0.0)
    write_preview(tmp_path, run, [1])
    with Image.open(tmp_path / "preview.png") as sheet:
        assert sheet.size == (480, 270)


def test_noise_is_drawn_for_every_frame(tmp_path: Path) -> None:
    bundle = imported(foreign.gan(tmp_path / "gan.onnx"), "z=noise")
    assert open_bundle(bundle).manifest.condition is None
    with Generator.open(bundle, engine="onnxruntime") as generator:
        assert not np.array_equal(next(generator).copy(), next(generator))


def test_two_files_share_a_memory_by_name(tmp_path: Path) -> None:
    first, step = foreign.two_stages(tmp_path)
    bundle = imported(step, condition=first)
    manifest = open_bundle(bundle).manifest
    assert manifest.condition is not None
    assert [(item.name, item.role) for item in manifest.condition.outputs] == [("style/code:0", "memory")]
    image = manifest.condition.only_input("image")
    assert image is not None
    assert image.shape == (1, 32, 32, 3), "pictures come in the frame's size"
    warm, cold = (np.full((32, 32, 3), colour, np.uint8) for colour in ([250, 120, 10], [10, 120, 250]))
    with Generator.open(bundle, engine="onnxruntime") as generator:
        generator.feed_live(moving_frames(32, 32, 1)[0])
        shown = []
        for picture in (warm, cold):
            generator.condition(image=picture)
            shown.append(next(generator).astype(int))
        assert np.abs(shown[0] - shown[1]).mean() > 5
        generator.condition(image=warm, dissolve_s=10)
        half = [next(generator).astype(int) for _ in range(150)][-1]
    assert np.abs(half - shown[0]).mean() > 1
    assert np.abs(half - shown[1]).mean() > 1


def test_controls_and_what_is_fixed(tmp_path: Path) -> None:
    text = """net (float[1,3,16,16] x, float[3] gains, float16[1] power, int64 unread) => (float[1,3,16,16] y) {
      planes = Reshape (gains, shape)
      scaled = Mul (x, planes)
      wide = Cast <to = 1> (power)
      y = Mul (scaled, wide)
    }"""
    model = foreign.write(tmp_path / "m.onnx", text, {"shape": np.array([1, 3, 1, 1], np.int64)})
    bundle = imported(model, "gains=control:1,0.5@0..2", "power=fixed:0.5")
    manifest = open_bundle(bundle).manifest
    defaults = {name: (item.minimum, item.default, item.maximum) for name, item in manifest.controls.items()}
    assert defaults == {"gains_0": (0, 1, 2), "gains_1": (0, 0.5, 2), "gains_2": (0, 0, 2)}
    assert {tensor.name for tensor in manifest.step.inputs} == {"x", "control"}
    with Generator.open(bundle, engine="onnxruntime") as generator:
        generator.feed_live(np.full((16, 16, 3), 100, np.uint8))
        assert next(generator)[0, 0].tolist() == [50, 25, 0]
        generator.set_control("gains_2", 2)
        assert next(generator)[0, 0].tolist() == [50, 25, 100]


def test_half_floats_grey_input_and_an_odd_size(tmp_path: Path) -> None:
    text = """net (float16[?,17,19,1] grey) => (float16[?,17,19,3] y) {
      y = Expand (grey, shape)
    }""".replace("?", "batch")
    model = foreign.write(tmp_path / "m.onnx", text, {"shape": np.array([1, 17, 19, 3], np.int64)})
    bundle = imported(model)
    manifest = open_bundle(bundle).manifest
    assert (manifest.frame.width, manifest.frame.height) == (18, 16)
    with Generator.open(bundle, engine="onnxruntime") as generator:
        generator.feed_live(np.full((17, 19, 3), [255, 0, 0], np.uint8))
        assert np.abs(next(generator).astype(int) - round(0.2126 * 255)).max() <= 1


def test_a_mask_shows_where_the_live_picture_counts(tmp_path: Path) -> None:
    text = """net (float[1,3,16,16] x, float[1,1,16,16] where) => (float[1,3,16,16] y) { y = Mul (x, where) }"""
    bundle = imported(foreign.write(tmp_path / "m.onnx", text), "x=live", "where=mask")
    hidden = np.zeros((16, 16), np.uint8)
    hidden[:8] = 255
    with Generator.open(bundle, engine="onnxruntime") as generator:
        generator.feed_live(np.full((16, 16, 3), 90, np.uint8), hidden)
        assert next(generator)[:, 0, 0].tolist() == [90] * 8 + [0] * 8


def test_the_manifest_has_the_provenance(tmp_path: Path) -> None:
    model = foreign.style(tmp_path / "Style Net.onnx", 11)
    out = imported(model, size=(32, 32), licence="MIT", source="a test", description="A style.")
    manifest = json.loads((out / "bundle.json").read_text())
    (entry,) = manifest["provenance"]["imported"]
    assert entry["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert entry["file"] == "Style Net.onnx"
    assert (entry["graph"], entry["opset"], entry["licence"], entry["source"]) == ("step", 11, "MIT", "a test")
    assert manifest["description"] == "A style."
    (golden,) = manifest["golden"]
    assert golden["live"] is True
    (check,) = manifest["verified"]["parity"]
    assert (check["engine"], check["passed"]) == ("onnxruntime", True)
    assert check["worst"] >= 60


def test_external_weights_and_local_functions_are_included(tmp_path: Path) -> None:
    model = onnx.load(foreign.style(tmp_path / "style.onnx"))
    function = onnx.parser.parse_function(
        '<domain: "local", opset_import: ["" : 18]> Softer (x) => (y) { '
        "h = Constant <value_float = 0.5> () y = Mul (x, h) }"
    )
    model.functions.append(function)
    model.opset_import.append(onnx.helper.make_opsetid("local", 1))
    last = model.graph.node[-1]
    last.input[0] = "soft"
    model.graph.node.insert(3, onnx.helper.make_node("Softer", ["c"], ["soft"], domain="local"))
    onnx.save(model, tmp_path / "split.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    bundle = imported(tmp_path / "split.onnx", size=(32, 32))
    assert sorted(path.name for path in bundle.glob("*.onnx")) == ["step.onnx"]


def test_a_wrong_conversion_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def convert(model: onnx.ModelProto, target: int) -> onnx.ModelProto:
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        changed.opset_import[0].version = target
        changed.graph.node[-1].op_type = "Tanh"
        return changed

    monkeypatch.setattr(onnx.version_converter, "convert_version", convert)
    model = foreign.style(tmp_path / "style.onnx", 11)
    with pytest.raises(ValueError, match="no bundle was written"):
        import_model(model, tmp_path / "out" / "bundle", options=ImportOptions(size=(32, 32)))
    assert list((tmp_path / "out").iterdir()) == []


def test_an_existing_bundle_is_replaced_by_force_only(tmp_path: Path) -> None:
    model = foreign.style(tmp_path / "style.onnx")
    out = imported(model, size=(32, 32))
    with pytest.raises(ValueError, match="already exists"):
        import_model(model, out, options=ImportOptions(size=(64, 32)))
    with pytest.raises(ValueError, match="free size"):
        import_model(model, out, force=True)
    assert open_bundle(out).manifest.frame.width == 32
    import_model(model, out, options=ImportOptions(size=(64, 32)), force=True)
    assert open_bundle(out).manifest.frame.width == 64
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "style.onnx"]


@pytest.mark.parametrize("command", ["from-onnx", "import"])
def test_the_command_line_prints_what_was_guessed(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = foreign.style(tmp_path / "style.onnx")
    out = tmp_path / "bundle"
    words = ["export", command, str(model), "--out", str(out), "--size", "48x32", "--fps", "30000/1001"]
    monkeypatch.setattr(sys, "argv", words)
    assert main() == 0
    said = capsys.readouterr().out
    assert "input float32 [1, 3, 32, 48] -> live, nchw, rgb, range 0..1, assumed, guessed" in said
    assert "output float32 [1, 3, 32, 48] -> frame, nchw, rgb, range 0..1, assumed, as it ends in Sigmoid\n" in said
    assert f"wrote {out}" in said
    assert f"preview, input beside frame: {out / 'preview.png'}" in said
    assert re.search(r"^onnxruntime fp32: [0-9.]+ ms per frame$", said, re.MULTILINE)
    assert open_bundle(out).manifest.frame.fps_text == "30000/1001"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["absent.onnx"], "export: there is no file absent.onnx"),
        (["style.onnx"], 'the input "input" (float32 [batch, 3, h, w]) has a free size: pass --size WxH'),
        (["style.onnx", "--size", "big"], "--size must be WxH"),
        (["style.onnx", "--fps", "0"], "--fps must be from 1 to 240"),
        (["style.onnx", "--shape", "input"], "--shape must be TENSOR=AxBx..."),
        (["style.onnx", "--role", "inptu=live"], 'there is no tensor "inptu" (did you mean "input"?)'),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign.style(tmp_path / "style.onnx")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["export", "from-onnx", *words, "--out", "bundle"])
    assert main() == 2
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert captured.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["style.onnx"]


def test_it_needs_no_torch() -> None:
    modules = "export.__main__, export.from_onnx.command, export.from_onnx.importer"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "False"
