"""Files of TensorFlow Lite: sound ones, damaged ones, and those that need TensorFlow's converter."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F

from export.from_tflite import network
from export.from_tflite.conversion import convert
from export.from_tflite.network import UnsupportedError, read_network
from tests.damaged_files import damaged_count, damaged_seed
from tests.export.tflite_files import PRELU, UINT8, tflite_file

KERNEL = np.random.default_rng(0).normal(size=(3, 3, 3, 3)).astype(np.float32)
NUM_DAMAGED = damaged_count(250)


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "net.tflite"
    path.write_bytes(data)
    return path


def damaged(data: bytes, rng: random.Random, how: int) -> bytes:
    """Return a file that is cut, or has other bytes, or a number at the end of its range."""
    content = bytearray(data)
    if how == 0:
        return data[: rng.randrange(len(data))]
    if how == 1:
        for _ in range(rng.randrange(1, 40)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        return bytes(content)
    place = rng.randrange(8, len(content) - 4)
    content[place : place + 4] = rng.choice([b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x80"])
    return bytes(content)


def error_of(path: Path) -> ValueError | None:
    """Return the ValueError of a conversion; any other error is raised."""
    try:
        convert(path)
    except ValueError as error:
        return error
    return None


def test_a_sound_file_becomes_onnx(tmp_path: Path) -> None:
    pytest.importorskip("tflite")
    model = convert(written(tmp_path, tflite_file(KERNEL)))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    picture = np.random.default_rng(1).normal(size=(1, 3, 8, 6)).astype(np.float32)
    weight = torch.from_numpy(KERNEL.transpose(0, 3, 1, 2).copy())
    wanted = F.conv2d(torch.from_numpy(picture), weight, padding=1).relu().sigmoid().numpy()
    np.testing.assert_allclose(session.run(None, {"tensor0": picture})[0], wanted, atol=1e-6)


def test_damaged_files_are_one_clear_error(tmp_path: Path) -> None:
    pytest.importorskip("tflite")
    sound, rng = tflite_file(KERNEL), random.Random(damaged_seed(25))
    found = [error_of(written(tmp_path, damaged(sound, rng, number % 3))) for number in range(NUM_DAMAGED)]
    errors = [error for error in found if error is not None]  # other weights are no damage that can be seen
    print(f"{len(errors)} of {NUM_DAMAGED} refused")
    assert len(errors) > NUM_DAMAGED // 2
    assert all(str(error).isprintable() and len(str(error)) < 1000 for error in errors)
    assert all(isinstance(error, UnsupportedError) or "net.tflite is " in str(error) for error in errors)


def test_other_operations_and_types_are_for_tensorflow(tmp_path: Path) -> None:
    pytest.importorskip("tflite")
    with pytest.raises(UnsupportedError, match="the operation PRELU is not supported"):
        convert(written(tmp_path, tflite_file(KERNEL, last=PRELU)))
    with pytest.raises(UnsupportedError, match="tensor 0 is uint8, expected float32"):
        convert(written(tmp_path, tflite_file(KERNEL, kind=UINT8)))


def test_lists_and_constants_that_share_their_bytes_are_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tflite")
    monkeypatch.setattr(network, "_LEAST_BYTES", 0)
    kernel = np.zeros((2, 32, 32, 3), np.float32)  # nearly all of the file
    assert len(read_network(written(tmp_path, tflite_file(kernel, copies=3))).constants) == 5
    with pytest.raises(ValueError, match="constants and names take more than 4 times the size of the file"):
        read_network(written(tmp_path, tflite_file(kernel, copies=5)))
    monkeypatch.setattr(network, "_MAX_ENTRIES", 100)
    with pytest.raises(ValueError, match="its lists have more than 100 entries"):
        read_network(written(tmp_path, tflite_file(KERNEL, copies=30)))


def test_what_is_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no TensorFlow Lite file: its bytes 4 to 7 are b'etwo'"):
        read_network(written(tmp_path, b"no network at all"[:2] + b"--etwork"))
    with pytest.raises(ValueError, match=r"none\.tflite cannot be read: No such file"):
        read_network(tmp_path / "none.tflite")
