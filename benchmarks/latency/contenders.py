"""One way to make frames, in a process of its own: Everframe's runtime, or an alternative to it.

python -m benchmarks.latency.contenders NAME BUNDLE THREADS PIXELS [RUN]  (started by `benchmarks.latency.comparison`)

Standard output is a line of JSON after the first frame, then one for each line of standard input, which is a number of
frames to make: their durations in milliseconds. All begin with the same scene, and each frame ends in memory that NumPy
reads. A new contender is one function and one line in `CONTENDERS`.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.machine import resident_mb
from runtime.bundle.pruning import prune
from runtime.bundle.reader import Bundle, open_bundle
from runtime.engines.opening import frame_output, open_sessions, state_pairs
from runtime.engines.table import choose_engine
from runtime.errors import BundleError, EngineError
from runtime.generator import Generator
from runtime.noise import FRAMES, normals
from runtime.pixels.assemble import with_size
from runtime.pixels.planes import shifted_copies

Array = npt.NDArray[Any]
SEED = 7


@dataclass(frozen=True)
class ContenderTask:
    """Frames of a bundle, on some threads, as "rgb" or "i420".

    Args:
        path: of the bundle.
        bundle: opened for frames of `size`.
        threads: CPU threads.
        pixels: "rgb" or "i420".
        run: that the bundle was exported from, or None.
        size: (width, height) of the frames; None for the bundle's own.
    """

    path: Path
    bundle: Bundle
    threads: int
    pixels: str
    run: Path | None
    size: tuple[int, int] | None = None

    def inputs(self) -> dict[str, Array]:
        """Return the step graph's inputs for the first frame of a scene."""
        step, manifest = self.bundle.manifest.step, self.bundle.manifest
        values: dict[str, Array] = {item.name: np.zeros(item.shape, item.dtype) for item in step.inputs}
        if manifest.condition is not None:
            with Generator.open(
                self.path,
                engine="onnxruntime",
                precision="fp32",
                renewal=False,
                pixels=self.pixels,
                size=self.size,
            ) as generator:
                memory = generator.prepare(seed=SEED) if manifest.prompt_input("noise") else None
            if memory is not None:
                for item in step.inputs_of("picture"):
                    values[item.name] = shifted_copies(memory.tensors[item.name]).astype(np.float32)
                for item in (*step.inputs_of("memory_a"), *step.inputs_of("memory_b")):
                    values[item.name] = memory.tensors[item.slot].copy()
        for item in step.inputs_of("noise"):
            values[item.name] = normals(SEED, FRAMES, 0, item.shape[1])[np.newaxis]
        for item in step.inputs_of("control"):
            for control in manifest.controls.values():
                if control.index is not None:
                    values[item.name][0, control.index] = control.default
        return values

    @property
    def frame(self) -> str:
        """The output that is wanted."""
        return frame_output(self.bundle.manifest.step, self.pixels)

    def graph(self) -> bytes:
        """Return the step graph with that output and the states alone.

        Raises:
            EngineError: its weights are not inside.
        """
        step = self.bundle.manifest.step
        if step.weights:
            raise EngineError(f"it reads a graph with its weights, and those of {self.path.name} are in {step.weights}")
        return prune(self.bundle.step, [self.frame, *(item.name for item in step.outputs_of("state"))])


Frames = Callable[[], Array]  # makes one frame and returns it: uint8, valid until the next call


def _everframe(precision: str, task: ContenderTask) -> tuple[Frames, str]:
    """Everframe's runtime without renewal: the step graph and everything that the runtime adds to it."""
    generator = Generator.open(
        task.path,
        precision=precision,
        threads=task.threads,
        pixels=task.pixels,
        seed=SEED,
        renewal=False,
        size=task.size,
    )
    return lambda: next(generator), f"{generator.engine} {generator.precision}"


def _bare(task: ContenderTask) -> tuple[Frames, str]:
    """The engine that the runtime chooses, in a loop without the runtime: nothing is written between frames."""
    choice = choose_engine("auto", "auto")
    step, condition = open_sessions(
        task.bundle, choice.engine, choice.precision, pixels=task.pixels, threads=task.threads, cache_dir=None
    )
    if condition is not None:
        condition.close()
    for name, value in task.inputs().items():
        step.write(name, value)

    def make() -> Array:
        step.run()
        frame: Array = step.read(task.frame)[0]
        return frame

    return make, f"{choice.engine.name} {choice.precision}"


def _openvino(task: ContenderTask) -> tuple[Frames, str]:
    """OpenVINO as its documentation shows it: compile, infer with arrays, feed the states back."""
    import openvino

    core = openvino.Core()
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": task.threads}
    compiled = core.compile_model(core.read_model(task.graph()), "CPU", options)
    precision = str(compiled.get_property("INFERENCE_PRECISION_HINT")).split("'")[1]
    request = compiled.create_infer_request()
    known = {name for port in compiled.inputs for name in port.names}
    values = {name: value for name, value in task.inputs().items() if name in known}
    pairs = state_pairs(task.bundle.manifest.step)

    def make() -> Array:
        results = request.infer(values)
        for before, after in pairs:
            values[before] = np.array(results[after])
        frame: Array = results[task.frame][0]
        return frame

    return make, f"{openvino.__version__.split('-')[0]} {'bf16' if 'bf' in precision else 'fp32'}"


def _onnxruntime(task: ContenderTask) -> tuple[Frames, str]:
    """ONNX Runtime as its documentation shows it: `session.run` with arrays in and out, default options."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = task.threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(task.graph(), options, providers=["CPUExecutionProvider"])
    known = {item.name for item in session.get_inputs()}
    values = {name: value for name, value in task.inputs().items() if name in known}
    pairs = state_pairs(task.bundle.manifest.step)
    names = [task.frame, *(after for _, after in pairs)]

    def make() -> Array:
        frame, *states = session.run(names, values)
        values.update(zip((before for before, _ in pairs), states, strict=True))
        picture: Array = frame[0]
        return picture

    return make, f"{onnxruntime.__version__} fp32"


def _torch(precision: str, is_compiled: bool, task: ContenderTask) -> tuple[Frames, str]:
    """PyTorch: the run's network, or one of the same shape with random weights."""
    import torch

    from benchmarks.latency.torch_step import open_step

    make = open_step(
        task.bundle.manifest,
        task.inputs(),
        precision,
        is_compiled=is_compiled,
        pixels=task.pixels,
        threads=task.threads,
        run=task.run,
    )
    return make, f"{torch.__version__.split('+')[0]} {precision}"


CONTENDERS: dict[str, Callable[[ContenderTask], tuple[Frames, str]]] = {
    "everframe": partial(_everframe, "auto"),
    "engine": _bare,
    "openvino": _openvino,
    "torch": partial(_torch, "bf16", False),
    "torch-compile": partial(_torch, "bf16", True),
    "everframe-fp32": partial(_everframe, "fp32"),
    "onnxruntime": _onnxruntime,
    "torch-fp32": partial(_torch, "fp32", False),
    "torch-compile-fp32": partial(_torch, "fp32", True),
}


def main(name: str, bundle: str, threads: str, pixels: str, size: str = "", run: str | None = None) -> int:
    """Make frames on request; return the exit status. The size is WxH, or empty for the bundle's own."""
    start = time.perf_counter()
    try:
        # Libraries must not print between the lines of JSON.
        with contextlib.redirect_stdout(sys.stderr):
            trained = None if run is None else Path(run)
            width, _, height = size.partition("x")
            wanted = (int(width), int(height)) if size else None
            opened = with_size(open_bundle(bundle), wanted, pixels)
            task = ContenderTask(Path(bundle), opened, int(threads), pixels, trained, wanted)
            make, what = CONTENDERS[name](task)
            make()
    except (ImportError, RuntimeError, ValueError, OSError, BundleError, EngineError) as error:
        print(json.dumps({"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}), flush=True)
        return 2
    ready = {"what": what, "first_frame_ms": round((time.perf_counter() - start) * 1000, 1)}
    print(json.dumps(ready), flush=True)
    for line in sys.stdin:
        durations = []
        for _ in range(int(line)):
            before = time.perf_counter_ns()
            make()
            durations.append((time.perf_counter_ns() - before) / 1e6)
        print(json.dumps({"ms": durations, "resident_mb": resident_mb()}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
