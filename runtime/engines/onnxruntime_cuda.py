"""ONNX Runtime on a CUDA device, with fixed buffers and its own CUDA graphs, in one stream.

ONNX Runtime captures one CUDA graph per graph id of a run, and replays it with the addresses bound at capture. So each
of the two sets of state buffers has its own binding and id.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from runtime.engines import cuda
from runtime.engines.cuda_session import CudaSession
from runtime.engines.engine import Program, check_request
from runtime.engines.onnxruntime import first_line, half_program, read_weights_of
from runtime.errors import EngineError

_EXTRA = "pip install everframe[gpu]"
_PROVIDER = "CUDAExecutionProvider"


class OnnxRuntimeCuda:
    """The engine; see `runtime.engines.engine.Engine`."""

    name = "onnxruntime-cuda"

    def available(self) -> str | None:
        """Return None, or why the engine cannot run here."""
        if (why_not := cuda.why_no_device()) is not None:
            return f"the engine {self.name} needs a CUDA device: {why_not}"
        if importlib.util.find_spec("onnxruntime") is None:
            return f"the engine {self.name} needs the extra: {_EXTRA}"
        import onnxruntime

        if _PROVIDER not in onnxruntime.get_available_providers():
            return f"the engine {self.name} needs onnxruntime-gpu in place of onnxruntime: {_EXTRA}"
        return None

    def precisions(self) -> Sequence[str]:
        """Return ("fp16", "fp32")."""
        return ("fp16", "fp32")

    def open(self, program: Program, precision: str, threads: int, cache_dir: Path | None) -> CudaSession:  # noqa: ARG002
        """Compile a graph; not cached."""
        check_request(self, precision)
        if precision == "fp16":
            program = half_program(program)
        device = cuda.Cuda()
        try:
            return open_session(program, device)
        except BaseException:
            device.close()
            raise


def open_session(program: Program, device: cuda.Cuda) -> CudaSession:
    """Return a session of a graph on a CUDA device.

    Args:
        program: the graph and its tensors.
        device: the session takes ownership unless an exception is raised.

    Raises:
        EngineError: ONNX Runtime cannot use CUDA here or refused the graph, or the device is out of memory.
    """
    session, why_eager = _open(program, device.stream)
    bindings: dict[tuple[int, ...], tuple[Any, Any]] = {}
    tensors = {item.name: item for item in (*program.inputs, *program.outputs)}

    def enqueue(addresses: Mapping[str, int]) -> None:
        turn = tuple(addresses.values())
        if turn not in bindings:
            bindings[turn] = _bind(addresses), _options(len(bindings) + 1)
        binding, options = bindings[turn]
        try:
            session.run_with_iobinding(binding, options)
        except Exception as error:  # its errors share no base class but Exception
            raise EngineError(f"onnxruntime-cuda failed: {first_line(error)}") from error

    def _bind(addresses: Mapping[str, int]) -> Any:
        binding = session.io_binding()
        for bind, items in ((binding.bind_input, program.inputs), (binding.bind_output, program.outputs)):
            for item in items:
                kind = np.dtype(tensors[item.name].dtype).type
                bind(item.name, "cuda", 0, kind, item.shape, addresses[item.name])
        return binding

    def release() -> None:
        nonlocal session
        bindings.clear()
        session = None

    opened = CudaSession(program, device, enqueue, release, captures_itself=True)
    opened.why_eager = why_eager
    return opened


def _open(program: Program, stream: int) -> tuple[Any, str]:
    """Return an `InferenceSession`, and why it captures no CUDA graph ("" if it does)."""
    import onnxruntime

    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # cuDNN and cuBLAS from wheels
    why_eager = ""
    for captures in ("1", "0"):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # fatal: errors are raised as exceptions anyway
        if program.weights is not None:
            read_weights_of(program.weights.parent, options)
        provider = {
            "user_compute_stream": str(stream),
            "enable_cuda_graph": captures,
            "use_tf32": "0",  # TF32 has 10 bits of mantissa
            "cudnn_conv_algo_search": "EXHAUSTIVE",
        }
        try:
            session = onnxruntime.InferenceSession(program.graph, options, providers=[(_PROVIDER, provider)])
        except Exception as error:  # its errors share no base class but Exception
            if captures == "1":  # a node without a CUDA kernel prevents the capture
                why_eager = first_line(error)
                continue
            raise EngineError(f"onnxruntime-cuda refused the graph: {first_line(error)}") from error
        if _PROVIDER not in session.get_providers():
            raise EngineError(
                f"onnxruntime-cuda could not load CUDA and cuDNN (it would run on the CPU): {_EXTRA}, "
                "for the CUDA version of the driver"
            )
        return session, why_eager
    raise AssertionError("unreachable: the second attempt returns or raises")


def _options(graph_id: int) -> Any:
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(graph_id))  # 0 is the default, -1 captures nothing
    options.add_run_config_entry("disable_synchronize_execution_providers", "1")  # CudaSession waits for its event
    return options
