"""The shipped bundles on every engine that is here: the real ONNX Runtime, OpenVINO and TensorRT-RTX builder."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest

from runtime import Generator
from runtime.bundle import open_bundle
from runtime.engine import open_engine
from runtime.golden import check_golden
from runtime.graphs import prune

BUNDLES = sorted((Path(__file__).parent.parent / "bundles").iterdir())
every_bundle = pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)


def test_bundles_ship() -> None:
    assert {path.name for path in BUNDLES} >= {"satellite-128", "landscape-128"}
    for path in BUNDLES:
        files = [file for file in path.rglob("*") if file.is_file() and "engines" not in file.parts]
        assert sum(file.stat().st_size for file in files) < 10e6, f"{path.name} is over 10 MB"


@every_bundle
@pytest.mark.parametrize(
    ("engine", "precision", "gate_db"),
    [("onnxruntime", "fp32", 60), ("openvino", "fp32", 60), ("openvino", "bf16", 40)],
)
def test_golden_frames_are_reproduced(bundle: Path, engine: str, precision: str, gate_db: int, tmp_path: Path) -> None:
    if precision not in open_engine(engine).precisions():
        pytest.skip(f"this CPU has no {precision}")
    results = check_golden(bundle, engine, precision, cache_dir=tmp_path)
    assert [result.frame for result in results] == [1, 10, 100, 300] * 2
    worst = min(results, key=lambda result: result.psnr_db)
    assert worst.psnr_db >= gate_db, worst


@every_bundle
def test_tensorrt_rtx_builds_both_graphs(bundle: Path) -> None:
    tensorrt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed", exc_type=ImportError)
    opened = open_bundle(bundle)
    assert opened.condition is not None
    graphs = {"condition": opened.condition.SerializeToString()}
    for pixels in ("rgb", "i420"):
        frame = next(t.name for t in opened.manifest.step.outputs_of("frame") if t.pixels == pixels)
        states = [t.name for t in opened.manifest.step.outputs_of("state")]
        graphs[pixels] = prune(opened.step, [frame, *states])
    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    for name, graph in graphs.items():
        builder = tensorrt.Builder(logger)
        network = builder.create_network(0)
        parser = tensorrt.OnnxParser(network, logger)
        assert parser.parse(graph), [parser.get_error(index).desc() for index in range(parser.num_errors)]
        engine = builder.build_serialized_network(network, builder.create_builder_config())
        assert engine is not None, f"{bundle.name}: TensorRT-RTX did not build {name}"
        assert engine.nbytes > 100_000


@every_bundle
def test_it_moves_stays_in_range_and_renews_itself(bundle: Path, tmp_path: Path) -> None:
    with Generator.open(bundle, seed=3, cache_dir=tmp_path) as generator:
        renewal = generator.manifest.renewal
        assert renewal is not None
        frames = [next(generator).astype(np.float32) for _ in range(renewal.every_frames + renewal.dissolve_frames + 2)]
    motion = np.array([np.abs(b - a).mean() for a, b in pairwise(frames)])
    assert np.median(motion) > 0.2, "the picture stands still"
    assert motion.max() < 40, "the picture jumps"
    assert all(frame.std() > 5 for frame in frames[::30]), "the picture has gone flat"
    first_scene, second_scene = frames[1], frames[-1]
    assert np.abs(second_scene - first_scene).mean() > 2, "the scene has not renewed itself"


@every_bundle
def test_seeds_give_different_pictures_and_the_same_seed_the_same(bundle: Path, tmp_path: Path) -> None:
    def tenth(seed: int) -> np.ndarray:
        with Generator.open(bundle, engine="onnxruntime", seed=seed, cache_dir=tmp_path) as generator:
            return [next(generator).copy() for _ in range(10)][-1]

    assert np.array_equal(tenth(5), tenth(5))
    assert np.abs(tenth(5).astype(int) - tenth(6).astype(int)).mean() > 3


@every_bundle
def test_a_picture_is_animated(bundle: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (8, 8, 3)).astype(np.uint8)
    with Generator.open(bundle, engine="onnxruntime", cache_dir=tmp_path) as generator:
        picture = np.kron(coarse, np.ones((generator.height // 8, generator.width // 8, 1))).astype(np.uint8)
        generator.condition(image=picture, seed=1)
        frames = [next(generator).astype(np.float32) for _ in range(20)]
    assert np.corrcoef(frames[0].ravel(), picture.ravel())[0, 1] > 0.9
    assert np.abs(frames[-1] - frames[0]).mean() > 0.2


@every_bundle
def test_a_watermark_has_its_place(bundle: Path) -> None:
    opened = open_bundle(bundle)
    picture = opened.manifest.step.picture
    value = next(value for value in opened.step.graph.output if value.name == picture)
    assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
