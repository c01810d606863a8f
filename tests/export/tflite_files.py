"""TensorFlow Lite files built with flatbuffers alone: a convolution with Relu, and one more operation."""

from __future__ import annotations

from collections.abc import Sequence

import flatbuffers
import numpy as np

FLOAT32, UINT8 = 0, 3  # of the schema's TensorType
CONV_2D, LOGISTIC, PRELU = 3, 14, 54  # of the schema's BuiltinOperator
_CONV_OPTIONS = 1  # of the schema's BuiltinOptions
_RELU = 1  # of the schema's ActivationFunctionType


def tflite_file(
    kernel: np.ndarray, size: tuple[int, int] = (8, 6), last: int = LOGISTIC, kind: int = FLOAT32, copies: int = 0
) -> bytes:
    """Return a network of a convolution (stride 1, SAME, Relu) and the operation `last`.

    Args:
        kernel: (output channels, height, width, input channels), float32.
        size: (height, width) of the picture.
        last: the second operation, without options.
        kind: type of the input and of the output.
        copies: of the kernel, as tensors that share its values and that nothing reads.
    """
    builder = flatbuffers.Builder(1024)
    outputs, inputs = kernel.shape[0], kernel.shape[3]
    picture = (1, *size, outputs)
    shapes = [(1, *size, inputs), kernel.shape, (outputs,), picture, picture]  # input, kernel, bias, sum, output
    content = [b"", kernel.astype("<f4").tobytes(), np.zeros(outputs, "<f4").tobytes()]
    buffers = _vector(builder, [_table(builder, 1, {0: _bytes(builder, data)}) for data in content])
    tensors = []
    for number, shape in enumerate(shapes):
        fields = {0: _ints(builder, shape), 3: builder.CreateString(f"tensor{number}")}
        tensors.append(  # buffer 0 is empty
            _table(
                builder,
                4,
                fields,
                {1: (FLOAT32 if number in (1, 2) else kind, "Int8"), 2: (number if number in (1, 2) else 0, "Uint32")},
            )
        )
    if copies:
        fields = {0: _ints(builder, kernel.shape), 3: builder.CreateString("copy")}
        twin = _table(builder, 4, fields, {1: (FLOAT32, "Int8"), 2: (1, "Uint32")})
        tensors += [twin] * copies
    options = _table(builder, 4, {}, {1: (1, "Int32"), 2: (1, "Int32"), 3: (_RELU, "Int8")})
    operators = [
        _table(
            builder,
            5,
            {1: _ints(builder, (0, 1, 2)), 2: _ints(builder, (3,)), 4: options},
            {3: (_CONV_OPTIONS, "Uint8")},
        ),
        _table(builder, 5, {1: _ints(builder, (3,)), 2: _ints(builder, (4,))}, {0: (1, "Uint32")}),
    ]
    graph = _table(
        builder,
        4,
        {
            0: _vector(builder, tensors),
            1: _ints(builder, (0,)),
            2: _ints(builder, (4,)),
            3: _vector(builder, operators),
        },
    )
    codes = [_table(builder, 4, {}, {0: (code, "Int8"), 3: (code, "Int32")}) for code in (CONV_2D, last)]
    parts = {1: _vector(builder, codes), 2: _vector(builder, [graph]), 4: buffers}
    builder.Finish(_table(builder, 5, parts, {0: (3, "Uint32")}), b"TFL3")
    return bytes(builder.Output())


def _bytes(builder: flatbuffers.Builder, data: bytes) -> int:
    return builder.CreateByteVector(data)


def _ints(builder: flatbuffers.Builder, values: Sequence[int]) -> int:
    return builder.CreateNumpyVector(np.array(values, np.int32))


def _vector(builder: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def _table(
    builder: flatbuffers.Builder, count: int, offsets: dict[int, int], values: dict[int, tuple[int, str]] | None = None
) -> int:
    """Return a table with fields that point to others, and fields with a value and the name of its type."""
    builder.StartObject(count)
    for place, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(place, offset, 0)
    for place, (value, kind) in (values or {}).items():
        getattr(builder, f"Prepend{kind}Slot")(place, value, 0)
    return builder.EndObject()
