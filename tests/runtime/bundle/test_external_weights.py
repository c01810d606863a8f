"""Weights in a file of their own: every rule of the reader, and hundreds of damaged bundles that have them."""

from __future__ import annotations

import contextlib
import copy
import json
import os
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from runtime import BundleError, EngineError, Generator
from runtime.bundle import external_weights
from runtime.bundle.external_weights import MappedWeights, external_tensors, place_of, without_external
from runtime.bundle.manifest import graph_sha256, manifest_sha256
from runtime.bundle.reader import open_bundle
from tests.damaged_files import damaged_count, damaged_seed
from tests.runtime import heavy


class Patient:
    """A bundle with weights files, that is damaged in place and mended afterwards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = {path.name: path.read_bytes() for path in folder.iterdir()}
        self.manifest: dict[str, Any] = json.loads(self.files["bundle.json"])
        self.step = onnx.ModelProto.FromString(self.files["step.onnx"])

    @contextlib.contextmanager
    def damaged(self, changes: dict[str, bytes], manifest: dict[str, Any] | None = None) -> Iterator[Path]:
        """Write files, with a manifest whose hashes fit them."""
        value = copy.deepcopy(self.manifest if manifest is None else manifest)
        for name, data in changes.items():
            value["files"][name] = {"sha256": sha256(data).hexdigest(), "size_bytes": len(data)}
        value["sha256"] = manifest_sha256(value)
        try:
            for name, data in {**changes, "bundle.json": json.dumps(value).encode()}.items():
                (self.folder / name).write_bytes(data)
            yield self.folder
        finally:
            for name in [*changes, "bundle.json"]:
                (self.folder / name).unlink(missing_ok=True)
                if name in self.files:
                    (self.folder / name).write_bytes(self.files[name])

    def graph(self, change: Callable[[onnx.ModelProto], object]) -> dict[str, bytes]:
        """Return a changed step graph."""
        model = onnx.ModelProto()
        model.CopyFrom(self.step)
        change(model)
        return {"step.onnx": model.SerializeToString()}


@pytest.fixture(scope="module")
def inline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return heavy.build(tmp_path_factory.mktemp("heavy") / "inline")


@pytest.fixture(scope="module")
def patient(inline: Path) -> Patient:
    return Patient(heavy.move_weights_out(inline, inline.parent / "external"))


def set_entry(key: str, value: str) -> Callable[[onnx.ModelProto], None]:
    """Return a change of one entry of the first external tensor."""

    def change(model: onnx.ModelProto) -> None:
        entry = next(entry for entry in external_tensors(model)[0].external_data if entry.key == key)
        entry.value = value

    return change


def refused(patient: Patient, changes: dict[str, bytes], match: str, manifest: dict[str, Any] | None = None) -> None:
    with patient.damaged(changes, manifest) as folder, pytest.raises(BundleError, match=match) as caught:
        open_bundle(folder)
    assert "\n" not in str(caught.value)


def test_the_reader_keeps_the_graph_small_and_names_the_file(patient: Patient) -> None:
    bundle = open_bundle(patient.folder)
    assert bundle.manifest.step.weights == "step.weights"
    assert len(external_tensors(bundle.step)) == 3
    assert bundle.step.ByteSize() < 4000
    weights = bundle.weights["step.weights"]
    assert weights.path == (patient.folder / "step.weights").resolve()
    assert weights.sha256 == sha256(patient.files["step.weights"]).hexdigest()
    assert graph_sha256(bundle.manifest, bundle.manifest.step) != sha256(patient.files["step.onnx"]).hexdigest()


def test_mapped_weights_are_those_of_the_graph(inline: Path, patient: Patient) -> None:
    before = {item.name: onnx.numpy_helper.to_array(item) for item in onnx.load(inline / "step.onnx").graph.initializer}
    mapped = MappedWeights(patient.folder / "step.weights")
    for tensor in external_tensors(patient.step):
        assert np.array_equal(mapped.array(tensor), before[tensor.name])
        assert not mapped.array(tensor).flags.writeable


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("location", "../step.weights", r'must lie in "step\.weights", beside the graph'),
        ("location", "/etc/passwd", "must lie in"),
        ("location", "golden/step.weights", "must lie in"),
        ("location", "./step.weights", "must lie in"),
        ("location", "condition.weights", "must lie in"),
        ("location", "step.weights\0", "must lie in"),
        ("location", "*/_ORT_MEM_ADDR_/*", "must lie in"),  # ONNX Runtime would read its own memory
        ("location", "", "must lie in"),
        ("offset", "-64", "offset must be a whole number from 0"),
        ("offset", "0x40", "offset must be a whole number"),
        ("offset", "64.0", "offset must be a whole number"),
        ("offset", " 64", "offset must be a whole number"),
        ("offset", "\u0664", "offset must be a whole number"),
        ("offset", "9" * 400, "offset must be a whole number"),
        ("offset", "8", "multiple of 64, got 8"),
        ("offset", "999999936", "ends at byte .* of step.weights, which has"),
        ("length", "-1", "length must be a whole number"),
        ("length", "", "length must be a whole number"),
        ("length", "99999999999", "ends at byte"),
        ("length", "860", r"holds 860 bytes, its shape \(8, 3, 3, 3\) needs 864"),
        ("length", "0", "holds 0 bytes"),
    ],
)
def test_a_tensor_must_lie_inside_its_file(patient: Patient, key: str, value: str, match: str) -> None:
    refused(patient, patient.graph(set_entry(key, value)), match)


def first(model: onnx.ModelProto) -> TensorProto:
    return external_tensors(model)[0]


def add_key(model: onnx.ModelProto) -> None:
    first(model).external_data.add(key="checksum", value="0" * 40)


def repeat_key(model: onnx.ModelProto) -> None:
    first(model).external_data[2].key = "offset"


def many_keys(model: onnx.ModelProto) -> None:
    for _ in range(100_000):
        first(model).external_data.add(key="offset", value="0")


def no_keys(model: onnx.ModelProto) -> None:
    del first(model).external_data[:]


def not_marked(model: onnx.ModelProto) -> None:
    first(model).data_location = TensorProto.DEFAULT


def both(model: onnx.ModelProto) -> None:
    first(model).raw_data = bytes(864)


def typed_too(model: onnx.ModelProto) -> None:
    first(model).float_data.extend([0.0] * 216)


def other_type(model: onnx.ModelProto) -> None:
    first(model).data_type = TensorProto.DOUBLE


def text(model: onnx.ModelProto) -> None:
    first(model).data_type = TensorProto.STRING


def other_shape(model: onnx.ModelProto) -> None:
    first(model).dims[0] = 9


def negative(model: onnx.ModelProto) -> None:
    first(model).dims[0] = -8


def enormous(model: onnx.ModelProto) -> None:
    first(model).dims[:] = [2**31, 2**31]


def in_a_node(model: onnx.ModelProto) -> None:
    tensor = TensorProto()
    tensor.CopyFrom(first(model))
    model.graph.node.insert(0, helper.make_node("Constant", [], ["aside"], name="aside", value=tensor))


def in_a_list(model: onnx.ModelProto) -> None:
    node = helper.make_node("Identity", ["live"], ["aside"], name="aside")
    node.attribute.add(name="all", type=onnx.AttributeProto.TENSORS).tensors.add().CopyFrom(first(model))
    model.graph.node.append(node)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (add_key, "with location, offset, length, once each, got 4 entries"),
        (repeat_key, "once each"),
        (many_keys, "once each, got 100003 entries"),
        (no_keys, "once each, got 0 entries"),
        (not_marked, "is not marked as external"),
        (both, "both inside the graph and in step.weights"),
        (typed_too, "both inside the graph and in step.weights"),
        (other_type, "holds 864 bytes"),
        (text, "not numeric"),
        (other_shape, "needs 972"),
        (negative, "negative size"),
        (enormous, "needs 18446744073709551616"),
        (in_a_node, "keeps the constant of a node in another file"),
        (in_a_list, "keeps the constant of a node in another file"),
    ],
)
def test_external_data_follow_the_rules(
    patient: Patient, change: Callable[[onnx.ModelProto], object], match: str
) -> None:
    refused(patient, patient.graph(change), match)


def test_text_that_is_not_utf8_is_refused(patient: Patient) -> None:
    data = patient.files["step.onnx"]
    refused(patient, {"step.onnx": data.replace(b"step.weights", b"step\xff\xfeeights")}, "not UTF-8")
    refused(patient, {"step.onnx": data.replace(b"location", b"\xff\xfecation")}, "not UTF-8")


@pytest.mark.parametrize(
    ("weights", "match"),
    [
        (None, 'keeps the tensor "constant_1" in another file; weights belong inside'),
        ("step.onnx", 'must be another file, beside "step.onnx"'),
        ("condition.onnx", "both a graph and the weights of one"),
        ("condition.weights", 'must lie in "condition.weights"'),
        ("other.weights", 'the file "other.weights" is used but not listed'),
        ("golden/step.weights", 'must be another file, beside "step.onnx"'),
        ("../step.weights", "is not allowed"),
        ("", "is not allowed"),
        (3, '"weights" must be a string'),
    ],
)
def test_the_manifest_names_one_file_beside_the_graph(patient: Patient, weights: Any, match: str) -> None:
    value = copy.deepcopy(patient.manifest)
    value["graphs"]["step"]["weights"] = weights
    if weights is None:
        del value["graphs"]["step"]["weights"]
    refused(patient, {}, match, value)


def test_a_weights_file_is_hashed_like_every_file(patient: Patient) -> None:
    data = bytearray(patient.files["step.weights"])
    data[1000] ^= 1
    for changed, match in ((bytes(data), "damaged or was changed"), (bytes(data[:-1]), "bytes, expected")):
        (patient.folder / "step.weights").write_bytes(changed)
        try:
            with pytest.raises(BundleError, match=match):
                open_bundle(patient.folder)
        finally:
            (patient.folder / "step.weights").write_bytes(patient.files["step.weights"])


def test_a_link_that_leads_out_is_refused(patient: Patient) -> None:
    file, bait = patient.folder / "step.weights", patient.folder.parent / "bait"
    bait.write_bytes(patient.files["step.weights"])
    file.unlink()
    try:
        file.symlink_to(bait)
        with pytest.raises(BundleError, match="leads out of the bundle"):
            open_bundle(patient.folder)
    finally:
        file.unlink()
        file.write_bytes(patient.files["step.weights"])


def test_the_number_and_size_of_tensors_are_bounded(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    def shared(model: onnx.ModelProto) -> None:
        """Thirty tensors on the place of one: the engine would take thirty times the file."""
        tensor = max(external_tensors(model), key=lambda tensor: place_of(tensor).length)
        for number in range(30):
            other = model.graph.initializer.add()
            other.CopyFrom(tensor)
            other.name = f"shared_{number}"

    refused(patient, patient.graph(shared), "at most 4 times the size of the file")
    monkeypatch.setattr(external_weights, "MAX_EXTERNAL", 2)
    refused(patient, {}, "3 tensors in step.weights, at most 2 are read")
    monkeypatch.undo()
    monkeypatch.setattr("runtime.bundle.reader.MAX_WEIGHTS_BYTES", 8000)
    refused(patient, {}, "weights of at most 8000 are read")


def test_a_file_that_is_changed_after_the_check_is_not_mapped(patient: Patient) -> None:
    bundle = open_bundle(patient.folder)
    weights = bundle.weights["step.weights"]
    assert weights.unchanged() == weights.path
    status = weights.path.stat()
    try:
        os.utime(weights.path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))
        with pytest.raises(EngineError, match="was changed after the bundle was opened"):
            weights.unchanged()
        weights.path.unlink()
        with pytest.raises(EngineError, match="cannot be read any more"):
            weights.unchanged()
    finally:
        weights.path.write_bytes(patient.files["step.weights"])


def test_external_shapes_are_unknown_shapes(patient: Patient) -> None:
    """The checks never read values from the file, so what depends on them counts as unknown."""

    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer.add(name="size", data_type=TensorProto.INT64, dims=[4])
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "step.weights"), ("offset", "0"), ("length", "32")):
            tensor.external_data.add(key=key, value=value)
        model.graph.node.append(helper.make_node("Expand", ["trail", "size"], ["wide"], name="wide"))

    refused(patient, patient.graph(change), "is not known before it runs")


def test_checks_see_external_tensors_as_inputs(patient: Patient) -> None:
    light = without_external(patient.step)
    names = {tensor.name for tensor in external_tensors(patient.step)}
    assert names <= {value.name for value in light.graph.input}
    assert not external_tensors(light)
    assert len(external_tensors(patient.step)) == 3, "the graph itself is not changed"
    assert without_external(light) is light
    onnx.checker.check_model(light, full_check=True)


# ---- hundreds of random damages, the hashes made right

CORRUPT = (
    "", "-1", "0", "1", "63", "64", "4096", "1e3", "\uff19", "18446744073709551616", "..", "/", "a" * 5000, "step.onnx",
    "bundle.json", "condition.weights", "*/_ORT_MEM_ADDR_/*", "\u202e", "\n",
)  # fmt: skip


def corrupt(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    """Change something about one external tensor, so that the graph breaks a rule."""
    external = external_tensors(model)
    tensor = external[int(rng.integers(len(external)))]
    how = int(rng.integers(6))
    if how < 2:
        entry = tensor.external_data[int(rng.integers(3))]
        entry.value = CORRUPT[int(rng.integers(len(CORRUPT)))]
    elif how == 2:
        tensor.external_data[int(rng.integers(3))].key = CORRUPT[int(rng.integers(len(CORRUPT)))]
    elif how == 3:
        del tensor.external_data[int(rng.integers(3))]
    elif how == 4:
        tensor.dims[int(rng.integers(len(tensor.dims)))] += int(rng.choice([-3, -1, 1, 2, 10**6, 2**40]))
    else:
        tensor.data_type = int(rng.choice([t for t in range(30) if t not in (1, 6, 12)]))


def test_400_damaged_graphs_and_weights(patient: Patient) -> None:
    rng = np.random.default_rng(damaged_seed(25))
    done = 0
    while done < damaged_count(400):
        if done % 4 < 2:
            changes = patient.graph(lambda model: corrupt(model, rng))
            if changes["step.onnx"] == patient.files["step.onnx"] or _is_sound(changes["step.onnx"], patient):
                continue
        elif done % 4 == 2:  # a file that is too short for its tensors
            data = patient.files["step.weights"]
            changes = {"step.weights": data[: int(rng.integers(len(data) - 100))]}
        else:  # bytes of the graph, with which it may also stay sound
            data = bytearray(patient.files["step.onnx"])
            for place in rng.integers(0, len(data), 3).tolist():
                data[place] ^= 1 << int(rng.integers(8))
            changes = {"step.onnx": bytes(data)}
        with patient.damaged(changes) as folder:
            if done % 4 < 3:
                with pytest.raises(BundleError) as caught:
                    open_bundle(folder)
                assert 10 < len(str(caught.value)) < 2000
                assert "\n" not in str(caught.value)
            else:
                with contextlib.suppress(BundleError):
                    open_bundle(folder)
        done += 1


def _is_sound(data: bytes, patient: Patient) -> bool:
    """Return whether a change kept every rule: an offset of another multiple of 64 inside the file."""
    tensors = external_tensors(onnx.ModelProto.FromString(data))
    before = external_tensors(patient.step)
    for tensor, other in zip(tensors, before, strict=False):
        found = {entry.key: entry.value for entry in tensor.external_data}
        place = place_of(other)
        is_moved = found.get("offset") in ("0", "64", "4096") and int(found["offset"]) != place.offset
        if is_moved and found.get("length") == str(place.length):
            return int(found["offset"]) + place.length <= len(patient.files["step.weights"])
    return False


def test_random_weights_make_other_frames(patient: Patient) -> None:
    """Weights are data: any content of the right size is a valid bundle, if its hash is right."""
    noise = (np.random.default_rng(1).normal(size=len(patient.files["step.weights"]) // 4) * 0.1).astype("<f4")
    with (
        patient.damaged({"step.weights": noise.tobytes()}) as folder,
        Generator.open(folder, engine="onnxruntime", threads=1) as generator,
    ):
        generator.condition(image=np.full((heavy.HEIGHT, heavy.WIDTH, 3), 50, np.uint8))
        generator.feed_live(np.full((heavy.HEIGHT, heavy.WIDTH, 3), 100, np.uint8))
        assert next(generator).shape == (heavy.HEIGHT, heavy.WIDTH, 3)
