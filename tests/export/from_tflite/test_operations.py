"""TensorFlow Lite networks as ONNX: each operation against PyTorch."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F

from export.from_tflite.conversion import to_onnx
from export.from_tflite.network import Network, Operation, UnsupportedError

RANDOM = np.random.default_rng(0)


class Options:
    """Options as the schema's reader gives them: a method each."""

    def __init__(self, **values: int) -> None:
        self._values = values

    def __getattr__(self, name: str) -> Any:
        return lambda: self._values.get(name, 0)


def weights(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def network_of(operation: Operation, picture: np.ndarray, constants: dict[int, np.ndarray], shape: tuple) -> Network:
    """A network of one operation: tensor 0 is the input, 9 the output."""
    shapes: list[tuple[int, ...]] = [picture.shape, *((),) * 8, shape]
    for number, array in constants.items():
        shapes[number] = array.shape
    return Network(shapes, constants, [(0, "in")], [(9, "out")], [operation])


def played(operation: Operation, picture: np.ndarray, constants: dict[int, np.ndarray], shape: tuple) -> np.ndarray:
    """Return the output (NHWC) of one operation in ONNX Runtime."""
    model = to_onnx(network_of(operation, picture, constants, shape))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"in": np.ascontiguousarray(picture.transpose(0, 3, 1, 2))})[0]
    assert found.shape == (shape[0], shape[3], shape[1], shape[2])
    return found.transpose(0, 2, 3, 1)


def planes(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(0, 3, 1, 2)))


def nhwc(tensor: torch.Tensor) -> np.ndarray:
    return tensor.permute(0, 2, 3, 1).numpy()


def test_a_strided_convolution_pads_below_and_to_the_right() -> None:
    picture, kernel, bias = weights(1, 8, 6, 3), weights(5, 3, 3, 3), weights(5)
    operation = Operation(
        "CONV_2D", [0, 1, 2], [9], Options(StrideH=2, StrideW=2, DilationHFactor=1, DilationWFactor=1), b""
    )
    found = played(operation, picture, {1: kernel, 2: bias}, (1, 4, 3, 5))
    padded = F.pad(planes(picture), (0, 1, 0, 1))  # SAME: a single row goes below
    wanted = F.conv2d(padded, torch.from_numpy(kernel.transpose(0, 3, 1, 2).copy()), torch.from_numpy(bias), 2)
    np.testing.assert_allclose(found, nhwc(wanted), atol=1e-5)


@pytest.mark.parametrize(("padding", "size"), [(0, (8, 6)), (1, (4, 2))])
def test_a_depthwise_convolution_with_an_activation(padding: int, size: tuple[int, int]) -> None:
    picture, kernel = weights(1, 8, 6, 4), weights(1, 5, 5, 4)
    options = Options(
        StrideH=1, StrideW=1, DilationHFactor=1, DilationWFactor=1, Padding=padding, FusedActivationFunction=3
    )
    found = played(Operation("DEPTHWISE_CONV_2D", [0, 1, -1], [9], options, b""), picture, {1: kernel}, (1, *size, 4))
    whole = torch.from_numpy(kernel.transpose(3, 0, 1, 2).copy())
    wanted = F.conv2d(planes(picture), whole, padding=0 if padding else 2, groups=4).clamp(0, 6)
    np.testing.assert_allclose(found, nhwc(wanted), atol=1e-5)


def test_mediapipes_transposed_convolution() -> None:
    picture, kernel, bias = weights(1, 3, 4, 6), weights(2, 2, 2, 6), weights(2)
    operation = Operation("Convolution2DTransposeBias", [0, 1, 2], [9], None, struct.pack("<3i", 1, 2, 2))
    found = played(operation, picture, {1: kernel, 2: bias}, (1, 6, 8, 2))
    wanted = F.conv_transpose2d(
        planes(picture), torch.from_numpy(kernel.transpose(3, 0, 1, 2).copy()), torch.from_numpy(bias), 2
    )
    np.testing.assert_allclose(found, nhwc(wanted), atol=1e-5)


@pytest.mark.parametrize(("how", "corners"), [({"HalfPixelCenters": 1}, False), ({"AlignCorners": 1}, True)])
def test_enlargement(how: dict[str, int], corners: bool) -> None:
    picture = weights(1, 3, 4, 2)
    operation = Operation("RESIZE_BILINEAR", [0, 1], [9], Options(**how), b"")
    found = played(operation, picture, {1: np.array([6, 8], np.int32)}, (1, 6, 8, 2))
    wanted = F.interpolate(planes(picture), (6, 8), mode="bilinear", align_corners=corners)
    np.testing.assert_allclose(found, nhwc(wanted), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "function"),
    [("RELU", F.relu), ("LOGISTIC", torch.sigmoid), ("HARD_SWISH", F.hardswish)],
)
def test_functions_of_single_values(name: str, function: Any) -> None:
    picture = 4 * weights(1, 3, 4, 2)
    found = played(Operation(name, [0], [9], None, b""), picture, {}, picture.shape)
    np.testing.assert_allclose(found, nhwc(function(planes(picture))), atol=1e-5)


def test_means_pools_sums_and_joins() -> None:
    picture, other = weights(1, 4, 6, 2), weights(1, 4, 6, 2)
    mean = played(Operation("MEAN", [0, 1], [9], None, b""), picture, {1: np.array([1, 2], np.int32)}, (1, 1, 1, 2))
    np.testing.assert_allclose(mean, picture.mean(axis=(1, 2), keepdims=True), atol=1e-6)
    pool = Options(FilterHeight=4, FilterWidth=6, StrideH=4, StrideW=6, Padding=1)
    pooled = played(Operation("AVERAGE_POOL_2D", [0], [9], pool, b""), picture, {}, (1, 1, 1, 2))
    np.testing.assert_allclose(pooled, mean, atol=1e-6)
    total = played(
        Operation("ADD", [0, 1], [9], Options(FusedActivationFunction=1), b""), picture, {1: other}, picture.shape
    )
    np.testing.assert_allclose(total, np.maximum(picture + other, 0), atol=1e-6)
    joined = played(Operation("CONCATENATION", [0, 1], [9], Options(Axis=3), b""), picture, {1: other}, (1, 4, 6, 4))
    np.testing.assert_array_equal(joined, np.concatenate([picture, other], axis=3))


def test_a_vector_beside_a_picture_belongs_to_its_channels() -> None:
    picture, factor = weights(1, 4, 2, 2), weights(2)
    found = played(Operation("MUL", [0, 1], [9], None, b""), picture, {1: factor}, picture.shape)
    np.testing.assert_allclose(found, picture * factor, atol=1e-6)


@pytest.mark.parametrize("shape", [(), (2,), (4, 2), (1, 2), (3, 4, 2), (3, 1, 1), (1, 1, 2)])
def test_a_constant_of_fewer_dimensions_has_the_last_axes_of_a_picture(shape: tuple[int, ...]) -> None:
    picture, constant = weights(1, 3, 4, 2), weights(*shape)
    found = played(Operation("ADD", [0, 1], [9], None, b""), picture, {1: constant}, picture.shape)
    np.testing.assert_allclose(found, picture + constant, atol=1e-6)


def test_a_cube_beside_a_square_picture_is_not_mixed_up() -> None:
    picture, constant = weights(1, 8, 8, 8), weights(1, 8, 8)
    found = played(Operation("ADD", [0, 1], [9], None, b""), picture, {1: constant}, picture.shape)
    np.testing.assert_allclose(found, picture + constant, atol=1e-6)


def test_a_computed_tensor_of_fewer_dimensions_beside_a_picture_is_for_tensorflow() -> None:
    picture = weights(1, 8, 8, 8)
    network = network_of(Operation("ADD", [0, 1], [9], None, b""), picture, {}, picture.shape)
    network.shapes[1] = (8, 8, 8)
    with pytest.raises(UnsupportedError, match="tensor 1 has 3 dimensions and is computed"):
        to_onnx(network._replace(inputs=[(0, "in"), (1, "other")]))


def test_a_grouped_convolution() -> None:
    picture, kernel = weights(1, 5, 6, 4), weights(6, 3, 3, 2)
    options = Options(StrideH=1, StrideW=1, DilationHFactor=1, DilationWFactor=1)
    operation = Operation("CONV_2D", [0, 1, -1], [9], options, b"")
    found = played(operation, picture, {1: kernel}, (1, 5, 6, 6))
    wanted = F.conv2d(planes(picture), torch.from_numpy(kernel.transpose(0, 3, 1, 2).copy()), padding=1, groups=2)
    np.testing.assert_allclose(found, nhwc(wanted), atol=1e-5)


@pytest.mark.parametrize("depth", [0, 3])
def test_weights_that_do_not_divide_the_channels_are_damaged(depth: int) -> None:
    picture, options = weights(1, 5, 6, 4), Options(StrideH=1, StrideW=1, DilationHFactor=1, DilationWFactor=1)
    operation = Operation("CONV_2D", [0, 1, -1], [9], options, b"")
    with pytest.raises(ValueError, match=f"CONV_2D has 4 channels, and weights for {depth}"):
        to_onnx(network_of(operation, picture, {1: weights(6, 3, 3, depth)}, (1, 5, 6, 6)))


@pytest.mark.parametrize("names", [("constant0", "t9"), ("t9", "constant1"), ("same", "same")])
def test_names_of_inputs_and_outputs_are_never_those_of_other_values(names: tuple[str, str]) -> None:
    picture = weights(1, 4, 6, 2)
    operation = Operation("ADD", [0, 1], [9], Options(FusedActivationFunction=3), b"")
    network = network_of(operation, picture, {1: weights(2)}, picture.shape)
    model = to_onnx(network._replace(inputs=[(0, names[0])], outputs=[(9, names[1])]))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert [item.name for item in session.get_inputs()] == [names[0]]
    assert [item.name for item in session.get_outputs()] == [names[1] + "_" * (names[0] == names[1])]


def test_constants_that_very_many_operations_share_are_for_tensorflow() -> None:
    picture = weights(1, 8, 8, 512)
    add = Operation("ADD", [0, 1], [9], None, b"")
    network = network_of(add, picture, {1: weights(8, 512)}, picture.shape)  # 16 KiB
    assert len(to_onnx(network._replace(operations=[add] * 60)).graph.initializer) == 60
    with pytest.raises(UnsupportedError, match="its operations share constants more than 8 times"):
        to_onnx(network._replace(operations=[add] * 100))


def test_what_is_not_supported_is_named() -> None:
    picture = weights(1, 4, 6, 2)
    network = network_of(Operation("LSTM", [0], [9], None, b""), picture, {}, picture.shape)
    more = [*network.operations, Operation("PRELU", [0], [9], None, b"")]
    with pytest.raises(UnsupportedError, match="the operation LSTM is not supported"):
        to_onnx(network)
    with pytest.raises(UnsupportedError, match="the operations LSTM, PRELU are not supported"):
        to_onnx(network._replace(operations=more))
    options = Options(StrideH=1, StrideW=1, DilationHFactor=2, DilationWFactor=2)
    dilated = Operation("CONV_2D", [0, 1, -1], [9], options, b"")
    with pytest.raises(UnsupportedError, match="dilated convolutions are not supported"):
        to_onnx(network_of(dilated, picture, {1: weights(2, 3, 3, 2)}, picture.shape))
    mean = Operation("MEAN", [0, 1], [9], None, b"")
    with pytest.raises(UnsupportedError, match="a mean over the axes"):
        to_onnx(network_of(mean, picture, {1: np.array([3], np.int32)}, (1, 4, 6, 1)))


def test_a_stride_of_zero_is_no_convolution() -> None:
    picture = weights(1, 4, 6, 2)
    options = Options(StrideH=0, StrideW=1, DilationHFactor=1, DilationWFactor=1)
    with pytest.raises(ValueError, match=r"CONV_2D has the kernel \[3, 3\] and the strides \[0, 1\]"):
        to_onnx(
            network_of(Operation("CONV_2D", [0, 1], [9], options, b""), picture, {1: weights(2, 3, 3, 2)}, (1,) * 4)
        )
