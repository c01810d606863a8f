"""A module of the benchmarks in a process of its own, which writes lines of JSON and ends with its standard input."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class JsonChild:
    """`python -m MODULE ARGUMENTS` as a context manager; killed at the end if it still runs.

    Args:
        module: its name.
        arguments: of its command line.
        quiet: whether what it writes to standard error is discarded.
    """

    def __init__(self, module: str, *arguments: str, quiet: bool = False) -> None:
        path = os.pathsep.join(
            [str(Path(__file__).resolve().parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        )
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if quiet else None,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout

    def ask(self, line: str) -> Any:
        """Write a line and return the answer; see `read`."""
        self._input.write(f"{line}\n")
        self._input.flush()
        return self.read()

    def read(self) -> Any:
        """Return the next line of JSON; {"error": ...} if the process has ended."""
        if line := self._output.readline():
            return json.loads(line)
        return {"error": f"its process ended with status {self._process.wait()}"}

    def finish(self, timeout_s: float = 30.0) -> Any:
        """End its input, wait, and return its last line of JSON; None without one or after the timeout."""
        self._input.close()
        timer = threading.Timer(timeout_s, self._process.kill)
        timer.start()
        try:
            lines = self._output.readlines()
        finally:
            timer.cancel()
        return json.loads(lines[-1]) if lines else None

    def close(self) -> None:
        """Kill the process if it still runs."""
        self._process.kill()
        self._process.wait()
        self._output.close()
        with contextlib.suppress(BrokenPipeError):
            self._input.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
