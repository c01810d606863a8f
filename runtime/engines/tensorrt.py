"""TensorRT and TensorRT-RTX on a CUDA device; `cuda_session` has the buffers and CUDA graphs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from runtime.engines import cuda, tensorrt_builder
from runtime.engines.cache import EngineCache
from runtime.engines.cuda_session import CudaSession
from runtime.engines.engine import INT8, Program, check_request
from runtime.engines.fp16 import Fp16Share, to_half
from runtime.engines.int8 import to_signed
from runtime.errors import EngineError


class RefusedPlanError(EngineError):
    """A serialised engine is damaged, or was built for another version or device."""


class TensorRT:
    """The engine; see `runtime.engines.engine.Engine`."""

    name = "tensorrt"

    def available(self) -> str | None:
        """Return None, or why the engine cannot run here."""
        if cuda.has_driver() and (why_not := tensorrt_builder.why_not_installed(self.name)) is not None:
            return why_not
        if (why_not := cuda.why_no_device()) is not None:
            return f"the engine {self.name} needs a CUDA device: {why_not}"
        return None

    def precisions(self) -> Sequence[str]:
        """Return ("fp16", "fp32")."""
        return ("fp16", "fp32")

    def open(self, program: Program, precision: str, threads: int, cache_dir: Path | None) -> CudaSession:  # noqa: ARG002
        """Build an engine for this device, or load one from the cache."""
        check_request(self, precision)
        program, device = replace(program, graph=graph_in(program.graph, precision, program.weights)), cuda.Cuda()
        try:
            for entry in cache_entries(
                self.name, device, program.graph, cache_dir, program.engines, program.cache_parts
            ):
                if (plan := entry.load()) is not None:
                    try:
                        return open_session(program, self.name, plan, device)
                    except RefusedPlanError:
                        entry.discard()
            target = target_of(self.name, device)
            built = tensorrt_builder.build(
                program.graph,
                self.name,
                target,
                name="a graph",
                cache_dir=cache_dir,
                weights=program.weights,
                cache_parts=program.cache_parts,
            )
            return open_session(program, self.name, built.plan, device)
        except BaseException:
            device.close()
            raise


class TensorRTRTX(TensorRT):
    """The same engine with the module of TensorRT-RTX."""

    name = "tensorrt-rtx"


def graph_in(graph: bytes, precision: str, weights: Path | None = None) -> bytes:
    """Return a serialised graph whose layers compute in "fp16" (as far as `to_half` allows), "fp32" or "int8".

    For "int8" the graph has to be quantised; what it leaves in floating point stays FP32.
    """
    if precision == "fp32":
        return graph
    model = onnx.ModelProto.FromString(graph)
    converted: bytes = (to_signed(model) if precision == INT8 else to_half(model, weights)).SerializeToString()
    return converted


def cache_entries(
    flavour: str,
    device: Any,
    graph: bytes,
    cache_dir: Path | None,
    trusted: Path | None,
    cache_parts: Sequence[str] = (),
) -> list[EngineCache]:
    """Return the cache entries of an engine for a device, in the order in which they are tried.

    Args:
        flavour: "tensorrt" or "tensorrt-rtx".
        device: `runtime.engines.cuda.Cuda`.
        graph: as `graph_in` returns it.
        cache_dir: folder of the cache, or None.
        trusted: folder of the bundle's engines, if the user trusts them, or None; tried first.
        cache_parts: of the program (`runtime.engines.engine.Program`).
    """
    targets = [target_of(flavour, device)] + [tensorrt_builder.PORTABLE] * (flavour == "tensorrt-rtx")
    return [
        tensorrt_builder.cache_entry(graph, flavour, target, folder, cache_parts, is_private=is_private)
        for folder, is_private in ((trusted, False), (cache_dir, True))
        for target in targets
    ]


def target_of(flavour: str, device: Any) -> str:
    """Return the target of an engine for a device: its compute capability, for TensorRT also its name."""
    name: str = device.target if flavour == "tensorrt-rtx" else f"{device.name} {device.target}"
    return name


def inspect(flavour: str, plan: bytes) -> Fp16Share:
    """Return how many convolutions of a serialised engine read FP16, according to the engine inspector.

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


def open_session(program: Program, flavour: str, plan: bytes, device: cuda.Cuda) -> CudaSession:
    """Return a session of a serialised engine.

    Args:
        program: gives the tensors and the state pairs.
        flavour: "tensorrt" or "tensorrt-rtx".
        plan: the serialised engine.
        device: the session takes ownership unless an exception is raised.

    Raises:
        RefusedPlanError: the engine cannot be loaded.
        EngineError: the device is out of memory.
    """
    module = tensorrt_builder.load_module(flavour)
    runtime = module.Runtime(module.Logger(module.Logger.ERROR))
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise RefusedPlanError(f"{flavour} cannot load an engine that it has built: install another version of it")
    context = engine.create_execution_context()
    if context is None:
        raise EngineError(f"{flavour} has not enough memory for the engine on this device")
    # TensorRT drops unused inputs, which then have no address.
    bound = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    held: list[Any] = [context, engine, runtime]  # freed in this order

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
