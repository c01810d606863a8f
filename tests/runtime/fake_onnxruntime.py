"""ONNX Runtime with a CUDA provider, on a fake device: the real one on the CPU, with the device's memory bound."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as real

from tests.runtime.fake_cuda import FakeDevice


class FakeOnnxRuntime:
    """The module; `sessions` is every session that was opened with its options for the provider.

    Args:
        device: where addresses point to.
    """

    __spec__ = real.__spec__
    __version__ = real.__version__
    RunOptions = real.RunOptions
    SessionOptions = real.SessionOptions

    def __init__(self, device: FakeDevice) -> None:
        self.device = device
        self.refuses_graphs = self.has_no_cuda = False
        self.failure = ""
        self.provider_options: list[dict[str, str]] = []
        self.graph_ids: list[str] = []
        self.num_preloaded = 0

    def get_available_providers(self) -> list[str]:
        """Return both."""
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def preload_dlls(self) -> None:
        """Count."""
        self.num_preloaded += 1

    def InferenceSession(self, graph: bytes, options: Any, providers: list[Any]) -> Any:
        """Open a session."""
        [(name, provider)] = providers
        assert name == "CUDAExecutionProvider"
        self.provider_options.append(provider)
        if self.refuses_graphs and provider["enable_cuda_graph"] == "1":
            raise RuntimeError("This session cannot use the graph capture feature\nas requested by the user")
        session = real.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        bound: list[Any] = []
        return SimpleNamespace(
            get_providers=lambda: ["CPUExecutionProvider"] if self.has_no_cuda else [name, "CPUExecutionProvider"],
            io_binding=lambda: FakeBinding(bound),
            run_with_iobinding=lambda binding, options: self.run(session, binding, options),
        )

    def run(self, session: Any, binding: FakeBinding, options: Any) -> None:
        """Enqueue a run that reads and writes the device's memory when its time comes."""
        if self.failure:
            raise RuntimeError(self.failure)
        graph_id = options.get_run_config_entry("gpu_graph_id")
        assert options.get_run_config_entry("disable_synchronize_execution_providers") == "1"
        self.graph_ids.append(graph_id)

        def compute() -> None:
            at = self.device.memory
            values = {
                name: at[address].view(kind).reshape(shape) for name, (kind, shape, address) in binding.inputs.items()
            }
            wanted = {item.name for item in session.get_inputs()}
            feeds = {name: value for name, value in values.items() if name in wanted}
            for name, value in zip(binding.outputs, session.run(list(binding.outputs), feeds), strict=True):
                kind, shape, address = binding.outputs[name]
                assert value.shape == tuple(shape)
                at[address].view(kind)[:] = value.reshape(-1)

        self.device.enqueue(compute)


class FakeBinding:
    """Addresses by name."""

    def __init__(self, bound: list[Any]) -> None:
        self.inputs: dict[str, tuple[Any, tuple[int, ...], int]] = {}
        self.outputs: dict[str, tuple[Any, tuple[int, ...], int]] = {}
        bound.append(self)

    def bind_input(self, name: str, kind: str, number: int, dtype: Any, shape: Any, address: int) -> None:
        """Note an input."""
        assert (kind, number) == ("cuda", 0)
        self.inputs[name] = np.dtype(dtype), tuple(shape), address

    def bind_output(self, name: str, kind: str, number: int, dtype: Any, shape: Any, address: int) -> None:
        """Note an output."""
        assert (kind, number) == ("cuda", 0)
        self.outputs[name] = np.dtype(dtype), tuple(shape), address
