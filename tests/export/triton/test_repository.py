"""Model repositories for Triton: their configurations, graphs and errors. Not yet run on a Triton server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from export.triton import command, config, step_graph
from export.triton.config import check_config, parse_config, step_config
from export.triton.repository import PLANS, RepositoryOptions, ServerModel, server_models, write_repository
from runtime.bundle.manifest import graph_sha256
from runtime.bundle.reader import read_manifest
from runtime.engines.triton_interface import GRAPH_KEY, SHARE, TILE
from runtime.errors import BundleError, EngineError
from tests import moving, tiny
from tests.runtime import heavy

ROOT = Path(__file__).parents[3]
GOLDEN = Path(__file__).with_name("moving-step-rgb.pbtxt")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bundle of schema 2."""
    return moving.build(tmp_path_factory.mktemp("bundles") / "moving")


def step_of(bundle: Path, **options: Any) -> ServerModel:
    """Return the only step model of a repository."""
    return server_models(bundle, RepositoryOptions(**{"pixels": ("rgb",), **options}))[-1]


def test_a_repository_has_a_model_for_each_graph(bundle: Path, tmp_path: Path) -> None:
    models = write_repository(bundle, tmp_path / "models", RepositoryOptions())
    names = ["moving-condition", "moving-paint", "moving-step-rgb", "moving-step-i420"]
    assert [model.name for model in models] == names
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models"]
    for name in names:
        folder = tmp_path / "models" / name
        assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")) == [
            "1", "1/model.onnx", "config.pbtxt",
        ]  # fmt: skip
        check_config(parse_config((folder / "config.pbtxt").read_text()), onnx.load(folder / "1" / "model.onnx"))


def test_the_configuration_of_a_step_model_is_as_it_was(bundle: Path) -> None:
    """A change of this file is a change of what servers are told: raise INTERFACE if clients must know."""
    model = step_of(bundle)
    assert model.interface is not None
    text = step_config(model.name, model.interface, "onnxruntime", sha256="0" * 64, max_sequences=8)
    assert text == GOLDEN.read_text()


def test_sequences_are_not_batched_and_begin_with_zeros(bundle: Path) -> None:
    parsed = parse_config(step_of(bundle, max_sequences=3).config)
    assert parsed.max_batch_size == 0
    assert parsed.sequence_batching.WhichOneof("strategy_choice") == "oldest"
    assert parsed.sequence_batching.oldest.max_candidate_sequences == 3
    assert not parsed.sequence_batching.control_input
    states = {state.input_name: state for state in parsed.sequence_batching.state}
    assert states["held.count"].output_name == "next.count"
    assert all(state.initial_state[0].zero_data for state in states.values())
    assert [item.name for item in parsed.output] == ["pixel_stage.rgb"]


def test_a_value_is_held_until_another_one_is_given(bundle: Path) -> None:
    """The graph itself, in ONNX Runtime: an input without values keeps the state."""
    model = step_of(bundle)
    assert model.interface is not None
    session = onnxruntime.InferenceSession(model.graph.SerializeToString(), providers=["CPUExecutionProvider"])
    states = {item.names[1]: np.zeros(item.count, item.dtype) for item in model.interface.held}
    states["held.count"] = np.zeros((1, 1), np.float32)
    parsed = parse_config(model.config)
    rng = np.random.default_rng(3)
    values = {
        item.name: rng.integers(0, 255, item.shape).astype(item.dtype)
        for item in model.interface.held
        if item.name != TILE
    }
    fresh = {item.name: np.zeros(item.shape, item.dtype) for item in model.interface.fresh}
    frames = []
    for given, share in ((values, 0.0), ({}, 0.0), ({}, 1.0), ({}, 1 / 3)):
        fresh[SHARE] = np.array([share], np.float32)
        feeds = {item.names[0]: item.to_input(given.get(item.name)) for item in model.interface.held}
        made = session.run(None, {**feeds, **states, **fresh})
        by_name = {item.name: value for item, value in zip(model.graph.graph.output, made, strict=True)}
        states = {state.input_name: by_name[state.output_name] for state in parsed.sequence_batching.state}
        for item in model.interface.held:
            expected = values.get(item.name, np.zeros(item.shape, item.dtype))
            np.testing.assert_array_equal(states[item.names[1]], expected.ravel())
        frames.append(by_name["pixel_stage.rgb"].astype(int))
    margin = (values["pixel_stage.picture.a"].shape[1] - 1 - 72) // 2
    shown = [
        np.moveaxis(values[f"pixel_stage.picture.{side}"][:, margin : margin + 72, margin : margin + 128], 0, -1)
        for side in "ab"
    ]
    np.testing.assert_array_equal(frames[0][0], shown[0])
    np.testing.assert_array_equal(frames[1], frames[0])
    np.testing.assert_array_equal(frames[2][0], shown[1])
    np.testing.assert_array_equal(frames[3][0], np.floor((2.0 * shown[0] + shown[1]) / 3 + 0.5))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda item: item.input.pop(), "the inputs of config.pbtxt and of the graph differ: picture_share"),
        (lambda item: setattr(item.input[0], "data_type", 3), r"input set.a_free is TYPE_UINT16 \[-1\]"),
        (lambda item: item.output[0].dims.append(1), r"output pixel_stage.rgb is TYPE_UINT8 \[1, 72, 128, 3, 1\]"),
        (lambda item: item.sequence_batching.state[0].ClearField("initial_state"), "needs one initial_state"),
        (
            lambda item: setattr(item.sequence_batching.state[0], "output_name", "zz"),
            "the outputs of config.pbtxt and of the graph differ: next.a_free, zz",
        ),
        (lambda item: setattr(item, "max_batch_size", 4), "max_batch_size is 4, expected 0"),
    ],
)
def test_a_configuration_that_does_not_fit_its_graph_is_refused(bundle: Path, change: Any, expected: str) -> None:
    model = step_of(bundle)
    parsed = parse_config(model.config)
    change(parsed)
    with pytest.raises(ValueError, match=expected):
        check_config(parsed, model.graph)


def test_text_that_is_no_configuration_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Triton cannot read the config.pbtxt: .*no field named \"max_batch\""):
        parse_config("max_batch: 1")


def test_a_bundle_without_prompts_has_one_model(tmp_path: Path) -> None:
    bundle = tiny.build(tmp_path / "live", memories=False, live=True)
    (model,) = server_models(bundle, RepositoryOptions(pixels=("rgb",), name="camera"))
    assert model.name == "camera-step-rgb"
    parsed = parse_config(model.config)
    assert {"live", "live_mask", "payload"} < {item.name for item in parsed.input}


def test_the_script_for_tensorrt_names_every_free_size(bundle: Path, tmp_path: Path) -> None:
    models = write_repository(bundle, tmp_path / "models", RepositoryOptions(pixels=("i420",), backend="tensorrt"))
    parsed = parse_config(models[-1].config)
    assert (parsed.backend, parsed.default_model_filename) == ("tensorrt", "model.plan")
    script = tmp_path / "models" / PLANS
    assert script.stat().st_mode & 0o100
    lines = [line for line in script.read_text().splitlines() if line.startswith("trtexec")]
    assert len(lines) == len(models)
    assert models[-1].interface is not None
    for item in models[-1].interface.held:
        assert f"{item.names[0]}:1," in f"{lines[-1].split('--minShapes=')[1].split()[0]},"
        assert f"{item.names[0]}:{item.count + 1}," in f"{lines[-1].split('--maxShapes=')[1].split()[0]},"


def test_tensorrt_gets_pictures_that_are_only_converted(bundle: Path) -> None:
    """TensorRT does nothing else with uint8: what reads such an input is a Cast."""
    graph = step_of(bundle, backend="tensorrt").graph.graph
    kinds = {item.name for item in graph.input if item.type.tensor_type.elem_type == onnx.TensorProto.UINT8}
    assert kinds
    assert {node.op_type for node in graph.node if kinds & set(node.input)} == {"Cast"}


def test_tensorrt_rtx_builds_the_graph_with_the_shapes_of_the_script(bundle: Path) -> None:
    """Its parser and builder are close to TensorRT's, which needs a GPU; its engines are not Triton's plans."""
    library = pytest.importorskip("tensorrt_rtx")
    model = step_of(bundle, backend="tensorrt")
    builder = library.Builder(library.Logger(library.Logger.ERROR))
    flag = getattr(library.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    assert library.OnnxParser(network, library.Logger(library.Logger.ERROR)).parse(model.graph.SerializeToString())
    settings, profile = builder.create_builder_config(), builder.create_optimization_profile()
    assert model.interface is not None
    for item in model.interface.held:
        profile.set_shape(item.names[0], (1,), (1,), (item.count + 1,))
    settings.add_optimization_profile(profile)
    assert builder.build_serialized_network(network, settings) is not None


def test_an_existing_folder_is_kept(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    with pytest.raises(ValueError, match=r"models already exists: choose another --out, or remove it first"):
        write_repository(bundle, tmp_path / "models", RepositoryOptions())
    assert not list((tmp_path / "models").iterdir())


def test_nothing_is_left_of_a_repository_that_cannot_be_written(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        write_repository(bundle, tmp_path / "models", RepositoryOptions())
    assert not list(tmp_path.iterdir())


def test_a_bundle_with_our_names_is_refused(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_graph, "PREFIX", "mul_")
    with pytest.raises(BundleError, match='the step graph has a tensor "mul_'):
        step_of(bundle)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--pixels", "yuv"], "--pixels must be rgb, i420 or both"),
        (["--backend", "onnx"], 'there is no backend "onnx"'),
        (["--max-sequences", "0"], "--max-sequences must be from 1 to 1024, got 0"),
        (["--size", "big"], "--size must be WxH in pixels"),
        (["--size", "127x72"], "width and height must be even"),
        (["--name", "My Model"], "--name must be lower-case letters"),
    ],
)
def test_wrong_options_are_one_sentence(bundle: Path, tmp_path: Path, arguments: list[str], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        command.run([str(bundle), "--out", str(tmp_path / "models"), *arguments])
    assert not list(tmp_path.iterdir())


def test_without_the_extra_it_is_named(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"needs the extra: pip install everframe\[triton\]"):
        command.run([str(bundle), "--out", str(tmp_path / "models")])


def test_the_command_writes_a_repository_and_says_what_was_not_run(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "models"
    arguments = ["triton", str(bundle), "--out", str(out), "--size", "64x36", "--pixels", "i420"]
    done = subprocess.run(
        [sys.executable, "-m", "export", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "not yet run on a Triton server" in done.stdout
    parsed = parse_config((out / "moving-step-i420" / "config.pbtxt").read_text())
    assert list(parsed.output[0].dims) == [1, 54, 64]
    again = subprocess.run(
        [sys.executable, "-m", "export", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert again.returncode == 2
    assert again.stderr.count("\n") == 1


def test_a_graph_without_states_has_no_sequences(bundle: Path) -> None:
    condition = server_models(bundle, RepositoryOptions())[0]
    parsed = parse_config(condition.config)
    assert not parsed.HasField("sequence_batching")
    assert condition.interface is None


def test_states_are_named_in_one_order(bundle: Path) -> None:
    """Triton pairs them in the order of their names; a bundle's own names may have another order."""
    model = step_of(bundle)
    parsed, graph = parse_config(model.config), onnx.ModelProto()
    graph.CopyFrom(model.graph)
    state = next(item for item in parsed.sequence_batching.state if item.input_name == "held.count")
    state.output_name = "zzz"
    next(item for item in graph.graph.output if item.name == "next.count").name = "zzz"
    with pytest.raises(ValueError, match="the output states are not in the order of those of the input states"):
        check_config(parsed, graph)


def test_weights_files_lie_beside_their_models(tmp_path: Path) -> None:
    external = heavy.move_weights_out(heavy.build(tmp_path / "inline"), tmp_path / "external")
    write_repository(external, tmp_path / "models", RepositoryOptions(pixels=("rgb",)))
    manifest = read_manifest(external)
    assert manifest.condition is not None
    for name, graph in (("heavy-step-rgb", manifest.step), ("heavy-condition", manifest.condition)):
        folder = tmp_path / "models" / name
        assert (folder / "1" / graph.weights).read_bytes() == (external / graph.weights).read_bytes()
        onnxruntime.InferenceSession(str(folder / "1" / "model.onnx"), providers=["CPUExecutionProvider"])
        stated = parse_config((folder / "config.pbtxt").read_text()).parameters[GRAPH_KEY].string_value
        assert stated == graph_sha256(manifest, graph) != manifest.files[graph.file].sha256
