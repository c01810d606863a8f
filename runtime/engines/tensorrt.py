"""TensorRT and TensorRT-RTX: engines on a CUDA device; buffers and CUDA graphs are those of `device_session`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from runtime.engines import cuda, tensorrt_builder
from runtime.engines.cache import EngineCache
from runtime.engines.cuda_session import CudaDevice, CudaSession
from runtime.engines.engine import Program
from runtime.engines.fp16 import Fp16Share, to_half
from runtime.errors import EngineError


class RefusedPlanError(EngineError):
    """A serialised engine cannot be loaded: it is damaged, or for another version or device."""


class TensorRT:
    """The engine; see `runtime.engines.engine.Engine`."""

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

    def open(self, program: Program, precision: str, threads: int, cache_dir: Path | None) -> CudaSession:  # noqa: ARG002
        """Build an engine for the device that is here, or take one out of the cache that runs on it."""
        if (why_not := self.available()) is not None:
            raise EngineError(why_not)
        if precision not in self.precisions():
            raise EngineError(f"{self.name} runs in fp16 or fp32, got {precision}; use precision auto")
        graph, device = graph_in(program.graph, precision), cuda.Cuda()
        try:
            for entry in cache_entries(self.name, device, graph, cache_dir, program.engines):
                if (plan := entry.load()) is not None:
                    try:
                        return open_session(program, self.name, plan, device)
                    except RefusedPlanError:
                        entry.discard()
            target = target_of(self.name, device)
            built = tensorrt_builder.build(graph, self.name, target, name="a graph", cache_dir=cache_dir)
            return open_session(program, self.name, built.plan, device)
        except BaseException:
            device.close()
            raise


class TensorRTRTX(TensorRT):
    """The same interface under the name of its other module."""

    name = "tensorrt-rtx"


def graph_in(graph: bytes, precision: str) -> bytes:
    """Return a serialised graph that says of every layer that it computes in a precision, "fp16" or "fp32"."""
    return graph if precision == "fp32" else to_half(onnx.ModelProto.FromString(graph)).SerializeToString()


def cache_entries(
    flavour: str, device: Any, graph: bytes, cache_dir: Path | None, trusted: Path | None
) -> list[EngineCache]:
    """Return where an engine for a device may lie, in the order in which they are tried.

    Args:
        flavour: "tensorrt" or "tensorrt-rtx".
        device: `runtime.engines.cuda.Cuda`.
        graph: as `graph_in` returns it.
        cache_dir: folder of the cache, or None.
        trusted: folder of engines that came with the bundle and that the user trusts, or None; comes first.
    """
    targets = [target_of(flavour, device)] + [tensorrt_builder.PORTABLE] * (flavour == "tensorrt-rtx")
    return [
        tensorrt_builder.cache_entry(graph, flavour, target, folder, is_private=is_private)
        for folder, is_private in ((trusted, False), (cache_dir, True))
        for target in targets
    ]


def target_of(flavour: str, device: Any) -> str:
    """Return what an engine for a device is built for: its compute capability, or itself for TensorRT."""
    name: str = device.target if flavour == "tensorrt-rtx" else f"{device.name} {device.target}"
    return name


def inspect(flavour: str, plan: bytes) -> Fp16Share:
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


def open_session(program: Program, flavour: str, plan: bytes, device: CudaDevice) -> CudaSession:
    """Return a session of a serialised engine.

    Args:
        program: gives the tensors and the state pairs.
        flavour: "tensorrt" or "tensorrt-rtx".
        plan: the serialised engine.
        device: owned by the session from now on unless an exception is raised.

    Raises:
        RefusedPlanError: the engine cannot be loaded.
        EngineError: the device has no memory for it.
    """
    module = tensorrt_builder.load_module(flavour)
    runtime = module.Runtime(module.Logger(module.Logger.ERROR))
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise RefusedPlanError(f"{flavour} cannot load an engine that it has built: install another version of it")
    context = engine.create_execution_context()
    if context is None:
        raise EngineError(f"{flavour} has no memory for the engine on this device")
    # TensorRT drops inputs that nothing reads: those have no address.
    bound = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    held: list[Any] = [context, engine, runtime]  # to be let go in this order

    def enqueue(addresses: Mapping[str, int]) -> None:
        for name in bound:
            context.set_tensor_address(name, addresses[name])
        if not context.execute_async_v3(device.stream):
            raise EngineError(f"{flavour} failed to run a frame")

    def release() -> None:
        nonlocal context, engine, runtime
        held.clear()
        context = engine = runtime = None

    return CudaSession(program, device, enqueue, release)
