"""A whole export of a small run: the bundle is complete and checked, or absent."""

from __future__ import annotations

import errno
import importlib.metadata
import json
import shutil
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import runtime
from export import bundle_writer as assembly
from export import engines
from export.__main__ import main
from export.bundle_writer import ExportError, ExportOptions, export_run, load_run
from export.folder_writer import atomic_folder
from export.graphs import STEP_INPUTS
from export.manifest_writer import provenance
from export.parity.checks import ParityCheck
from export.parity.reference import ReferencePrompt, reference_loop
from runtime import Generator
from runtime.bundle.pruning import prune
from runtime.bundle.reader import open_bundle
from runtime.engines.tensorrt import graph_in
from runtime.engines.tensorrt_builder import PORTABLE, cache_entry
from runtime.golden import check_golden, psnr_db
from runtime.pixels.assemble import with_size
from tests.export.wordpiece import make_wordpieces
from training.checkpoint import load_checkpoint, load_generator, save_checkpoint
from training.data.words import WordVectors
from training.model.generator import CLIP

WORK = (64, 64)
STEP = "step-64x64.onnx"
AT_64 = ("--work", "64x64")
SHORT = ExportOptions(frames=10, engines=(), sizes=(WORK,), frame=(128, 64))


@pytest.fixture(scope="module")
def bundle(text_bundle: Path) -> Path:
    return text_bundle


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loops of ten frames on one engine."""
    monkeypatch.setattr(assembly, "GOLDEN_FRAMES", (1, 10))
    monkeypatch.setattr(assembly, "FEW_FRAMES", (1, 4))
    monkeypatch.setattr(assembly, "available_engines", lambda without: [("onnxruntime", "fp32")])


def test_a_bundle_is_complete(bundle: Path) -> None:
    written = [path.relative_to(bundle) for path in bundle.rglob("*") if path.is_file()]
    files = {path.as_posix() for path in written if path.parts[0] != "engines"}
    golden = {f"golden/{name}.npz" for name in ("noise", "image", "clip", "text")}
    text = {f"text/{name}" for name in ("tokenizer.json", "vectors.npy", "scales.npy")}
    graphs = {"condition-64x64.onnx", STEP, "paint.onnx"}
    assert files == {"bundle.json", *graphs, *golden, *text}
    assert [path.name for path in bundle.parent.iterdir()] == ["tiny"], "no temporary folder is left"
    manifest = json.loads((bundle / "bundle.json").read_text())
    assert set(manifest["files"]) == files - {"bundle.json"}
    source = {"name": "made by the tests", "licence": "CC0-1.0", "source": "made by the tests"}
    assert manifest["provenance"]["data"] == [{**source, "clips": 3}]
    assert manifest["provenance"]["pictures"] == [{**source, "pictures": 1}]
    training = manifest["provenance"]["training"]
    assert (training["stage"], training["iterations"], training["seed"]) == ("finetune", 4, 0)
    assert training["footage"]["short_side"] == 72
    assert manifest["text"] == {
        "tokenizer": "text/tokenizer.json", "vectors": "text/vectors.npy", "scales": "text/scales.npy",
        "licence": "CC0-1.0", "source": "a test",
    }  # fmt: skip
    golden_runs = {Path(entry["file"]).stem: entry for entry in manifest["golden"]}
    assert list(golden_runs) == ["noise", "image", "clip", "text"]
    assert golden_runs["noise"]["frames"] == [1, 10, 30]
    assert all(golden_runs[name]["frames"] == [20] for name in ("image", "clip", "text"))
    assert [golden_runs[name]["image"] for name in golden_runs] == [False, True, False, False]
    assert golden_runs["clip"]["clip"] is True
    assert golden_runs["text"]["text"] == "a waterfall in the mountains"
    checks = manifest["verified"]["parity"]
    assert {(check["engine"], check["precision"]) for check in checks} >= {
        ("onnxruntime", "fp32"),
        ("openvino", "fp32"),
    }
    assert all(check["passed"] for check in checks)
    (read,) = (check for check in checks if check["run"] == "a clip and hints, 64x64")
    assert read["worst"] < 1e-3
    loops = {check["run"].split(",")[0]: check["frames"] for check in checks if "closed loop" in check["run"]}
    assert set(loops) == {"noise", "image", "clip", "text"}
    assert loops == {"noise": 30, "image": 20, "clip": 20, "text": 20}


def test_the_manifest_names_exactly_the_graphs_tensors(bundle: Path) -> None:
    manifest = json.loads((bundle / "bundle.json").read_text())
    size = {"width": 128, "height": 64}
    assert manifest["frame"] == {**size, "fps": "25", "colour": "bt709", "sharpness": 1, "pace": 1}
    (shape,) = manifest["graphs"]["shapes"]
    assert (shape["width"], shape["height"]) == WORK
    entries = {"condition": shape["condition"], "step": shape["step"], "paint": manifest["graphs"]["paint"]}
    for entry in entries.values():
        graph = onnx.load(bundle / entry["file"]).graph
        for side, values in (("inputs", graph.input), ("outputs", graph.output)):
            sizes = [[part.dim_value for part in value.type.tensor_type.shape.dim] for value in values]
            assert {item["name"]: item["shape"] for item in entry[side]} == dict(
                zip((value.name for value in values), sizes, strict=True)
            )
    roles = {name: [item["role"] for item in entry["inputs"]] for name, entry in entries.items()}
    assert roles["condition"] == ["image", "moving", "clip", "given", "hints"]
    assert roles["paint"] == ["noise", "text"]
    assert [item["name"] for item in entries["step"]["inputs"]] == list(STEP_INPUTS)
    assert entries["condition"]["inputs"][3]["of"] == ["clip"]
    assert entries["condition"]["inputs"][2]["shape"] == [1, CLIP, 64, 64, 3]
    assert entries["condition"]["inputs"][4]["shape"] == [1, 5, 8, 8]
    assert entries["paint"]["inputs"][1]["shape"] == [1, 16]


def test_controls_steer_the_step_the_renewal_and_the_seed(bundle: Path) -> None:
    manifest = json.loads((bundle / "bundle.json").read_text())
    targets = {entry["name"]: entry.get("target", "step") for entry in manifest["controls"]}
    expected = {"motion": "step", "wind_x": "step", "wind_y": "step", "drift": "renewal", "seed": "seed"}
    assert targets == expected
    inputs = manifest["graphs"]["shapes"][0]["step"]["inputs"]
    control = next(item for item in inputs if item["role"] == "control")
    assert [entry["index"] for entry in manifest["controls"] if "index" in entry] == list(range(control["shape"][1]))
    for entry in manifest["controls"]:
        assert entry["minimum"] <= entry["default"] <= entry["maximum"]
    with Generator.open(bundle, engine="onnxruntime") as generator:
        assert set(generator.controls) == {*expected, "variety"}
        assert next(generator).shape == (64, 128, 3)


def test_the_runtime_plays_it_and_matches_the_golden_frames(bundle: Path) -> None:
    results = check_golden(bundle, "onnxruntime", "fp32")
    few = [(f"golden/{name}.npz", 20) for name in ("image", "clip", "text")]
    expected = [*(("golden/noise.npz", number) for number in (1, 10, 30)), *few]
    assert [(result.file, result.frame) for result in results] == expected
    assert min(result.psnr_db for result in results) >= 60


def test_the_runtime_makes_pytorchs_frames_for_every_prompt(bundle: Path, text_run: Path) -> None:
    reference, _, facts = load_run(text_run)
    words = WordVectors.open(Path(facts["words"]))
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (8, 8, 3)).astype(np.uint8)
    picture = coarse.repeat(8, axis=0).repeat(8, axis=1)
    clip = np.stack([np.roll(picture, 3 * time, axis=1) for time in range(CLIP)])
    texts = ("a burning candle", "the sea")
    prompts = {
        "seed": ReferencePrompt(),
        "image": ReferencePrompt(image=picture),
        "clip": ReferencePrompt(clip=clip),
        "both": ReferencePrompt(image=picture, clip=clip),
        **{text: ReferencePrompt(text=text, vector=words.encode([text])[0]) for text in texts},
    }
    seconds = {}
    for name, prompt in prompts.items():
        with Generator.open(bundle, engine="onnxruntime", renewal=False, seed=5, size=WORK) as generator:
            generator.condition(image=prompt.image, past=prompt.clip, text=prompt.text, seed=5)
            frames = [next(generator).copy() for _ in range(3)]
        expected = [evaluation.frame for evaluation in islice(reference_loop(reference, WORK, WORK, 5, prompt), 3)]
        worst = min(psnr_db(frame, wanted) for frame, wanted in zip(frames, expected, strict=True))
        assert worst >= 60, name
        seconds[name] = frames[1].astype(int)
    # Prompts differ by more than an engine's rounding.
    for one, two in (("seed", "image"), ("image", "both"), ("image", "clip"), ("seed", texts[0]), texts):
        assert np.abs(seconds[one] - seconds[two]).mean() > 0.05, (one, two)


def test_tensorrt_rtx_builds_every_graph(bundle: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed", exc_type=ImportError)
    entries = json.loads((bundle / "bundle.json").read_text())["verified"]["engines"]
    steps = [(f"step, {pixels}", precision) for pixels in ("rgb", "i420") for precision in ("fp32", "fp16")]
    found = [(entry["graph"], entry["precision"]) for entry in entries]
    assert found == [("condition", "fp32"), ("paint", "fp32"), *steps]
    for entry in entries:
        assert entry["half_convolutions"] == (entry["convolutions"] if entry["precision"] == "fp16" else 0)
        assert entry["convolutions"] >= 3


def test_the_runtime_finds_the_exported_engines(bundle: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed", exc_type=ImportError)
    entries = json.loads((bundle / "bundle.json").read_text())["verified"]["engines"]
    assert {entry["engine"] for entry in entries} == {"tensorrt-rtx"}
    opened = with_size(open_bundle(bundle), None, "rgb")
    graph = graph_in(prune(opened.step, [item.name for item in opened.manifest.step.outputs]), "fp16")
    entry = cache_entry(graph, "tensorrt-rtx", PORTABLE, bundle / "engines", is_private=False)
    plan = entry.load()
    size = next(e["size_bytes"] for e in entries if (e["graph"], e["precision"]) == ("step, rgb", "fp16"))
    assert plan is not None
    assert len(plan) == size


@pytest.mark.usefixtures("short")
def test_wrong_or_missing_words_fail_early(text_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "write_graphs", lambda *_: pytest.fail("the graphs were written first"))
    other = make_wordpieces(tmp_path / "words", ["sea"], dimensions=12)
    with pytest.raises(ValueError, match="text vectors of 16 values and the words have 12: pass those of the training"):
        export_run(text_run, tmp_path / "out", options=ExportOptions(words=other))
    with pytest.raises(ValueError, match="no token vectors at"):
        export_run(text_run, tmp_path / "out", options=ExportOptions(words=tmp_path / "absent"))
    silent = tmp_path / "run"
    silent.mkdir()
    content = torch.load(text_run / "finetune.pt", weights_only=True)
    save_checkpoint(silent / "finetune.pt", {**content, "words": ""})
    with pytest.raises(ValueError, match="trained without words: pass --words WORDS"):
        export_run(silent, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"words", "run"}, "nothing was written"


def test_weights_are_stored_in_half_precision(bundle: Path) -> None:
    for path in bundle.glob("*.onnx"):
        graph = onnx.load(path).graph
        full = sum(int(np.prod(t.dims)) for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT)
        half = sum(int(np.prod(t.dims)) for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT16)
        assert half > 10 * full
        assert half > 50_000 or path.name == STEP


def copied(bundle: Path) -> Callable[[object, Path], None]:
    """Return a `write_graphs` that copies a bundle's graphs."""

    def write(_generator: object, folder: Path, _sizes: object) -> None:
        for path in bundle.glob("*.onnx"):
            shutil.copy(path, folder)

    return write


def test_an_existing_bundle_is_not_overwritten_without_force(text_run: Path, bundle: Path) -> None:
    with pytest.raises(ValueError, match="already exists: choose another --out, or pass --force"):
        export_run(text_run, bundle)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("fault", ["a swapped weight", "a gate the wrong way round"])
def test_a_wrong_graph_is_not_written(
    fault: str, text_run: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damage(model: onnx.ModelProto) -> None:
        if fault == "a swapped weight":
            tensor = max(model.graph.initializer, key=lambda t: int(np.prod(t.dims)))
            values = numpy_helper.to_array(tensor).copy()
            values[[0, 1]] = values[[1, 0]]
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        else:
            node = next(node for node in model.graph.node if node.op_type == "Sigmoid")
            node.op_type = "Tanh"

    def write_damaged(generator: object, folder: Path, sizes: object) -> None:
        copied(bundle)(generator, folder, sizes)
        model = onnx.load(folder / STEP)
        damage(model)
        onnx.save(model, folder / STEP)

    monkeypatch.setattr(assembly, "write_graphs", write_damaged)
    with pytest.raises(ExportError, match="no bundle was written"):
        export_run(text_run, tmp_path / "broken", options=SHORT)
    assert list(tmp_path.iterdir()) == []


def test_an_export_in_fp32_by_mistake_leaves_nothing(
    text_run: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(assembly, "write_graphs", copied(bundle))
    monkeypatch.setattr(engines, "to_half", lambda model: model)  # a conversion without effect
    monkeypatch.setattr(
        sys, "argv", ["export", str(text_run), "--out", str(tmp_path / "out"), "--engine", "none", *AT_64]
    )
    assert main() == 2
    assert "only 0 of 3 layers of the step graph that multiply by weights run in FP16" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("short")
def test_force_replaces_a_bundle_only_at_the_end(
    text_run: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "write_graphs", copied(bundle))
    copy = tmp_path / "tiny"
    shutil.copytree(bundle, copy)
    before = (copy / "bundle.json").read_bytes()

    def fail(*arguments: object) -> ParityCheck:
        raise RuntimeError("power failure")

    monkeypatch.setattr(assembly, "compare_step", fail)
    with pytest.raises(RuntimeError, match="power failure"):
        export_run(text_run, copy, force=True, options=SHORT)
    assert (copy / "bundle.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_force_replaces_the_whole_folder(
    text_run: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: None
) -> None:
    monkeypatch.setattr(assembly, "write_graphs", copied(bundle))
    copy = tmp_path / "tiny"
    shutil.copytree(bundle, copy)
    (copy / "stale").write_text("")
    checks = export_run(text_run, copy, force=True, options=replace(SHORT, sizes=(WORK, WORK)))
    assert not (copy / "stale").exists()
    assert [(shape.width, shape.height) for shape in open_bundle(copy).manifest.shapes] == [WORK, WORK]
    assert checks[4].run == "64x64, one step", "every work size is compared"
    assert open_bundle(copy).manifest.golden[0].frames == (1, 10)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


@pytest.mark.usefixtures("short")
def test_a_full_disk_leaves_the_bundle_from_before(
    text_run: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    copy = tmp_path / "tiny"
    shutil.copytree(bundle, copy)

    def fill(_generator: object, folder: Path, _sizes: object) -> None:
        (folder / "paint.onnx").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(assembly, "write_graphs", fill)
    monkeypatch.setattr(sys, "argv", ["export", str(text_run), "--out", str(copy), "--force", "--engine", "none"])
    assert main() == 2
    said = capsys.readouterr().err
    assert said == (
        "export: No space left on device; nothing was written: make room and start the same command again\n"
    )
    assert (copy / "bundle.json").read_bytes() == (bundle / "bundle.json").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_a_bundle_that_cannot_be_moved_into_place_leaves_the_one_before(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, rename = tmp_path / "tiny", Path.rename
    shutil.copytree(bundle, copy)

    def fail(path: Path, target: Path) -> Path:
        if target == copy and path.parent == tmp_path:
            raise OSError(errno.EIO, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="Input/output error"), atomic_folder(copy, force=True) as folder:
        (folder / "bundle.json").write_text("{}")
    assert open_bundle(copy).manifest.name == open_bundle(bundle).manifest.name
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_an_internal_error_is_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("expected a tensor of another shape")

    monkeypatch.setattr(assembly, "export_run", fail)
    monkeypatch.setattr(sys, "argv", ["export", "run", "--out", str(tmp_path / "b")])
    with pytest.raises(RuntimeError, match="another shape"):
        main()


def test_weights_of_another_model_are_an_error(
    text_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = load_checkpoint(text_run / "finetune.pt")
    name, weight = next(iter(content["ema"].items()))
    (tmp_path / "run").mkdir()
    save_checkpoint(tmp_path / "run/finetune.pt", content | {"ema": content["ema"] | {name: weight[:1]}})
    monkeypatch.setattr(sys, "argv", ["export", str(tmp_path / "run"), "--out", str(tmp_path / "b")])
    assert main() == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "finetune.pt are not those of the model that it describes: it is damaged; delete it and train again" in said
    assert not (tmp_path / "b").exists()


def test_the_version_needs_no_installation(text_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version

    def not_installed(name: str) -> str:
        if name == "everframe":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", not_installed)
    _, config, facts = load_generator(text_run)
    assert provenance(config, facts)["software"]["everframe"] == runtime.__version__
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "runtime.__version__"}


def test_gates_point_the_right_way() -> None:
    assert ParityCheck("e", "fp32", "r", 1, 61.0, 70.0, 60.0, "dB").passed
    assert not ParityCheck("e", "fp32", "r", 1, 59.0, 70.0, 60.0, "dB").passed
    assert ParityCheck("e", "fp32", "r", 1, 1e-4, 1e-5, 2e-3, "relative error").passed
    assert not ParityCheck("e", "fp32", "r", 1, 1e-2, 1e-5, 2e-3, "relative error").passed


def test_without_text_there_are_no_words(tiny_run: Path) -> None:
    _, _, facts = load_generator(tiny_run)
    assert facts["words"] == ""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["absent", "--out", "b"],
            "export: no checkpoint in absent: expected hints.pt, polish.pt, finetune.pt or pretrain.pt; train first",
        ),
        (["n" * 300, "--out", "b"], f"export: the name {'n' * 60}... is too long for this file system: shorten it"),
        (["absent", "--out", "n" * 300], f"export: the name {'n' * 60}... is too long for this file system: shorten"),
        (["absent", "--out", "n" * 250], f"export: the name ./.{'n' * 57}... is too long for this file system: sho"),
        (
            ["from-onnx", "n" * 300, "--out", "b"],
            f"export: the name {'n' * 60}... is too long for this file system: sho",
        ),
        (["check", "n" * 300], f"export: {'n' * 300} is no folder; give the folder of a bundle"),
        (["absent"], "the following arguments are required: --out"),
    ],
)
def test_bad_input_ends_with_one_sentence_and_status_2(
    arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["export", *arguments])
    try:
        status = main()
    except SystemExit as left:
        status = left.code
    said = capsys.readouterr().err
    assert status == 2
    assert sentence in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
