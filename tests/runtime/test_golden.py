"""Golden frames: replayed on every engine, and refused if they differ from the manifest."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from runtime import BundleError
from runtime.bundle.reader import write_manifest
from runtime.golden import check_golden, psnr_db
from runtime.noise import CODES, FRAMES, normals
from tests import tiny
from tests.runtime import prompted

SHAPE = (16, 24, 3)
SLOTS = ("picture_slot", "style_slot")
RENEWAL = {"every_frames": 2, "dissolve_frames": 1, "correlation": 0.5}


def reference_frames(folder: Path, seed: int, image: np.ndarray | None) -> Iterator[np.ndarray]:
    """Play a tiny bundle on ONNX's own evaluator, written without anything of the runtime but its noise."""
    given = image is not None
    memory = ReferenceEvaluator(onnx.load(folder / "condition.onnx")).run(
        list(SLOTS),
        {
            "image": image[np.newaxis] if image is not None else np.zeros((1, *SHAPE), np.uint8),
            "image_mask": np.full((1, *SHAPE[:2], 1), 255 * given, np.uint8),
            "flags": np.array([[given]], np.float32),
            "code": normals(seed, CODES, 0, tiny.CODE)[np.newaxis],
        },
    )
    step = ReferenceEvaluator(onnx.load(folder / "step.onnx"))
    sides = {f"{side}_{name}": value for side in "ab" for name, value in zip(SLOTS, memory, strict=True)}
    wave, clock = np.zeros((1, 2, tiny.MODES), np.float32), np.zeros((1, 1), np.float32)
    control, frame = np.array([[1.5, 0]], np.float32), 0
    while True:
        noise = normals(seed, FRAMES, frame, tiny.NOISE)[np.newaxis]
        inputs = {"mix": np.zeros(1, np.float32), "wave": wave, "clock": clock, "noise": noise, "control": control}
        rgb, wave, clock = step.run(["rgb", "wave_next", "clock_next"], {**sides, **inputs})
        yield rgb[0]
        frame += 1


@pytest.fixture(scope="module")
def golden_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle with two golden files, one of them of a picture; it renews itself by default."""
    folder = tiny.build(tmp_path_factory.mktemp("golden") / "tiny", width=24, height=16, renewal=RENEWAL)
    (folder / "golden").mkdir()
    entries: list[dict[str, Any]] = []
    picture = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    for seed, image in ((5, None), (6, picture)):
        frames = reference_frames(folder, seed, image)
        shown = [next(frames) for _ in range(4)]
        arrays: dict[str, Any] = {"frames": np.stack([shown[0], shown[3]]), "indices": np.array([1, 4], np.int32)}
        if image is not None:
            arrays["image"] = image
        np.savez(folder / "golden" / f"{seed}.npz", **arrays)
        entries.append({"file": f"golden/{seed}.npz", "seed": seed, "image": image is not None, "frames": [1, 4]})
    write_manifest(folder, json.loads((folder / "bundle.json").read_text()) | {"golden": entries})
    return folder


@pytest.fixture(scope="module")
def prompted_golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle that takes every prompt, with golden files of a text, a clip, and both with a picture."""
    folder = prompted.build(tmp_path_factory.mktemp("golden") / "prompted", renewal=RENEWAL)
    (folder / "golden").mkdir()
    shape = (prompted.HEIGHT, prompted.WIDTH, 3)
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, shape, np.uint8)
    clip = rng.integers(0, 256, (prompted.FRAMES, *shape), np.uint8)
    entries: list[dict[str, Any]] = []
    for name, given in {
        "text": {"text": "storm"},
        "clip": {"clip": clip},
        "all": {"text": "storm", "clip": clip, "image": image},
    }.items():
        frames = list(itertools.islice(prompted_frames(folder, 5, **given), 4))
        arrays = {key: value for key, value in given.items() if key != "text"}
        indices = np.array([1, 4], np.int32)
        np.savez(folder / "golden" / f"{name}.npz", frames=np.stack([frames[0], frames[3]]), indices=indices, **arrays)
        entry = {"file": f"golden/{name}.npz", "seed": 5, "image": "image" in given, "frames": [1, 4]}
        entry |= {"text": given["text"]} if "text" in given else {}
        entries.append(entry | ({"clip": True} if "clip" in given else {}))
    prompted.change(folder, golden=entries)
    return folder


def prompted_frames(folder: Path, seed: int, **given: Any) -> Iterator[np.ndarray]:
    """Play the bundle that takes every prompt on ONNX's own evaluator, its only text being "storm"."""
    shape = (prompted.HEIGHT, prompted.WIDTH, 3)
    row = np.load(folder / "text" / "vectors.npy")[prompted.WORDS.index("storm")].astype(np.float64)
    words = row / np.linalg.norm(row) if "text" in given else row * 0
    (memory,) = ReferenceEvaluator(onnx.load(folder / "condition.onnx")).run(
        ["scene"],
        {
            "image": given.get("image", np.zeros(shape, np.uint8))[np.newaxis],
            "past": given.get("clip", np.zeros((prompted.FRAMES, *shape), np.uint8))[np.newaxis],
            "words": words[np.newaxis].astype(np.float32),
            "mask": np.full((1, *shape[:2], 1), 255 * ("image" in given), np.uint8),
            "flags": np.array([[part in given for part in ("image", "clip", "text")]], np.float32),
            "code": normals(seed, CODES, 0, prompted.CODE)[np.newaxis],
        },
    )
    step = ReferenceEvaluator(onnx.load(folder / "step.onnx"))
    level = np.zeros((1, 1), np.float32)
    for frame in itertools.count():
        noise = normals(seed, FRAMES, frame, prompted.NOISE)[np.newaxis]
        inputs = {"mix": np.zeros(1, np.float32), "level": level, "noise": noise, "gain": np.ones((1, 1), np.float32)}
        rgb, level = step.run(["rgb", "level_next"], {"a_scene": memory, "b_scene": memory} | inputs)
        yield rgb[0]


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_every_kind_of_prompt_is_replayed(prompted_golden: Path, engine: str, tmp_path: Path) -> None:
    results = check_golden(prompted_golden, engine, "fp32", cache_dir=tmp_path)
    assert [result.file for result in results] == [
        f"golden/{name}.npz" for name in ("text", "clip", "all") for _ in "ab"
    ]
    assert min(result.psnr_db for result in results) >= 60


@pytest.mark.parametrize("change", [{"text": "sea"}, {"seed": 6}])
def test_frames_of_another_prompt_are_noticed(prompted_golden: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    folder = shutil.copytree(prompted_golden, tmp_path / "copy")
    entries = json.loads((folder / "bundle.json").read_text())["golden"]
    entries[0] |= change
    prompted.change(folder, golden=entries)
    results = check_golden(folder, "onnxruntime", cache_dir=tmp_path)
    assert max(result.psnr_db for result in results[:2]) < 40
    assert min(result.psnr_db for result in results[2:]) >= 60


def test_an_unlisted_clip_is_refused(prompted_golden: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(prompted_golden, tmp_path / "copy")
    entries = json.loads((folder / "bundle.json").read_text())["golden"]
    del entries[1]["clip"]
    prompted.change(folder, golden=entries)
    with pytest.raises(BundleError, match=r'clip\.npz: "clip" is .*, expected None'):
        check_golden(folder, "onnxruntime", cache_dir=tmp_path)


def test_a_golden_clip_may_be_shorter_than_the_graphs_but_not_longer(prompted_golden: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(prompted_golden, tmp_path / "copy")
    content = dict(np.load(folder / "golden" / "clip.npz"))
    np.savez(folder / "golden" / "clip.npz", **content | {"clip": content["clip"][1:]})
    prompted.change(folder)
    assert check_golden(folder, "onnxruntime", cache_dir=tmp_path)
    longer = np.concatenate([content["clip"], content["clip"][:1]])
    np.savez(folder / "golden" / "clip.npz", **content | {"clip": longer})
    prompted.change(folder)
    with pytest.raises(BundleError, match=r'clip\.npz: "clip" is \(\(4, 16, 32, 3\), .uint8.\), expected \(\(3, 16'):
        check_golden(folder, "onnxruntime", cache_dir=tmp_path)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_every_engine_shows_the_golden_frames(golden_bundle: Path, engine: str, tmp_path: Path) -> None:
    results = check_golden(golden_bundle, engine, "fp32", cache_dir=tmp_path)
    assert [result[:2] for result in results] == [(f"golden/{seed}.npz", frame) for seed in (5, 6) for frame in (1, 4)]
    assert min(result.psnr_db for result in results) >= 60


def test_the_fastest_precision_comes_close(golden_bundle: Path, tmp_path: Path) -> None:
    assert min(result.psnr_db for result in check_golden(golden_bundle, cache_dir=tmp_path)) >= 40


def test_frames_of_another_seed_are_noticed(golden_bundle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(golden_bundle, tmp_path / "copy")
    value = json.loads((folder / "bundle.json").read_text())
    value["golden"][0]["seed"] = 55
    write_manifest(folder, value)
    results = check_golden(folder, "onnxruntime", cache_dir=tmp_path)
    assert max(result.psnr_db for result in results[:2]) < 30
    assert min(result.psnr_db for result in results[2:]) >= 60


def test_psnr_is_that_of_the_definition() -> None:
    black = np.zeros((2, 2, 3), np.uint8)
    assert psnr_db(black, black) == math.inf
    assert psnr_db(black + 255, black) == 0
    assert psnr_db(black, black + 1) == pytest.approx(48.1308, abs=1e-4)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"indices": np.array([1, 4], np.int32)}, '"frames" is None'),
        ({"frames": np.zeros((2, 16, 24, 3))}, '"frames" is .*float64'),
        ({"frames": np.zeros((3, 16, 24, 3), np.uint8)}, '"frames" is'),
        ({"indices": np.array([1, 5], np.int32)}, r"holds the frames \[1, 5\], the manifest says \(1, 4\)"),
        ({"extra": np.zeros(1)}, '"extra" is'),
        ({"image": np.zeros((16, 24, 3), np.uint8)}, '"image" is'),
    ],
)
def test_a_golden_file_that_is_not_as_said_is_refused(
    golden_bundle: Path, tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    folder = shutil.copytree(golden_bundle, tmp_path / "copy")
    whole = {"frames": np.zeros((2, 16, 24, 3), np.uint8), "indices": np.array([1, 4], np.int32)} | arrays
    if message.startswith('"frames" is None'):
        del whole["frames"]
    np.savez(folder / "golden" / "5.npz", **whole)
    write_manifest(folder, json.loads((folder / "bundle.json").read_text()))
    with pytest.raises(BundleError, match=message):
        check_golden(folder, "onnxruntime", cache_dir=tmp_path)


LONE_ARRAY = (
    b"\x93NUMPY\x01\x00\x46\x00" + b"{'descr': '|u1', 'fortran_order': False, 'shape': (1,), }".ljust(69) + b"\n\x07"
)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04broken", b"\x93NUMPY\x01\x00", LONE_ARRAY])
def test_a_golden_file_that_is_no_archive_is_refused(golden_bundle: Path, tmp_path: Path, content: bytes) -> None:
    folder = shutil.copytree(golden_bundle, tmp_path / "copy")
    (folder / "golden" / "5.npz").write_bytes(content)
    write_manifest(folder, json.loads((folder / "bundle.json").read_text()))
    with pytest.raises(BundleError, match=r"golden/5\.npz is not a golden file"):
        check_golden(folder, "onnxruntime", cache_dir=tmp_path)
