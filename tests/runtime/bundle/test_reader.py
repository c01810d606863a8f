"""A bundle on disk: every damage is a BundleError before an engine sees anything."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime import BundleError, Generator
from runtime.bundle.manifest import manifest_sha256
from runtime.bundle.reader import open_bundle, read_manifest, write_manifest


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle that a test may damage."""
    return shutil.copytree(bundle, tmp_path / "copy", ignore=shutil.ignore_patterns("engines"))


def rewrite(folder: Path, **changes: Any) -> None:
    """Change keys of a manifest and update its hash."""
    value = json.loads((folder / "bundle.json").read_text()) | changes
    value["sha256"] = manifest_sha256(value)
    (folder / "bundle.json").write_text(json.dumps(value))


def test_a_whole_bundle_opens(bundle: Path) -> None:
    opened = open_bundle(bundle)
    assert opened.manifest.name == "tiny"
    assert opened.condition is not None
    assert open_bundle(str(bundle)).manifest == opened.manifest


@pytest.mark.parametrize("name", ["step.onnx", "condition.onnx", "bundle.json"])
def test_every_flipped_bit_is_noticed(copy: Path, name: str) -> None:
    file = copy / name
    data = file.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(data), 60).tolist():
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(flipped)
        if name == "bundle.json" and flipped.isascii() and _is_same_json(data, flipped):
            continue  # a space became another one
        with pytest.raises(BundleError):
            open_bundle(copy)


def _is_same_json(one: bytes, other: bytes) -> bool:
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return False


@pytest.mark.parametrize("name", ["step.onnx", "condition.onnx", "bundle.json"])
def test_every_truncation_is_noticed(copy: Path, name: str) -> None:
    file = copy / name
    data = file.read_bytes()
    for length in (0, 1, 2, len(data) // 3, len(data) // 2, len(data) - 2):
        file.write_bytes(data[:length])
        with pytest.raises(BundleError, match=name.replace(".", r"\.")):
            open_bundle(copy)


@pytest.mark.parametrize("name", ["step.onnx", "condition.onnx", "bundle.json"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        open_bundle(copy)


def test_an_edited_manifest_is_noticed(copy: Path) -> None:
    file = copy / "bundle.json"
    file.write_text(file.read_text().replace("A picture that sways", "A picture that moves"))
    with pytest.raises(BundleError, match="was changed"):
        open_bundle(copy)


def test_a_swapped_graph_is_noticed(copy: Path) -> None:
    shutil.copy(copy / "condition.onnx", copy / "step.onnx")
    with pytest.raises(BundleError, match=r"step\.onnx has \d+ bytes, expected"):
        open_bundle(copy)


def test_a_link_out_of_the_bundle_is_refused(copy: Path, tmp_path: Path) -> None:
    shutil.move(copy / "step.onnx", tmp_path / "elsewhere.onnx")
    (copy / "step.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(BundleError, match="leads out of the bundle"):
        open_bundle(copy)


def test_a_link_within_the_bundle_is_fine(copy: Path) -> None:
    shutil.move(copy / "step.onnx", copy / "real.onnx")
    (copy / "step.onnx").symlink_to("real.onnx")
    assert open_bundle(copy).manifest.name == "tiny"


def test_a_loop_of_links_and_a_pipe_are_refused(copy: Path) -> None:
    (copy / "step.onnx").unlink()
    (copy / "step.onnx").symlink_to("step.onnx")
    with pytest.raises(BundleError, match=r"step\.onnx"):
        open_bundle(copy)
    (copy / "step.onnx").unlink()
    os.mkfifo(copy / "step.onnx")
    with pytest.raises(BundleError, match="not a regular file"):
        open_bundle(copy)


def test_a_path_upwards_is_refused_even_with_a_hash_that_fits(copy: Path) -> None:
    value = json.loads((copy / "bundle.json").read_text())
    spec = value["files"]["step.onnx"]
    rewrite(copy, files=value["files"] | {"../copy/step.onnx": spec})
    with pytest.raises(BundleError, match="is not allowed"):
        open_bundle(copy)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b"[]", "must be an object, got"),
        (b"\xff\xfe", "is not JSON"),
        (b'{"schema": 1, "schema": 1}', "a key appears twice"),
        (b'{"schema": NaN}', "NaN is not JSON"),
        (b"[" * 200_000, "is not JSON"),
        (b'{"schema": ' + b"9" * 5000 + b"}", "is not JSON"),
        (b'{"schema": 1' + b" " * (4 * 2**20) + b"}", "is larger than"),
    ],
)
def test_an_invalid_manifest_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "bundle.json").write_bytes(content)
    with pytest.raises(BundleError, match=message):
        read_manifest(tmp_path)


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"holds no bundle\.json"):
        Generator.open(tmp_path)
    with pytest.raises(BundleError, match="is no folder"):
        Generator.open(tmp_path / "nowhere")
    (tmp_path / "bundle.json").mkdir()
    with pytest.raises(BundleError, match=r"holds no bundle\.json"):
        Generator.open(tmp_path)


def test_unlisted_files_are_ignored(copy: Path) -> None:
    (copy / ".DS_Store").write_bytes(b"x")
    assert ".DS_Store" not in open_bundle(copy).manifest.files


def test_writing_a_manifest_fills_in_hashes(copy: Path) -> None:
    (copy / "golden").mkdir()
    (copy / "golden" / "extra.npz").write_bytes(b"abc")
    (copy / "engines").mkdir()
    (copy / "engines" / "cache.bin").write_bytes(b"abc")
    value = json.loads((copy / "bundle.json").read_text())
    manifest = write_manifest(copy, value | {"files": {}, "sha256": ""})
    assert set(manifest.files) == {"step.onnx", "condition.onnx", "golden/extra.npz"}
    assert manifest.files["golden/extra.npz"].size_bytes == 3
    assert open_bundle(copy).manifest == manifest
    assert [file.name for file in copy.glob(".*")] == []


def test_a_manifest_that_breaks_the_contract_is_not_written(copy: Path) -> None:
    before = (copy / "bundle.json").read_bytes()
    value = json.loads(before)
    with pytest.raises(BundleError, match="unknown key"):
        write_manifest(copy, value | {"extra": 1})
    assert (copy / "bundle.json").read_bytes() == before
