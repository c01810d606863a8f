"""The table of engines, and how one is chosen.

Adding an engine: one file with a class like `runtime.engines.onnxruntime.OnnxRuntime`, and one line in `ENGINES`.
An engine's module is imported only when the engine is opened.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from runtime.bundle.strict_json import nearest
from runtime.engines.engine import INT8, Engine, supports
from runtime.errors import EngineError

# `auto` takes the first that is available: GPU engines, then CPU engines by measured speed (benchmarks latency).
ENGINES: dict[str, str] = {
    "tensorrt": "runtime.engines.tensorrt:TensorRT",
    "tensorrt-rtx": "runtime.engines.tensorrt:TensorRTRTX",
    "onnxruntime-cuda": "runtime.engines.onnxruntime_cuda:OnnxRuntimeCuda",
    "openvino": "runtime.engines.openvino:OpenVINO",
    "onnxruntime": "runtime.engines.onnxruntime:OnnxRuntime",
}
# Engines on a server, named by an address: what it begins with -> the class, which gets the address.
SERVERS: dict[str, str] = {"grpc://": "runtime.engines.triton:Triton"}
DEVICES = "openvino:"  # OpenVINO on another device: openvino:GPU, openvino:NPU
PRECISIONS = ("fp32", "bf16", "fp16", "int8")


@dataclass(frozen=True)
class EngineChoice:
    """An engine and a precision that this machine can run, and one sentence that says why they were chosen."""

    engine: Engine
    precision: str
    reason: str


def open_engine(name: str) -> Engine:
    """Return an engine by its name, by that of its device, or by its server's address, even if it cannot run here.

    Raises:
        ValueError: there is no engine of that name, or the device or address is wrong.
    """
    for scheme, server in SERVERS.items():
        if name.startswith(scheme):
            module, _, attribute = server.partition(":")
            remote: Engine = getattr(import_module(module), attribute)(name)
            return remote
    if name.startswith(DEVICES):
        module, _, attribute = ENGINES[DEVICES[:-1]].partition(":")
        other: Engine = getattr(import_module(module), attribute)(name.removeprefix(DEVICES))
        return other
    if name not in ENGINES:
        raise ValueError(f'there is no engine "{name}" {nearest(name, ["auto", *ENGINES])}')
    module, _, attribute = ENGINES[name].partition(":")
    engine: Engine = getattr(import_module(module), attribute)()
    return engine


def choose_engine(
    name: str = "auto",
    precision: str = "auto",
    failed: Collection[tuple[str, str]] = (),
    faster: Collection[tuple[str, str]] = (),
) -> EngineChoice:
    """Choose an engine and a precision; a named one is used or refused, never replaced.

    Args:
        name: an engine, or "auto" for the fastest available one that supports the precision.
        precision: "fp32", "bf16", "fp16", "int8", or "auto" for the fastest that the engine supports here.
        failed: (engine, precision) pairs whose frames differed from the original at export. "auto" skips them; naming
            both overrides this.
        faster: (engine, "int8") pairs that were measured to be faster here than the engine's other precisions
            (`runtime.engines.int8`). "auto" takes INT8 for these alone.

    Returns:
        The choice.

    Raises:
        ValueError: there is no such engine or precision.
        EngineError: the named engine cannot run here in this precision, or no engine can.
    """
    if precision not in ("auto", *PRECISIONS):
        raise ValueError(f'there is no precision "{precision}" {nearest(precision, ["auto", *PRECISIONS])}')
    skipped: list[str] = []
    for candidate in ENGINES if name == "auto" else [name]:
        engine = open_engine(candidate)
        why_not = engine.available()
        if why_not is None and precision != "auto" and not supports(engine, precision):
            why_not = (
                f"{candidate} cannot run in {precision} on this machine, only in {' or '.join(engine.precisions())}"
            )
        wanted = [] if why_not is not None else [precision]
        if wanted == ["auto"]:
            wanted = [*([INT8] if (candidate, INT8) in faster else []), *engine.precisions()]
        for chosen in wanted:
            if "auto" not in (name, precision) or (candidate, chosen) not in failed:
                return EngineChoice(engine, chosen, _reason(name, candidate, precision, chosen, skipped))
            skipped.append(f"{candidate} in {chosen} made other frames than the original at export")
        if why_not is not None:
            skipped.append(why_not)
    raise EngineError("; ".join(skipped))


def failed_pairs(verified: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Return the (engine, precision) pairs that failed parity, from a manifest's `verified`, which is not validated."""
    checks = verified.get("parity")
    return {
        (str(check["engine"]), str(check["precision"]))
        for check in (checks if isinstance(checks, list) else [])
        if isinstance(check, Mapping) and check.get("passed") is False and {"engine", "precision"} <= check.keys()
    }


def _reason(asked: str, engine: str, asked_precision: str, precision: str, skipped: list[str]) -> str:
    why = "as asked" if asked != "auto" else f"the first of {', '.join(ENGINES)} that runs here"
    if skipped:
        why += f" ({'; '.join(skipped)})"
    why_precision = "as asked" if asked_precision != "auto" else "its fastest precision here"
    return f"{engine}, {why}, in {precision}, {why_precision}"


def count_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
