"""A frame in device memory, shared without a copy through `__cuda_array_interface__` and DLPack.

DLPack structures: https://dmlc.github.io/dlpack/latest/c_api.html
Interface: https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

CPU, CUDA = 1, 2  # DLPack device types
_NAME = b"dltensor"  # of a capsule that has no consumer yet
_CODES = {"i": 0, "u": 1, "f": 2}


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _Managed(ctypes.Structure):
    _fields_ = [("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p)]


class CudaFrame:
    """A complete frame in device memory; valid until the next frame is made.

    It may be modified: the next frame does not depend on it.

    Args:
        address: of the first value.
        shape: of the frame, e.g. (256, 256, 3); C order.
        dtype: of the values.
        device: DLPack's (device type, device id).
    """

    def __init__(
        self, address: int, shape: tuple[int, ...], dtype: str = "uint8", device: tuple[int, int] = (CUDA, 0)
    ) -> None:
        self.address, self.shape, self.dtype = address, shape, np.dtype(dtype)
        self._device = device

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3; without a stream, because the frame is complete."""
        if self._device[0] != CUDA:
            raise AttributeError("this frame is not on a CUDA device")
        return {
            "data": (self.address, False),
            "shape": self.shape,
            "typestr": self.dtype.str,
            "strides": None,
            "version": 3,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        """Return (device type, device id)."""
        return self._device

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> object:
        """Return a capsule that points to the frame.

        Raises:
            BufferError: a copy or another device is requested.
        """
        if copy:
            raise BufferError("a frame on the device is shared, not copied: copy what you made of it")
        if dl_device is not None and tuple(dl_device) != self._device:
            raise BufferError(f"this frame is on device {self._device}, not on {tuple(dl_device)}")
        shape = (ctypes.c_int64 * len(self.shape))(*self.shape)
        tensor = _Tensor(
            data=self.address,
            device_type=self._device[0],
            device_id=self._device[1],
            ndim=len(self.shape),
            code=_CODES[self.dtype.kind],
            bits=8 * self.dtype.itemsize,
            lanes=1,
            shape=shape,
        )
        managed = _Managed(tensor, None, ctypes.cast(_delete, ctypes.c_void_p).value)
        address = ctypes.addressof(managed)
        _held[address] = managed, shape
        return _new_capsule(address, _NAME, _destroy)


_held: dict[int, tuple[_Managed, ctypes.Array[ctypes.c_int64]]] = {}  # until the consumer calls the deleter
_Destructor = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def _let_go(address: int) -> None:
    _held.pop(address, None)


def _let_go_unless_taken(capsule: int) -> None:
    if _is_capsule(capsule, _NAME):  # a consumer renames the capsule and calls the deleter
        _held.pop(_pointer_of(capsule, _NAME), None)


_delete, _destroy = _Destructor(_let_go), _Destructor(_let_go_unless_taken)

# Addresses, not objects: the reference count of a capsule that is being destroyed must not change.
_new_capsule = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, _Destructor)(
    ("PyCapsule_New", ctypes.pythonapi)
)
_is_capsule = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_IsValid", ctypes.pythonapi))
_pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
