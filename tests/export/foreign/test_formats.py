"""Formats of models are found by content, whatever the name is, and each has its advice."""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import zipfile
from pathlib import Path

import pytest
import torch

from export.external_weights import read_graph
from export.foreign import formats
from export.foreign.conversion import onnx_file
from export.foreign.formats import ModelFormat, convertible_path, detect_format
from export.from_onnx.model import read_source
from tests.damaged_files import damaged_count, damaged_seed
from tests.export.from_onnx import foreign


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    return buffer.getvalue()


def torch_file(is_zip: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save({"weight": torch.zeros(2)}, buffer, _use_new_zipfile_serialization=is_zip)
    return buffer.getvalue()


def safetensors_file() -> bytes:
    header = json.dumps({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(4)


# The description's length is written in two bytes, and its first part is an input.
CORE_ML = b"\x08\x04\x12\x96\x01\x0a\x20\x0a\x05image" + bytes(200)
FROZEN = b"\x0a\x1e\x0a\x05input\x12\x0bPlaceholder" + bytes(20)
OPENVINO = b'<?xml version="1.0"?>\n<net name="model" version="11">\n'

FILES: dict[str, tuple[bytes, ModelFormat]] = {
    "tflite": (b"\x1c\0\0\0TFL3" + bytes(40), formats.TFLITE),
    "h5": (b"\x89HDF\r\n\x1a\n" + bytes(40), formats.KERAS),
    "keras": (zipped("metadata.json", "config.json", "model.weights.h5"), formats.KERAS),
    "pytorch": (torch_file(True), formats.TORCH),
    "old pytorch": (torch_file(False), formats.TORCH),
    "safetensors": (safetensors_file(), formats.SAFETENSORS),
    "graph model": (b'{"modelTopology": {}, "weightsManifest": []}', formats.TFJS_GRAPH),
    "layers model": (b'{"format": "layers-model", "weightsManifest": []}', formats.TFJS_LAYERS),
    "core ml": (CORE_ML, formats.CORE_ML),
    "frozen graph": (FROZEN, formats.FROZEN_GRAPH),
    "ncnn": (b"7767517\n75 83\nInput x 0 1 in0\n", formats.NCNN),
    "openvino": (OPENVINO, formats.OPENVINO),
    "ort": (b"\x10\0\0\0ORTM" + bytes(40), formats.ORT),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", formats.LFS),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_known_by_its_content(name: str, tmp_path: Path) -> None:
    content, wanted = FILES[name]
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert detect_format(path) == wanted
    if wanted.flag:
        return
    with pytest.raises(ValueError, match="and from-onnx reads ONNX: ") as caught, onnx_file(path):
        pass
    assert wanted.name in str(caught.value)
    assert wanted.advice in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("saved_model.pb", b"\x08\x01\x12\x03abc", formats.SAVED_MODEL),
        ("model_index.json", b"{}", formats.DIFFUSERS),
        ("model.json", FILES["graph model"][0], formats.TFJS_GRAPH),
        ("Manifest.json", b'{"rootModelIdentifier": "1"}', formats.CORE_ML),
        ("model.safetensors", b"", formats.SAFETENSORS),
    ],
)
def test_a_folder_is_known_by_its_files(name: str, content: bytes, wanted: ModelFormat, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert detect_format(tmp_path) == wanted


def test_what_the_converter_reads(tmp_path: Path) -> None:
    inner = tmp_path / "saved_model.pb"
    inner.write_bytes(b"\x08\x01\x12\x03abc")
    assert detect_format(inner) == formats.SAVED_MODEL
    assert convertible_path(inner, formats.SAVED_MODEL) == tmp_path
    assert convertible_path(tmp_path, formats.SAVED_MODEL) == tmp_path
    assert convertible_path(tmp_path, formats.TFJS_GRAPH) == tmp_path / "model.json"


@pytest.mark.parametrize(
    "content", [b"", b"\x08", b"{", b"[1]", b"PK\x03\x04broken", b"\x0a", pickle.dumps(1), b"<?xml?>"]
)
def test_what_is_unknown_is_left_to_the_import(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert detect_format(path) is None
    assert detect_format(tmp_path / "none.onnx") is None


def version_20(data: bytes) -> bytes:
    """Return a ZIP file whose entries ask for version 20.0 of the format."""
    place = data.index(b"PK\x01\x02") + 6
    return data[:place] + b"\xc8" + data[place + 1 :]


@pytest.mark.parametrize(
    "content",
    [version_20(torch_file(True)), version_20(FILES["keras"][0]), b'{"a":' * 200_000, b'{"a": ' + b"[" * 99_999],
)
def test_damaged_zip_and_json_files_are_left_to_the_import(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert detect_format(path) is None
    with pytest.raises(ValueError, match="cannot be read as ONNX"):
        read_graph(path)


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Return a file with one to three faults: a cut, other bytes, a number at its end, or a part twice or missing."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        how, place = rng.randrange(5), rng.randrange(len(data) + 1)
        if how == 0:
            del data[place:]
        elif how == 1:
            data[place : place + 1] = rng.randbytes(1)
        elif how == 2:
            data[place : place + 4] = rng.choice([b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x80"])
        elif how == 3:
            data[place:place] = data[place : place + rng.randint(1, 40)] * rng.randint(1, 200)
        else:
            del data[place : place + rng.randint(1, 9)]
    return bytes(data)


@pytest.mark.parametrize("name", FILES)
def test_damaged_files_have_a_format_or_are_one_error(name: str, tmp_path: Path) -> None:
    path, rng = tmp_path / "model", random.Random(f"{damaged_seed(41)} {name}")
    for _ in range(damaged_count(60)):
        path.write_bytes(damaged(FILES[name][0], rng))
        found = detect_format(path)
        if found is not None and found.flag:
            continue
        with pytest.raises(ValueError, match=r"\w") as caught, onnx_file(path) as file:
            read_source(file.path)
        assert str(caught.value).isprintable()
        assert 20 <= len(str(caught.value)) <= 1500


def test_a_json_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.json"
    path.write_bytes(FILES["graph model"][0])
    monkeypatch.setattr(formats, "_MAX_JSON_BYTES", path.stat().st_size - 1)
    assert detect_format(path) is None


def test_onnx_is_left_as_it_is(tmp_path: Path) -> None:
    path = foreign.style(tmp_path / "model.tflite")
    assert detect_format(path) is None
    with onnx_file(path) as found:
        assert found == (path, "")


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a folder without a model that is known here"), onnx_file(tmp_path):
        pass
