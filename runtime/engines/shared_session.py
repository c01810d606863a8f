"""A session that several threads take turns to use."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping

from runtime.bundle.tensors import GraphSpec
from runtime.engines.engine import Array, Session


class SharedSession:
    """A session of a graph without states, protected by a lock.

    Args:
        session: this object takes ownership.
        graph: the session's graph.
    """

    def __init__(self, session: Session, graph: GraphSpec) -> None:
        self._session = session
        self._outputs = [tensor.name for tensor in graph.outputs]
        self._lock = threading.Lock()
        self._is_closed = False

    def evaluate(self, inputs: Mapping[str, Array], outputs: Collection[str] = ()) -> dict[str, Array]:
        """Write the inputs, run, and return copies of the outputs; of all if none is named."""
        with self._lock:
            if self._is_closed:
                raise ValueError("this generator is closed")
            for name, value in inputs.items():
                self._session.write(name, value)
            self._session.run()
            return {name: self._session.read(name).copy() for name in outputs or self._outputs}

    def close(self) -> None:
        """Free the session once the current run has ended."""
        with self._lock:
            self._is_closed = True
            self._session.close()
