"""TensorRT and TensorRT-RTX: engines on a CUDA device, with fixed buffers that stay there.

States never leave the device: two sets of buffers change places after each run. Inputs are copied when they are
written, which is rarely but for a few values, and an output when it is read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from runtime import cuda, tensorrt_builder
from runtime.engine import Array, Program, aligned_zeros
from runtime.errors import EngineError
from runtime.half import Share, to_half
from runtime.tensors import Tensor


class TensorRT:
    """The engine; see `runtime.engine.Engine`."""

    name = "tensorrt"

    def available(self) -> str | None:
        """Return None, or why it cannot run here."""
        if cuda.has_driver() and (why_not := tensorrt_builder.why_not_installed(self.name)) is not None:
            return why_not
        if (why_not := cuda.why_no_device()) is not None:
            return f"the engine {self.name} needs a CUDA device: {why_not}"
        return None

    def precisions(self) -> Sequence[str]:
        """Return ("fp16", "fp32")."""
        return ("fp16", "fp32")

    def open(self, program: Program, precision: str, threads: int, cache_dir: Path | None) -> TensorRTSession:  # noqa: ARG002
        """Build an engine for the device that is here, or take one out of the cache that runs on it."""
        if (why_not := self.available()) is not None:
            raise EngineError(why_not)
        if precision not in self.precisions():
            raise EngineError(f"{self.name} runs in fp16 or fp32, got {precision}; use precision auto")
        device = cuda.Cuda()
        try:
            plan = load_or_build(self.name, device, graph_in(program.graph, precision), cache_dir)
            return TensorRTSession(program, self.name, plan, device)
        except BaseException:
            device.close()
            raise


class TensorRTRTX(TensorRT):
    """The same interface under the name of its other module."""

    name = "tensorrt-rtx"


def graph_in(graph: bytes, precision: str) -> bytes:
    """Return a serialised graph that says of every layer that it computes in a precision, "fp16" or "fp32"."""
    return graph if precision == "fp32" else to_half(onnx.ModelProto.FromString(graph)).SerializeToString()


def load_or_build(flavour: str, device: Any, graph: bytes, cache_dir: Path | None) -> bytes:
    """Return a serialised engine for a device: one that was built for just it, or for any, or a new one.

    Args:
        flavour: "tensorrt" or "tensorrt-rtx".
        device: `runtime.cuda.Cuda`.
        graph: as `graph_in` returns it.
        cache_dir: folder of the cache, or None.
    """
    target = target_of(flavour, device)
    for known in (target, tensorrt_builder.PORTABLE) if flavour == "tensorrt-rtx" else ():
        entry = tensorrt_builder.cache_entry(graph, flavour, known, cache_dir)
        if (plan := entry.load()) is not None:
            return plan
    return tensorrt_builder.build(graph, flavour, target, name="a graph", cache_dir=cache_dir).plan


def target_of(flavour: str, device: Any) -> str:
    """Return what an engine for a device is built for: its compute capability, or itself for TensorRT."""
    name: str = device.target if flavour == "tensorrt-rtx" else f"{device.name} {device.target}"
    return name


def inspect(flavour: str, plan: bytes) -> Share:
    """Return how many convolutions of a serialised engine read FP16, as the engine inspector sees them on the device.

    Raises:
        EngineError: the engine cannot be loaded here.
    """
    module = tensorrt_builder.load_module(flavour)
    engine = module.Runtime(module.Logger(module.Logger.ERROR)).deserialize_cuda_engine(plan)
    if engine is None:
        raise EngineError(f"{flavour} cannot load the engine that it has just built")
    inspector = engine.create_engine_inspector()
    information = inspector.get_engine_information(module.LayerInformationFormat.JSON)
    return tensorrt_builder.share_of_engine(json.loads(information))


class TensorRTSession:
    """One graph on a CUDA device; see `runtime.engine.Session`.

    Args:
        program: gives the tensors and the state pairs.
        flavour: "tensorrt" or "tensorrt-rtx".
        plan: the serialised engine.
        device: `runtime.cuda.Cuda`, owned from now on unless an exception is raised.
    """

    def __init__(self, program: Program, flavour: str, plan: bytes, device: Any) -> None:
        module = tensorrt_builder.load_module(flavour)
        self._flavour, self._device = flavour, device
        self._runtime = module.Runtime(module.Logger(module.Logger.ERROR))
        self._engine: Any = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise EngineError(
                f"{flavour} refused an engine that was built before: delete the bundle's engines/ and try again"
            )
        self._context: Any = self._engine.create_execution_context()
        if self._context is None:
            raise EngineError(f"{flavour} has no memory for the engine on this device")
        tensors = {item.name: item for item in (*program.inputs, *program.outputs)}
        self._shapes = tensors
        self._inputs = {item.name for item in program.inputs}
        self._pairs = program.pairs
        self._memory: list[int] = []
        states = {name for pair in program.pairs for name in pair}
        fixed = {name: self._allocate(item) for name, item in tensors.items() if name not in states}
        self._turns: tuple[dict[str, int], dict[str, int]] = ({**fixed}, {**fixed})
        for before, after in program.pairs:
            one, other = self._allocate(tensors[before]), self._allocate(tensors[before])
            self._turns[0].update({before: one, after: other})
            self._turns[1].update({before: other, after: one})
        self._turn = 0
        # TensorRT drops inputs that nothing reads: those have no address.
        self._bound = {self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)}
        self._read: dict[str, Array] = {
            name: aligned_zeros(item) for name, item in tensors.items() if name not in self._inputs or name in states
        }
        device.wait()

    def write(self, name: str, value: Array) -> None:
        """Copy a value to an input's buffer on the device."""
        item = self._shapes[name]
        if value.shape != item.shape or value.dtype != np.dtype(item.dtype):
            raise ValueError(f'the input "{name}" is {item.dtype} {item.shape}, got {value.dtype} {value.shape}')
        self._device.upload(self._turns[self._turn][name], np.ascontiguousarray(value))

    def run(self) -> None:
        """Enqueue one evaluation, and swap the states."""
        addresses = self._turns[self._turn]
        for name in self._bound:
            self._context.set_tensor_address(name, addresses[name])
        if not self._context.execute_async_v3(self._device.stream):
            raise EngineError(f"{self._flavour} failed to run a frame")
        self._turn ^= 1

    def read(self, name: str) -> Array:
        """Return an output of the last run, copied from the device; waits for it."""
        # A state's newest value is where the next run will read it.
        state = next((before for before, after in self._pairs if after == name), None)
        address = self._turns[self._turn ^ 1][name] if state is None else self._turns[self._turn][state]
        self._device.download(self._read[name], address)
        return self._read[name]

    def reset(self) -> None:
        """Set the states to zeros."""
        for before, after in self._pairs:
            for name in (before, after):
                self._device.zero(self._turns[0][name], self._read[name].nbytes)
        self._turn = 0

    def close(self) -> None:
        """Free the engine and its memory."""
        if self._context is None:
            return
        self._context = self._engine = self._runtime = None
        for address in self._memory:
            self._device.free(address)
        self._memory.clear()
        self._device.close()

    def _allocate(self, item: Tensor) -> int:
        count = int(np.prod(item.shape, dtype=np.int64)) * np.dtype(item.dtype).itemsize
        address: int = self._device.allocate(max(1, count))
        self._memory.append(address)
        return address
