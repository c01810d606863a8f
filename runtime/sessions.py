"""A checked bundle and a chosen engine -> the two sessions that a generator runs."""

from __future__ import annotations

from pathlib import Path

from runtime.bundle import Bundle
from runtime.engine import Engine, Program, Session, count_cores
from runtime.engine_cache import default_cache_dir
from runtime.fields import nearest
from runtime.graphs import prune
from runtime.tensors import Graph


def frame_output(step: Graph, pixels: str) -> str:
    """Return the name of the step graph's frame output in "rgb" or "i420".

    Raises:
        ValueError: the bundle has no frames of that kind.
    """
    frames = {tensor.pixels: tensor.name for tensor in step.outputs_of("frame")}
    if pixels not in frames:
        raise ValueError(f'this bundle has no frames in "{pixels}" {nearest(pixels, frames)}')
    return frames[pixels]


def open_sessions(
    bundle: Bundle, engine: Engine, precision: str, *, pixels: str, threads: int | None, cache_dir: str | Path | None
) -> tuple[Session, Session | None]:
    """Compile both graphs of a bundle.

    Args:
        bundle: the checked bundle.
        engine: which engine compiles them.
        precision: one of the engine's, for the step graph; the condition graph runs in FP32 where the engine can.
        pixels: the frame output that is wanted; the other is pruned.
        threads: CPU threads for a frame; None for every core.
        cache_dir: folder for compiled graphs; None for the default.

    Returns:
        The step graph's session, and that of the condition graph or None; to be closed by the caller.

    Raises:
        EngineError: the engine refused a graph.
        ValueError: the bundle has no frames of that kind, or `threads` is below 1.
    """
    threads = count_cores() if threads is None else threads
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    folder = Path(cache_dir) if cache_dir is not None else default_cache_dir(bundle.path)
    graph = bundle.manifest.step
    frame = frame_output(graph, pixels)
    outputs = tuple(item for item in graph.outputs if item.role == "state" or item.name == frame)
    pairs = tuple((item.name, item.next) for item in graph.inputs_of("state"))
    program = Program(prune(bundle.step, [item.name for item in outputs]), graph.inputs, outputs, pairs)
    step = engine.open(program, precision, threads, folder)
    condition = bundle.manifest.condition
    if condition is None or bundle.condition is None:
        return step, None
    names = [item.name for item in condition.outputs]
    program = Program(prune(bundle.condition, names), condition.inputs, condition.outputs)
    # It runs beside the show: with a few threads it takes longer and disturbs less. It runs rarely, and what it gets
    # wrong stays in every frame: in FP32 wherever that is to be had.
    exact = "fp32" if "fp32" in engine.precisions() else precision
    try:
        return step, engine.open(program, exact, max(1, threads // 4), folder)
    except BaseException:
        step.close()
        raise
