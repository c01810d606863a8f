"""The manifest: parsing, and a BundleError for every broken rule of docs/bundle.md."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime import BundleError, Manifest
from runtime.bundle.manifest import manifest_sha256
from tests.runtime.prompted import TEXT

Json = dict[str, Any]


@pytest.fixture(scope="module")
def value(renewing_bundle: Path) -> Json:
    """A valid manifest as JSON; tests change copies of it."""
    return json.loads((renewing_bundle / "bundle.json").read_text())


@pytest.fixture(scope="module")
def prompted_value(prompted_bundle: Path) -> Json:
    """A valid manifest of a bundle that takes every kind of prompt."""
    return json.loads((prompted_bundle / "bundle.json").read_text())


def test_a_written_manifest_can_be_read(value: Json) -> None:
    manifest = Manifest.parse(value)
    assert (manifest.frame.width, manifest.frame.height, manifest.frame.fps) == (64, 48, Fraction(30))
    assert manifest.condition is not None
    assert [tensor.role for tensor in manifest.condition.inputs] == ["image", "mask", "given", "noise"]
    assert manifest.condition.inputs[1].of == ("image",)
    assert [tensor.slot for tensor in manifest.step.inputs_of("memory_b")] == ["picture_slot", "style_slot"]
    assert manifest.step.picture == "picture"
    assert manifest.controls["drift"].minimum == -8
    assert manifest.renewal is not None
    assert manifest.renewal.correlation == 0.6
    assert set(manifest.files) == {"step.onnx", "condition.onnx"}
    assert manifest.default_seed == 0


def test_a_manifest_survives_a_round_trip(value: Json) -> None:
    written = Manifest.parse(value).to_json()
    assert written == value
    assert manifest_sha256(written) == value["sha256"]
    written["name"] = "changed"
    assert Manifest.parse(value).to_json() == value


def test_tensors_survive_a_round_trip(value: Json) -> None:
    manifest = Manifest.parse(value)
    for name, graph in (("step", manifest.step), ("condition", manifest.condition)):
        assert graph is not None
        for side in ("inputs", "outputs"):
            assert [tensor.to_json() for tensor in getattr(graph, side)] == value["graphs"][name][side]


def test_the_hash_is_the_one_of_the_contract() -> None:
    value = {"name": "caf\u00e9", "sha256": "ignored", "b": [1, 2.5, None, True], "a": {}}
    text = '{"a":{},"b":[1,2.5,null,true],"name":"caf\\u00e9"}'
    assert manifest_sha256(value) == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("text", "fps"), [("30", Fraction(30)), ("30000/1001", Fraction(30000, 1001)), ("25/1", Fraction(25))]
)
def test_fps_is_a_fraction(value: Json, text: str, fps: Fraction) -> None:
    changed = copy.deepcopy(value)
    changed["frame"]["fps"] = text
    assert Manifest.parse(changed).frame.fps == fps


def set_value(path: str, new: Any) -> Callable[[Json], None]:
    def change(value: Any) -> None:
        *parents, last = (int(key) if key.isdigit() else key for key in path.split("/"))
        for key in parents:
            value = value[key]
        value[last] = new

    return change


def delete_value(path: str) -> Callable[[Json], None]:
    def change(value: Any) -> None:
        *parents, last = (int(key) if key.isdigit() else key for key in path.split("/"))
        for key in parents:
            value = value[key]
        del value[last]

    return change


STEP, CONDITION = "graphs/step", "graphs/condition"
MIX = f"{STEP}/inputs/4"  # a_picture, a_style, b_picture, b_style, mix, wave, clock, noise, control
WAVE, CLOCK = f"{STEP}/inputs/5", f"{STEP}/inputs/6"
BROKEN: list[tuple[Callable[[Json], None], str]] = [
    (set_value("schema", 3), "reads the schemas 1 and 2, got 3; install a newer everframe"),
    (set_value("schema", True), '"schema" must be a whole number'),
    (set_value("nmae", "x"), 'unknown key "nmae" .did you mean "name"'),
    (delete_value("provenance"), 'lacks the key "provenance"'),
    (set_value("name", "Tiny"), '"name" must be a string like'),
    (set_value("name", "a" * 65), '"name" must be'),
    (set_value("name", "../up"), '"name" must be'),
    (set_value("description", 3), '"description" must be a string, got 3'),
    (set_value("frame/width", 63), "must be even"),
    (set_value("frame/width", 14), "whole number from 16 to 4096, got 14"),
    (set_value("frame/height", 4098), "whole number from 16 to 4096"),
    (set_value("frame/height", 48.0), "whole number from 16 to 4096"),
    (set_value("frame/fps", "0"), '"fps" must be'),
    (set_value("frame/fps", "30/0"), '"fps" must be'),
    (set_value("frame/fps", 30), '"fps" must be a string'),
    (set_value("frame/fps", "29.97"), '"fps" must be'),
    (set_value("frame/colour", "bt601"), '"colour" is the unknown "bt601"'),
    (set_value("frame/depth", 8), 'frame has the unknown key "depth"'),
    (set_value("graphs/stepp", {}), 'unknown key "stepp" .did you mean "step"'),
    (delete_value("graphs/step"), 'lacks the key "step"'),
    (set_value(f"{STEP}/file", "../step.onnx"), "is not allowed"),
    (set_value(f"{STEP}/file", "other.onnx"), 'the file "other.onnx" is used but not listed'),
    (delete_value(f"{STEP}/picture"), 'lacks the key "picture"'),
    (set_value(f"{CONDITION}/picture", "x"), 'condition has the unknown key "picture"'),
    (set_value(f"{MIX}/role", "mixx"), '"role" is the unknown "mixx" .did you mean "mix"'),
    (set_value(f"{MIX}/shape", [2]), r"with the role mix must have the shape \(1\), got \(2,\)"),
    (set_value(f"{MIX}/shape", [0]), "whole numbers of at least 1"),
    (set_value(f"{MIX}/shape", ["n"]), "whole numbers of at least 1"),
    (set_value(f"{MIX}/shape", [2**40]), "whole numbers of at least 1"),
    (set_value(f"{WAVE}/shape", [2**20, 2**20]), "too large"),
    (set_value(f"{MIX}/dtype", "float16"), "with the role mix must be float32, got float16"),
    (set_value(f"{WAVE}/dtype", "bfloat16"), '"dtype" is the unknown "bfloat16"'),
    (set_value(f"{MIX}/slot", "x"), 'with the role mix must not have the key "slot"'),
    (set_value(f"{MIX}/name", "wave"), 'names the tensor "wave" 2 times'),
    (set_value(f"{MIX}/role", "noise"), "role noise must have the shape"),
    (delete_value(MIX), "no input with the role mix"),
    (delete_value(f"{WAVE}/next"), 'lacks the key "next"'),
    (set_value(f"{WAVE}/next", "clock_next"), "expected each of its state outputs once"),
    (set_value(f"{WAVE}/shape", [1, 2, 3]), 'its next "wave_next" is float32 .1, 2, 2'),
    (delete_value(CLOCK), "expected each of its state outputs once"),
    (set_value(f"{STEP}/inputs/0/slot", "style_slot"), "expected each output of condition once"),
    (set_value(f"{STEP}/inputs/0/shape", [1, 3, 48, 32]), 'its slot "picture_slot" is float32'),
    (set_value(f"{STEP}/outputs/0/pixels", "i420"), "must have the shape"),
    (set_value(f"{STEP}/outputs/0/shape", [1, 48, 32, 3]), r"must have the shape \(1, 48, 64, 3\)"),
    (set_value(f"{STEP}/outputs/0/pixels", "bgr"), '"pixels" is the unknown "bgr"'),
    (set_value(f"{STEP}/outputs", []), "one frame per kind of pixels"),
    (delete_value(CONDITION), "expected each output of condition once"),
    (set_value(f"{CONDITION}/outputs", []), "condition has no outputs"),
    (set_value(f"{CONDITION}/inputs/1/of", "imgae"), "condition input .* is of the unknown input"),
    (set_value(f"{CONDITION}/inputs/2/of", ["image", "code"]), r"must have the shape \(1, 2\)"),
    (set_value(f"{CONDITION}/inputs/2/of", []), "must be a list of input names"),
    (set_value(f"{CONDITION}/inputs/0/shape", [1, 24, 32, 3]), "role image must have the shape"),
    (set_value("controls/0/unti", "x"), 'unknown key "unti" .did you mean "unit"'),
    (set_value("controls/0/minimum", 4), '"minimum" must be below "maximum"'),
    (set_value("controls/0/default", 5), '"default" must be a finite number from 0 to 4'),
    (set_value("controls/0/default", float("nan")), '"default" must be a finite number'),
    (set_value("controls/0/maximum", 10**400), '"maximum" must be a number of at most'),
    (set_value("controls/0/index", 2), "whole number from 0 to 1, got 2"),
    (set_value("controls/1/index", 0), "is taken by another control"),
    (set_value("controls/1/name", "sway"), "is taken by another control"),
    (delete_value(f"{STEP}/inputs/8"), "no input with the role control"),
    (set_value("renewal/every_frames", 0), '"every_frames" must be'),
    (set_value("renewal/dissolve_frames", 13), '"dissolve_frames" must be a whole number from 0 to 12'),
    (set_value("renewal/correlation", 1.5), '"correlation" must be'),
    (delete_value(f"{CONDITION}/inputs/3"), "renewal needs a condition graph with an input of the role noise"),
    (set_value("text", {}), 'text lacks the key "tokenizer"'),
    (set_value("text", TEXT), "text needs a condition graph with an input of the role text"),
    (set_value("controls/0/target", "steps"), '"target" is the unknown "steps" .did you mean "step"'),
    (set_value("controls/0/target", "renewal"), 'with the target renewal must not have the key "index"'),
    (delete_value("controls/0/index"), 'lacks the key "index"'),
    (
        set_value("golden", [{"file": "g.npz", "seed": 0, "image": False, "frames": [1]}]),
        '"g.npz" is used but not listed',
    ),
    (set_value("golden", [{"file": "g.npz", "seed": -1, "image": False, "frames": [1]}]), '"seed" must be'),
    (set_value("golden", [{"file": "g.npz", "seed": 0, "image": False, "frames": [0]}]), "frame numbers from 1"),
    (set_value("golden", [{"file": "g.npz", "seed": 0, "image": False, "frames": [2, 1]}]), "must increase"),
    (set_value("golden", {}), '"golden" must be a list'),
    (set_value("files/..", {"sha256": "0" * 64, "size_bytes": 1}), 'the path ".." is not allowed'),
    (set_value("files/step.onnx/sha256", "0" * 63), '"sha256" must be a string like'),
    (set_value("files/step.onnx/size_bytes", -1), '"size_bytes" must be'),
    (set_value("sha256", ""), '"sha256" must be a string like'),
]


GOLDEN: Json = {"file": "step.onnx", "seed": 0, "image": False, "frames": [1]}
BROKEN_PROMPTED: list[tuple[Callable[[Json], None], str]] = [
    (set_value("text", None), 'condition has a text input, so "text" must name the files for it, got null'),
    (set_value("text/tokenizer", "text/tokeniser.json"), 'the file "text/tokeniser.json" is used but not listed'),
    (set_value("text/vectors", "../vectors.npy"), "is not allowed"),
    (set_value("text/scales", 3), '"scales" must be a string, got 3'),
    (delete_value("text/licence"), 'lacks the key "licence"'),
    (set_value("text/model", "x"), 'text has the unknown key "model"'),
    (delete_value("graphs/condition/inputs/2"), 'of the unknown input "words"'),
    (set_value("graphs/condition/inputs/1/shape", [1, 3, 16, 30, 3]), "role clip must have the shape"),
    (set_value("controls/1/minimum", -0.5), 'target renewal must have a "minimum" of at least 0, got -0.5'),
    (set_value("controls/1/index", 0), 'target renewal must not have the key "index"'),
    (set_value("renewal", None), 'the control "drift" is for the renewal, but "renewal" is null'),
    (set_value("controls/2/index", 0), 'target seed must not have the key "index"'),
    (set_value("controls/2/maximum", 99.5), "target seed must have whole numbers from 0"),
    (set_value("controls/2/minimum", -1), "target seed must have whole numbers from 0"),
    (set_value("controls/2/maximum", 1e300), "target seed must have whole numbers from 0"),
    (set_value("controls/2/target", "renewal"), 'the target renewal is taken by the control "drift"'),
    (set_value("controls/2/name", "gain"), "is taken by another control"),
    (set_value("golden", [GOLDEN | {"clip": 1}]), '"clip" must be true or false, got 1'),
    (set_value("golden", [GOLDEN | {"live": 1}]), '"live" must be true or false, got 1'),
    (set_value("golden", [GOLDEN | {"live": True}]), r"golden\[0\] needs a step graph with an input of the role live"),
    (set_value("golden", [GOLDEN | {"text": None}]), '"text" must be a string, got None'),
    (set_value("golden", [GOLDEN | {"text": ""}]), '"text" must be a string like'),
    (set_value("golden", [GOLDEN | {"words": "x"}]), 'golden.0. has the unknown key "words"'),
]


@pytest.mark.parametrize(("change", "message"), BROKEN_PROMPTED, ids=[message[:40] for _, message in BROKEN_PROMPTED])
def test_every_broken_rule_of_prompts_is_named(
    prompted_value: Json, change: Callable[[Json], None], message: str
) -> None:
    changed = copy.deepcopy(prompted_value)
    change(changed)
    with pytest.raises(BundleError, match=message):
        Manifest.parse(changed)


@pytest.mark.parametrize(("key", "content"), [("clip", True), ("text", "a storm")])
def test_a_golden_file_must_fit_the_graph(value: Json, key: str, content: object) -> None:
    golden = {"file": "step.onnx", "seed": 0, "image": False, "frames": [1], key: content}
    with pytest.raises(BundleError, match=rf"golden\[0\] needs a condition graph with an input of the role {key}"):
        Manifest.parse(value | {"golden": [golden]})


def test_a_control_for_the_seed_needs_noise(prompted_value: Json) -> None:
    changed = copy.deepcopy(prompted_value) | {"renewal": None}
    del changed["controls"][1]
    del changed["graphs"]["condition"]["inputs"][5]
    with pytest.raises(BundleError, match='the control "seed" needs a condition graph with an input of the role noise'):
        Manifest.parse(changed)


def test_prompts_are_read_as_they_were_written(prompted_value: Json) -> None:
    golden = [GOLDEN, GOLDEN | {"text": "a storm", "clip": True}]
    manifest = Manifest.parse(prompted_value | {"golden": golden})
    assert manifest.text is not None
    assert (manifest.text.vectors, manifest.text.licence) == ("text/vectors.npy", "CC0-1.0")
    assert [(item.text, item.clip) for item in manifest.golden] == [(None, False), ("a storm", True)]
    controls = [(control.target, control.index) for control in manifest.controls.values()]
    assert controls == [("step", 0), ("renewal", None), ("seed", None)]
    assert manifest.to_json() == prompted_value | {"golden": golden}


@pytest.mark.parametrize(("change", "message"), BROKEN, ids=[message[:40] for _, message in BROKEN])
def test_every_broken_rule_is_named(value: Json, change: Callable[[Json], None], message: str) -> None:
    changed = copy.deepcopy(value)
    change(changed)
    with pytest.raises(BundleError, match=message):
        Manifest.parse(changed)


BAD_PATHS = [
    "/etc/passwd",
    "a/../b",
    "./a",
    "a//b",
    "a/",
    "C:/a",
    "a\\b",
    "bundle.json",
    "engines/a",
    "",
    "a\nb",
    "a*b",
]


@pytest.mark.parametrize("path", [*BAD_PATHS, "a" * 256])
def test_paths_that_lead_elsewhere_are_refused(value: Json, path: str) -> None:
    with pytest.raises(BundleError, match="is not allowed"):
        Manifest.parse(value | {"files": {path: {"sha256": "0" * 64, "size_bytes": 1}}})


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in children for place in _places(item, (*path, key)))]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_value_anywhere_is_read_or_refused(value: Json, prompted_value: Json, data: st.DataObject) -> None:
    value = data.draw(st.sampled_from([value, prompted_value]))
    place = data.draw(st.sampled_from(_places(value)))
    new = data.draw(_JSON)
    changed: Any = {"": copy.deepcopy(value)}
    target = changed
    for key in ("", *place)[:-1]:
        target = target[key]
    target[("", *place)[-1]] = new
    try:
        manifest = Manifest.parse(changed[""])
    except BundleError:
        return
    assert manifest.to_json() == changed[""]


def test_more_controls_than_anybody_can_steer_are_refused(value: Json) -> None:
    value = value | {"controls": value["controls"] * 200}
    with pytest.raises(BundleError, match="there are 400 controls, at most 256 are read"):
        Manifest.parse(value)
