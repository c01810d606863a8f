"""Engines: what runs a graph on a kind of device, and the table that they are chosen from.

Adding an engine = one file with a class like `OnnxRuntime` and one line in `ENGINES`. Its file is imported when the
engine is asked for: a missing package costs one sentence then, and nothing before.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from runtime.errors import EngineError
from runtime.fields import nearest
from runtime.tensors import Tensor

Array = npt.NDArray[Any]


class Session(Protocol):
    """One compiled graph with its own fixed buffers; used by one thread at a time."""

    def write(self, name: str, value: Array) -> None:
        """Copy a value into an input's buffer, where it stays until the next write; a state's until the next run.

        Args:
            name: an input.
            value: of exactly the input's dtype and shape.
        """

    def run(self) -> None:
        """Evaluate the graph once, then let every state output become its state input (two buffers, no copy).

        Raises:
            EngineError: the engine failed.
        """

    def read(self, name: str) -> Array:
        """Return a view of an output of the last run, valid until the next run.

        A state output holds what the next run starts from, before the first run and after `reset`, too.
        """

    def reset(self) -> None:
        """Set the states to zeros; other inputs stay as written."""

    def close(self) -> None:
        """Free the engine's memory; the session cannot be used afterwards. Closing twice is fine."""


@dataclass(frozen=True)
class Program:
    """What an engine needs to know of a graph to run it.

    Args:
        graph: a serialised ONNX model, checked and pruned to `outputs`.
        inputs: all its inputs, states included.
        outputs: all its outputs, states included.
        pairs: (state input, state output) names.
        engines: folder of compiled graphs that came with the bundle and that the user trusts; None for none.
    """

    graph: bytes
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    pairs: tuple[tuple[str, str], ...] = ()
    engines: Path | None = None


class Engine(Protocol):
    """One way to run graphs; the classes in runtime/engine_*.py."""

    name: str

    def available(self) -> str | None:
        """Return None if this machine can run it, else one sentence that says why not and what to install."""

    def precisions(self) -> Sequence[str]:
        """Return what this machine can do, of `PRECISIONS`, fastest first; only asked where it is available."""

    def open(self, program: Program, precision: str, threads: int, cache_dir: Path | None) -> Session:
        """Compile a graph.

        Args:
            program: the graph and its tensors.
            precision: one of `precisions()`.
            threads: CPU threads that a run may use.
            cache_dir: folder for compiled graphs, or None to keep none; may be missing, read-only, full of rubbish, or
                somebody else's.

        Returns:
            A session with states and other inputs at zeros, to be closed by the caller.

        Raises:
            EngineError: the engine refused the graph.
        """


# `auto` takes the first that is available: GPUs, then CPUs in the order of measured speed (benchmarks latency).
ENGINES: dict[str, str] = {
    "tensorrt": "runtime.engine_tensorrt:TensorRT",
    "tensorrt-rtx": "runtime.engine_tensorrt:TensorRTRTX",
    "onnxruntime-cuda": "runtime.engine_onnxruntime_cuda:OnnxRuntimeCuda",
    "openvino": "runtime.engine_openvino:OpenVINO",
    "onnxruntime": "runtime.engine_onnxruntime:OnnxRuntime",
}
PRECISIONS = ("fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Choice:
    """An engine and a precision that this machine can run, and one sentence that says why these."""

    engine: Engine
    precision: str
    reason: str


def open_engine(name: str) -> Engine:
    """Return an engine by name, whether or not it can run here.

    Raises:
        ValueError: there is no engine of that name.
    """
    if name not in ENGINES:
        raise ValueError(f'there is no engine "{name}" {nearest(name, ["auto", *ENGINES])}')
    module, _, attribute = ENGINES[name].partition(":")
    engine: Engine = getattr(import_module(module), attribute)()
    return engine


def choose_engine(name: str = "auto", precision: str = "auto", failed: Collection[tuple[str, str]] = ()) -> Choice:
    """Choose an engine and a precision; what was named is taken or refused, never replaced.

    Args:
        name: an engine, or "auto" for the fastest that is available and can do the precision.
        precision: "fp32", "bf16", "fp16", or "auto" for the fastest that the engine can do here.
        failed: (engine, precision) that made other frames than the original when the bundle was made: "auto" passes
            them over, whoever names both gets them.

    Returns:
        The choice.

    Raises:
        ValueError: there is no such engine or precision.
        EngineError: the named engine, or no engine at all, can run here in this precision.
    """
    if precision not in ("auto", *PRECISIONS):
        raise ValueError(f'there is no precision "{precision}" {nearest(precision, ["auto", *PRECISIONS])}')
    passed_over: list[str] = []
    for candidate in ENGINES if name == "auto" else [name]:
        engine = open_engine(candidate)
        why_not = engine.available()
        if why_not is None and precision != "auto" and precision not in engine.precisions():
            why_not = (
                f"{candidate} cannot run in {precision} on this machine, only in {' or '.join(engine.precisions())}"
            )
        wanted = [] if why_not is not None else engine.precisions() if precision == "auto" else [precision]
        for chosen in wanted:
            if "auto" not in (name, precision) or (candidate, chosen) not in failed:
                return Choice(engine, chosen, _reason(name, candidate, precision, chosen, passed_over))
            passed_over.append(f"{candidate} in {chosen} made other frames than the original at export")
        if why_not is not None:
            passed_over.append(why_not)
    raise EngineError("; ".join(passed_over))


def failed_pairs(verified: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Return the (engine, precision) that failed their parity, from a manifest's `verified`, which nobody checks."""
    rungs = verified.get("parity")
    return {
        (str(rung["engine"]), str(rung["precision"]))
        for rung in (rungs if isinstance(rungs, list) else [])
        if isinstance(rung, Mapping) and rung.get("passed") is False and {"engine", "precision"} <= rung.keys()
    }


def _reason(asked: str, engine: str, asked_precision: str, precision: str, passed_over: list[str]) -> str:
    why = "as asked" if asked != "auto" else f"the first of {', '.join(ENGINES)} that runs here"
    if passed_over:
        why += f" ({'; '.join(passed_over)})"
    why_precision = "as asked" if asked_precision != "auto" else "the fastest that it has on this CPU"
    return f"{engine}, {why}, in {precision}, {why_precision}"


def count_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def aligned_zeros(tensor: Tensor) -> Array:
    """Allocate a tensor's buffer.

    Args:
        tensor: gives dtype and shape.

    Returns:
        Zeros, C order, starting on a 64-byte boundary, so that engines can use them without a copy.
    """
    dtype = np.dtype(tensor.dtype)
    count = int(np.prod(tensor.shape, dtype=np.int64))
    raw = np.zeros(count * dtype.itemsize + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + count * dtype.itemsize].view(dtype).reshape(tensor.shape)


class Buffers:
    """The fixed buffers of a session: one per input and output, two per state, which change places after a run.

    Args:
        program: gives the tensors and the state pairs.
    """

    def __init__(self, program: Program) -> None:
        self._states = {name for pair in program.pairs for name in pair}
        fixed = {item.name: aligned_zeros(item) for item in program.inputs if item.name not in self._states}
        results = {item.name: aligned_zeros(item) for item in program.outputs if item.name not in self._states}
        first: dict[str, Array] = {}
        second: dict[str, Array] = {}
        by_name = {item.name: item for item in program.inputs}
        for before, after in program.pairs:
            one, other = aligned_zeros(by_name[before]), aligned_zeros(by_name[before])
            first[before], first[after] = one, other
            second[before], second[after] = other, one
        self._turn = 0
        # (inputs, outputs) by name, for even and for odd runs.
        befores = [before for before, _ in program.pairs]
        afters = [after for _, after in program.pairs]
        self.turns = tuple(
            (
                {**fixed, **{name: side[name] for name in befores}},
                {**results, **{name: side[name] for name in afters}},
            )
            for side in (first, second)
        )

    @property
    def turn(self) -> int:
        """Which of the two sets the next run uses: 0 or 1."""
        return self._turn

    def swap(self) -> None:
        """Let the states change places."""
        self._turn ^= 1

    def write(self, name: str, value: Array) -> None:
        """Copy a value into an input."""
        buffer = self.turns[self._turn][0][name]
        if value.shape != buffer.shape or value.dtype != buffer.dtype:
            raise ValueError(f'the input "{name}" is {buffer.dtype} {buffer.shape}, got {value.dtype} {value.shape}')
        np.copyto(buffer, value)

    def read(self, name: str) -> Array:
        """Return an output of the last run."""
        return self.turns[self._turn ^ 1][1][name]

    def reset(self) -> None:
        """Set every state to zeros; the next run uses the first set."""
        for inputs, outputs in self.turns:
            for name, buffer in (*inputs.items(), *outputs.items()):
                if name in self._states:
                    buffer.fill(0)
        self._turn = 0
