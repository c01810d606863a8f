"""The manifest of schema 2: parsing, and a BundleError for every broken rule."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime import BundleError, Manifest
from tests import moving
from tests.runtime.bundle.test_manifest import Json, delete_value, set_value


def scene_entry(name: str) -> dict[str, str]:
    return {"name": name, "title": "a", "picture": "a.jpg", "credit": "b", "licence": "c"}


@pytest.fixture(scope="module")
def value(tmp_path_factory: pytest.TempPathFactory) -> Json:
    renewal = {"every_frames": 10, "dissolve_frames": 5, "correlation": 0.5}
    bundle = moving.build(tmp_path_factory.mktemp("moving") / "moving", renewal=renewal)
    return json.loads((bundle / "bundle.json").read_text())


def test_a_written_manifest_can_be_read(value: Json) -> None:
    manifest = Manifest.parse(value)
    assert [(shape.width, shape.height) for shape in manifest.shapes] == list(moving.SHAPES)
    assert manifest.step is manifest.shapes[0].step
    assert manifest.condition is manifest.shapes[0].condition
    assert manifest.paint is not None
    assert [graph.file for graph in manifest.graphs] == [
        "step-64x32.onnx", "condition-64x32.onnx", "step-32x64.onnx", "condition-32x64.onnx", "paint.onnx",
    ]  # fmt: skip
    assert manifest.frame.sharpness == 1
    assert manifest.scenes == ()
    noise = manifest.prompt_input("noise")
    assert noise is not None
    assert noise.shape == (1, moving.CODE)
    assert manifest.to_json() == value


BROKEN: list[tuple[Callable[[Json], None], str]] = [
    (set_value("graphs/shapes", []), '"shapes" must hold 1 to 8 entries, got 0'),
    (set_value("graphs/shapes/0/width", 8), "a whole number from 16 to 4096"),
    (set_value("graphs/shapes/0/step/outputs/0/role", "frame"), 'unknown "frame"'),
    (set_value("graphs/shapes/0/step/outputs/0/shape", [1, 4, 8, 16]), r"must have the shape \(1, 5, h, w\)"),
    (delete_value("graphs/shapes/0/step/outputs/0"), "needs an output of the role moves"),
    (set_value("graphs/shapes/0/condition/inputs/0/shape", [1, 32, 32, 3]), r"must have the shape \(1, 32, 64, 3\)"),
    (set_value("graphs/shapes/1/condition/inputs/1/name", "mask"), "the same tensors, but for their sizes"),
    (set_value("graphs/paint/outputs/0/dtype", "float32"), "must be uint8"),
    (delete_value("graphs/paint"), "renewal needs a condition graph with an input of the role noise"),
    (set_value("frame/sharpness", 9), '"sharpness" must be a finite number from 0.5 to 2'),
    (set_value("graphs/step", {}), 'unknown key "step"'),
    (set_value("scenes", [{"name": "a"}]), 'lacks the key "title"'),
    (set_value("scenes", [scene_entry("a"), scene_entry("a")]), 'the name "a" is taken'),
    (set_value("scenes", [scene_entry("a") | {"picture": "../x.jpg"}]), "is not allowed"),
    (set_value("scenes", [scene_entry("a")]), 'the file "a.jpg" is used but not listed'),
]


@pytest.mark.parametrize(("change", "message"), BROKEN)
def test_every_broken_rule_is_named(value: Json, change: Callable[[Json], None], message: str) -> None:
    changed = copy.deepcopy(value)
    change(changed)
    with pytest.raises(BundleError, match=message):
        Manifest.parse(changed)


def test_schema_1_has_no_scenes(value: Json) -> None:
    with pytest.raises(BundleError, match='unknown key "scenes"'):
        Manifest.parse({**value, "schema": 1, "scenes": []})


def test_a_damaged_graph_of_any_shape_is_refused(tmp_path: Path) -> None:
    from runtime.bundle.reader import open_bundle, write_manifest

    for file in ("step-32x64.onnx", "condition-32x64.onnx", "paint.onnx"):
        folder = moving.build(tmp_path / file)
        written = json.loads((folder / "bundle.json").read_text())
        (folder / file).write_bytes((folder / file).read_bytes()[:-9])
        write_manifest(folder, written)
        with pytest.raises(BundleError, match=file):
            open_bundle(folder)
