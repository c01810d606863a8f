"""A fake CUDA device in a dictionary; like a real one, it runs the stream only when it must."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from runtime.errors import EngineError

Work = Callable[[], None]


class FakeDevice:
    """See `runtime.engines.cuda.Cuda`; every address, event and graph must be given back exactly once."""

    target = "sm89"
    name = "A fake"
    stream = 77

    def __init__(self) -> None:
        self.memory: dict[int, np.ndarray] = {}
        self.pins: dict[int, np.ndarray] = {}
        self.graphs: dict[int, list[Work]] = {}
        self.reached: dict[int, bool] = {}
        self.is_closed = False
        self.num_launched = self.num_waits = 0
        self.cannot_capture = ""
        self._queue: list[Work] = []
        self._recording: list[Work] | None = None
        self._next = 4096

    def enqueue(self, work: Work) -> None:
        """Let something happen later, in the stream, or be part of the graph that is being captured."""
        (self._queue if self._recording is None else self._recording).append(work)

    def allocate(self, nbytes: int) -> int:
        """Return a new address."""
        assert self._recording is None, "memory is not allocated within a graph"
        address = self._number(nbytes)
        self.memory[address] = np.zeros(nbytes, np.uint8)
        return address

    def free(self, address: int) -> None:
        """Forget an address; fails if it is unknown."""
        del self.memory[address]

    def zero(self, address: int, nbytes: int) -> None:
        """Fill with zeros."""
        assert len(self.memory[address]) == nbytes
        self.enqueue(lambda: self.memory[address].fill(0))

    def pinned(self, nbytes: int) -> np.ndarray:
        """Return host memory, full of rubbish."""
        memory = np.full(nbytes, 0xAB, np.uint8)
        self.pins[memory.ctypes.data] = memory
        return memory

    def free_pinned(self, memory: np.ndarray) -> None:
        """Forget it."""
        del self.pins[memory.ctypes.data]

    def upload(self, address: int, value: np.ndarray) -> None:
        """Enqueue a copy to the device."""
        self._check_pinned(value)
        assert value.nbytes == len(self.memory[address])
        self.enqueue(lambda: np.copyto(self.memory[address], value.reshape(-1).view(np.uint8)))

    def fetch(self, into: np.ndarray, address: int) -> None:
        """Copy out."""
        self._check_pinned(into)
        self.enqueue(lambda: np.copyto(into.reshape(-1).view(np.uint8), self.memory[address]))

    def copy(self, to: int, address: int, nbytes: int) -> None:
        """Copy on the device."""
        self.enqueue(lambda: np.copyto(self.memory[to][:nbytes], self.memory[address][:nbytes]))

    def capture(self, enqueue: Callable[[], None]) -> int:
        """Record what is enqueued."""
        if self.cannot_capture:
            raise EngineError(self.cannot_capture)
        self._recording = []
        try:
            enqueue()
            number = self._number(1)
            self.graphs[number] = self._recording
            return number
        finally:
            self._recording = None

    def launch(self, graph: Any) -> None:
        """Replay a graph."""
        self.num_launched += 1
        for work in self.graphs[graph]:
            self.enqueue(work)

    def free_graph(self, graph: Any) -> None:
        """Forget it."""
        del self.graphs[graph]

    def event(self) -> int:
        """Return a number."""
        number = self._number(1)
        self.reached[number] = True
        return number

    def record(self, event: Any) -> None:
        """Enqueue an event."""
        self.reached[event] = False

        def reach() -> None:
            self.reached[event] = True

        self.enqueue(reach)

    def wait_for(self, event: Any) -> None:
        """Run the stream up to an event."""
        self.num_waits += 1
        while not self.reached[event]:
            self._queue.pop(0)()

    def free_event(self, event: Any) -> None:
        """Forget it."""
        del self.reached[event]

    def wait(self) -> None:
        """Let everything happen."""
        assert self._recording is None, "nobody waits within a graph"
        self.num_waits += 1
        while self._queue:
            self._queue.pop(0)()

    def close(self) -> None:
        """Note it."""
        self.is_closed = True

    def _check_pinned(self, value: np.ndarray) -> None:
        base = value if value.base is None else value.base
        assert any(base is memory or value.base is memory for memory in self.pins.values()), "not in pinned memory"

    def _number(self, size: int) -> int:
        number, self._next = self._next, self._next + size + 256
        return number
