from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from training.model.perceptual import PerceptualDistance

SHAPES = {0: (64, 3, 11, 11), 1: (192, 64, 5, 5), 2: (384, 192, 3, 3), 3: (256, 384, 3, 3), 4: (256, 256, 3, 3)}


def write_weights(path: Path, leave_out: str = "") -> Path:
    """Write a file of the published layout with weights of our own."""
    rng = np.random.default_rng(0)
    arrays = {"shift": np.full((1, 3, 1, 1), -0.1), "scale": np.full((1, 3, 1, 1), 0.5)}
    for index, shape in SHAPES.items():
        arrays[f"Conv_{index}.weight"] = rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape)
        arrays[f"Conv_{index}.bias"] = np.zeros(shape[0])
        arrays[f"lin{index}.weight"] = np.full((1, shape[0], 1, 1), 0.2)
    tensors = [numpy_helper.from_array(a.astype(np.float32), name) for name, a in arrays.items() if name != leave_out]
    onnx.save(helper.make_model(helper.make_graph([], "weights", [], [], tensors)), path)
    return path


def test_the_distance_is_zero_for_equal_pictures_and_grows_with_the_damage(tmp_path: Path) -> None:
    distance = PerceptualDistance(write_weights(tmp_path / "lpips.onnx"))
    torch.manual_seed(0)
    picture = torch.rand(2, 3, 64, 64)
    noise = torch.randn(2, 3, 64, 64)
    values = [distance((picture + amount * noise).clamp(0, 1), picture).item() for amount in (0, 0.05, 0.3)]
    assert values[0] == 0 < values[1] < values[2]


def test_the_gradient_reaches_the_picture_and_not_the_weights(tmp_path: Path) -> None:
    distance = PerceptualDistance(write_weights(tmp_path / "lpips.onnx"))
    made, real = torch.rand(1, 3, 64, 64, requires_grad=True), torch.rand(1, 3, 64, 64, requires_grad=True)
    distance(made, real).backward()
    assert made.grad is not None
    assert made.grad.abs().sum() > 0
    assert real.grad is None
    assert not list(distance.parameters())


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no lin3.weight: expected LPIPS with AlexNet"):
        PerceptualDistance(write_weights(tmp_path / "lpips.onnx", leave_out="lin3.weight"))
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    for name in ("junk.onnx", "absent.onnx"):
        with pytest.raises(ValueError, match="is no ONNX file that can be read"):
            PerceptualDistance(tmp_path / name)
