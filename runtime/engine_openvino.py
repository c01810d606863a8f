"""OpenVINO on the CPU: the fastest engine there, in bf16 where the CPU computes in it.

Two infer requests share the fixed buffers and let the states ping-pong without a copy.

What stays in fp32 in bf16 mode: the CPU plugin runs every float operation in bf16 except the tail of the graph, from an
output back to the first convolution, matrix product or interpolation on each path. That covers the pixels and every
state whose update is elementwise. It does not cover sampling grids, and a bf16 grid is half a pixel coarse near +-1 at
256 pixels. So each grid is made an output of its own, which nobody reads, and so part of the tail.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from runtime.engine import Array, Buffers, Program
from runtime.engine_cache import EngineCache
from runtime.errors import EngineError

EXTRA = "pip install everframe[cpu]"
_HINTS = {"fp32": "f32", "bf16": "bf16"}


class OpenVINO:
    """The engine; see `runtime.engine.Engine`."""

    name = "openvino"

    def available(self) -> str | None:
        """Return None, or why OpenVINO cannot run here."""
        if importlib.util.find_spec("openvino") is None:
            return f"the engine openvino needs the extra: {EXTRA}"
        if "CPU" not in _core().available_devices:
            return "openvino has no CPU device on this machine: use the engine onnxruntime"
        return None

    def precisions(self) -> Sequence[str]:
        """Return ("bf16", "fp32") on CPUs that compute in bf16, else ("fp32",)."""
        has_bf16 = "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return ("bf16", "fp32") if has_bf16 else ("fp32",)

    def open(self, program: Program, precision: str, threads: int, cache_dir: Path | None) -> OpenVINOSession:
        """Compile a graph, or load it from the cache."""
        if (why_not := self.available()) is not None:
            raise EngineError(why_not)
        if precision not in self.precisions():
            raise EngineError(
                f"openvino runs in {' or '.join(self.precisions())} on this CPU, got {precision}; use precision auto"
            )
        return OpenVINOSession(program, precision, threads, cache_dir)


class OpenVINOSession:
    """One graph in OpenVINO; see `runtime.engine.Session`."""

    def __init__(self, program: Program, precision: str, threads: int, cache_dir: Path | None) -> None:
        import openvino

        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
        }
        try:
            compiled = _compile(program, options, cache_dir)
            self._buffers = Buffers(program)
            self._requests: list[Any] = []
            for inputs, outputs in self._buffers.turns:
                request = compiled.create_infer_request()
                for name, buffer in (*inputs.items(), *outputs.items()):
                    request.set_tensor(name, openvino.Tensor(buffer, shared_memory=True))
                self._requests.append(request)
        except RuntimeError as error:
            raise EngineError(f"openvino refused the graph: {_last_line(error)}") from error

    def write(self, name: str, value: Array) -> None:
        """Copy a value into an input's buffer."""
        self._buffers.write(name, value)

    def run(self) -> None:
        """Evaluate the graph once and swap the states."""
        request = self._requests[self._buffers.turn]
        try:
            # The asynchronous pair does without the Python wrapper's collecting of results.
            request.start_async()
            request.wait()
        except RuntimeError as error:
            raise EngineError(f"openvino failed: {_last_line(error)}") from error
        self._buffers.swap()

    def read(self, name: str) -> Array:
        """Return a view of an output of the last run."""
        return self._buffers.read(name)

    def reset(self) -> None:
        """Set the states to zeros."""
        self._buffers.reset()

    def close(self) -> None:
        """Free the requests and with them the compiled graph."""
        self._requests.clear()


def _compile(program: Program, options: dict[str, Any], cache_dir: Path | None) -> Any:
    import openvino

    core = _core()
    parts = [core.get_property("CPU", "FULL_DEVICE_NAME"), openvino.__version__, sorted(options.items())]
    entry = EngineCache(cache_dir, program.graph, "openvino", [str(part) for part in parts])
    blob = entry.load()
    if blob is not None:
        try:
            return core.import_model(io.BytesIO(blob), "CPU", options)
        except RuntimeError:
            entry.discard()  # a cache may cost time, never a show: compile as if there were none
    model = core.read_model(program.graph)
    grids = [node.input_value(1) for node in model.get_ops() if node.get_type_name() == "GridSample"]
    if grids:
        model.add_outputs(grids)
    compiled = core.compile_model(model, "CPU", options)
    if entry.is_usable:
        entry.store(compiled.export_model().getvalue())
    return compiled


@cache
def _core() -> Any:
    import openvino

    return openvino.Core()


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[-1][:300]
