"""The few calls of CUDA that engines need, over cuda-python; everything that knows of pointers goes through here.

Tests put a class with the same methods in its place (tests/fakes.py).
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from typing import Any

import numpy.typing as npt

from runtime.errors import EngineError

EXTRA = "pip install everframe[gpu]"


def has_driver() -> bool:
    """Return whether the driver's library can be loaded: without it nothing else is worth asking."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def why_no_device() -> str | None:
    """Return None if there is a CUDA device that can be used, else one sentence that says why not."""
    if not has_driver():
        return "there is no NVIDIA driver here"
    if importlib.util.find_spec("cuda") is None or importlib.util.find_spec("cuda.bindings") is None:
        return f"cuda-python is not installed: {EXTRA}"
    try:
        count = _call("cudaGetDeviceCount")
    except EngineError as error:
        return str(error)
    except RuntimeError as error:  # cuda-python raises its own where the driver's library is missing
        return f"no CUDA device can be used: {error}"
    return None if count else "this machine has no CUDA device"


class Cuda:
    """One device, and one stream on it in which everything happens in the order of the calls."""

    def __init__(self) -> None:
        self.stream: int = int(_call("cudaStreamCreate"))

    @property
    def target(self) -> str:
        """The device's compute capability, e.g. "sm89"."""
        attributes = _runtime().cudaDeviceAttr
        major = _call("cudaDeviceGetAttribute", attributes.cudaDevAttrComputeCapabilityMajor, 0)
        minor = _call("cudaDeviceGetAttribute", attributes.cudaDevAttrComputeCapabilityMinor, 0)
        return f"sm{major}{minor}"

    @property
    def name(self) -> str:
        """The device's name, e.g. "NVIDIA H100 80GB HBM3"."""
        name = _call("cudaGetDeviceProperties", 0).name
        return (name.decode() if isinstance(name, bytes) else str(name)).rstrip("\0")

    def allocate(self, nbytes: int) -> int:
        """Return the address of new device memory, filled with zeros."""
        address = int(_call("cudaMalloc", nbytes))
        self.zero(address, nbytes)
        return address

    def free(self, address: int) -> None:
        """Give device memory back."""
        _call("cudaFree", address)

    def zero(self, address: int, nbytes: int) -> None:
        """Fill device memory with zeros, in the stream."""
        _call("cudaMemsetAsync", address, 0, nbytes, self.stream)

    def upload(self, address: int, value: npt.NDArray[Any]) -> None:
        """Copy a contiguous array to the device, in the stream; the caller may change it afterwards."""
        # From pageable memory the copy is staged before the call returns.
        kind = _runtime().cudaMemcpyKind.cudaMemcpyHostToDevice
        _call("cudaMemcpyAsync", address, value.ctypes.data, value.nbytes, kind, self.stream)

    def download(self, into: npt.NDArray[Any], address: int) -> None:
        """Copy device memory into a contiguous array, and wait until it is there."""
        kind = _runtime().cudaMemcpyKind.cudaMemcpyDeviceToHost
        _call("cudaMemcpyAsync", into.ctypes.data, address, into.nbytes, kind, self.stream)
        self.wait()

    def wait(self) -> None:
        """Wait until everything in the stream is done."""
        _call("cudaStreamSynchronize", self.stream)

    def close(self) -> None:
        """Give the stream back."""
        _call("cudaStreamDestroy", self.stream)


def _runtime() -> Any:
    from cuda.bindings import runtime

    return runtime


def _call(name: str, *arguments: Any) -> Any:
    """Call a function of the CUDA runtime and return its result, or None."""
    error, *results = getattr(_runtime(), name)(*arguments)
    if int(error) != 0:
        # An error's name needs no device: cudaErrorNoDevice, cudaErrorMemoryAllocation.
        raise EngineError(f"CUDA failed in {name}: {error.name}")
    return results[0] if results else None
