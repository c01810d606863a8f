"""Which framework a model file or folder is of, found by its content, and what to do with it.

The first bytes and the names inside of a folder or ZIP file are read; nothing of a model is run or unpickled.
"""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path
from typing import NamedTuple

_HEAD = 4096  # bytes from the beginning of a file that are looked at
_MAX_JSON_BYTES = 2**26  # of a model.json; its weights lie in other files
# What zipfile raises for a damaged file, beside OSError.
_ZIP_DAMAGE = (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, EOFError, struct.error)
_TF2ONNX = "pip install 'everframe[tensorflow]' && python -m tf2onnx.convert"


class ModelFormat(NamedTuple):
    """A format of models.

    Args:
        name: with its article, for a message.
        flag: tf2onnx's option that reads it; "" if it is not converted here.
        advice: what to do with a file that is not converted here.
    """

    name: str
    flag: str
    advice: str


TFLITE = ModelFormat("a TensorFlow Lite network", "--tflite", "")
SAVED_MODEL = ModelFormat("a TensorFlow SavedModel", "--saved-model", "")
TFJS_GRAPH = ModelFormat("a TensorFlow.js graph model", "--tfjs", "")
TFJS_LAYERS = ModelFormat(
    "a TensorFlow.js layers model",
    "",
    "give the Keras model or SavedModel that it was made from; or convert it with `tensorflowjs_converter "
    "--input_format=tfjs_layers_model --output_format=keras_saved_model model.json saved` (the package tensorflowjs, "
    "in a Python of its own), and give the folder saved to from-onnx",
)
FROZEN_GRAPH = ModelFormat(
    "a frozen TensorFlow graph",
    "",
    f"convert it with `{_TF2ONNX} --graphdef FILE.pb --inputs NAME:0 --outputs NAME:0 --opset 18 --output model.onnx`",
)
KERAS = ModelFormat(
    "a Keras model",
    "",
    "write it as a SavedModel with `python -c \"import keras; keras.models.load_model('FILE').export('saved')\"`, and "
    "give the folder saved to from-onnx (weights alone, .weights.h5, need the program that defines the network first)",
)
TORCH = ModelFormat(
    "PyTorch's weights or program",
    "",
    "export it in the program that defines the network, with `torch.onnx.export(model.eval(), (torch.zeros(1, 3, H, "
    "W),), 'model.onnx', opset_version=18)` (for a run of our training: `python -m export RUN --out BUNDLE`)",
)
SAFETENSORS = ModelFormat(
    "a file of weights without a network (safetensors)",
    "",
    "load it in the program that defines the network, and export that with `torch.onnx.export(model.eval(), "
    "(torch.zeros(1, 3, H, W),), 'model.onnx', opset_version=18)`",
)
DIFFUSERS = ModelFormat("a diffusers pipeline", "", "run `python -m export diffusers FOLDER --out BUNDLE`")
CORE_ML = ModelFormat(
    "a Core ML model",
    "",
    "export the PyTorch or TensorFlow model that it was made from; older ones, which are neural networks and not ML "
    "programs, are converted by onnxmltools (`onnxmltools.convert_coreml`)",
)
NCNN = ModelFormat("an ncnn network", "", "ncnn cannot write ONNX: export the PyTorch or ONNX model it was made from")
OPENVINO = ModelFormat(
    "an OpenVINO model", "", "OpenVINO cannot write ONNX: export the PyTorch, TensorFlow or ONNX model it was made from"
)
ORT = ModelFormat("a file of ONNX Runtime's own format", "", "give the .onnx file that it was made from")
LFS = ModelFormat("a pointer of Git LFS, not the model", "", "fetch the model with `git lfs pull`")


def detect_format(path: Path) -> ModelFormat | None:
    """Return the format of a file or folder; None for ONNX, and for what is unknown or does not exist."""
    try:
        if path.is_dir():
            return _of_folder(path)
        if not path.is_file():
            return None
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
        if head.startswith(b"PK\x03\x04"):
            return _of_zip(path)
        return _of_head(head, path)
    except OSError:
        return None


def convertible_path(path: Path, found: ModelFormat) -> Path:
    """Return what the converter reads: the folder of a saved_model.pb, the model.json of a folder, else the path."""
    if found == SAVED_MODEL and path.is_file():
        return path.parent
    if found == TFJS_GRAPH and path.is_dir():
        return path / "model.json"
    return path


def _of_folder(path: Path) -> ModelFormat | None:
    if (path / "saved_model.pb").is_file():
        return SAVED_MODEL
    if (path / "model_index.json").is_file():
        return DIFFUSERS
    if (path / "model.json").is_file():
        return detect_format(path / "model.json")
    manifest = path / "Manifest.json"
    if manifest.is_file() and b"rootModelIdentifier" in manifest.read_bytes()[:_HEAD]:
        return CORE_ML
    if (path / "metadata.json").is_file() and (path / "model.weights.h5").is_file():
        return KERAS
    if any(path.glob("*.safetensors")):
        return SAFETENSORS
    return None


def _of_zip(path: Path) -> ModelFormat | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except _ZIP_DAMAGE:
        return None
    if "model.weights.h5" in names:
        return KERAS
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return TORCH
    return None


def _of_head(head: bytes, path: Path) -> ModelFormat | None:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if head[4:8] == b"TFL3":
        return TFLITE
    if head[4:8] == b"ORTM":
        return ORT
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return KERAS
    if head.startswith(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."):  # torch.save before version 1.6
        return TORCH
    if text.startswith(b"version https://git-lfs"):
        return LFS
    if text.split(b"\n", 1)[0].strip() == b"7767517":
        return NCNN
    if text.startswith((b"<?xml", b"<net ")) and b"<net " in text:
        return OPENVINO
    if text.startswith(b"{"):
        return _of_json(path)
    if _is_safetensors(head, path):
        return SAFETENSORS
    if head.startswith(b"\x08\x01\x12") and path.name == "saved_model.pb":
        return SAVED_MODEL
    return _of_protobuf(head)


def _of_json(path: Path) -> ModelFormat | None:
    if path.stat().st_size > _MAX_JSON_BYTES:
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or "weightsManifest" not in content:
        return None
    return TFJS_LAYERS if content.get("format") == "layers-model" else TFJS_GRAPH


def _is_safetensors(head: bytes, path: Path) -> bool:
    """Return whether a file begins with the length of a header in JSON, and this header."""
    if len(head) < 10:
        return False
    length = struct.unpack("<Q", head[:8])[0]
    return bool(2 <= length <= path.stat().st_size - 8) and head[8:9] == b"{"


def _of_protobuf(head: bytes) -> ModelFormat | None:
    """Tell Core ML and frozen graphs from ONNX, which are all messages of protobuf without a mark.

    ONNX begins with the IR version and the producer's name. Core ML begins with its version and a description, whose
    first byte is the key of an input (0x0a), and a graph with a node (0x0a) whose first part is its name (0x0a).
    """
    if head[:1] == b"\x08" and head[2:3] == b"\x12":
        place = 3
        while place < len(head) and head[place] & 0x80:  # the length is a varint
            place += 1
        if head[place + 1 : place + 2] == b"\x0a":
            return CORE_ML
    if head[:1] == b"\x0a":
        place = 1
        while place < len(head) and head[place] & 0x80:
            place += 1
        if head[place + 1 : place + 2] == b"\x0a":
            return FROZEN_GRAPH
    return None
