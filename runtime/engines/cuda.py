"""The CUDA calls that engines need, through cuda-python.

Tests use a fake with the same methods (tests/runtime/fake_cuda.py).
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.errors import EngineError

_EXTRA = "pip install everframe[gpu]"


def has_driver() -> bool:
    """Return whether the driver's library can be loaded."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def why_no_device() -> str | None:
    """Return None if there is a usable CUDA device, else one sentence that says why not."""
    if not has_driver():
        return "there is no NVIDIA driver here"
    if importlib.util.find_spec("cuda") is None or importlib.util.find_spec("cuda.bindings") is None:
        return f"cuda-python is not installed: {_EXTRA}"
    try:
        count = _call("cudaGetDeviceCount")
    except EngineError as error:
        return str(error)
    except RuntimeError as error:  # cuda-python raises it if the driver's library is missing
        return f"no CUDA device can be used: {error}"
    return None if count else "this machine has no CUDA device"


class Cuda:
    """A device, and one stream, in which all work runs in the order of the calls."""

    def __init__(self) -> None:
        # Non-blocking: it does not synchronise with the default stream.
        self.stream: int = int(_call("cudaStreamCreateWithFlags", _runtime().cudaStreamNonBlocking))

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
        """Free device memory."""
        _call("cudaFree", address)

    def zero(self, address: int, nbytes: int) -> None:
        """Fill device memory with zeros, in the stream."""
        _call("cudaMemsetAsync", address, 0, nbytes, self.stream)

    def pinned(self, nbytes: int) -> npt.NDArray[np.uint8]:
        """Return new pinned host memory, which asynchronous copies need."""
        address = int(_call("cudaMallocHost", max(1, nbytes)))
        return np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(address))

    def free_pinned(self, memory: npt.NDArray[np.uint8]) -> None:
        """Free pinned memory."""
        _call("cudaFreeHost", memory.ctypes.data)

    def upload(self, address: int, value: npt.NDArray[Any]) -> None:
        """Enqueue a copy of a contiguous array in pinned memory to the device; it must not change until then."""
        kind = _runtime().cudaMemcpyKind.cudaMemcpyHostToDevice
        _call("cudaMemcpyAsync", address, value.ctypes.data, value.nbytes, kind, self.stream)

    def fetch(self, into: npt.NDArray[Any], address: int) -> None:
        """Enqueue a copy of device memory into a contiguous array in pinned memory."""
        kind = _runtime().cudaMemcpyKind.cudaMemcpyDeviceToHost
        _call("cudaMemcpyAsync", into.ctypes.data, address, into.nbytes, kind, self.stream)

    def copy(self, to: int, address: int, nbytes: int) -> None:
        """Enqueue a copy on the device."""
        kind = _runtime().cudaMemcpyKind.cudaMemcpyDeviceToDevice
        _call("cudaMemcpyAsync", to, address, nbytes, kind, self.stream)

    def capture(self, enqueue: Callable[[], None]) -> object:
        """Return a CUDA graph of what a call enqueues in the stream, without running it.

        Raises:
            EngineError: something cannot be captured; the capture has ended.
        """
        # Thread-local: other threads may use CUDA during the capture.
        _call("cudaStreamBeginCapture", self.stream, _runtime().cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)
        try:
            enqueue()
        except BaseException:
            with contextlib.suppress(EngineError):
                _call("cudaGraphDestroy", _call("cudaStreamEndCapture", self.stream))
            raise
        graph = _call("cudaStreamEndCapture", self.stream)
        try:
            return _call("cudaGraphInstantiate", graph, 0)
        finally:
            _call("cudaGraphDestroy", graph)

    def launch(self, graph: object) -> None:
        """Enqueue a captured graph."""
        _call("cudaGraphLaunch", graph, self.stream)

    def free_graph(self, graph: object) -> None:
        """Free a graph."""
        _call("cudaGraphExecDestroy", graph)

    def event(self) -> object:
        """Return a new event without timing."""
        return _call("cudaEventCreateWithFlags", _runtime().cudaEventDisableTiming)

    def record(self, event: object) -> None:
        """Enqueue an event."""
        _call("cudaEventRecord", event, self.stream)

    def wait_for(self, event: object) -> None:
        """Wait until an event has been reached."""
        _call("cudaEventSynchronize", event)

    def free_event(self, event: object) -> None:
        """Free an event."""
        _call("cudaEventDestroy", event)

    def wait(self) -> None:
        """Wait until all work in the stream is done."""
        _call("cudaStreamSynchronize", self.stream)

    def close(self) -> None:
        """Free the stream."""
        _call("cudaStreamDestroy", self.stream)


def _runtime() -> Any:
    from cuda.bindings import runtime

    return runtime


def _call(name: str, *arguments: Any) -> Any:
    """Call a function of the CUDA runtime and return its result, or None."""
    error, *results = getattr(_runtime(), name)(*arguments)
    if int(error) != 0:
        # For example cudaErrorNoDevice, cudaErrorMemoryAllocation.
        what = _MESSAGES.get(error.name)
        raise EngineError(f"{what} ({error.name} in {name})" if what else f"CUDA failed in {name}: {error.name}")
    return results[0] if results else None


_OUT_OF_MEMORY = "the GPU is out of memory: close other programs that use it, or export a smaller size"
_LOST = "the GPU does not respond, and its memory is lost: start again; if that does not help, restart the machine"
_MESSAGES = {
    "cudaErrorMemoryAllocation": _OUT_OF_MEMORY,
    "cudaErrorDevicesUnavailable": "another process uses the GPU exclusively",
    "cudaErrorDeviceUninitialized": _LOST,
    "cudaErrorECCUncorrectable": "the GPU reports an uncorrectable memory error: restart the machine",
    "cudaErrorHardwareStackError": _LOST,
    "cudaErrorIllegalAddress": _LOST,
    "cudaErrorLaunchFailure": _LOST,
    "cudaErrorLaunchTimeout": "a frame took longer than the GPU's driver allows while it also drives a screen",
    "cudaErrorInsufficientDriver": "the NVIDIA driver is older than the installed CUDA version: update the driver",
}
