"""TensorRT and TensorRT-RTX engines that an export builds into a bundle's `engines/`.

The runtime loads them only with `--trust-engines`; otherwise it builds its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import onnx

from export.commandline import ProgressTable
from runtime.bundle.pruning import prune
from runtime.bundle.reader import open_bundle
from runtime.bundle.strict_json import nearest
from runtime.engines import cuda, tensorrt_builder
from runtime.engines.engine import Program
from runtime.engines.fp16 import Fp16Share, share_of, to_half
from runtime.engines.opening import with_weights
from runtime.engines.tensorrt import graph_in, inspect, target_of
from runtime.errors import EngineError
from runtime.pixels.assemble import with_size

EXPECTED_SHARE = 0.95  # share of a step graph's convolutions in FP16; the export fails below it
FLAVOURS = tuple(tensorrt_builder.MODULES)


@dataclass(frozen=True)
class EngineRequest:
    """An engine to build: a flavour for a target ("sm89", "portable", or the name of the GPU)."""

    flavour: str
    target: str


def plan_engines(engines: Sequence[str] | None, targets: Sequence[str]) -> list[EngineRequest]:
    """Return the engines to build.

    Args:
        engines: names from `FLAVOURS`; None for those that can be built here.
        targets: compute capabilities for TensorRT-RTX; empty for engines that run on every GPU from Ampere on.

    Raises:
        EngineError: a named engine cannot be built here.
        ValueError: there is no such engine or target.
    """
    for name in engines or ():
        if name not in FLAVOURS:
            raise ValueError(f'there is no engine "{name}" to build {nearest(name, FLAVOURS)}')
    requests = []
    for name in FLAVOURS if engines is None else dict.fromkeys(engines):
        why_not = tensorrt_builder.why_not_installed(name)
        if why_not is None and name == "tensorrt" and (no_device := cuda.why_no_device()) is not None:
            why_not = f"tensorrt builds only for the GPU of this machine: {no_device}; tensorrt-rtx needs no GPU"
        if why_not is not None:
            if engines is not None:
                raise EngineError(why_not)
            continue
        if name == "tensorrt":
            device = cuda.Cuda()
            requests.append(EngineRequest(name, target_of(name, device)))
            device.close()
        else:
            chosen = tensorrt_builder.check_targets(targets)
            requests += [EngineRequest(name, target) for target in chosen or (tensorrt_builder.PORTABLE,)]
    if targets and not any(request.flavour == "tensorrt-rtx" for request in requests):
        raise ValueError("--target needs tensorrt-rtx: add --engine tensorrt-rtx")
    return requests


def fp16_share(step: onnx.ModelProto) -> Fp16Share:
    """Return the share of a step graph's layers with weights that compute in FP16 after conversion.

    Raises:
        ValueError: it is below `EXPECTED_SHARE`.
    """
    share = share_of(to_half(step))
    require_fp16_share(share, "the step graph")
    return share


def require_fp16_share(share: Fp16Share, what: str) -> None:
    """Raise ValueError if the share is below `EXPECTED_SHARE`."""
    if share.value < EXPECTED_SHARE:
        raise ValueError(
            f"only {share.half} of {share.half + share.full} layers of {what} that multiply by weights run in FP16 "
            f"({share.value:.0%}, expected at least {EXPECTED_SHARE:.0%}): no bundle was written"
        )


def build_engines(
    folder: Path, requests: Sequence[EngineRequest], precisions: Sequence[str], stages: ProgressTable
) -> list[dict[str, Any]]:
    """Build into `folder`/engines every engine that the runtime uses on a GPU.

    Args:
        folder: a complete bundle.
        requests: the engines to build.
        precisions: "fp32", "fp16" and, of a bundle that has it, "int8": of the step graph. The condition graph is built
            in FP32.
        stages: gets a row per engine.

    Returns:
        An entry per engine for the manifest.

    Raises:
        EngineError: a builder rejected a graph.
        ValueError: less of an engine runs in FP16 than expected.
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    entries = []
    has_device = cuda.why_no_device() is None
    for request in requests:
        for name, precision, program in _programs(folder, precisions):
            with stages.stage(f"{request.flavour}, {name} in {precision}") as (row, advance):
                built = tensorrt_builder.build(
                    program.graph,
                    request.flavour,
                    request.target,
                    name=name,
                    cache_dir=folder / "engines",
                    is_private=False,
                    report=partial(_report, advance),
                    weights=program.weights,
                    cache_parts=program.cache_parts,
                )
                # Count in the engine if it can be loaded here, else in the strongly typed network.
                share, counted = built.share, "network"
                if has_device and request.target != tensorrt_builder.PORTABLE:
                    share, counted = inspect(request.flavour, built.plan), "engine"
                total = share.half + share.full
                if precision == "fp16" and total:  # a graph without weights has nothing to run in FP16
                    require_fp16_share(share, f"the {request.flavour} engine of {name}")
                row.file = f"engines/{built.file.name[:24]}..." if built.file is not None else ""
                row.size_bytes = len(built.plan)
                row.note = f"{request.target}, {share.half} of {total} convolutions in FP16"
            entries.append(
                {
                    "engine": request.flavour,
                    "version": tensorrt_builder.version(request.flavour),
                    "target": request.target,
                    "graph": name,
                    "precision": precision,
                    "half_convolutions": share.half,
                    "convolutions": total,
                    "counted_in": counted,
                    "size_bytes": len(built.plan),
                }
            )
    return entries


def _report(advance: Callable[[float], None], share: float, _phase: str) -> None:
    advance(share)


def _programs(folder: Path, precisions: Sequence[str]) -> Iterator[tuple[str, str, Program]]:
    """Yield (name, precision, program) as the runtime compiles them (runtime/engines/opening.py)."""
    opened = open_bundle(folder)
    bundle = with_size(opened, None, "rgb")
    for name, model, spec in (
        ("condition", bundle.condition, bundle.work or bundle.manifest.condition),
        ("paint", bundle.paint, bundle.manifest.paint),
    ):
        if model is not None and spec is not None:
            program = Program(prune(model, [item.name for item in spec.outputs]), spec.inputs, spec.outputs)
            yield name, "fp32", with_weights(program, bundle, spec)
    for pixels in ("rgb", "i420"):
        bundle = with_size(opened, None, pixels)
        step = bundle.manifest.step
        frames = [item.name for item in step.outputs_of("frame") if item.pixels == pixels]
        if frames:
            for precision in precisions:
                model = bundle.in_precision(precision).step
                graph = prune(model, [item.name for item in step.outputs_of("state")] + frames)
                program = with_weights(Program(graph, step.inputs, step.outputs), bundle, step)
                yield f"step, {pixels}", precision, replace(program, graph=graph_in(graph, precision, program.weights))
