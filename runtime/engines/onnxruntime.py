"""ONNX Runtime on the CPU, which runs on every machine.

Inputs and outputs are bound to fixed NumPy buffers once; two bindings swap the states without a copy.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from runtime.engines.engine import INT8, Array, BufferedSession, Program, check_request
from runtime.engines.fp16 import to_half
from runtime.engines.int8 import check_overflow
from runtime.errors import EngineError

_EXTRA = "pip install everframe[cpu]"
# Operators whose activations are bytes; so are those that begin with QLinear.
_IN_BYTES = ("QuantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")
_MAPS_SINCE = (1, 21)  # with the session option for the folder of external data


class OnnxRuntime:
    """The engine; see `runtime.engines.engine.Engine`.

    Args:
        is_optimised: whether it changes the graph to make it faster, which may round differently.
    """

    name = "onnxruntime"

    def __init__(self, *, is_optimised: bool = True) -> None:
        self._is_optimised = is_optimised

    def available(self) -> str | None:
        """Return None, or why ONNX Runtime cannot run here."""
        if importlib.util.find_spec("onnxruntime") is None:
            return f"the engine onnxruntime needs the extra: {_EXTRA}"
        if _is_installed("onnxruntime") and _is_installed("onnxruntime-gpu"):
            return (
                "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's module: "
                "pip uninstall both, then install one of them"
            )
        return None

    def precisions(self) -> Sequence[str]:
        """Return ("fp32", "fp16"); FP16 is slower on a CPU and only useful to see its effect on the frames."""
        return ("fp32", "fp16")

    def open(self, program: Program, precision: str, threads: int, cache_dir: Path | None) -> OnnxRuntimeSession:  # noqa: ARG002
        """Compile a graph; not cached, because it takes milliseconds."""
        check_request(self, precision)
        if precision == INT8:
            check_overflow(program.graph)
        if precision == "fp16":
            program = half_program(program)
        return OnnxRuntimeSession(program, threads, is_optimised=self._is_optimised)


class OnnxRuntimeSession(BufferedSession):
    """One graph in ONNX Runtime; see `runtime.engines.engine.Session`."""

    def __init__(self, program: Program, threads: int, *, is_optimised: bool = True) -> None:
        try:
            folder = None if program.weights is None else program.weights.parent
            self._session: Any = open_session(program.graph, threads, is_optimised=is_optimised, weights_folder=folder)
        except Exception as error:  # its errors share no base class but Exception
            raise EngineError(f"onnxruntime refused the graph: {first_line(error)}") from error
        super().__init__(program)
        self._bindings: list[Any] = [self._bind(*turn) for turn in self.turns]

    def run(self) -> None:
        """Evaluate the graph once and swap the states."""
        try:
            self._session.run_with_iobinding(self._bindings[self.turn])
        except Exception as error:  # its errors share no base class but Exception
            raise EngineError(f"onnxruntime failed: {first_line(error)}") from error
        self.swap()

    def close(self) -> None:
        """Free the session."""
        self._bindings.clear()
        self._session = None

    def _bind(self, inputs: dict[str, Array], outputs: dict[str, Array]) -> Any:
        binding = self._session.io_binding()
        for name, buffer in inputs.items():
            binding.bind_input(name, "cpu", 0, buffer.dtype.type, buffer.shape, buffer.ctypes.data)
        for name, buffer in outputs.items():
            binding.bind_output(name, "cpu", 0, buffer.dtype.type, buffer.shape, buffer.ctypes.data)
        return binding


def half_program(program: Program) -> Program:
    """Return a program whose graph computes in FP16 where possible (`runtime.engines.fp16`)."""
    graph = to_half(onnx.ModelProto.FromString(program.graph), program.weights)
    return replace(program, graph=graph.SerializeToString())


def read_weights_of(folder: Path, options: Any) -> None:
    """Let a session of a graph from memory find its external data, which ONNX Runtime maps into memory.

    Raises:
        EngineError: this version of ONNX Runtime cannot do that.
    """
    import onnxruntime

    found = re.match(r"(\d+)\.(\d+)", onnxruntime.__version__)
    if found is not None and tuple(map(int, found.groups())) < _MAPS_SINCE:
        raise EngineError(
            f"onnxruntime {onnxruntime.__version__} does not find weights in a file of their own: install "
            f"{'.'.join(map(str, _MAPS_SINCE))} or newer"
        )
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))


def open_session(
    model: bytes | str, threads: int, *, is_optimised: bool = True, weights_folder: Path | None = None
) -> Any:
    """Return a session on the CPU; all of ours have the same options, so that a model and its bundle compute alike.

    Args:
        model: the graph, or the path of its file.
        threads: CPU threads per frame.
        is_optimised: whether ONNX Runtime changes the graph to make it faster.
        weights_folder: where the external data of a graph from memory lie; None if it has none.

    Raises:
        Exception: ONNX Runtime refused the graph; its errors share no base class.
    """
    import onnxruntime

    def opened(is_precise: bool) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # fatal: errors are raised as exceptions anyway
        # Spinning between frames would take CPU time from other threads.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Where the CPU has no VNNI, sums of int8 products would otherwise saturate at 16 bits.
        options.add_session_config_entry("session.x64quantprecision", "1" if is_precise else "0")
        if not is_optimised:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        if weights_folder is not None:
            read_weights_of(weights_folder, options)
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    if not _adds_bytes(model):
        return opened(is_precise=False)
    try:
        return opened(is_precise=True)
    except Exception as error:  # its errors share no base class but Exception
        # ONNX Runtime 1.32 converts a constant twice if two of its int8 operators share it. Without the conversion the
        # sums of int8 products saturate at 16 bits on a CPU without VNNI.
        if "replace the existing tensor" not in str(error):
            raise
        return opened(is_precise=False)


def _adds_bytes(model: bytes | str) -> bool:
    """Return whether a graph, or that of a file, multiplies bytes, and ONNX Runtime can make its int8 weights unsigned.

    ONNX Runtime 1.32 gives int8 weights without a zero point, such as those that are only stored in bytes, one that
    does not fit them.
    """
    graph = onnx.load(model, load_external_data=False) if isinstance(model, str) else onnx.ModelProto.FromString(model)
    kinds = {node.op_type for node in graph.graph.node}
    is_quantised = any(kind in _IN_BYTES or kind.startswith("QLinear") for kind in kinds)
    bare = (node.op_type == "DequantizeLinear" and len(node.input) < 3 for node in graph.graph.node)
    return is_quantised and not any(bare)


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def first_line(error: Exception) -> str:
    """Return the first line of an ONNX Runtime error, up to 300 characters."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
