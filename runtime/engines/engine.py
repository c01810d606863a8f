"""The interface of engines: it compiles a graph into a session with fixed buffers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from runtime.bundle.tensors import TensorSpec
from runtime.errors import EngineError

Array = npt.NDArray[Any]
INT8 = "int8"  # the precision of quantised graphs (`runtime.engines.int8`), beside `Engine.precisions`
INT8_ENGINES = ("tensorrt", "tensorrt-rtx", "openvino", "onnxruntime")


class Session(Protocol):
    """A compiled graph with its own fixed buffers; used by one thread at a time."""

    def write(self, name: str, value: Array) -> None:
        """Copy a value into an input's buffer, where it stays until the next write (a state: until the next run).

        Args:
            name: of the input.
            value: exactly the input's dtype and shape.
        """

    def run(self) -> None:
        """Evaluate the graph once, then swap every state output with its state input (two buffers, no copy).

        Raises:
            EngineError: the engine failed.
        """

    def read(self, name: str) -> Array:
        """Return a view of an output of the last run, valid until the next run.

        A state output always holds the value that the next run starts from.
        """

    def reset(self) -> None:
        """Set the states to zeros; other inputs stay as written."""

    def close(self) -> None:
        """Free the engine's memory; the session cannot be used afterwards. Closing twice is allowed."""


class NullSession:
    """A session that computes nothing: a step graph that has no states and whose frame is not wanted."""

    def write(self, name: str, value: Array) -> None:
        """Do nothing."""

    def run(self) -> None:
        """Do nothing."""

    def read(self, name: str) -> Array:
        """Fail: there is no output."""
        raise AssertionError(f"read({name!r}) of a graph without outputs")

    def reset(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class Origin:
    """Where a graph comes from, for engines on a server, which have it already.

    Args:
        bundle: name of the bundle.
        part: "step-rgb", "step-i420", "condition" or "paint".
        sha256: of the graph's file in the bundle, and of its weights file if it has one.
    """

    bundle: str
    part: str
    sha256: str


@dataclass(frozen=True)
class Program:
    """A graph and its tensors, as an engine compiles it.

    Args:
        graph: a serialised ONNX model, checked and pruned to `outputs`.
        inputs: all its inputs, states included.
        outputs: all its outputs, states included.
        pairs: (state input, state output) names.
        engines: folder of compiled graphs from the bundle, if the user trusts them; else None.
        origin: of the graph, if it is one of a bundle's; else None.
        weights: the file that the graph's external data name, which was hashed when the bundle was opened; None for a
            graph with all its weights inside. Engines map it into memory.
        weights_sha256: of that file; "" without one.
    """

    graph: bytes
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    pairs: tuple[tuple[str, str], ...] = ()
    engines: Path | None = None
    origin: Origin | None = None
    weights: Path | None = None
    weights_sha256: str = ""

    @property
    def cache_parts(self) -> list[str]:
        """What a compiled graph depends on besides `graph`: the hash of the weights file."""
        return [] if self.weights is None else [f"weights {self.weights_sha256}"]


class Engine(Protocol):
    """A library that runs graphs; the implementations are listed in runtime/engines/table.py."""

    name: str

    def available(self) -> str | None:
        """Return None if the engine can run here, else one sentence: why not, and what to install."""

    def precisions(self) -> Sequence[str]:
        """Return the `PRECISIONS` that this machine supports, fastest first, "fp32" among them; never raises."""

    def open(self, program: Program, precision: str, threads: int, cache_dir: Path | None) -> Session:
        """Compile a graph.

        Args:
            program: the graph and its tensors.
            precision: one of `precisions()`; or "int8" of `INT8_ENGINES`, for a quantised graph.
            threads: CPU threads that a run may use.
            cache_dir: folder for compiled graphs, or None for no cache; may be missing, read-only, damaged, or owned by
                another user.

        Returns:
            A session whose states and other inputs are zeros; to be closed by the caller.

        Raises:
            EngineError: the engine refused the graph.
        """


def supports(engine: Engine, precision: str) -> bool:
    """Return whether an engine runs graphs in a precision on this machine; for "int8" they must be quantised."""
    if precision == INT8:
        return engine.name.partition(":")[0] in INT8_ENGINES
    return precision in engine.precisions()


def check_request(engine: Engine, precision: str) -> None:
    """Check that an engine can run here in a precision.

    Raises:
        EngineError: it cannot.
    """
    if (why_not := engine.available()) is not None:
        raise EngineError(why_not)
    if not supports(engine, precision):
        known = " or ".join(engine.precisions())
        raise EngineError(f"{engine.name} runs in {known}, got {precision}; use precision auto")


def aligned_zeros(tensor: TensorSpec) -> Array:
    """Allocate a tensor's buffer.

    Args:
        tensor: gives dtype and shape.

    Returns:
        Zeros, C order, aligned to 64 bytes, so that engines can use them without a copy.
    """
    dtype = np.dtype(tensor.dtype)
    count = int(np.prod(tensor.shape, dtype=np.int64))
    raw = np.zeros(count * dtype.itemsize + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + count * dtype.itemsize].view(dtype).reshape(tensor.shape)


class BufferedSession:
    """The part of a session that holds its buffers in main memory; engines add `run` and `close`.

    There is one buffer per input and output, and two per state, which are swapped after each run.

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
        self.turn = 0  # the set of buffers that the next run uses: 0 or 1
        # (inputs, outputs) by name, for even and odd runs.
        befores = [before for before, _ in program.pairs]
        afters = [after for _, after in program.pairs]
        self.turns = tuple(
            (
                {**fixed, **{name: side[name] for name in befores}},
                {**results, **{name: side[name] for name in afters}},
            )
            for side in (first, second)
        )

    def swap(self) -> None:
        """Swap the state buffers."""
        self.turn ^= 1

    def write(self, name: str, value: Array) -> None:
        """Copy a value into an input."""
        buffer = self.turns[self.turn][0][name]
        if value.shape != buffer.shape or value.dtype != buffer.dtype:
            raise ValueError(f'the input "{name}" is {buffer.dtype} {buffer.shape}, got {value.dtype} {value.shape}')
        np.copyto(buffer, value)

    def read(self, name: str) -> Array:
        """Return a view of an output of the last run."""
        return self.turns[self.turn ^ 1][1][name]

    def reset(self) -> None:
        """Set every state to zeros; the next run uses the first set."""
        for inputs, outputs in self.turns:
            for name, buffer in (*inputs.items(), *outputs.items()):
                if name in self._states:
                    buffer.fill(0)
        self.turn = 0
