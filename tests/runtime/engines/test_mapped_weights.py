"""Engines read weights from a mapped file, and make the same frames as with the weights inside the graph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from export.engines import _programs
from runtime import EngineError, Generator
from runtime.bundle.external_weights import MappedWeights, external_tensors
from runtime.bundle.reader import open_bundle, write_manifest
from runtime.engines import opening, openvino_weights, tensorrt_builder
from runtime.engines.engine import Program
from runtime.engines.fp16 import share_of, to_half
from runtime.engines.onnxruntime import OnnxRuntime
from runtime.engines.opening import with_weights
from runtime.engines.selection import open_engines
from runtime.engines.table import open_engine
from tests.runtime import heavy

PAIRS = [
    (name, precision)
    for name in ("onnxruntime", "openvino")
    if open_engine(name).available() is None
    for precision in open_engine(name).precisions()
]


@pytest.fixture(scope="module")
def inline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return heavy.build(tmp_path_factory.mktemp("heavy") / "inline")


@pytest.fixture(scope="module")
def external(inline: Path) -> Path:
    return heavy.move_weights_out(inline, inline.parent / "external")


def frames(bundle: Path, engine: str, precision: str, cache: Path | None = None) -> np.ndarray:
    rng = np.random.default_rng(2)
    made = []
    options: dict[str, Any] = {"engine": engine, "precision": precision, "threads": 1, "cache_dir": cache}
    with Generator.open(bundle, **options) as generator:
        generator.condition(image=rng.integers(0, 256, (heavy.HEIGHT, heavy.WIDTH, 3), dtype=np.uint8))
        for _ in range(4):
            generator.feed_live(rng.integers(0, 256, (heavy.HEIGHT, heavy.WIDTH, 3), dtype=np.uint8))
            made.append(next(generator).copy())
    return np.stack(made).astype(int)


@pytest.mark.parametrize(("engine", "precision"), PAIRS)
def test_frames_are_the_same(inline: Path, external: Path, engine: str, precision: str, tmp_path: Path) -> None:
    expected = frames(inline, engine, precision, tmp_path)
    assert expected.std() > 20
    found = frames(external, engine, precision, tmp_path)
    assert np.array_equal(found, expected)
    assert np.array_equal(frames(external, engine, precision, tmp_path), expected), "from the cache, if there is one"


@pytest.mark.parametrize(("engine", "precision"), PAIRS)
def test_halved_weights_change_little(inline: Path, engine: str, precision: str, tmp_path: Path) -> None:
    halved = heavy.move_weights_out(inline, tmp_path / "halved", halve=True)
    assert (halved / "step.weights").stat().st_size < (inline / "step.onnx").stat().st_size / 2
    difference = np.abs(frames(halved, engine, precision) - frames(inline, engine, precision))
    assert difference.max() <= (2 if precision == "bf16" else 1)


@pytest.mark.skipif(("openvino", "fp32") not in PAIRS, reason="OpenVINO is not installed")
def test_a_compiled_graph_is_of_its_weights(external: Path, tmp_path: Path) -> None:
    """The graph's bytes are equal, only the weights differ: the cache must not mix them up."""
    frames(external, "openvino", "fp32", tmp_path / "cache")
    other = tmp_path / "other"
    other.mkdir()
    for file in external.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    weights = np.fromfile(external / "step.weights", "<f4") * 0.5
    (other / "step.weights").write_bytes(weights.tobytes())
    write_manifest(other, json.loads((external / "bundle.json").read_text()))
    with_cache = frames(other, "openvino", "fp32", tmp_path / "cache")
    assert np.array_equal(with_cache, frames(other, "openvino", "fp32", tmp_path / "empty"))
    assert not np.array_equal(with_cache, frames(external, "openvino", "fp32", tmp_path / "cache"))


@pytest.mark.skipif(("openvino", "fp32") not in PAIRS, reason="OpenVINO is not installed")
def test_large_graphs_are_not_stored_by_openvino(
    external: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.engines.openvino._MAX_STORED_BYTES", 100)
    frames(external, "openvino", "fp32", tmp_path / "cache")
    assert not list(tmp_path.glob("cache/*"))


@pytest.mark.skipif(("openvino", "fp32") not in PAIRS, reason="OpenVINO is not installed")
def test_types_that_openvino_cannot_map_are_named(external: Path) -> None:
    import openvino

    graph = open_bundle(external).step
    tensor = external_tensors(graph)[0]
    tensor.data_type = TensorProto.FLOAT8E4M3FN
    parameter = openvino.opset9.parameter([1], dtype=np.float32)
    parameter.output(0).get_tensor().add_names({tensor.name})
    model = openvino.Model([parameter], [parameter], "small")
    with pytest.raises(RuntimeError, match=r'the weights "constant_1" are float8e4m3fn'):
        openvino_weights.map_weights(model, [tensor], MappedWeights(external / "step.weights"))


def test_weights_are_mapped_not_copied(external: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No engine gets the weights in the graph's bytes."""
    opened: list[Program] = []
    opening_of = OnnxRuntime.open

    def note(self: OnnxRuntime, program: Program, *arguments: Any) -> Any:
        opened.append(program)
        return opening_of(self, program, *arguments)

    monkeypatch.setattr(OnnxRuntime, "open", note)
    frames(external, "onnxruntime", "fp32")
    assert [program.weights.name for program in opened if program.weights] == ["step.weights", "condition.weights"]
    assert all(len(program.graph) < 4000 for program in opened)
    assert all(program.cache_parts == [f"weights {program.weights_sha256}"] for program in opened)


def test_no_second_session_takes_the_memory_again(inline: Path, external: Path) -> None:
    for bundle, has_spares in ((inline, True), (external, False)):
        engines = open_engines(
            open_bundle(bundle), "onnxruntime", "fp32", pixels="rgb", threads=1, cache_dir=bundle / "none"
        )
        opened = next(engines)
        assert (opened.open_spare is not None, opened.open_without_frames is not None) == (has_spares, has_spares)
        opened.step.close()
        assert opened.condition is not None
        opened.condition.close()


def test_a_bundle_whose_weights_were_changed_is_not_opened(external: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    copied.mkdir()
    for file in external.iterdir():
        (copied / file.name).write_bytes(file.read_bytes())
    bundle = open_bundle(copied)
    (copied / "step.weights").write_bytes(bytes(len((copied / "step.weights").read_bytes())))
    with pytest.raises(EngineError, match="was changed after the bundle was opened"):
        opening.open_sessions(
            bundle, open_engine("onnxruntime"), "fp32", pixels="rgb", threads=1, cache_dir=tmp_path / "cache"
        )


def test_a_missing_weights_file_is_an_engine_error(external: Path, tmp_path: Path) -> None:
    bundle = open_bundle(external)
    graph = bundle.manifest.step
    program = with_weights(Program(bundle.step.SerializeToString(), graph.inputs, graph.outputs), bundle, graph)
    lost = Program(program.graph, program.inputs, program.outputs, weights=tmp_path / "step.weights")
    for name, precision in PAIRS:
        with pytest.raises(EngineError, match=r"cannot be mapped|refused the graph|No such file"):
            open_engine(name).open(lost, precision, 1, None)


def test_old_versions_of_onnx_runtime_are_refused(external: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.__version__", "1.20.1")
    with pytest.raises(EngineError, match=r"onnxruntime 1\.20\.1 does not find weights .*: install 1\.21 or newer"):
        Generator.open(external, engine="onnxruntime", precision="fp32")


# ---- FP16


def test_convolutions_of_a_graph_with_a_weights_file_compute_in_fp16(inline: Path, external: Path) -> None:
    half = to_half(open_bundle(external).step, external / "step.weights")
    expected = to_half(open_bundle(inline).step)
    assert share_of(half) == share_of(expected)
    assert (share_of(half).half, share_of(half).full) == (2, 0)
    assert len(external_tensors(half)) == 3, "the file is not written again"
    casts = [node.input[0] for node in half.graph.node if node.op_type == "Cast" and node.input[0].startswith("const")]
    assert len(casts) == 2, "one for each convolution"


def test_weights_beyond_fp16_stay_in_fp32(inline: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    changed.mkdir()
    model = onnx.load(inline / "step.onnx")
    kernel = next(tensor for tensor in model.graph.initializer if list(tensor.dims) == [heavy.FEATURES, 3, 3, 3])
    values = onnx.numpy_helper.to_array(kernel).copy()
    values[3, 1, 1, 1] = -70000
    kernel.CopyFrom(onnx.numpy_helper.from_array(values, kernel.name))
    for name in ("condition.onnx", "bundle.json"):
        (changed / name).write_bytes((inline / name).read_bytes())
    onnx.save(model, changed / "step.onnx")
    write_manifest(changed, json.loads((inline / "bundle.json").read_text()))
    bundle = heavy.move_weights_out(changed, tmp_path / "external")
    share = share_of(to_half(open_bundle(bundle).step, bundle / "step.weights"))
    assert (share.half, share.full) == (1, 1)


# ---- TensorRT-RTX, whose builder needs no GPU


@pytest.mark.skipif(
    tensorrt_builder.why_not_installed("tensorrt-rtx") is not None, reason="TensorRT-RTX is not installed"
)
def test_tensorrt_rtx_builds_engines_from_weights_files(inline: Path, external: Path, tmp_path: Path) -> None:
    shares = {}
    for bundle in (inline, external):
        for name, precision, program in _programs(bundle, ["fp16"]):
            built = tensorrt_builder.build(
                program.graph,
                "tensorrt-rtx",
                tensorrt_builder.PORTABLE,
                name=name,
                cache_dir=tmp_path,
                weights=program.weights,
                cache_parts=program.cache_parts,
            )
            assert len(built.plan) > 10_000
            assert not built.is_cached
            shares[bundle.name, name, precision] = built.share
    assert shares["external", "step, rgb", "fp16"] == shares["inline", "step, rgb", "fp16"]
    assert shares["external", "step, rgb", "fp16"].value == 1


@pytest.mark.skipif(
    tensorrt_builder.why_not_installed("tensorrt-rtx") is not None, reason="TensorRT-RTX is not installed"
)
def test_tensorrt_rtx_keys_its_engines_by_the_weights(external: Path, tmp_path: Path) -> None:
    program = next(program for name, _, program in _programs(external, ["fp32"]) if name.startswith("step"))
    options: dict[str, Any] = {"name": "step", "cache_dir": tmp_path, "weights": program.weights}

    def build(parts: list[str]) -> bool:
        return tensorrt_builder.build(
            program.graph, "tensorrt-rtx", tensorrt_builder.PORTABLE, cache_parts=parts, **options
        ).is_cached

    assert [build(program.cache_parts), build(program.cache_parts), build(["weights 0"])] == [False, True, False]
    with pytest.raises(EngineError, match="tensorrt-rtx cannot read step"):
        tensorrt_builder.build(
            program.graph, "tensorrt-rtx", tensorrt_builder.PORTABLE, name="step", weights=tmp_path / "no" / "weights"
        )
