"""What an NVIDIA GPU can do for a bundle: engines, CUDA graphs, parity, latency.

python -m benchmarks gpu-check bundles/NAME      (or: make gpu-check)

Tries every engine for GPUs once, and reports why those that do not run do not.
Tests device buffers, pinned frames and captured CUDA graphs with a PyTorch
module even if PyTorch is all that is installed. Compares frames with those of
ONNX Runtime on the CPU, the first ten with graphs and without, and times what
runs. Exit status 1 if something makes wrong frames, 2 without a CUDA device.

examples:
  python -m benchmarks gpu-check bundles/satellite
  make gpu-check
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.latency.distribution import percentiles
from benchmarks.report import BenchmarkReport, Checks, check, check_rows, has_failed
from runtime.bundle.reader import open_bundle
from runtime.bundle.tensors import TensorSpec
from runtime.engines import cuda
from runtime.engines.cuda import Cuda
from runtime.engines.cuda_frame import CudaFrame
from runtime.engines.cuda_session import CudaSession
from runtime.engines.engine import Program
from runtime.engines.table import open_engine
from runtime.errors import EngineError
from runtime.generator import Generator
from runtime.golden import psnr_db
from runtime.noise import FRAMES, normals

GPU_ENGINES = ("tensorrt", "tensorrt-rtx", "onnxruntime-cuda")
_GATE_DB = {"fp16": 35.0, "fp32": 60.0}
_COMPARED = 10
_CHANNELS, _SIDE = 8, 64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    parser.add_argument("bundle", metavar="BUNDLE", help="folder of a bundle")
    parser.add_argument("--frames", type=int, default=600, metavar="N", help="frames to time (600)")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Check this machine.

    Raises:
        ValueError: there is no usable CUDA device, or `--frames` is below 10.
        BundleError: the bundle is damaged.
    """
    if options.frames < _COMPARED:
        raise ValueError(f"--frames must be at least {_COMPARED}, got {options.frames}")
    open_bundle(options.bundle)  # a damaged bundle is reported first
    if (why_not := cuda.why_no_device()) is not None:
        raise ValueError(f"gpu-check needs an NVIDIA GPU: {why_not}")
    probe = cuda.Cuda()
    gpu = {"name": probe.name, "target": probe.target}
    probe.close()
    checks: Checks = {"buffers and graphs": _attempt(lambda: check_torch(cuda.Cuda(), options.frames))}
    with _open(options.bundle, "onnxruntime", "fp32") as generator:
        expected = [next(generator).copy() for _ in range(_COMPARED)]
    for name, precision in itertools.product(GPU_ENGINES, ("fp16", "fp32")):
        checks[f"{name} {precision}"] = _attempt(
            partial(check_engine, options.bundle, name, precision, expected, options.frames)
        )
    result = {"benchmark": "gpu-check", "bundle": Path(options.bundle).name, "gpu": gpu, "checks": checks}
    title = f"{gpu['name']} ({gpu['target']})"
    return BenchmarkReport(title, check_rows(checks), result, failed=has_failed(checks))


def check_engine(
    bundle: str, name: str, precision: str, expected: list[npt.NDArray[np.uint8]], frames: int
) -> dict[str, Any]:
    """Run a bundle on an engine: compare its first frames, and measure its latency.

    Raises:
        EngineError: it cannot run here, for the reason given.
    """
    if (why_not := open_engine(name).available()) is not None:
        raise EngineError(why_not)
    started = time.perf_counter()
    with _open(bundle, name, precision) as generator:
        found = [next(generator).copy() for _ in expected]
        opened_s = time.perf_counter() - started
        durations = _time(lambda: next(generator), frames)
    worst = min(psnr_db(mine, other) for mine, other in zip(found, expected, strict=True))
    ms = percentiles(durations)
    what = f"{worst:.1f} dB at worst over {len(found)} frames (at least {_GATE_DB[precision]:g}); "
    what += f"p50 {ms['p50']:.2f}, p99 {ms['p99']:.2f} ms; {opened_s:.1f} s to the first frames"
    return {**check(worst >= _GATE_DB[precision], what), "psnr_db": round(worst, 2), "ms": ms}


def check_torch(device: Cuda, frames: int) -> dict[str, Any]:
    """Run a PyTorch module in the runtime's buffers, stream and CUDA graphs, with graphs and without.

    Args:
        device: of CUDA; owned from now on.
        frames: to time.

    Raises:
        EngineError: PyTorch or its CUDA is missing.
    """
    try:
        import torch
    except ImportError as error:
        raise EngineError("PyTorch is not installed") from error
    if not torch.cuda.is_available():
        raise EngineError("this PyTorch has no CUDA")
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1).cuda().eval()
    stream = torch.cuda.ExternalStream(device.stream)

    def enqueue(addresses: Mapping[str, int]) -> None:
        with torch.inference_mode(), torch.cuda.stream(stream):
            state, noise, frame, after = (
                torch.as_tensor(CudaFrame(addresses[name], _STATE, "float32"), device="cuda")
                for name in ("state", "noise", "frame", "after")
            )
            after.copy_(torch.tanh(layer(state) + noise))
            frame.copy_(after * 0.5 + 0.5)

    return compare_graphs(device, enqueue, frames)


_STATE = (1, _CHANNELS, _SIDE, _SIDE)
PROGRAM = Program(
    b"",
    (TensorSpec("state", "float32", _STATE, "state", next="after"), TensorSpec("noise", "float32", _STATE, "noise")),
    (TensorSpec("frame", "float32", _STATE, "frame"), TensorSpec("after", "float32", _STATE, "state")),
    (("state", "after"),),
)


def compare_graphs(device: Cuda, enqueue: Callable[[Mapping[str, int]], None], frames: int) -> dict[str, Any]:
    """Run `PROGRAM` with captured graphs and step by step, and compare the first frames bit by bit.

    Args:
        device: owned from now on.
        enqueue: enqueues one evaluation.
        frames: to time with graphs.
    """
    session = CudaSession(PROGRAM, device, enqueue)
    try:
        with_graphs = _play(session)
        why_eager = session.why_eager
        session.reset()
        session.use_graphs = False
        without = _play(session)
        session.use_graphs = True

        def step() -> None:
            session.run()
            session.read("frame")

        durations = _time(step, frames)
    finally:
        session.close()
    same = all(np.array_equal(one, other) for one, other in zip(with_graphs, without, strict=True))
    ms = percentiles(durations)
    what = f"the first {_COMPARED} frames {'are the same' if same else 'DIFFER'} with graphs and without; "
    what += f"p50 {ms['p50']:.3f}, p99 {ms['p99']:.3f} ms a frame of a small module"
    if why_eager:
        what = f"nothing could be captured ({why_eager}); {what}"
    return {**check(same and not why_eager, what), "ms": ms}


def _play(session: CudaSession) -> list[npt.NDArray[Any]]:
    found = []
    for number in range(_COMPARED):
        noise = normals(0, FRAMES, number, int(np.prod(_STATE))).reshape(_STATE)
        session.write("noise", noise)
        session.run()
        found.append(session.read("frame").copy())
    return found


def _open(bundle: str, engine: str, precision: str) -> Generator:
    return Generator.open(bundle, engine=engine, precision=precision, renewal=False, seed=0)


def _time(step: Callable[[], object], frames: int) -> list[float]:
    for _ in range(20):
        step()
    durations = []
    for _ in range(frames):
        start = time.perf_counter_ns()
        step()
        durations.append((time.perf_counter_ns() - start) / 1e6)
    return durations


def _attempt(run_check: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return run_check()
    except EngineError as error:
        return check(None, f"not run: {error}")
