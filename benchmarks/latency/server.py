"""What a Triton server adds to a frame: gRPC, with one request at a time and one ahead.

python -m benchmarks server bundles/NAME --engine grpc://HOST:8001

Times the requests of one sequence and subtracts the time that the server itself
reports for its computation (`compute_infer` of its statistics). The rest is gRPC,
the network, the server's scheduling and copies, and this client. Not yet run with
a Triton server. The tests' stand-in measures the protocol on one machine, without
any computation.

examples:
  python -m export triton bundles/landscape --out models
  python -m tests.triton_server models --port 8001 --no-compute
  python -m benchmarks server bundles/landscape --engine grpc://127.0.0.1:8001 --pixels i420
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from benchmarks.latency.distribution import percentiles
from benchmarks.report import BenchmarkReport
from export.commandline import to_size
from runtime.bundle.reader import open_bundle
from runtime.engines.engine import Session
from runtime.engines.opening import frame_output, open_sessions
from runtime.engines.table import choose_engine
from runtime.engines.triton_interface import model_name
from runtime.noise import FRAMES, normals
from runtime.pixels.assemble import with_size

WARM_UP = 10  # frames


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    add = parser.add_argument
    add("bundle", type=Path, metavar="BUNDLE", help="folder of a bundle")
    add("--engine", required=True, metavar="E", help="grpc://HOST:PORT or grpc://HOST:PORT/NAME")
    add("--pixels", choices=("i420", "rgb"), default="i420", help="format of the frames (i420)")
    add("--size", metavar="WxH", help="frame size in pixels (the bundle's)")
    add("--frames", type=int, default=300, metavar="N", help="frames to measure, of each way (300)")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure.

    Raises:
        ValueError, BundleError, EngineError: an argument is wrong, or the bundle or the server cannot be used.
    """
    if options.frames < 1:
        raise ValueError(f"--frames must be at least 1, got {options.frames}")
    if not options.engine.startswith("grpc://"):
        raise ValueError(f"--engine must be the address of a server, grpc://HOST:PORT, got {options.engine!r}")
    size = None if options.size is None else to_size(options.size)
    bundle = with_size(open_bundle(options.bundle), size, options.pixels)
    manifest = bundle.manifest
    engine = choose_engine(options.engine, "fp32").engine
    step, _ = open_sessions(bundle, engine, "fp32", pixels=options.pixels, threads=None, cache_dir=None)
    url, _, name = options.engine.removeprefix("grpc://").partition("/")
    model = model_name(name.strip("/") or manifest.name, f"step-{options.pixels}")
    noises = [(item.name, item.shape[1]) for item in manifest.step.inputs_of("noise")]
    frame, index = frame_output(manifest.step, options.pixels), 0

    def ask() -> None:
        nonlocal index
        for noise, count in noises:
            step.write(noise, normals(1, FRAMES, index, count)[None])
        step.run()
        index += 1

    result: dict[str, Any] = {"benchmark": "server", "bundle": manifest.name, "pixels": options.pixels}
    result |= {"width": manifest.frame.width, "height": manifest.frame.height, "frames": options.frames}
    rows = []
    try:
        for way, ahead in (("one at a time", 0), ("one ahead", 1)):
            for _ in range(ahead):
                ask()
            _times(step, ask, frame, WARM_UP)
            before = _computed(url, model)
            wall = percentiles(_times(step, ask, frame, options.frames))
            count, computed_ms = (now - then for now, then in zip(_computed(url, model), before, strict=True))
            for _ in range(ahead):
                step.read(frame)
            own_ms = round(computed_ms / max(1, count), 3)
            result[way] = {"ms": wall, "server_ms": own_ms, "overhead_ms": round(wall["p50"] - own_ms, 3)}
            why = f"p99 {wall['p99']:.2f}; of these, the server computes {own_ms:.2f} on average"
            rows.append((way, f"{wall['p50']:.2f} ms", why))
    finally:
        step.close()
    title = f"{manifest.name}, {manifest.frame.width}x{manifest.frame.height} {options.pixels}, {options.engine}"
    return BenchmarkReport(title, rows, result)


def _times(step: Session, ask: Any, frame: str, count: int) -> list[float]:
    """Return the milliseconds of each of some frames."""
    durations = []
    for _ in range(count):
        start = time.perf_counter()
        ask()
        step.read(frame)
        durations.append((time.perf_counter() - start) * 1000)
    return durations


def _computed(url: str, model: str) -> tuple[int, float]:
    """Return how many requests a server has computed, and the milliseconds that they took."""
    import tritonclient.grpc

    with tritonclient.grpc.InferenceServerClient(url) as client:
        stats = client.get_inference_statistics(model).model_stats[0].inference_stats.compute_infer
    return stats.count, stats.ns / 1e6
