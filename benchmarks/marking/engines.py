"""Whether engines make the same marked frames, and whether TensorRT-RTX builds the marked graph."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.marking.changes import luma
from export.parity.checks import available_engines
from runtime import Generator
from runtime.bundle.pruning import prune
from runtime.bundle.reader import open_bundle
from runtime.golden import psnr_db
from runtime.marking.marked_bundle import marked
from runtime.marking.payload import format_payload
from runtime.pixels.assemble import with_size
from verify.mark_reader import WINDOW, read_mark

FRAMES = 3 * WINDOW
MOST_DB = 99.0  # of equal frames
_PAYLOAD = 0xC0FFEE123456
_REFERENCE = ("onnxruntime", "fp32")
_COMPARED = (("openvino", "fp32"), ("openvino", "bf16"), ("onnxruntime", "fp16"))
_SEED = 1


def measure_engines(bundles: Sequence[Path], sizes: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Play the same marked show on every engine that is here, and build its graph with TensorRT-RTX.

    Returns:
        "frames": show and engine -> worst and mean PSNR to ONNX Runtime in FP32, with the mark and without it, and how
        many of the windows have the payload; an engine that is not here is left out. "builds": show, pixels and
        precision -> seconds and MB of the engine; empty without TensorRT-RTX.
    """
    available = available_engines()
    frames: dict[str, dict[str, float]] = {}
    builds: dict[str, dict[str, float]] = {}
    for path in bundles:
        for size in sizes:
            name = f"{path.name} {size[0]}x{size[1]}"
            shows = {mark: _play(path, size, *_REFERENCE, mark) for mark in (_PAYLOAD, None)}
            frames[f"{name}, {' '.join(_REFERENCE)}"] = {"found": _found(shows[_PAYLOAD])}
            for engine, precision in _COMPARED:
                if (engine, precision) not in available:
                    continue
                others = {mark: _play(path, size, engine, precision, mark) for mark in shows}
                close = {
                    mark: [min(MOST_DB, psnr_db(*pair)) for pair in zip(others[mark], shows[mark], strict=True)]
                    for mark in shows
                }
                frames[f"{name}, {engine} {precision}"] = {
                    "worst_db": min(close[_PAYLOAD]),
                    "mean_db": float(np.mean(close[_PAYLOAD])),
                    "unmarked_worst_db": min(close[None]),
                    "unmarked_mean_db": float(np.mean(close[None])),
                    "found": _found(others[_PAYLOAD]),
                }
            builds |= {f"{name}, {how}": built for how, built in _build(path, size).items()}
    return {"frames": frames, "builds": builds}


def _play(path: Path, size: tuple[int, int], engine: str, precision: str, mark: int | None) -> list[Any]:
    """Return I420 frames of a closed loop from a seed."""
    with Generator.open(path, engine=engine, precision=precision, pixels="i420", size=size, mark=mark) as generator:
        generator.condition(seed=_SEED)
        return [next(generator).copy() for _ in range(FRAMES)]


def _found(frames: Sequence[Any]) -> int:
    """Return in how many windows the payload is read."""
    return sum(found.payload == format_payload(_PAYLOAD) for found in read_mark([luma(frame) for frame in frames]))


def _build(path: Path, size: tuple[int, int]) -> dict[str, dict[str, float]]:
    """Return pixels and precision -> seconds and MB."""
    try:
        import tensorrt_rtx  # noqa: F401
    except ImportError:
        return {}
    from runtime.engines import tensorrt_builder

    built = {}
    for pixels in ("rgb", "i420"):
        bundle = marked(with_size(open_bundle(path), size, pixels), _PAYLOAD, pixels)
        names = [item.name for item in bundle.manifest.step.outputs]
        assert bundle.build_half is not None
        for precision, graph in (("fp32", bundle.step), ("fp16", bundle.build_half())):
            with tempfile.TemporaryDirectory() as folder:
                began_s = time.perf_counter()
                engine = tensorrt_builder.build(
                    prune(graph, names), "tensorrt-rtx", tensorrt_builder.PORTABLE,
                    name="step", cache_dir=Path(folder), is_private=False,
                )  # fmt: skip
                built[f"{pixels}, {precision}"] = {
                    "seconds": time.perf_counter() - began_s,
                    "mb": len(engine.plan) / 1e6,
                }
    return built
