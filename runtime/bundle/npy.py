"""Reads .npy files in two steps, so that the header can be checked before the values are read."""

from __future__ import annotations

import io
import tokenize
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

MAX_HEADER_BYTES = 2**16 + 10  # largest header of format 1.0


class NpyHeader(NamedTuple):
    """The header of a .npy file.

    Args:
        shape: of the array.
        dtype: of the array.
        is_fortran: whether the first axis changes fastest.
        size: of the header in bytes; the values start there.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_fortran: bool
    size: int


def read_header(data: bytes) -> NpyHeader:
    """Read the header of a .npy file.

    Args:
        data: the whole file or at least its first `MAX_HEADER_BYTES`.

    Raises:
        ValueError: it is not a header of format 1.0; the message is one line.
    """
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            raise ValueError(f"its format is {version}, expected (1, 0)")
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError, tokenize.TokenError, Warning) as error:
        raise ValueError(" ".join(str(error).split())[:300]) from error
    return NpyHeader(shape, dtype, is_fortran, stream.tell())


def to_array(header: NpyHeader, data: bytes) -> npt.NDArray[Any]:
    """Return a read-only view of a .npy file, whose size was checked, as the array of its header."""
    values = np.frombuffer(data, header.dtype, offset=header.size)
    return values.reshape(header.shape[::-1]).T if header.is_fortran else values.reshape(header.shape)
