"""The planar layout: rewritten operations compute the same, others are not changed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import openvino
import pytest

from runtime.engines.openvino_layout import keep_planar, linear_matrix
from tests.tiny import GraphBuilder, tensor

HEIGHT, WIDTH = 64, 96


def read(channels: int, dtype: str = "float32") -> Any:
    """Return a model of pooling, enlarging, shuffling and slicing a picture (1, channels, H, W)."""
    graph = GraphBuilder()
    small = graph.add("AveragePool", "x", kernel_shape=[8, 4], strides=[8, 4])
    size = graph.constant([1, channels, HEIGHT, WIDTH], np.int64)
    large = graph.add("Resize", small, "", "", size, mode="linear", coordinate_transformation_mode="half_pixel")
    graph.add("Sub", "x", large, out="detail")
    half = graph.add("AveragePool", "x", kernel_shape=[2, 2], strides=[2, 2])
    weights = graph.constant(np.random.default_rng(5).normal(size=(4 * (channels + 1), channels, 3, 3)), dtype)
    whole = graph.add("DepthToSpace", graph.add("Conv", half, weights, pads=[1, 1, 1, 1]), blocksize=2, mode="CRD")
    sides = graph.constant([1, channels, HEIGHT // 2, 2, WIDTH // 2, 2], np.int64)
    parts = graph.add("Transpose", graph.add("Reshape", "x", sides), perm=[0, 1, 3, 5, 2, 4])
    blocks = (1, 4 * channels, HEIGHT // 2, WIDTH // 2)
    graph.add("Reshape", parts, graph.constant(blocks, np.int64), out="blocks")
    first, border, end, axis = (graph.constant([value], np.int64) for value in (0, channels, channels + 1, 1))
    graph.add("Slice", whole, first, border, axis, axis, out="colour")
    graph.add("Slice", whole, border, end, axis, axis, out="mask")
    shapes = {"detail": channels, "colour": channels, "mask": 1}
    inputs = [tensor("x", dtype, (1, channels, HEIGHT, WIDTH), "live")]
    outputs = [tensor(name, dtype, (1, count, HEIGHT, WIDTH), "frame") for name, count in shapes.items()]
    outputs.append(tensor("blocks", dtype, blocks, "frame"))
    return openvino.Core().read_model(graph.to_model(inputs, outputs).SerializeToString())


def infer(model: Any, x: Any) -> dict[str, Any]:
    """Run a model in FP32 and return its outputs by name."""
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = compiled([x])
    return {name: np.array(results[name]) for name in ("detail", "colour", "mask", "blocks")}


def kinds(model: Any) -> Counter[str]:
    """Count a model's operations by type."""
    return Counter(node.get_type_name() for node in model.get_ordered_ops())


@pytest.mark.parametrize(
    ("channels", "dtype", "tolerance"),
    [(1, "float32", 2e-5), (3, "float32", 2e-5), (6, "float32", 2e-5), (3, "float16", 2e-3)],
)
def test_rewritten_operations_compute_the_same(channels: int, dtype: str, tolerance: float) -> None:
    x = np.random.default_rng(1).random((1, channels, HEIGHT, WIDTH), np.float32).astype(dtype)
    model = read(channels, dtype)
    before = infer(model, x)
    keep_planar(model)
    assert kinds(model).keys().isdisjoint({"AvgPool", "Interpolate"})
    assert kinds(model)["Convolution"] == 2  # the other one shuffles pixels
    after = infer(model, x)
    for name, value in before.items():
        assert value.dtype == after[name].dtype == dtype
        np.testing.assert_allclose(after[name], value, atol=tolerance, rtol=tolerance)


def test_features_stay_as_they_are() -> None:
    model = read(16)
    before = kinds(model)
    keep_planar(model)
    assert kinds(model) == before


@pytest.mark.parametrize(("wanted", "count"), [(8, 2), (96, 24), (10, 4), (5, 1), (7, 7)])
def test_the_matrix_enlarges_linearly(wanted: int, count: int) -> None:
    matrix = linear_matrix(wanted, count)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)
    values = np.random.default_rng(2).random(count)
    centres = (np.arange(wanted) + 0.5) * count / wanted - 0.5
    np.testing.assert_allclose(matrix @ values, np.interp(centres, np.arange(count), values), atol=1e-6)
