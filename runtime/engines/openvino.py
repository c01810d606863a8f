"""OpenVINO on the CPU, the fastest CPU engine; in bf16 if the CPU supports it. Other devices by name: openvino:GPU.

Two infer requests share the fixed buffers, so that states are swapped without a copy.

Precision in bf16 mode: the CPU plugin runs every float operation in bf16 except GridSample and the tail of the graph
(from an output back to the first convolution, matrix product or interpolation on each path). So pixels and elementwise
state updates stay in fp32. Positions would not: near +-1, a bf16 grid has steps of half a pixel at 256 pixels. So
`_protect_positions` makes each sampling grid an unused output, which puts it into the tail. Interpolations and
vector-matrix products before a grid or state are replaced by operations that the tail keeps in fp32. (The plugin's
attribute for this, DisablePrecisionConversion, changes between versions and is lost in its optimiser.)
"""

from __future__ import annotations

import importlib.util
import io
import math
import re
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from runtime.bundle.external_weights import MappedWeights, external_tensors, without_external
from runtime.engines.cache import EngineCache
from runtime.engines.engine import INT8, BufferedSession, Program, check_request
from runtime.engines.int8 import check_overflow
from runtime.engines.openvino_layout import keep_planar
from runtime.engines.openvino_weights import map_weights
from runtime.errors import EngineError

_EXTRA = "pip install everframe[cpu]"
CPU = "CPU"
# What a graph in INT8 leaves in floating point stays FP32 on the CPU, and is what the device has elsewhere.
_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}
_CAPABILITIES = {"bf16": "BF16", "fp32": "FP32", "fp16": "FP16"}
_DEVICE = r"[A-Z]+(\.[0-9]+)?"
_REWRITES_VERSION = 3  # part of the cache key; increase it when the rewrites change
_MAX_STORED_BYTES = 2**28  # of a weights file; graphs with a larger one are compiled at every start
_MAX_PRODUCT_VALUES = 2**18  # values of a matrix; larger products are not rewritten, as that is slow


class OpenVINO:
    """The engine; see `runtime.engines.engine.Engine`.

    Args:
        device: as OpenVINO names it: "CPU", "GPU", "GPU.1", "NPU".

    Raises:
        ValueError: the name is none of a device.
    """

    def __init__(self, device: str = CPU) -> None:
        if re.fullmatch(_DEVICE, device) is None:
            raise ValueError(f'openvino: needs a device, e.g. openvino:GPU or openvino:NPU, got "{device}"')
        self.device = device
        self.name = "openvino" if device == CPU else f"openvino:{device}"

    def available(self) -> str | None:
        """Return None, or why OpenVINO cannot run here."""
        if importlib.util.find_spec("openvino") is None:
            return f"the engine openvino needs the extra: {_EXTRA}"
        try:
            devices = _core().available_devices
        except (ImportError, MemoryError, RuntimeError) as error:
            return f"openvino is installed and cannot be loaded: {_last_line(error)}"
        if self.device in devices or f"{self.device}.0" in devices:
            return None
        other = "use the engine onnxruntime" if self.device == CPU else "install its driver, or use another engine"
        return f"openvino has no device {self.device} on this machine, only {', '.join(devices) or 'none'}: {other}"

    def precisions(self) -> Sequence[str]:
        """Return ("bf16", "fp32") on CPUs that support bf16, else ("fp32",); on other devices FP32 first, then FP16."""
        found = _core().get_property(self.device, "OPTIMIZATION_CAPABILITIES")
        order = ("bf16", "fp32") if self.device == CPU else ("fp32", "fp16")
        return tuple(precision for precision in order if _CAPABILITIES[precision] in found)

    def open(self, program: Program, precision: str, threads: int, cache_dir: Path | None) -> OpenVINOSession:
        """Compile a graph, or load it from the cache."""
        check_request(self, precision)
        if precision == INT8 and self.device == CPU:
            check_overflow(program.graph)
        return OpenVINOSession(program, precision, threads, cache_dir, self.device)


class OpenVINOSession(BufferedSession):
    """One graph in OpenVINO; see `runtime.engines.engine.Session`."""

    def __init__(
        self, program: Program, precision: str, threads: int, cache_dir: Path | None, device: str = CPU
    ) -> None:
        openvino = _import_openvino()
        options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if device == CPU:
            options |= {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        if device == CPU or precision != INT8:
            options["INFERENCE_PRECISION_HINT"] = _HINTS[precision]
        try:
            compiled, self._mapped = _compile(program, options, cache_dir, device)
            super().__init__(program)
            # The compiler drops unused inputs, which stay unbound.
            read = {name for port in compiled.inputs for name in port.names}
            self._requests: list[Any] = []
            for inputs, outputs in self.turns:
                request = compiled.create_infer_request()
                for name, buffer in (*inputs.items(), *outputs.items()):
                    if name in read or name in outputs:
                        request.set_tensor(name, openvino.Tensor(buffer, shared_memory=True))
                self._requests.append(request)
        except (RuntimeError, MemoryError) as error:
            raise EngineError(f"openvino refused the graph: {_last_line(error)}") from error

    def run(self) -> None:
        """Evaluate the graph once and swap the states."""
        request = self._requests[self.turn]
        try:
            # Runs in the calling thread, with its priority, unlike start_async. Shared outputs are not copied.
            request.infer(share_outputs=True)
        except (RuntimeError, MemoryError) as error:
            raise EngineError(f"openvino failed: {_last_line(error)}") from error
        self.swap()

    def close(self) -> None:
        """Free the requests and the compiled graph, then the weights, which it may read."""
        self._requests.clear()
        self._mapped = None


def _compile(
    program: Program, options: dict[str, Any], cache_dir: Path | None, device: str
) -> tuple[Any, MappedWeights | None]:
    """Return the compiled graph, and its mapped weights, which have to outlive it."""
    core = _core()
    parts = [
        *([] if device == CPU else [device]),
        core.get_property(device, "FULL_DEVICE_NAME"),
        _import_openvino().__version__,
        sorted(options.items()),
        _REWRITES_VERSION,
        *program.cache_parts,
    ]
    # A compiled graph is stored with its weights, which for large ones takes more time and memory than compiling.
    mapped = None if program.weights is None else MappedWeights(program.weights)
    folder = None if mapped is not None and mapped.size_bytes > _MAX_STORED_BYTES else cache_dir
    entry = EngineCache(folder, program.graph, "openvino", [str(part) for part in parts])
    blob = entry.load()
    if blob is not None:
        try:
            return core.import_model(io.BytesIO(blob), device, options), None
        except RuntimeError:
            entry.discard()  # compile again
    model = _read(program, mapped)
    if options.get("INFERENCE_PRECISION_HINT") == _HINTS["bf16"]:
        _protect_positions(model, [after for _, after in program.pairs])
    keep_planar(model)
    compiled = core.compile_model(model, device, options)
    if entry.is_usable:
        entry.store(compiled.export_model().getvalue())
    return compiled, mapped


def _read(program: Program, mapped: MappedWeights | None) -> Any:
    """Return the graph as OpenVINO's model, whose constants are the mapped weights."""
    if mapped is None:
        return _core().read_model(program.graph)
    # OpenVINO finds external data beside a file only. So it reads them as inputs, which become constants.
    graph = onnx.ModelProto.FromString(program.graph)
    model = _core().read_model(without_external(graph).SerializeToString())
    map_weights(model, external_tensors(graph), mapped)
    return model


def _protect_positions(model: Any, states: Sequence[str]) -> None:
    """Keep operations between convolutions and sampling grids or states in fp32; changes the model in place."""
    grids = [node.input_value(1) for node in model.get_ops() if node.get_type_name() == "GridSample"]
    for node in _upstream([*(grid.get_node() for grid in grids), *(model.output(name).node for name in states)]):
        replacement = _rewrite(node)
        if replacement is not None:
            replacement.output(0).get_tensor().add_names(node.output(0).get_names())
            for target in node.output(0).get_target_inputs():
                target.replace_source_output(replacement.output(0))
    # Looked up again, because a grid may have been replaced.
    grids = [node.input_value(1) for node in model.get_ops() if node.get_type_name() == "GridSample"]
    if grids:
        model.add_outputs(grids)


def _upstream(roots: Sequence[Any]) -> list[Any]:
    """Return `roots` and the nodes that they are computed from, back to convolutions and inputs."""
    ends = {"Convolution", "GroupConvolution", "ConvolutionBackpropData", "Parameter", "Constant"}
    found: dict[str, Any] = {}
    nodes = list(roots)
    while nodes:
        node = nodes.pop()
        if node.get_type_name() not in ends and node.get_name() not in found:
            found[node.get_name()] = node
            nodes.extend(node.input_value(index).get_node() for index in range(node.get_input_size()))
    return list(found.values())


def _rewrite(node: Any) -> Any:
    """Return nodes that stay in fp32 and replace an Interpolate or MatMul, or None."""
    import openvino.opset9 as operations

    options = node.get_attributes()
    if node.get_type_name() == "Interpolate":
        before, after = list(node.input_value(0).get_shape()), list(node.output(0).get_shape())
        is_enlarged = len(after) == 4 and before[:2] == after[:2] and after[2] % before[2] == after[3] % before[3] == 0
        is_linear = options["mode"] in ("linear", "linear_onnx") and not options["antialias"]
        if not is_enlarged or not is_linear or "half_pixel" not in options["coordinate_transformation_mode"]:
            return None
        # Bilinear interpolation samples at the centres of the new pixels and repeats the border.
        rows, columns = ((2 * np.arange(size, dtype=np.float32) + 1) / size - 1 for size in after[2:])
        grid = operations.constant(np.stack(np.meshgrid(columns, rows), axis=-1)[np.newaxis].repeat(after[0], axis=0))
        how = {"align_corners": False, "mode": "bilinear", "padding_mode": "border"}
        return operations.grid_sample(node.input_value(0), grid, how)
    if node.get_type_name() == "MatMul" and not options["transpose_a"]:
        vector, matrix = node.input_value(0), node.input_value(1)
        wide, high = list(vector.get_shape()), list(matrix.get_shape())
        if len(wide) < 2 or len(wide) != len(high) or wide[-2] != 1 or math.prod(high) > _MAX_PRODUCT_VALUES:
            return None
        if options["transpose_b"]:
            product, axis = operations.multiply(vector, matrix), len(wide) - 1
            shape = operations.constant(np.array(node.output(0).get_shape(), np.int64))
            return operations.reshape(operations.reduce_sum(product, axis, keep_dims=False), shape, False)
        order = operations.constant(np.array([*range(len(wide) - 2), len(wide) - 1, len(wide) - 2]))
        product = operations.multiply(operations.transpose(vector, order), matrix)
        return operations.reduce_sum(product, len(wide) - 2, keep_dims=True)
    return None


@cache
def _core() -> Any:
    return _import_openvino().Core()


@cache
def _import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which reports each import to Google Analytics in a thread."""
    telemetry = "openvino_telemetry"
    is_ours = telemetry not in sys.modules  # otherwise this process has already loaded it
    if is_ours:
        sys.modules[telemetry] = None  # type: ignore[assignment]  # "not installed", during the import
    try:
        import openvino
    finally:
        if is_ours:
            del sys.modules[telemetry]
    return openvino


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[-1][:300]
