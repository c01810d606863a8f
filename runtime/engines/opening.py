"""Open a checked bundle with one engine: prune its graphs and compile them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import onnx

from runtime.bundle.manifest import graph_sha256
from runtime.bundle.pruning import prune
from runtime.bundle.reader import Bundle
from runtime.bundle.strict_json import nearest
from runtime.bundle.tensors import GraphSpec
from runtime.clips.alignment import REDUCTION
from runtime.clips.stage import build_clip_stage, clip_inputs, clip_output
from runtime.engines.engine import Array, Engine, NullSession, Origin, Program, Session
from runtime.engines.remote import RemoteSession
from runtime.engines.settings import cache_folder, memory_errors, thread_count
from runtime.engines.table import EngineChoice, choose_engine
from runtime.errors import EngineError
from runtime.marking.frame_marker import EngineSettings, FrameMarker
from runtime.marking.graph import with_mark
from runtime.marking.plane import plane_input
from runtime.pixels.areas import AreaSession
from runtime.pixels.assemble import compared_size
from runtime.pixels.scene_session import SceneSession
from runtime.pixels.stage import plane_sets

ON_CPU = ("openvino", "onnxruntime")


@dataclass(frozen=True)
class OpenedEngine:
    """The sessions of a bundle in one engine.

    Args:
        choice: the engine, its precision, and the reason for both.
        step: session of the step graph with one frame output.
        condition: session of the condition graph, or None if the bundle has none.
        open_without_frames: opens a session of the step graph without frame outputs; None to use `step` instead, as for
            graphs with a weights file, whose memory another session would take again.
        open_spare: opens another session of the condition graph; None if it has a weights file: it would take its
            memory twice.
        open_half: opens a session of the step graph with half the detail; None if there is none, or if the engine is on
            a GPU, which needs minutes to compile and has time to spare.
        open_clip_stage: opens a session of the stage that makes frames of clips; None if the bundle cannot play them.
        plane: of the mark, for the step graph and the clip stage, float32 of a frame's shape; None for no mark.
        marker: marks frames of clips that no stage makes; None for no mark.
    """

    choice: EngineChoice
    step: Session
    condition: Session | None
    open_without_frames: Callable[[], Session] | None = None
    open_spare: Callable[[], Session] | None = None
    open_half: Callable[[], Session] | None = None
    open_clip_stage: Callable[[], Session] | None = None
    plane: Array | None = None
    marker: FrameMarker | None = None


def opened_engine(
    bundle: Bundle,
    choice: EngineChoice,
    sessions: tuple[Session, Session | None],
    *,
    pixels: str,
    threads: int | None,
    cache_dir: str | Path | None,
) -> OpenedEngine:
    """Return an engine with the sessions of `open_sessions`, and what opens its other ones; arguments as there."""
    step, condition = sessions
    chosen = (bundle, choice.engine, choice.precision)
    return OpenedEngine(
        choice,
        step,
        condition,
        None
        if isinstance(step, RemoteSession) or _is_only_once(bundle.manifest.step)
        else partial(open_without_frames, *chosen, threads=threads, cache_dir=cache_dir),
        None
        if bundle.manifest.condition is not None and bundle.manifest.condition.weights
        else partial(open_condition, *chosen, threads=threads, cache_dir=cache_dir),
        partial(_open_half, *chosen, pixels=pixels, threads=threads, cache_dir=cache_dir)
        if bundle.build_half is not None and choice.engine.name in ON_CPU
        else None,
        partial(_open_clip_stage, bundle, choice.engine, pixels=pixels, threads=threads, cache_dir=cache_dir)
        if compared_size(bundle) is not None
        else None,
        bundle.plane,
        _marker(bundle, choice.engine, pixels=pixels, threads=threads, cache_dir=cache_dir),
    )


def _is_only_once(step: GraphSpec) -> bool:
    """Return whether no second session of a step graph is opened: it has states, and weights in a file."""
    return bool(step.weights and step.outputs_of("state"))


def open_sessions(
    bundle: Bundle, engine: Engine, precision: str, *, pixels: str, threads: int | None, cache_dir: str | Path | None
) -> tuple[Session, Session | None]:
    """Compile both graphs of a bundle.

    Args:
        bundle: the checked bundle.
        engine: compiles the graphs.
        precision: of the step graph; the condition graph runs in FP32 if the engine supports it.
        pixels: the frame output to keep; the other one is pruned.
        threads: CPU threads per frame; None for all cores.
        cache_dir: folder for compiled graphs; None for the default.

    Returns:
        The sessions of the step graph and of the condition graph (or None); to be closed by the caller.

    Raises:
        EngineError: the engine refused a graph.
        BundleError: the bundle has no graph in this precision.
        ValueError: the bundle has no such frame output, or `threads` is below 1.
    """
    frame = frame_output(bundle.manifest.step, pixels)
    step = open_step(bundle.in_precision(precision), engine, precision, frame, threads=threads, cache_dir=cache_dir)
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
    """Compile the condition graph of a bundle that has one; arguments and errors as in `open_sessions`."""
    condition = bundle.manifest.condition
    assert condition is not None, "open_condition() of a bundle without a condition graph"
    assert bundle.condition is not None, "open_condition() of a bundle without a condition graph"
    # It runs while frames are made, so it gets a quarter of the threads. It runs rarely and its errors affect all
    # frames, so it runs in FP32 if possible.
    exact = "fp32" if "fp32" in engine.precisions() else precision
    few = max(1, thread_count(threads) // 4)
    with memory_errors(engine):

        def open_graph(model: onnx.ModelProto, graph: GraphSpec, part: str) -> Session:
            names, origin = [item.name for item in graph.outputs], origin_of(bundle, graph, part)
            program = Program(prune(model, names), graph.inputs, graph.outputs, engines=bundle.engines, origin=origin)
            return engine.open(with_weights(program, bundle, graph), exact, few, cache_folder(cache_dir))

        if bundle.work is None:
            return open_graph(bundle.condition, condition, "condition")
        frame, painter = bundle.manifest.frame, None
        pixels = next(item.pixels for item in bundle.manifest.step.outputs_of("frame"))
        with ExitStack() as opened:  # closes them if another cannot be opened
            session = open_graph(bundle.condition, bundle.work, "condition")
            opened.callback(session.close)
            if bundle.manifest.paint is not None and bundle.paint is not None:
                painter = (bundle.manifest.paint, open_graph(bundle.paint, bundle.manifest.paint, "paint"))
                opened.callback(painter[1].close)
            opened.pop_all()
        planes = plane_sets(frame.width, frame.height, pixels)
        areas = None if bundle.areas is None else partial(_open_areas, bundle.areas, few, cache_dir)
        return SceneSession(condition, bundle.work, session, painter, planes, frame.sharpness, areas)


def _open_areas(bundle: Bundle, threads: int, cache_dir: str | Path | None) -> AreaSession | None:
    """Compile the graph that says what may move, on the CPU: it runs once for a picture. None if no engine can."""
    graph = bundle.manifest.step
    name = frame_output(graph, "rgb")
    graph = GraphSpec(graph.file, graph.inputs, tuple(item for item in graph.outputs if item.name == name))
    for engine_name in ON_CPU:
        with suppress(EngineError):
            engine = choose_engine(engine_name, "fp32").engine
            with memory_errors(engine):
                program = with_weights(
                    Program(prune(bundle.step, [name]), graph.inputs, graph.outputs), bundle, bundle.manifest.step
                )
                return AreaSession(graph, engine.open(program, "fp32", threads, cache_folder(cache_dir)))
    return None


def open_without_frames(
    bundle: Bundle, engine: Engine, precision: str, *, threads: int | None, cache_dir: str | Path | None
) -> Session:
    """Compile the step graph for its states alone; arguments and errors as in `open_sessions`."""
    if not bundle.manifest.step.outputs_of("state"):
        return NullSession()
    return open_step(bundle.in_precision(precision), engine, precision, "", threads=threads, cache_dir=cache_dir)


def _open_half(
    bundle: Bundle, engine: Engine, precision: str, *, pixels: str, threads: int | None, cache_dir: str | Path | None
) -> Session:
    """Compile the step graph with half the detail; arguments and errors as in `open_sessions`."""
    bundle = bundle.in_precision(precision)
    assert bundle.build_half is not None, "_open_half() of a bundle that has no such graph"
    frame = frame_output(bundle.manifest.step, pixels)
    return open_step(
        replace(bundle, step=bundle.build_half()), engine, precision, frame, threads=threads, cache_dir=cache_dir
    )


def _open_clip_stage(
    bundle: Bundle, engine: Engine, *, pixels: str, threads: int | None, cache_dir: str | Path | None
) -> Session:
    """Compile the clip stage, in FP32 if possible; arguments and errors as in `open_sessions`."""
    compared, frame = compared_size(bundle), bundle.manifest.frame
    assert compared is not None, "_open_clip_stage() of a bundle that cannot play clips"
    precision = "fp32" if "fp32" in engine.precisions() else engine.precisions()[0]
    moves = compared[0] // REDUCTION, compared[1] // REDUCTION
    with memory_errors(engine):
        model = build_clip_stage(frame.width, frame.height, pixels, moves, REDUCTION)
        inputs, output = (
            clip_inputs(frame.width, frame.height, pixels, moves),
            clip_output(frame.width, frame.height, pixels),
        )
        if bundle.plane is not None:
            model, inputs = with_mark(model, output), (*inputs, plane_input(output))
        program = Program(model.SerializeToString(), inputs, (output,))
        return engine.open(program, precision, thread_count(threads), cache_folder(cache_dir))


def _marker(
    bundle: Bundle, engine: Engine, *, pixels: str, threads: int | None, cache_dir: str | Path | None
) -> FrameMarker | None:
    """Return what marks frames that no stage makes; it compiles its graph when it gets the first one."""
    if bundle.plane is None:
        return None
    frame = next(item for item in bundle.manifest.step.outputs_of("frame") if item.pixels == pixels)
    return FrameMarker(bundle.plane, frame, EngineSettings(engine, thread_count(threads), cache_folder(cache_dir)))


def frame_output(step: GraphSpec, pixels: str) -> str:
    """Return the name of the step graph's frame output in "rgb" or "i420".

    Raises:
        ValueError: the bundle has no such frame output.
    """
    frames = {tensor.pixels: tensor.name for tensor in step.outputs_of("frame")}
    if pixels not in frames:
        raise ValueError(f'this bundle has no frames in "{pixels}" {nearest(pixels, frames)}')
    return frames[pixels]


def state_pairs(step: GraphSpec) -> tuple[tuple[str, str], ...]:
    """Return the (state input, state output) names of a step graph."""
    return tuple((item.name, item.next) for item in step.inputs_of("state"))


def open_step(
    bundle: Bundle, engine: Engine, precision: str, frame: str, *, threads: int | None, cache_dir: str | Path | None
) -> Session:
    """Compile the step graph with one frame output, or for "" with none; other arguments as in `open_sessions`."""
    graph = bundle.manifest.step
    outputs = tuple(item for item in graph.outputs if item.role == "state" or item.name == frame)
    all_threads = thread_count(threads)
    with memory_errors(engine):
        graph_bytes = prune(bundle.step, [item.name for item in outputs])
        pixels = next((item.pixels for item in outputs if item.name == frame), "")
        origin = origin_of(bundle, graph, f"step-{pixels}") if frame else None
        program = Program(graph_bytes, graph.inputs, outputs, state_pairs(graph), bundle.engines, origin)
        return engine.open(with_weights(program, bundle, graph), precision, all_threads, cache_folder(cache_dir))


def with_weights(program: Program, bundle: Bundle, graph: GraphSpec) -> Program:
    """Return a program with the weights file of its graph, if it has one.

    Raises:
        EngineError: the file was changed after the bundle was opened.
    """
    path = weights_of(bundle, graph)
    if path is None:
        return program
    return replace(program, weights=path, weights_sha256=bundle.weights[graph.weights].sha256)


def weights_of(bundle: Bundle, graph: GraphSpec) -> Path | None:
    """Return the weights file of a graph, or None; raises as `with_weights`."""
    return bundle.weights[graph.weights].unchanged() if graph.weights else None


def origin_of(bundle: Bundle, graph: GraphSpec, part: str) -> Origin:
    """Return where a graph of a bundle comes from; `part` as in `Origin`."""
    return Origin(bundle.manifest.name, part, graph_sha256(bundle.manifest, graph))
