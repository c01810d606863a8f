"""A checked bundle and a chosen engine -> the two sessions that a generator runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from google.protobuf.message import EncodeError

from runtime.bundle.graph_checks import prune
from runtime.bundle.reader import Bundle
from runtime.bundle.strict_json import nearest
from runtime.bundle.tensors import GraphSpec
from runtime.engines.cache import default_cache_dir
from runtime.engines.engine import Engine, Program, Session
from runtime.engines.table import count_cores
from runtime.errors import EngineError
from runtime.step_runner import NullSession


def frame_output(step: GraphSpec, pixels: str) -> str:
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
    frame = frame_output(bundle.manifest.step, pixels)
    step = _open_step(bundle, engine, precision, frame, threads=threads, cache_dir=cache_dir)
    if bundle.manifest.condition is None:
        return step, None
    try:
        return step, open_condition(bundle, engine, precision, threads=threads, cache_dir=cache_dir)
    except BaseException:
        step.close()
        raise


def open_condition(
    bundle: Bundle, engine: Engine, precision: str, *, threads: int | None, cache_dir: str | Path | None
) -> Session:
    """Compile the condition graph of a bundle that has one; arguments as in `open_sessions`.

    Returns:
        The session, to be closed by the caller.

    Raises:
        EngineError: the engine refused the graph.
    """
    condition = bundle.manifest.condition
    if condition is None or bundle.condition is None:
        raise AssertionError("open_condition() of a bundle without a condition graph")
    names = [item.name for item in condition.outputs]
    # It runs beside the show: with a few threads it takes longer and disturbs less. It runs rarely, and what it gets
    # wrong stays in every frame: in FP32 wherever that is to be had.
    exact = "fp32" if "fp32" in engine.precisions() else precision
    few = max(1, _threads(threads) // 4)
    with _needing_memory(engine):
        program = Program(prune(bundle.condition, names), condition.inputs, condition.outputs, engines=bundle.engines)
        return engine.open(program, exact, few, _folder(cache_dir))


def open_blind(
    bundle: Bundle, engine: Engine, precision: str, *, threads: int | None, cache_dir: str | Path | None
) -> Session:
    """Compile the step graph of a bundle without any frame, for its states alone; arguments as in `open_sessions`.

    Returns:
        The session, to be closed by the caller.

    Raises:
        EngineError: the engine refused the graph.
    """
    if not bundle.manifest.step.outputs_of("state"):
        return NullSession()
    return _open_step(bundle, engine, precision, "", threads=threads, cache_dir=cache_dir)


def state_pairs(step: GraphSpec) -> tuple[tuple[str, str], ...]:
    """Return (state input, state output) names of a step graph."""
    return tuple((item.name, item.next) for item in step.inputs_of("state"))


def _open_step(
    bundle: Bundle, engine: Engine, precision: str, frame: str, *, threads: int | None, cache_dir: str | Path | None
) -> Session:
    graph = bundle.manifest.step
    outputs = tuple(item for item in graph.outputs if item.role == "state" or item.name == frame)
    all_threads = _threads(threads)
    with _needing_memory(engine):
        graph_bytes = prune(bundle.step, [item.name for item in outputs])
        program = Program(graph_bytes, graph.inputs, outputs, state_pairs(graph), bundle.engines)
        return engine.open(program, precision, all_threads, _folder(cache_dir))


@contextmanager
def _needing_memory(engine: Engine) -> Iterator[None]:
    """Raise EngineError where there is not enough memory: a library, protobuf and NumPy each raise their own error."""
    try:
        yield
    except (ImportError, EncodeError, MemoryError) as error:
        why = "" if isinstance(error, ImportError) else "there is not enough memory: "
        raise EngineError(f"{engine.name} cannot open the graphs: {why}{error}") from error


def _threads(threads: int | None) -> int:
    threads = count_cores() if threads is None else threads
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    return threads


def _folder(cache_dir: str | Path | None) -> Path | None:
    return Path(cache_dir) if cache_dir is not None else default_cache_dir()
