"""A thousand damaged bundles: each is a BundleError, and nothing outside of the bundle is read, written or unpacked.

Bundles are damaged in place and mended afterwards. In most cases the hashes are made right again, as a careful forger
would: then the checks behind the hashes must find the damage.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from runtime import BundleError, Generator
from runtime.bundle.manifest import manifest_sha256
from runtime.bundle.reader import write_manifest
from runtime.golden import check_golden
from tests import tiny
from tests.damaged_files import damaged_count, damaged_seed
from tests.runtime import prompted, worded

KINDS = ("plain", "live", "prompted")
ALL_KINDS = (*KINDS, "worded", "int8")
WIDTH, HEIGHT = 32, 16
MAX_GROWTH_BYTES = 300 * 2**20  # of the process, over all cases
Files = dict[str, bytes]
Mutation = Callable[[np.random.Generator], Any]


def add_golden(folder: Path, **given: Any) -> Path:
    """Give a bundle one golden file, made by the bundle itself."""
    (folder / "golden").mkdir()
    live = np.full((2, HEIGHT, WIDTH, 3), 90, np.uint8) if folder.name == "live" else None
    with Generator.open(folder, engine="onnxruntime", threads=1, renewal=False) as generator:
        if given:
            generator.condition(**given)
        frames = []
        for number in range(3):
            if live is not None:
                generator.feed_live(live[number % 2])
            frames.append(next(generator).copy())
    arrays = {key: value for key, value in given.items() if key in ("image", "clip")}
    arrays |= {} if live is None else {"live": live}
    arrays |= {"frames": np.stack([frames[0], frames[2]]), "indices": np.array([1, 3], np.int32)}
    np.savez_compressed(folder / "golden" / "one.npz", **arrays)
    entry = {"file": "golden/one.npz", "seed": 0, "image": "image" in given, "frames": [1, 3]}
    entry |= {key: True for key in ("clip", "live") if key in arrays}
    entry |= {"text": given["text"]} if "text" in given else {}
    write_manifest(folder, json.loads((folder / "bundle.json").read_text()) | {"golden": [entry]})
    return folder


class Patient:
    """A bundle that is damaged and mended again.

    Args:
        folder: the bundle, whole.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        self.files: Files = {name: (folder / name).read_bytes() for name in names}
        self.manifest: dict[str, Any] = json.loads(self.files["bundle.json"])

    def graph(self, name: str) -> onnx.ModelProto:
        """Return a graph, to be changed."""
        return onnx.ModelProto.FromString(self.files[name])

    def forge(self, changes: Files, manifest: dict[str, Any] | None = None) -> Files:
        """Return these files and a manifest whose hashes fit them."""
        value = copy.deepcopy(self.manifest if manifest is None else manifest)
        for name, data in changes.items():
            value["files"][name] = {"sha256": sha256(data).hexdigest(), "size_bytes": len(data)}
        return changes | {"bundle.json": forged(value)}

    @contextlib.contextmanager
    def damaged(self, changes: Files) -> Iterator[Path]:
        """Write files; restore the undamaged ones at the end."""
        try:
            for name, data in changes.items():
                (self.folder / name).write_bytes(data)
            yield self.folder
        finally:
            for name in changes:
                (self.folder / name).write_bytes(self.files[name])


class Watch:
    """Notes which files Python opens while it is on; an audit hook cannot be taken away, so there is one for all."""

    def __init__(self) -> None:
        self.is_on = False
        self.read: set[str] = set()
        self.written: set[str] = set()
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.is_on and event == "open" and isinstance(arguments[0], (str, bytes)):
            flags = arguments[2] if isinstance(arguments[2], int) else 0
            is_write = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            (self.written if is_write else self.read).add(os.fsdecode(arguments[0]))


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Patient]:
    """The undamaged bundles: three kinds, one that takes texts as tokens, and one with a second step graph."""
    folder = tmp_path_factory.mktemp("patients")
    plain = tiny.build(folder / "plain", width=WIDTH, height=HEIGHT, renewal=prompted.RENEWAL)
    live = tiny.build(folder / "live", width=WIDTH, height=HEIGHT, memories=False, live=True)
    image = np.full((HEIGHT, WIDTH, 3), 70, np.uint8)
    clip = np.full((prompted.FRAMES, HEIGHT, WIDTH, 3), 120, np.uint8)
    talking = prompted.build(folder / "prompted")
    add_golden(plain, image=image)
    add_golden(live)
    add_golden(talking, text="storm", image=image, clip=clip)
    reading = add_golden(worded.build(folder / "worded"), text="red")
    double = add_golden(tiny.build(folder / "int8", width=WIDTH, height=HEIGHT, memories=False))
    shutil.copyfile(double / "step.onnx", double / "step-int8.onnx")
    value = json.loads((double / "bundle.json").read_text())
    value["graphs"]["step"]["int8"] = "step-int8.onnx"
    write_manifest(double, value)
    return {path.name: Patient(path) for path in (plain, live, talking, reading, double)}


@pytest.fixture(scope="module")
def watch() -> Watch:
    return Watch()


@pytest.fixture(scope="module", autouse=True)
def memory(patients: dict[str, Patient]) -> Iterator[None]:
    """Check that all cases together did not take more than a few hundred megabytes."""
    before = peak_bytes()
    yield
    assert peak_bytes() - before < MAX_GROWTH_BYTES


def peak_bytes() -> int:
    """Return the most memory that this process ever took; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def refuse(folder: Path, watch: Watch, *, replay: bool = True) -> None:
    """Open a bundle, and replay its golden files if that is where the damage may be found; it must be refused."""
    watch.read.clear()
    watch.written.clear()
    watch.is_on = True
    try:
        with pytest.raises(BundleError) as caught:
            (check_golden if replay else open_and_close)(folder, "onnxruntime")
    finally:
        watch.is_on = False
    assert 10 < len(str(caught.value)) < 2000
    assert "\n" not in str(caught.value)
    assert not watch.written


def open_and_close(folder: Path, engine: str) -> None:
    Generator.open(folder, engine=engine, threads=1).close()


def forged(value: dict[str, Any]) -> bytes:
    """Return a manifest with its own hash made right, which its reader must not get as far as to need."""
    value["sha256"] = ""
    value["sha256"] = manifest_sha256(value)
    return json.dumps(value).encode()


def test_the_undamaged_bundles_open(patients: dict[str, Patient]) -> None:
    for patient in patients.values():
        assert [result.psnr_db > 60 for result in check_golden(patient.folder, "onnxruntime")] == [True, True]
        with patient.damaged(patient.forge(dict(patient.files) | {"bundle.json": b""})) as folder:
            pass
        assert check_golden(folder, "onnxruntime")


# ---- 400: bytes of any file


def test_400_flipped_or_cut_files(patients: dict[str, Patient], watch: Watch) -> None:
    rng = np.random.default_rng(damaged_seed(0))
    done = 0
    while done < damaged_count(400):
        patient = patients[ALL_KINDS[done % 5]]
        name = sorted(patient.files)[int(rng.integers(len(patient.files)))]
        data = bytearray(patient.files[name])
        if done % 8 < 5:
            for place in rng.integers(0, len(data), int(rng.integers(1, 9))).tolist():
                data[place] ^= 1 << int(rng.integers(8))
        elif done % 8 < 7:
            del data[int(rng.integers(0, len(data))) :]
        else:
            data += rng.bytes(int(rng.integers(1, 100)))
        if data == patient.files[name] or (name == "bundle.json" and is_same_json(data, patient.files[name])):
            continue
        with patient.damaged({name: bytes(data)}) as folder:
            refuse(folder, watch, replay=False)
        done += 1


def is_same_json(one: bytes, other: bytes) -> bool:
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return False


# ---- 260: the manifest, its hash made right

FREE = {"description", "provenance", "verified", "licence", "source", "unit", "sha256"}
OPTIONAL = {"target", "text", "clip", "live", "default", "provenance", "verified", "int8"}
WRONG: tuple[Any, ...] = (None, True, "x", -1, 0.5, 2**70, 1e300, [], {}, [[]], {"x": 1}, "\u0000", "a" * 5000)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every key and item that is not free text."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        if key not in FREE:
            yield (*path, key)
            yield from places(item, (*path, key))


def kind(value: Any) -> type:
    return float if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value)


def test_260_forged_manifests(patients: dict[str, Patient], watch: Watch) -> None:
    rng = np.random.default_rng(damaged_seed(1))
    done = 0
    while done < damaged_count(260):
        patient = patients[ALL_KINDS[done % 5]]
        value = copy.deepcopy(patient.manifest)
        found = list(places(value))
        path = found[int(rng.integers(len(found)))]
        parent = value
        for key in path[:-1]:
            parent = parent[key]
        key, how = path[-1], done % 4
        if how == 0:
            is_list_of_free_length = path[:-1] in (("controls",), ("golden",))
            if key in OPTIONAL or is_list_of_free_length or path == ("graphs", "condition"):
                continue
            del parent[key]
        elif how == 3 and isinstance(parent, dict):
            parent[f"{key}_"] = parent[key]
        else:
            wrong = WRONG[int(rng.integers(len(WRONG)))]
            if kind(wrong) is kind(parent[key]) or (wrong is None and key == "renewal"):
                continue
            parent[key] = wrong
        with patient.damaged({"bundle.json": forged(value)}) as folder:
            refuse(folder, watch)
        done += 1


@pytest.mark.parametrize(
    "text",
    [
        '{"schema": 1, ',  # the same key twice
        '{"verified": {"a": 1, "a": 2}, "schema": 1',
        '{"verified": {"a": 1e999}, ',
        '{"verified": {"a": ' + "[" * 100 + "]" * 100 + "}, ",
        '{"verified": {"a": ' + "[" * 600 + "]" * 600 + "}, ",
        '{"verified": {"a": ' + "[" * 100_000 + "]" * 100_000 + "}, ",
        '{"verified": {"a": ' + "9" * 5000 + "}, ",
        '{"verified": {"a": [-1e400]}, ',
        '{"verified": {"\\ud800": 1}, ',
        '{"verified": {"a": "\\udfff"}, ',
    ],
    ids=range(10),
)
def test_10_manifests_that_strain_json(patients: dict[str, Patient], watch: Watch, text: str) -> None:
    patient = patients["plain"]
    whole = patient.files["bundle.json"].decode()
    if '"verified"' in text:
        whole = whole.replace('"verified": {},', "", 1)
    with patient.damaged({"bundle.json": whole.replace("{", text, 1).encode()}) as folder:
        refuse(folder, watch, replay=False)


def test_10_manifests_of_many_or_huge_things(patients: dict[str, Patient], watch: Watch) -> None:
    patient = patients["prompted"]
    whole = patient.manifest
    spec = whole["files"]["step.onnx"]
    control = whole["controls"][0]
    many = {f"text/{number:06}.npy": spec for number in range(8000)}
    golden = whole["golden"][0]
    changes: list[dict[str, Any]] = [
        {"files": many},
        {"files": whole["files"] | many},
        {"controls": [control] * 5000},
        {"controls": [control | {"name": f"c{number}", "index": number} for number in range(5000)]},
        {"golden": [golden | {"frames": [1, 2**31]}]},
        {"golden": [golden | {"frames": [1, 10**300]}]},
        {"golden": [golden | {"frames": list(range(1, 200_000))}]},
        {"golden": [golden | {"frames": [1, 2**31 - 1]}]},
        {"golden": [golden | {"text": "\t \n"}]},
        {"golden": [golden | {"text": "words that nobody knows"}]},
    ]
    for change in changes:
        with patient.damaged({"bundle.json": forged(copy.deepcopy(whole) | copy.deepcopy(change))}) as folder:
            refuse(folder, watch)


# ---- 120: paths

ESCAPES = (
    "../../etc/passwd",
    "/etc/passwd",
    "..",
    ".",
    "",
    "golden/../../bait",
    "golden//one.npz",
    "..\\bait",
    "C:\\bait",
    "C:bait",
    "\\\\host\\share",
    "step.onnx\0",
    "engines/bait",
    "bundle.json",
    "a" * 300,
    "\u202etxt",
    "./step.onnx",
    "{bait}",
    "../bait",
    "~/bait",
)


def test_120_paths_that_lead_out(patients: dict[str, Patient], watch: Watch) -> None:
    patient = patients["prompted"]
    bait = patient.folder.parent / "bait"
    for place in ("files", "step", "condition", "golden", "tokenizer", "vectors"):
        for escape in ESCAPES:
            value = copy.deepcopy(patient.manifest)
            holders = {"golden": (value["golden"][0], "file"), "files": (value["files"], "step.onnx")}
            holders |= {name: (value["graphs"][name], "file") for name in ("step", "condition")}
            holders |= {name: (value["text"], name) for name in ("tokenizer", "vectors")}
            holder, key = holders[place]
            old, path = ("step.onnx" if place == "files" else holder[key]), escape.format(bait=bait)
            bait.write_bytes(patient.files[old])
            value["files"][path] = value["files"].pop(old)
            if place != "files":
                holder[key] = path
            with patient.damaged({"bundle.json": forged(value)}) as folder:
                refuse(folder, watch, replay=False)
            assert not {name for name in watch.read if "bait" in name or "passwd" in name}


def test_20_links_that_lead_out(patients: dict[str, Patient], watch: Watch) -> None:
    done = 0
    for patient in patients.values():
        bait = patient.folder.parent / "bait"
        for name, data in patient.files.items():
            bait.write_bytes(data)
            file = patient.folder / name
            for target in (bait, Path(os.path.relpath(bait, file.parent))):
                if done == 20:
                    break
                file.unlink()
                try:
                    file.symlink_to(target)
                    refuse(patient.folder, watch, replay=False)
                finally:
                    file.unlink()
                    file.write_bytes(data)
                assert not {path for path in watch.read if "bait" in path}
                done += 1
    assert done == 20


# ---- 154: graphs, the hashes made right


def drop_node(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    del model.graph.node[int(rng.integers(len(model.graph.node)))]


def rename_result(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    model.graph.node[int(rng.integers(len(model.graph.node)))].output[0] += "_"


def drop_constant(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    del model.graph.initializer[int(rng.integers(len(model.graph.initializer)))]


def rename_constant(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    pick(model.graph.initializer, rng).name += "_"


def double_constant(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    model.graph.initializer.append(pick(model.graph.initializer, rng))


def swell_constant(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    tensor = pick(model.graph.initializer, rng)
    tensor.dims[:] = [*tensor.dims, int(rng.integers(2, 2**40))]


def shrink_constant(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    pick(model.graph.initializer, rng).dims[:] = [0]


def negate_constant(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    pick(model.graph.initializer, rng).dims[:] = [-1, -1]


def retype_constant(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    pick(model.graph.initializer, rng).data_type = int(rng.choice([0, 3, 8, 11, 15, 99, -1]))


def empty_constant(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    pick(model.graph.initializer, rng).ClearField("raw_data")


def resize_border(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    value = pick([*model.graph.input, *model.graph.output], rng)
    pick(value.type.tensor_type.shape.dim, rng).dim_value = int(rng.choice([0, -1, 7, 2**62]))


def retype_border(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    pick([*model.graph.input, *model.graph.output], rng).type.tensor_type.elem_type = TensorProto.DOUBLE


def drop_border(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    side = (model.graph.input, model.graph.output)[int(rng.integers(2))]
    del side[int(rng.integers(len(side)))]


def invent_operator(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    pick(model.graph.node, rng).op_type = str(rng.choice(["", "Nonsense", "add", "Loop"]))


def invent_attribute(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    pick(model.graph.node, rng).attribute.append(helper.make_attribute("nonsense", 1))


def starve_node(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    del pick(model.graph.node, rng).input[:]


def overfeed_node(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    node = pick(model.graph.node, rng)
    node.input.extend([node.input[0]] * 9 if node.op_type != "Concat" else ["nobody"])


def lose_opset(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    versions = [0, -1, 2**40][: int(rng.integers(4))]
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid("", version) for version in versions)


def lie_about_result(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    name = pick(model.graph.node, rng).output[0]
    model.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [9, 9, 9, 9, 9]))


def misspell_mode(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    words = [item for node in model.graph.node for item in node.attribute if item.type == onnx.AttributeProto.STRING]
    if not words:  # this graph has no such node
        drop_node(model, rng)
        return
    pick(words, rng).s = b"linaer"


def share_name(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    model.graph.node[1].name = model.graph.node[0].name


def lose_operator(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    model.graph.node[0].ClearField("op_type")


def pick(items: Any, rng: np.random.Generator) -> Any:
    return items[int(rng.integers(len(items)))]


BREAKS = (drop_node, rename_result, drop_constant, rename_constant, double_constant, swell_constant, shrink_constant)
BREAKS += (negate_constant, retype_constant, empty_constant, resize_border, retype_border, drop_border)
BREAKS += (invent_operator, invent_attribute, starve_node, overfeed_node, lose_opset, lie_about_result, lose_operator)
BREAKS += (misspell_mode, share_name)


@pytest.mark.parametrize("break_it", BREAKS, ids=[item.__name__ for item in BREAKS])
def test_7_graphs_broken_in_each_of_22_ways(
    patients: dict[str, Patient], watch: Watch, break_it: Callable[[onnx.ModelProto, np.random.Generator], None]
) -> None:
    rng = np.random.default_rng(2)
    for number in range(7):
        patient = patients[KINDS[number % 3]]
        name = "condition.onnx" if number > 3 and "condition.onnx" in patient.files else "step.onnx"
        model = patient.graph(name)
        break_it(model, rng)
        with patient.damaged(patient.forge({name: model.SerializeToString()})) as folder:
            refuse(folder, watch, replay=False)


def test_names_that_are_no_utf8_are_refused(patients: dict[str, Patient], watch: Watch) -> None:
    patient = patients["prompted"]
    for graph, name in (
        ("step", b"a_scene"),
        ("step", b"picture"),
        ("condition", b"Transpose"),
        ("condition", b"words"),
    ):
        data = patient.files[f"{graph}.onnx"].replace(name, b"\xf3" + name[1:])
        with patient.damaged(patient.forge({f"{graph}.onnx": data})) as folder:
            refuse(folder, watch, replay=False)


def test_100_forged_flips_in_graphs_are_refused_or_do_no_harm(patients: dict[str, Patient]) -> None:
    """After a flip the bundle opens (only a weight has changed) or raises BundleError, nothing else."""
    rng = np.random.default_rng(3)
    for number in range(100):
        patient = patients[KINDS[number % 3]]
        name = sorted(item for item in patient.files if item.endswith(".onnx"))[-1 - number % 2 :][0]
        data = bytearray(patient.files[name])
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        with patient.damaged(patient.forge({name: bytes(data)})) as folder, contextlib.suppress(BundleError):
            open_and_close(folder, "onnxruntime")


# ---- 40: bombs


def bomb(kind: str, inputs: dict[str, Any], before: tuple[tuple[str, ...], ...] = (), **attributes: Any) -> Any:
    """Return a function that adds a node with a huge result to a graph; the result is unused or goes into a state."""

    def light(model: onnx.ModelProto) -> None:
        graph = model.graph
        for name, value in inputs.items():
            if not isinstance(value, str):
                graph.initializer.append(numpy_helper.from_array(np.asarray(value), f"bomb_{name}"))
        names = [value if isinstance(value, str) else f"bomb_{name}" for name, value in inputs.items()]
        nodes = [helper.make_node(step[0], list(step[1:-1]), [step[-1]]) for step in before]
        nodes.append(helper.make_node(kind, names, ["bomb"], **attributes))
        nodes.append(helper.make_node("ReduceSum", ["bomb"], ["bang"], keepdims=0))
        nodes.append(helper.make_node("Cast", ["bang"], ["bang_float"], to=TensorProto.FLOAT))
        last = next(node for node in graph.node if {"clock_next", "level_next"} & set(node.output))
        result = last.output[0]
        last.output[0] = "before_the_bang"
        nodes.append(helper.make_node("Add", ["before_the_bang", "bang_float"], [result]))
        at = list(graph.node).index(last) + 1
        kept = [*graph.node[:at], *nodes, *graph.node[at:]]
        del graph.node[:]
        graph.node.extend(kept)

    return light


HUGE = np.int64(2**36)
SQUARE = np.array([2**18, 2**18])
FOUR = np.zeros((1, 1, 2, 2), np.float32)
GRAPH_BOMBS = (
    bomb("ConstantOfShape", {"size": SQUARE}),
    bomb("ConstantOfShape", {"size": np.full(1000, 2)}),
    bomb("ConstantOfShape", {"size": np.array([2**62, 2**62])}),
    bomb("ConstantOfShape", {"size": "a"}, (("Mul", "bomb_b", "bomb_b", "a"),)),
    bomb("Expand", {"value": np.float32(0), "size": SQUARE}),
    bomb("Tile", {"value": np.zeros(4, np.float32), "times": np.array([2**40])}),
    bomb("Resize", {"value": FOUR, "r": "", "s": "", "size": np.array([1, 1, 2**18, 2**18])}, mode="nearest"),
    bomb("Resize", {"value": FOUR, "r": "", "scales": np.array([1, 1, 1e6, 1e6], np.float32)}, mode="nearest"),
    bomb("Pad", {"value": np.zeros(2, np.float32), "pads": np.array([0, 2**40])}),
    bomb("Range", {"low": np.int64(0), "high": HUGE, "step": np.int64(1)}),
    bomb("OneHot", {"at": np.array([0, 1]), "depth": HUGE, "values": np.array([0, 1], np.float32)}),
    bomb("ConvTranspose", {"x": FOUR, "w": FOUR}, strides=[2**20, 2**20]),
    bomb("HannWindow", {"size": HUGE}),
    bomb("Einsum", {"a": np.zeros(4000, np.float32), "b": np.zeros(4000, np.float32)}, equation="i,j->iji"),
    bomb("Add", {"a": np.zeros((50_000, 1), np.float32), "b": np.zeros((1, 50_000), np.float32)}),
)


def powers(model: onnx.ModelProto, many: int = 20) -> None:
    """Compute the size with operators whose values ONNX's inference does not follow."""
    steps = (("Pow", "bomb_two", "bomb_two", "bomb_four"), ("Pow", "bomb_four", "bomb_many", "bomb_size"))
    numbers = {"two": np.array([2]), "many": np.array([many])}
    for name, value in numbers.items():
        model.graph.initializer.append(numpy_helper.from_array(value, f"bomb_{name}"))
    bomb("ConstantOfShape", {"size": "bomb_size"}, steps)(model)


def sizes_from_values(model: onnx.ModelProto) -> None:
    """Let the size depend on an input of the graph."""
    steps = (("Ceil", "noise", "bomb_up"), ("NonZero", "bomb_up", "bomb_places"), ("ReduceMax", "bomb_places", "m"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1]), "bomb_flat"))
    bomb("ConstantOfShape", {"size": "bomb_size"}, (*steps, ("Reshape", "m", "bomb_flat", "bomb_size")))(model)


def many_small_ones(model: onnx.ModelProto) -> None:
    """Make a gigabyte and a half out of results of 64 MiB each."""
    model.graph.initializer.append(numpy_helper.from_array(np.array([2**24]), "bomb_size"))
    zeros = [helper.make_node("ConstantOfShape", ["bomb_size"], [f"bomb_{number}"]) for number in range(24)]
    nodes = [*zeros, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def test_18_graphs_that_blow_up(patients: dict[str, Patient], watch: Watch) -> None:
    for number, light in enumerate((*GRAPH_BOMBS, powers, sizes_from_values, many_small_ones)):
        patient = patients[KINDS[number % 3]]
        model = patient.graph("step.onnx")
        if number == 3:
            model.graph.initializer.append(numpy_helper.from_array(np.array([2**20]), "bomb_b"))
        light(model)
        with patient.damaged(patient.forge({"step.onnx": model.SerializeToString()})) as folder:
            refuse(folder, watch, replay=False)


def test_a_size_that_is_computed_from_constants_is_followed(patients: dict[str, Patient]) -> None:
    patient = patients["plain"]
    model = patient.graph("step.onnx")
    powers(model, many=3)  # 64 values
    with patient.damaged(patient.forge({"step.onnx": model.SerializeToString()})) as folder:
        open_and_close(folder, "onnxruntime")


def forge_compiled_graphs(folder: Path, into: Path) -> None:
    """Compile another bundle's graphs and store them as those of this one, in a folder."""
    with Generator.open(folder, engine="openvino", precision="fp32", threads=1, cache_dir=into) as generator:
        next(generator)
    plans = sorted(into.glob("*.bin"))
    contents = [plan.read_bytes() for plan in plans]
    for plan, content in zip(plans, contents[1:] + contents[:1], strict=True):
        plan.write_bytes(content)


def test_compiled_graphs_that_came_with_a_bundle_are_not_read(patients: dict[str, Patient], watch: Watch) -> None:
    folder = patients["plain"].folder
    forge_compiled_graphs(folder, folder / "engines")
    try:
        watch.read.clear()
        watch.is_on = True
        for trust_engines in (False, True):  # OpenVINO's are not shipped
            with Generator.open(folder, threads=1, trust_engines=trust_engines) as generator:
                next(generator)
        assert watch.read
        assert not [name for name in watch.read if name.startswith(str(folder / "engines"))]
    finally:
        watch.is_on = False
        shutil.rmtree(folder / "engines")


def npy(dtype: str, shape: Any, content: bytes = b"", **more: Any) -> bytes:
    """Return a .npy file with the given header."""
    text = repr({"descr": dtype, "fortran_order": False, "shape": shape} | more).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content


def archive(entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return stream.getvalue()


def lie_about_sizes(data: bytes, size: int) -> bytes:
    """Let every entry of an archive claim another size, in both places where it stands."""
    lied = bytearray(data)
    for magic, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = -1
        while (at := lied.find(magic, at + 1)) >= 0:
            lied[at + offset : at + offset + 4] = size.to_bytes(4, "little")
    return bytes(lied)


def golden_bombs(whole: bytes) -> list[bytes]:
    """Return archives that claim, or unpack to, far more than a golden file holds."""
    with zipfile.ZipFile(io.BytesIO(whole)) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    shape = (2, HEIGHT, WIDTH, 3)
    zeros = bytes(64 * 2**20)
    giant = [(2**20, HEIGHT, WIDTH, 3), (2**31, 2**31, 3, 3), (2, 2**40, 1, 1), (-2, -16, WIDTH, 3), (2, "x", 3, 3)]
    bombs = [archive(entries | {"frames.npy": npy("|u1", item)}) for item in giant]
    bombs += [archive(entries | {"frames.npy": npy("|u1", shape, zeros)})]
    bombs += [archive(entries | {"frames.npy": npy("|u1", shape, b"\0")})]
    bombs += [archive(entries | {"more.npy": npy("|u1", (len(zeros),), zeros)})]
    bombs += [archive(entries | {"frames.npy": npy(dtype, shape)}) for dtype in ("|O", "<U1000000", "<M8[s]", "nope")]
    bombs += [archive(entries | {"frames.npy": npy("[('a', '|u1')]", shape)})]
    bombs += [archive(entries | {"indices.npy": npy("<i4", (2,), bytes([1, 0, 0, 0, 4, 0, 0, 0]))})]
    bombs += [archive(entries | {f"{number}.npy": b"" for number in range(20_000)})]
    bombs += [archive(entries, method) for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)]
    bombs += [lie_about_sizes(whole, size) for size in (0, 2**32 - 2, 2**32 - 1)]
    bombs += [entries["frames.npy"], whole[: len(whole) // 2], whole + b"x", b"PK\x05\x06" + bytes(18)]
    return bombs


def test_64_golden_files_that_blow_up_or_lie(patients: dict[str, Patient], watch: Watch) -> None:
    done = 0
    for patient in patients.values():
        for data in golden_bombs(patient.files["golden/one.npz"]):
            with patient.damaged(patient.forge({"golden/one.npz": data})) as folder:
                refuse(folder, watch)
            done += 1
    assert done >= 64


def test_30_text_files_that_blow_up_or_lie(patients: dict[str, Patient], watch: Watch) -> None:
    patient = patients["prompted"]
    count, width = len(prompted.WORDS), prompted.DIMENSIONS
    good = json.loads(patient.files[prompted.TEXT["tokenizer"]])
    model = good["model"]
    vectors = [npy("|i1", shape) for shape in ((2**40, width), (2**31, 2**31), (count, 2**40), (), "x", (-count, -8))]
    vectors += [npy(dtype, (count, width), bytes(4 * count * width)) for dtype in ("<f4", "|O", "|V100000000", "?", "")]
    vectors += [
        npy("|i1", (count, width), bytes(count * width + 1)),
        npy("|i1", (count, width), x=1),
        b"",
        b"\x93NUMPY",
    ]
    scales = [npy("<f4", (2**40,)), npy("<f4", (count, 1), bytes(4 * count)), npy("<f4", (), bytes(4)), b"x"]
    scales += [npy("<f4", (count,), np.full(count, value, "<f4").tobytes()) for value in (np.nan, np.inf, 3e38)]
    tokenizers: list[Any] = [b"[" * 100_000, b'{"a":' * 100_000, b"{}", b"\xff", b"null"]
    tokenizers += [
        good | {"model": model | {"vocab": model["vocab"] | {"zebra": 99}}},
        good | {"model": model | {"unk_token": "nobody"}},
        good | {"model": {"type": "Nonsense"}},
        good | {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
        good | {"model": {"type": "Unigram", "unk_id": 5, "vocab": [["a", 0.0]]}},
    ]
    cases = [("vectors", data) for data in vectors] + [("scales", data) for data in scales]
    cases += [("tokenizer", data if isinstance(data, bytes) else json.dumps(data).encode()) for data in tokenizers]
    assert len(cases) >= 30
    for name, data in cases:
        with patient.damaged(patient.forge({prompted.TEXT[name]: data})) as folder:
            refuse(folder, watch)
