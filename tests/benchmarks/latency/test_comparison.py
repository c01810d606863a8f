"""Contenders compared: turns, ratios, and a real one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.latency.comparison import BLOCK, SETTLE, ContenderProcess, compare, rows, to_markdown
from tests import tiny


class FakeWorker:
    """A contender with a given time per frame; the first frames of a turn take a hundred times as long."""

    def __init__(self, name: str, frame_ms: float, turns: list[str]) -> None:
        self.name, self.frame_ms, self.turns = name, frame_ms, turns
        self.ready: Mapping[str, Any] = {"what": f"fake {name}", "first_frame_ms": 1500.0}
        self.is_closed = False

    def make(self, frames: int) -> dict[str, Any]:
        """Make frames."""
        self.turns.append(self.name)
        slow = [100 * self.frame_ms] * SETTLE
        return {"ms": slow + [self.frame_ms] * (frames - SETTLE), "resident_mb": 120.0}

    def close(self) -> None:
        """Remember it."""
        self.is_closed = True


def test_contenders_take_turns_and_are_compared_with_us() -> None:
    speeds = {"everframe": 5.0, "torch": 12.0, "everframe-fp32": 10.0, "onnxruntime": 15.0}
    workers: dict[str, FakeWorker] = {}
    turns: list[str] = []

    def open_worker(name: str, arguments: Sequence[str]) -> FakeWorker:
        assert list(arguments) == ["bundle", "2", "rgb"]
        if name == "torch-compile":
            raise ValueError("ImportError: no torch here")
        workers[name] = FakeWorker(name, speeds[name], turns)
        return workers[name]

    names = ["everframe", "torch", "torch-compile", "everframe-fp32", "onnxruntime"]
    frames = 2 * (BLOCK - SETTLE)
    results = compare(names, ["bundle", "2", "rgb"], frames=frames, open_worker=open_worker)
    order = ["everframe", "torch", "everframe-fp32", "onnxruntime"]
    assert turns[len(order) :] == order * 2  # after a warm-up each
    assert all(worker.is_closed for worker in workers.values())
    assert results["torch"]["ms"]["p99"] == 12  # what was slow at the beginning of a turn does not count
    assert (results["torch"]["against"], results["torch"]["ratio"]) == ("everframe", 2.4)
    assert (results["onnxruntime"]["against"], results["onnxruntime"]["ratio"]) == ("everframe-fp32", 1.5)
    assert "ratio" not in results["everframe"]
    assert results["torch-compile"] == {"missing": "ImportError: no torch here"}
    assert ("PyTorch eager", "2.40 x", "12.00 ms, p99 12.00, 83.3 fps; fake torch") in rows(results)
    table = to_markdown(results)
    assert "| PyTorch eager | fake torch | 2.40 | 2.40 to 2.40 | 12.0 | 12.0 | 83 | 1.5 | 120 |" in table
    assert "not measured: ImportError: no torch here" in table


def test_a_real_contender_makes_frames_and_another_says_why_not(tmp_path: Path) -> None:
    bundle = tiny.build(tmp_path / "tiny")
    worker = ContenderProcess("onnxruntime", [str(bundle), "1", "rgb"])
    made = worker.make(3)
    worker.close()
    assert len(made["ms"]) == 3
    assert min(made["ms"]) > 0
    assert worker.ready["what"].endswith("fp32")
    with pytest.raises(ValueError, match="was not exported from Everframe's generator"):
        ContenderProcess("torch", [str(bundle), "1", "rgb"])
