"""The precision INT8: engines that run graphs with QuantizeLinear and DequantizeLinear nodes, and where they pay.

A bundle has such a graph if `python -m export int8` has added one. Its activations are unsigned bytes, which CPUs
multiply fastest; TensorRT takes signed bytes with the zero point 0 alone (`to_signed`).
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from runtime.engines.engine import INT8
from runtime.engines.table import failed_pairs
from runtime.errors import EngineError

# INT8 has to be this much faster than the engine's other precisions before `auto` takes it.
WORTHWHILE = 0.95
_FLAGS = ("avx2", "avx_vnni", "avx512_vnni", "amx_int8", "avx512_bf16", "amx_bf16")  # they decide which one is faster
_VNNI = {"avx_vnni", "avx512_vnni", "amx_int8"}
WEIGHT_LIMIT = 64  # of bytes that use 7 bits
_MAX_MS = 1e9  # of a frame
_CPUINFO = Path("/proc/cpuinfo")


def cpu_name(file: Path = _CPUINFO) -> str:
    """Return this machine's CPU and those of its flags that decide how fast it multiplies bytes and bf16."""
    model, found = _cpu(file)
    return " ".join([model, *(flag for flag in _FLAGS if flag in found)])


def has_vnni() -> bool:
    """Return whether this machine's CPU adds products of bytes in 32 bits; False if it does not say."""
    return bool(_cpu()[1] & _VNNI)


def _cpu(file: Path = _CPUINFO) -> tuple[str, set[str]]:
    """Return the model and the flags of this machine's CPU; no flags where the system does not say."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine(), set()
    values: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        values.setdefault(key.strip(), value.strip())
    return values.get("model name", platform.machine()), set(values.get("flags", "").split())


def faster_pairs(verified: Mapping[str, Any], cpu: str | None = None) -> set[tuple[str, str]]:
    """Return the (engine, "int8") pairs that were measured to be faster than the engine's other precisions.

    Precisions whose frames differed from the original's do not count.

    Args:
        verified: of a manifest, which is not validated; `speed` lists {"engine", "precision", "cpu", "ms"}.
        cpu: the one that counts, as `cpu_name` returns it; None for this machine's.
    """
    cpu = cpu_name() if cpu is None else cpu
    entries, failed = verified.get("speed"), failed_pairs(verified)
    times: dict[str, dict[str, float]] = {}
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, Mapping) and entry.get("cpu") == cpu and _is_time(entry.get("ms")):
            engine, precision = str(entry.get("engine")), str(entry.get("precision"))
            if (engine, precision) not in failed:
                times.setdefault(engine, {})[precision] = float(entry["ms"])
    pairs = set()
    for engine, found in times.items():
        others = [ms for precision, ms in found.items() if precision != INT8]
        if INT8 in found and others and found[INT8] < WORTHWHILE * min(others):
            pairs.add((engine, INT8))
    return pairs


def _is_time(ms: Any) -> bool:
    """Return whether a value of a manifest can be a time; its whole numbers may be larger than a float holds."""
    return isinstance(ms, (int, float)) and 0 < ms < _MAX_MS


def check_overflow(graph: bytes, flags: set[str] | None = None) -> None:
    """Check that a quantised graph can run on this machine's CPU.

    Without VNNI, x86 adds two products of bytes in 16 bits. They overflow unless weights use 7 of their 8 bits.

    Args:
        graph: serialised.
        flags: of the CPU; None for this machine's.

    Raises:
        EngineError: its weights use 8 bits, and the CPU has no VNNI.
    """
    flags = _cpu()[1] if flags is None else flags
    if "avx2" not in flags or flags & _VNNI:  # not x86 with AVX2, or one that adds in 32 bits
        return
    model = onnx.ModelProto.FromString(graph)
    scaled = {node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    for tensor in model.graph.initializer:
        if tensor.name not in scaled or tensor.data_type != TensorProto.INT8:
            continue
        if np.abs(numpy_helper.to_array(tensor).astype(np.int16)).max(initial=0) > WEIGHT_LIMIT:
            raise EngineError(
                "this graph in int8 has weights of 8 bits, which overflow on a CPU without VNNI: quantise it without "
                "--vnni, or choose another precision"
            )


def is_quantised(model: onnx.ModelProto) -> bool:
    """Return whether a graph computes with quantised activations."""
    return any(node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear") for node in model.graph.node)


def to_signed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph whose activations are signed bytes with the zero point 0, as TensorRT wants them.

    Args:
        model: with one scale and zero point per activation; not changed.

    Returns:
        A new model. A Clip before each QuantizeLinear limits values to the range of the unsigned bytes, which may stand
        for a Relu. The step between values is at most 2.01 times as large.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    made: dict[tuple[str, str], tuple[str, str, float, float]] = {}
    nodes: list[onnx.NodeProto] = []

    def signed(scale: str, zero: str) -> tuple[str, str, float, float]:
        if (scale, zero) not in made:
            step = float(numpy_helper.to_array(tensors[scale]))
            offset = int(numpy_helper.to_array(tensors[zero]))
            names = f"{scale}.signed{len(made)}", f"{zero}.signed{len(made)}"
            wide = np.array(step * max(offset, 255 - offset) / 127, np.float32)
            graph.initializer.append(numpy_helper.from_array(wide, names[0]))
            graph.initializer.append(numpy_helper.from_array(np.array(0, np.int8), names[1]))
            made[scale, zero] = (*names, -offset * step, (255 - offset) * step)
        return made[scale, zero]

    for node in graph.node:
        is_pair = node.op_type in ("QuantizeLinear", "DequantizeLinear") and len(node.input) == 3
        zero = tensors.get(node.input[2]) if is_pair else None
        if zero is not None and zero.data_type == TensorProto.UINT8 and node.input[1] in tensors and not zero.dims:
            scale_name, zero_name, low, high = signed(node.input[1], node.input[2])
            if node.op_type == "QuantizeLinear":
                limits = [f"{node.output[0]}.{end}" for end in ("low", "high")]
                for name, value in zip(limits, (low, high), strict=True):
                    graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
                clipped = f"{node.output[0]}.clip"
                nodes.append(helper.make_node("Clip", [node.input[0], *limits], [clipped], name=clipped))
                node.input[0] = clipped
            node.input[1], node.input[2] = scale_name, zero_name
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return result
