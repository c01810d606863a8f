"""Memory layout in OpenVINO's CPU plugin: rewrites operations on pictures so that their channels stay in planes.

The plugin stores channels in blocks of 16, which is fast for features. A picture of 3 channels then takes five times
its memory and is converted to blocks and back at every pooling, interpolation and pixel shuffle: 2 of 7 ms per frame at
256 x 256. So operations on few channels are replaced by ones that support planes only. Values differ only by rounding.
The constants of the replacements are FP32; values of other floating-point types are converted to it and back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_MAX_CHANNELS = 8  # channels
_MIN_PIXELS = 4096  # smaller planes gain nothing


def keep_planar(model: Any) -> None:
    """Rewrite operations that would convert a few large planes to blocks; changes the model in place."""
    for node in model.get_ordered_ops():
        rewrite = _REWRITES.get(node.get_type_name())
        outputs = [] if rewrite is None else rewrite(node)
        for before, replaced in zip(node.outputs(), outputs, strict=False):
            after = _in_type_of(before, replaced)
            after.get_tensor().add_names(before.get_names())
            for target in before.get_target_inputs():
                target.replace_source_output(after)


def _average(node: Any) -> list[Any]:
    """Replace an average pooling of a few planes by two means over one axis each."""
    before, after = _shape(node.input_value(0)), _shape(node.output(0))
    options = node.get_attributes()
    size = list(options["kernel"])
    is_plain = size == list(options["strides"]) and not any((*options["pads_begin"], *options["pads_end"]))
    if not (_is_picture(before) and is_plain and before[2:] == [after[2] * size[0], after[3] * size[1]]):
        return []
    channels, rows, columns = after[1:]
    value = _reshaped(node.input_value(0), channels * rows, size[0], before[3])
    value = _reshaped(_operations().reduce_mean(value, 1, keep_dims=False), channels * rows * columns, size[1])
    return [_reshaped(_operations().reduce_mean(value, 1, keep_dims=False), *after).output(0)]


def _enlarge(node: Any) -> list[Any]:
    """Replace a bilinear upsampling of a few planes by products with two constant matrices."""
    before, after = _shape(node.input_value(0)), _shape(node.output(0))
    options = node.get_attributes()
    is_linear = options["mode"] in ("linear", "linear_onnx") and not options["antialias"]
    is_centred = options["coordinate_transformation_mode"] == "half_pixel"
    is_real = node.get_output_element_type(0).is_real()
    if not (_is_picture(after) and is_linear and is_centred and is_real and before[1] == after[1]):
        return []
    if before[2] > after[2] or before[3] > after[3]:
        return []
    rows, columns = (linear_matrix(*sizes) for sizes in zip(after[2:], before[2:], strict=True))
    wide = _operations().matmul(_in_fp32(node.input_value(0)), _constant(columns), False, True)
    return [_operations().matmul(_constant(rows), wide, False, False).output(0)]


def _slice(node: Any) -> list[Any]:
    """Replace a channel slice after DepthToSpace by a slice of rows of a matrix, which is never blocked."""
    shape, wanted = _shape(node.input_value(0)), _shape(node.output(0))
    bounds = [node.input_value(index).get_node() for index in range(1, node.get_input_size())]
    if node.input_value(0).get_node().get_type_name() != "DepthToSpace" or not _is_picture(shape):
        return []
    if shape[2:] != wanted[2:] or not all(bound.get_type_name() == "Constant" for bound in bounds):
        return []
    if len(bounds) != 4 or [int(bound.get_data().ravel()[0]) for bound in bounds[2:]] != [1, 1]:
        return []
    first = int(bounds[0].get_data().ravel()[0])
    rows = _reshaped(node.input_value(0), shape[1], shape[2] * shape[3])
    start, stop, step = (_constant(np.array([value], np.int64)) for value in (first, first + wanted[1], 1))
    part = _operations().slice(rows, start, stop, step, _constant(np.array([0], np.int64)))
    return [_reshaped(part, *wanted).output(0)]


def _unshuffle(node: Any) -> list[Any]:
    """Replace a pixel unshuffle of a few planes before a convolution by a convolution with ones."""
    transpose = node.input_value(0).get_node()
    if transpose.get_type_name() != "Transpose" or transpose.input_value(0).get_node().get_type_name() != "Reshape":
        return []
    order, six = transpose.input_value(1).get_node(), _shape(transpose.input_value(0))
    picture = transpose.input_value(0).get_node().input_value(0)
    if order.get_type_name() != "Constant" or order.get_data().ravel().tolist() != [0, 1, 3, 5, 2, 4]:
        return []
    channels, rows, high, columns, wide = six[1:]
    blocks = [1, channels * high * wide, rows, columns]
    if _shape(picture) != [1, channels, rows * high, columns * wide] or _shape(node.output(0)) != blocks:
        return []
    if not _is_picture(_shape(picture)) or not node.get_output_element_type(0).is_real():
        return []
    ones = np.eye(channels * high * wide, dtype=np.float32).reshape(-1, channels, high, wide)
    nothing = [0, 0]
    return [
        _operations().convolution(_in_fp32(picture), _constant(ones), [high, wide], nothing, nothing, [1, 1]).output(0)
    ]


def linear_matrix(wanted: int, count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the matrix that resamples `count` values to `wanted` linearly (half-pixel): float32 (wanted, count)."""
    centres = np.clip((np.arange(wanted) + 0.5) * count / wanted - 0.5, 0, count - 1)
    left = np.minimum(np.floor(centres).astype(int), max(count - 2, 0))
    share = (centres - left).astype(np.float32)
    matrix = np.zeros((wanted, count), np.float32)
    matrix[np.arange(wanted), left] = 1 - share
    matrix[np.arange(wanted), np.minimum(left + 1, count - 1)] += share
    return matrix


_REWRITES = {
    "AvgPool": _average,
    "Interpolate": _enlarge,
    "Reshape": _unshuffle,
    "Slice": _slice,
}


def _is_picture(shape: Sequence[int]) -> bool:
    return len(shape) == 4 and shape[0] == 1 and shape[1] <= _MAX_CHANNELS and shape[2] * shape[3] >= _MIN_PIXELS


def _shape(output: Any) -> list[int]:
    return list(output.get_shape())


def _reshaped(value: Any, *shape: int) -> Any:
    return _operations().reshape(value, _constant(np.array(shape, np.int64)), False)


def _in_fp32(output: Any) -> Any:
    """Return an output of a floating-point type as FP32."""
    return output if output.get_element_type().to_string() == "f32" else _operations().convert(output, "f32")


def _in_type_of(before: Any, output: Any) -> Any:
    """Return an output in the type of the one that it replaces."""
    wanted = before.get_element_type()
    return output if output.get_element_type() == wanted else _operations().convert(output, wanted).output(0)


def _constant(value: Any) -> Any:
    return _operations().constant(value)


def _operations() -> Any:
    import openvino.opset9 as operations

    return operations
