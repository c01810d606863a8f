"""The GPU check on a fake device, and without a device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks.gpu_check import PROGRAM, compare_graphs
from runtime.engines import cuda
from tests import tiny
from tests.runtime.fake_cuda import FakeDevice


def module_on(device: FakeDevice) -> Callable[[Mapping[str, int]], None]:
    """Return what PyTorch's module does in the real check, on a fake device."""

    def enqueue(addresses: Mapping[str, int]) -> None:
        at = dict(addresses)

        def compute() -> None:
            state, noise = (device.memory[at[name]].view(np.float32) for name in ("state", "noise"))
            device.memory[at["after"]].view(np.float32)[:] = np.tanh(0.5 * state + noise)
            device.memory[at["frame"]].view(np.float32)[:] = device.memory[at["after"]].view(np.float32) * 0.5 + 0.5

        device.enqueue(compute)

    return enqueue


def test_graphs_make_what_single_steps_make() -> None:
    device = FakeDevice()
    found = compare_graphs(device, module_on(device), 12)
    assert found["passed"]
    assert "the first 10 frames are the same with graphs and without" in found["what"]
    assert device.num_launched == 10 + 20 + 12
    assert (device.memory, device.pins, device.graphs) == ({}, {}, {})
    assert device.is_closed


def test_a_graph_that_plays_something_else_is_found() -> None:
    device = FakeDevice()

    class Forgetful(FakeDevice):
        """Replays the first half of a graph."""

        def launch(self, graph: int) -> None:
            for work in self.graphs[graph][1:]:
                self.enqueue(work)

    device = Forgetful()
    found = compare_graphs(device, module_on(device), 10)
    assert found["passed"] is False
    assert "DIFFER" in found["what"]


def test_what_cannot_be_captured_is_a_failure_with_its_reason() -> None:
    device = FakeDevice()
    device.cannot_capture = "operation not permitted when stream is capturing"
    found = compare_graphs(device, module_on(device), 10)
    assert found["passed"] is False
    assert "nothing could be captured (operation not permitted" in found["what"]


def test_the_program_is_one_step_with_a_state() -> None:
    assert PROGRAM.pairs == (("state", "after"),)


def test_without_a_gpu_it_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "why_no_device", lambda: "there is no NVIDIA driver here")
    bundle = tiny.build(tmp_path / "tiny")
    assert command.main(["gpu-check", str(bundle)]) == 2
    error = capsys.readouterr().err
    assert error == "benchmarks: gpu-check needs an NVIDIA GPU: there is no NVIDIA driver here\n"
    assert command.main(["gpu-check", str(tmp_path / "nowhere")]) == 2
