"""What the mark costs in time: sessions with and without it, run in turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from runtime.bundle.pruning import prune
from runtime.bundle.reader import Bundle, open_bundle
from runtime.bundle.tensors import TensorSpec
from runtime.engines.engine import Program, Session
from runtime.engines.opening import state_pairs, with_weights
from runtime.engines.table import open_engine
from runtime.marking.frame_marker import EngineSettings, FrameMarker
from runtime.marking.marked_bundle import marked
from runtime.marking.plane import PLANE
from runtime.pixels.assemble import with_size

_RUNS, _WARM = 60, 10
_SIZES = ((1280, 720), (1920, 1080), (640, 360))
_ENGINES = ("openvino", "onnxruntime")
_PAYLOAD = 0xC0FFEE123456


def measure_speed(path: Path, *, runs: int = _RUNS, threads: int = 2) -> dict[str, Any]:
    """Measure the step graph of a bundle with its pixel stage, FP32, i420; the pictures are noise.

    Returns:
        Size and engine -> milliseconds: medians without and with the mark, the median of the differences of pairs, and
        the same of CPU time per thread; and of the stage that marks other frames.
    """
    found = {}
    for size in _SIZES:
        bundle = with_size(open_bundle(path), size, "i420")
        for name in _ENGINES:
            pair = [_open(one, name, threads) for one in (bundle, marked(bundle, _PAYLOAD, "i420"))]
            marker = FrameMarker.of_payload(_PAYLOAD, *size, "i420", EngineSettings(open_engine(name), threads, None))
            frame = np.full((size[1] * 3 // 2, size[0]), 128, np.uint8)
            acts: list[Callable[[], object]] = [pair[0].run, pair[1].run, lambda: marker(frame)]  # noqa: B023
            times = _alternate(acts, runs)
            found[f"{size[0]}x{size[1]} {name}"] = {
                "unmarked_ms": float(np.median(times[0, :, 0])),
                "marked_ms": float(np.median(times[1, :, 0])),
                "difference_ms": float(np.median(times[1, :, 0] - times[0, :, 0])),
                "difference_cpu_ms": float(np.median(times[1, :, 1] - times[0, :, 1])) / threads,
                "marker_ms": float(np.median(times[2, :, 0])),
                "marker_cpu_ms": float(np.median(times[2, :, 1])) / threads,
            }
            for session in pair:
                session.close()
            marker.close()
    return found


def _alternate(acts: list[Callable[[], object]], runs: int) -> np.ndarray:
    """Return milliseconds of wall and of CPU time, (acts, runs, 2)."""
    times = np.zeros((len(acts), runs + _WARM, 2))
    for number in range(runs + _WARM):
        for place, act in enumerate(acts):
            began_s, cpu_s = time.perf_counter(), time.process_time()
            act()
            times[place, number] = 1000 * (time.perf_counter() - began_s), 1000 * (time.process_time() - cpu_s)
    return times[:, _WARM:]


def _open(bundle: Bundle, name: str, threads: int) -> Session:
    graph = bundle.manifest.step
    program = Program(
        prune(bundle.step, [item.name for item in graph.outputs]), graph.inputs, graph.outputs, state_pairs(graph)
    )
    session = open_engine(name).open(with_weights(program, bundle, graph), "fp32", threads, None)
    random = np.random.default_rng(0)
    for item in graph.inputs:
        if item.name == PLANE:
            assert bundle.plane is not None
            session.write(PLANE, bundle.plane)
        elif item.role in ("picture", "control", "noise"):
            session.write(item.name, _noise(random, item))
    return session


def _noise(random: np.random.Generator, item: TensorSpec) -> np.ndarray:
    scale = 200 if item.role == "picture" else 1
    return (scale * random.random(item.shape, dtype=np.float32)).astype(np.float32)
