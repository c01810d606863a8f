"""A generator read back from a bundle makes the bundle's frames."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from export.onnx_writer import write_graphs
from export.parity.engines import compare_loop
from export.parity.reference import ReferencePrompt, reference_loop
from runtime.bundle.reader import write_manifest
from training import checkpoint
from training.bundle import SEEING, bundle_start
from training.checkpoint import load_checkpoint, part_of
from training.config import config_from_dict
from training.model.enlarger import Enlarger
from training.model.generator import VideoGenerator
from training.start import Start

SHIPPED = Path(__file__).parents[2] / "bundles"


def generator_of(start: Start) -> VideoGenerator:
    """Return the generator of a start, with its enlarger."""
    generator = VideoGenerator(config_from_dict(start.settings).model)
    generator.load_state_dict(start.weights)
    if start.enlarger is not None:
        settings = start.enlarger["config"]["enlarge"]
        generator.enlarger = Enlarger(settings["channels"], settings["layers"])
        generator.enlarger.load_state_dict(start.enlarger["ema"])
    generator.eval()
    return generator


def changed(bundle: Path, out: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Copy a bundle with another manifest."""
    shutil.copytree(bundle, out)
    manifest = json.loads((out / "bundle.json").read_text())
    change(manifest)
    write_manifest(out, manifest)
    return out


def test_the_weights_are_those_that_were_exported(text_bundle: Path, text_run: Path) -> None:
    start = bundle_start(text_bundle)
    original = part_of(load_checkpoint(text_run / "finetune.pt")["ema"], "generator.")
    assert set(start.weights) == set(original)
    unseen = ("stem", "down8", "down16", "down32", *SEEING.values())
    for name, value in original.items():
        if not name.startswith(tuple(f"condition.painter.{layer}." for layer in unseen)):
            torch.testing.assert_close(start.weights[name], value, atol=1e-3, rtol=1e-3, msg=name)
    assert start.footage == [
        (f"{row[2]} {number}", row[1], row[2])
        for number, row in enumerate(load_checkpoint(text_run / "finetune.pt")["footage"])
    ]
    assert start.enlarger is not None
    assert start.enlarger["footage"] == [("made by the tests 0", "CC0-1.0", "made by the tests")]
    assert {"waterfall", "sea"} <= set(start.vocabulary)


def test_it_makes_the_frames_of_the_bundle(text_bundle: Path) -> None:
    start = bundle_start(text_bundle)
    generator = generator_of(start)
    picture = np.random.default_rng(0).integers(0, 256, (32, 64, 3), np.uint8)
    for prompt in (ReferencePrompt(), ReferencePrompt(image=picture)):
        frames = [made.frame.copy() for made in islice(reference_loop(generator, (64, 64), (64, 32), 7, prompt), 30)]
        check = compare_loop(text_bundle, "onnxruntime", "fp32", "read back", 7, prompt, frames, threads=1)
        assert check.worst > 60


def test_settings_are_in_the_graphs_too(text_bundle: Path, tmp_path: Path) -> None:
    """Bundles of earlier releases do not have the section `model`."""
    known = json.loads((text_bundle / "bundle.json").read_text())["provenance"]["training"]["model"]
    older = changed(text_bundle, tmp_path / "older", lambda manifest: manifest["provenance"]["training"].pop("model"))
    found = bundle_start(older).settings["model"]
    assert found == pytest.approx(known)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("landscape", {"text_dimensions": 64, "components": 80, "mixing": 0.9, "pace": 0.75, "sharpness": 1.7,
                       "painted_sharpness": 1.0, "period_frames": 32}),
        ("satellite", {"text_dimensions": 0, "components": 128, "mixing": 0.8, "pace": 0.85, "sharpness": 1.25,
                       "painted_sharpness": 1.45, "period_frames": 20}),
    ],
)  # fmt: skip
def test_shipped_bundles_are_read_back_exactly(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    """Their graphs, exported again, have the same constants, for both shapes."""
    start = bundle_start(SHIPPED / name)
    assert settings.items() <= start.settings["model"].items()
    write_graphs(generator_of(start), tmp_path, ((448, 256), (256, 448)))
    files = sorted((SHIPPED / name).glob("*.onnx"))
    assert len(files) == 5
    for file in files:
        old, new = (
            {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(folder / file.name).graph.initializer}
            for folder in (SHIPPED / name, tmp_path)
        )
        if file.name.startswith("condition"):  # it now reads hints, too; constants without a name are numbered anew
            old = {key: value for key, value in old.items() if key.startswith("encoder.")}
            assert len(old) > 40
            assert [key for key in new if key in old] == list(old)
            assert all(key.startswith("encoder.hints.") for key in new if key.startswith("encoder.") and key not in old)
        else:
            assert list(old) == list(new)
        for key, value in old.items():
            is_computed = key in SEEING or key.startswith(("unsqueeze", "neg"))  # a mean; an exponential of a logarithm
            np.testing.assert_allclose(new[key], value, rtol=0, atol=1e-7 if is_computed else 0, err_msg=key)


def test_a_missing_weight_is_an_error_unless_it_is_optional(
    text_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "less"
    shutil.copytree(text_bundle, out)
    file = out / "condition-64x64.onnx"
    model = onnx.load(file)
    for tensor in model.graph.initializer:
        if tensor.name == "encoder.to_flow.bias":
            tensor.name = "another"
    file.write_bytes(model.SerializeToString())
    manifest = json.loads((out / "bundle.json").read_text())
    write_manifest(out, manifest)
    with pytest.raises(
        ValueError, match=r"has not the weights of its model: condition\.encoder\.to_flow\.bias is miss"
    ):
        bundle_start(out)
    monkeypatch.setattr(checkpoint, "OPTIONAL", ("condition.encoder.to_flow.bias",))
    assert bundle_start(out).weights["condition.encoder.to_flow.bias"].shape == (3,)


def test_an_imported_model_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"person is an imported model or a bundle of schema 1, expected one of schema 2"
    ):
        bundle_start(SHIPPED / "person")


def test_a_damaged_file_is_refused(text_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "damaged"
    shutil.copytree(text_bundle, out)
    with (out / "paint.onnx").open("ab") as file:
        file.write(b"0")
    with pytest.raises(ValueError, match=r"paint\.onnx is damaged, its SHA-256 is not the manifest's"):
        bundle_start(out)
    (out / "paint.onnx").unlink()
    with pytest.raises(ValueError, match=r"paint\.onnx is missing"):
        bundle_start(out)


def test_a_manifest_without_its_parts_is_refused(text_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "parts"
    shutil.copytree(text_bundle, out)
    manifest = json.loads((out / "bundle.json").read_text())
    del manifest["graphs"]["paint"]
    (out / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"cannot be read back \(KeyError: 'paint'\)"):
        bundle_start(out)
    (out / "bundle.json").write_text("[")
    with pytest.raises(ValueError, match=r"bundle\.json cannot be read"):
        bundle_start(out)
