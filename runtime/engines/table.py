"""The table of engines, and how one is chosen.

Adding an engine: one file with a class like `runtime.engines.onnxruntime.OnnxRuntime`, and one line in `ENGINES`.
An engine's module is imported only when the engine is opened.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from runtime.bundle.strict_json import nearest
from runtime.engines.engine import INT8, Engine, supports
from runtime.errors import EngineError

# `auto` takes the first that is available: GPU engines, then CPU engines by measured speed (benchmarks latency), unless
# another CPU engine is faster for a bundle on this machine (runtime/engines/timing.py).
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
_OTHER_FRAMES = "made other frames than the original at export"
_REFUSED = "could not run this bundle at the import"


@dataclass(frozen=True)
class EngineChoice:
    """An engine and a precision that this machine can run, and one sentence that says why they were chosen.

    `skipped` says why the ones before it cannot run.
    """

    engine: Engine
    precision: str
    reason: str
    skipped: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The engine and the precision, e.g. "openvino bf16"."""
        return f"{self.engine.name} {self.precision}"


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
    failed: Mapping[tuple[str, str], str] | None = None,
    faster: Collection[tuple[str, str]] = (),
) -> EngineChoice:
    """Choose an engine and a precision; arguments and errors as in `engine_choices`, of which this is the first."""
    return next(engine_choices(name, precision, failed, faster))


def engine_choices(
    name: str = "auto",
    precision: str = "auto",
    failed: Mapping[tuple[str, str], str] | None = None,
    faster: Collection[tuple[str, str]] = (),
) -> Iterator[EngineChoice]:
    """Yield the engines and precisions that this machine can run, best first; a named engine is never replaced.

    Args:
        name: an engine, or "auto" for all in the order of `ENGINES`.
        precision: "fp32", "bf16", "fp16", "int8", or "auto" for all that the engine supports here, fastest first.
        failed: (engine, precision) pairs that do not fit a bundle, and why (`failed_pairs`). "auto" skips them; naming
            both overrides this.
        faster: (engine, "int8") pairs that were measured to be faster here than the engine's other precisions
            (`runtime.engines.int8`). "auto" takes INT8 for these alone.

    Raises:
        ValueError: there is no such engine or precision.
        EngineError: the named engine cannot run here in this precision, or no engine can.
    """
    if precision not in ("auto", *PRECISIONS):
        raise ValueError(f'there is no precision "{precision}" {nearest(precision, ["auto", *PRECISIONS])}')
    failed = {} if failed is None else failed
    skipped: list[str] = []
    is_found = False
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
            if "auto" in (name, precision) and (candidate, chosen) in failed:
                skipped.append(f"{candidate} in {chosen} {failed[candidate, chosen]}")
                continue
            is_found = True
            yield EngineChoice(
                engine, chosen, _reason(name, candidate, precision, chosen, skipped), skipped=tuple(skipped)
            )
        if why_not is not None:
            skipped.append(why_not)
    if not is_found:
        raise EngineError("; ".join(skipped))


def failed_pairs(verified: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """Return the (engine, precision) pairs that "auto" skips for a bundle, and why.

    Args:
        verified: of a manifest, which is not validated: pairs that failed `parity`, and those of the `refusals`.
    """
    failed = {pair: _OTHER_FRAMES for check in _listed(verified, "parity") if (pair := _failed_pair(check)) is not None}
    for refusal in _listed(verified, "refusals"):
        # Earlier versions wrote a sentence that begins with "ENGINE in PRECISION: ".
        words = refusal.partition(":")[0].split(" in ") if isinstance(refusal, str) else []
        if isinstance(refusal, Mapping) and {"engine", "precision"} <= refusal.keys():
            words = [str(refusal["engine"]), str(refusal["precision"])]
        if len(words) == 2:
            failed[words[0], words[1]] = _REFUSED
    return failed


def _listed(verified: Mapping[str, Any], key: str) -> list[Any]:
    value = verified.get(key)
    return value if isinstance(value, list) else []


def _failed_pair(check: Any) -> tuple[str, str] | None:
    is_failed = isinstance(check, Mapping) and check.get("passed") is False and {"engine", "precision"} <= check.keys()
    return (str(check["engine"]), str(check["precision"])) if is_failed else None


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
