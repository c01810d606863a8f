"""Frames of a Triton server: the engine `grpc://HOST:PORT[/NAME]`; not yet run with a Triton server.

The server has the models that `python -m export triton` writes. The bundle is here, too: its scenes, controls, noise
and texts are as with every other engine. A show is a sequence of the server, and one request of it makes one frame.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from runtime.engines.engine import Array, Program, Session, check_request
from runtime.engines.triton_connection import Connection, ServerLostError, why_not_installed
from runtime.engines.triton_interface import model_name
from runtime.engines.triton_model import check_model
from runtime.engines.triton_step import TritonStep
from runtime.errors import EngineError

_LOCAL = ("openvino", "onnxruntime")  # for graphs that no server has


class Triton:
    """The engine; see `runtime.engines.engine.Engine`.

    Args:
        address: "grpc://HOST:PORT", or "grpc://HOST:PORT/NAME" if the models' names do not begin with the bundle's.

    Raises:
        ValueError: the address has another form.
    """

    def __init__(self, address: str) -> None:
        match = re.fullmatch(
            r"grpc://((?:\[[0-9a-fA-F:]+\]|[^\s/:@]+):([0-9]{1,5}))(?:/([a-z0-9][a-z0-9._-]*))?/?", address
        )
        if match is None or not 0 < int(match[2]) < 65536:
            raise ValueError(f"a Triton server is named grpc://HOST:PORT or grpc://HOST:PORT/NAME, got {address!r}")
        self.name, self._url, self._model = address, match[1], match[3]

    def available(self) -> str | None:
        """Return None, or why no server can be used."""
        if (why_not := why_not_installed()) is not None:
            return why_not
        connection = Connection(self._url)
        try:
            return connection.why_not_live()
        finally:
            connection.close()

    def precisions(self) -> Sequence[str]:
        """Return ("fp32",), the precision of the exported graphs."""
        return ("fp32",)

    def open(self, program: Program, precision: str, threads: int, cache_dir: Path | None) -> Session:
        """Return a session of a model of the server.

        A graph that is not a bundle's (the stages of clips and of `--matte`) runs here, on the CPU.

        Raises:
            EngineError: the server has no such model, or one of another bundle, size or version.
        """
        if program.origin is None:
            return _open_here(program, threads, cache_dir)
        check_request(self, precision)
        model = model_name(self._model or program.origin.bundle, program.origin.part)
        connection = Connection(self._url)
        try:
            if program.origin.part.startswith("step-"):
                return TritonStep(connection, model, program)
            return TritonGraph(connection, model, program)
        except ServerLostError as error:
            connection.close()
            raise EngineError(f"the Triton server at {self._url} was lost: {error}") from error
        except BaseException:
            connection.close()
            raise


class TritonGraph:
    """A graph without states; see `runtime.engines.engine.Session`."""

    def __init__(self, connection: Connection, model: str, program: Program) -> None:
        self._connection, self._model = connection, model
        self._values: dict[str, Array] = {item.name: np.zeros(item.shape, item.dtype) for item in program.inputs}
        self._result: Any = None
        inputs = {item.name: (item.dtype, item.shape) for item in program.inputs}
        outputs = {item.name: (item.dtype, item.shape) for item in program.outputs}
        check_model(connection, model, program, inputs, outputs)

    def write(self, name: str, value: Array) -> None:
        """Set an input."""
        self._values[name] = value.copy()

    def run(self) -> None:
        """Evaluate the graph; a server that is away is waited for."""
        infer = self._connection.infer
        self._result = self._connection.until_back(lambda: infer(self._model, self._values), "while a scene was made")

    def read(self, name: str) -> Array:
        """Return an output of the last run."""
        value: Array = self._result.as_numpy(name)
        return value

    def reset(self) -> None:
        """Do nothing: there are no states."""

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _open_here(program: Program, threads: int, cache_dir: Path | None) -> Session:
    from runtime.engines.table import open_engine

    reasons = []
    for name in _LOCAL:
        engine = open_engine(name)
        if (why_not := engine.available()) is None:
            return engine.open(program, "fp32", threads, cache_dir)
        reasons.append(why_not)
    raise EngineError(f"clips and people are put together here, not on the Triton server: {'; '.join(reasons)}")
