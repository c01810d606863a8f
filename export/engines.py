"""The engines of TensorRT and TensorRT-RTX that an export builds into a bundle's `engines/`.

The runtime loads them only if it is told to trust them; else it builds its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import onnx

from export.progress import ProgressTable
from runtime.bundle.pruning import prune
from runtime.bundle.reader import open_bundle
from runtime.bundle.strict_json import nearest
from runtime.engines import cuda, tensorrt_builder
from runtime.engines.fp16 import Fp16Share, share_of, to_half
from runtime.engines.tensorrt import graph_in, inspect, target_of
from runtime.errors import EngineError

EXPECTED_SHARE = 0.95  # of the convolutions of a step graph in FP16; below, the export fails
FLAVOURS = tuple(tensorrt_builder.MODULES)


@dataclass(frozen=True)
class EngineRequest:
    """What is to be built: a flavour for a target ("sm89", "portable", or the name of the GPU)."""

    flavour: str
    target: str


def plan_engines(engines: Sequence[str] | None, targets: Sequence[str]) -> list[EngineRequest]:
    """Return what to build.

    Args:
        engines: of `FLAVOURS`, each an error if it cannot build here; None for those that can.
        targets: compute capabilities for TensorRT-RTX; empty for engines that run on any it knows from Ampere on.

    Raises:
        EngineError: a named one cannot build here.
        ValueError: there is no such engine or target.
    """
    for name in engines or ():
        if name not in FLAVOURS:
            raise ValueError(f'there is no engine "{name}" to build {nearest(name, FLAVOURS)}')
    orders = []
    for name in FLAVOURS if engines is None else dict.fromkeys(engines):
        why_not = tensorrt_builder.why_not_installed(name)
        if why_not is None and name == "tensorrt" and (no_device := cuda.why_no_device()) is not None:
            why_not = f"tensorrt builds for the GPU that is there: {no_device}; tensorrt-rtx builds without one"
        if why_not is not None:
            if engines is not None:
                raise EngineError(why_not)
            continue
        if name == "tensorrt":
            device = cuda.Cuda()
            orders.append(EngineRequest(name, target_of(name, device)))
            device.close()
        else:
            chosen = tensorrt_builder.check_targets(targets)
            orders += [EngineRequest(name, target) for target in chosen or (tensorrt_builder.PORTABLE,)]
    if targets and not any(order.flavour == "tensorrt-rtx" for order in orders):
        raise ValueError("--target is for tensorrt-rtx: name it with --engine tensorrt-rtx")
    return orders


def half_share(step: onnx.ModelProto) -> Fp16Share:
    """Return the share of a step graph's weighted nodes that compute in FP16 after conversion.

    Raises:
        ValueError: it is under `EXPECTED_SHARE`.
    """
    share = share_of(to_half(step))
    require_share(share, "the step graph")
    return share


def require_share(share: Fp16Share, what: str) -> None:
    """Raise ValueError if the share is under what is expected of an FP16 engine."""
    if share.value < EXPECTED_SHARE:
        raise ValueError(
            f"only {share.half} of {share.half + share.full} layers of {what} that multiply by weights run in FP16 "
            f"({share.value:.0%}, expected at least {EXPECTED_SHARE:.0%}): no bundle was written"
        )


def build_engines(
    folder: Path, orders: Sequence[EngineRequest], precisions: Sequence[str], stages: ProgressTable
) -> list[dict[str, Any]]:
    """Build every engine that the runtime may ask for on a GPU into `folder`/engines.

    Args:
        folder: a complete bundle.
        orders: what to build.
        precisions: of "fp32" and "fp16", for the step graph; the condition graph is built in FP32.
        stages: gets a row per engine.

    Returns:
        An entry per engine for the manifest.

    Raises:
        EngineError: a builder refused a graph.
        ValueError: less of an engine runs in FP16 than is expected.
        KeyboardInterrupt: Ctrl-C.
    """
    entries = []
    has_device = cuda.why_no_device() is None
    for order in orders:
        for name, precision, graph in _graphs(folder, precisions):
            with stages.stage(f"{order.flavour}, {name} in {precision}") as (row, advance):
                built = tensorrt_builder.build(
                    graph,
                    order.flavour,
                    order.target,
                    name=name,
                    cache_dir=folder / "engines",
                    is_private=False,
                    report=partial(_report, advance),
                )
                # The engine itself is asked where it can be loaded; elsewhere the strongly typed network is its word.
                share, counted = built.share, "network"
                if has_device and order.target != tensorrt_builder.PORTABLE:
                    share, counted = inspect(order.flavour, built.plan), "engine"
                total = share.half + share.full
                if precision == "fp16":
                    require_share(share, f"the {order.flavour} engine of {name}")
                row.file = f"engines/{built.file.name[:24]}..." if built.file is not None else ""
                row.size_bytes = len(built.plan)
                row.note = f"{order.target}, {share.half} of {total} convolutions in FP16"
            entries.append(
                {
                    "engine": order.flavour,
                    "version": tensorrt_builder.version(order.flavour),
                    "target": order.target,
                    "graph": name,
                    "precision": precision,
                    "half_convolutions": share.half,
                    "convolutions": total,
                    "counted_in": counted,
                    "size_bytes": len(built.plan),
                }
            )
    return entries


def _report(advance: Callable[[float], None], share: float, phase: str) -> None:  # noqa: ARG001
    advance(share)


def _graphs(folder: Path, precisions: Sequence[str]) -> Iterator[tuple[str, str, bytes]]:
    """Yield (name, precision, serialised graph) as the runtime compiles them (runtime/engines/opening.py)."""
    bundle = open_bundle(folder)
    condition = bundle.manifest.condition
    if condition is not None and bundle.condition is not None:
        yield "condition", "fp32", prune(bundle.condition, [item.name for item in condition.outputs])
    step = bundle.manifest.step
    states = [item.name for item in step.outputs_of("state")]
    for frame in step.outputs_of("frame"):
        graph = prune(bundle.step, [item.name for item in step.outputs if item.name in (*states, frame.name)])
        for precision in precisions:
            yield f"step, {frame.pixels}", precision, graph_in(graph, precision)
