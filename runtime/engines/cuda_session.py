"""A session on a CUDA device: fixed device buffers, two captured CUDA graphs replayed in turn, pinned frames.

States stay on the device. Two sets of buffers are swapped after each run; each set has its own CUDA graph with fixed
addresses, so inputs are copied into buffers, which are never rebound. A graph ends with the copy of its frame into its
own pinned memory, followed by an event: the host waits once per frame, and a frame stays valid while the next is made.

    write (pinned -> device)   launch graph 0 or 1: state, memory, noise -> state', frame -> pinned   event   read
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from runtime.bundle.tensors import TensorSpec
from runtime.engines.cuda import Cuda
from runtime.engines.engine import Array, Program
from runtime.errors import EngineError


class CudaSession:
    """A session on a CUDA device; see `runtime.engines.engine.Session`.

    Args:
        program: gives the tensors and the state pairs.
        device: the session takes ownership unless an exception is raised.
        enqueue: enqueues one evaluation in the device's stream, given the address of every tensor; raises EngineError.
        release: frees the resources of `enqueue`; called once.
        captures_itself: whether `enqueue` captures CUDA graphs itself, so that the session does not.

    Attributes:
        why_eager: why no CUDA graph is used; "" if one is.
        use_graphs: set it to False to use no CUDA graph.
    """

    def __init__(
        self,
        program: Program,
        device: Cuda,
        enqueue: Callable[[Mapping[str, int]], None],
        release: Callable[[], None] = lambda: None,
        *,
        captures_itself: bool = False,
    ) -> None:
        self.why_eager = ""
        self.use_graphs = True
        self._device, self._enqueue, self._release = device, enqueue, release
        self._captures_itself = captures_itself
        self._tensors = {item.name: item for item in (*program.inputs, *program.outputs)}
        self._pairs = program.pairs
        self._memory: list[int] = []
        self._pins: list[npt.NDArray[np.uint8]] = []
        states = {name for pair in program.pairs for name in pair}
        fixed = {name: self._allocate(item) for name, item in self._tensors.items() if name not in states}
        self._turns: tuple[dict[str, int], dict[str, int]] = ({**fixed}, {**fixed})
        for before, after in program.pairs:
            one, other = self._allocate(self._tensors[before]), self._allocate(self._tensors[before])
            self._turns[0].update({before: one, after: other})
            self._turns[1].update({before: other, after: one})
        self._staging = {item.name: self._pin(item) for item in program.inputs}
        results = [item for item in program.outputs if item.name not in states]
        self._results = tuple({item.name: self._pin(item) for item in results} for _ in range(2))
        self._events = (device.event(), device.event())
        self._graphs: tuple[object, object] | None = None
        self._is_warm = self._is_closed = False
        self._turn = 0
        self._num_runs = 0
        # Inputs whose staging memory an unfinished copy may still read -> number of runs before that copy.
        self._staged: dict[str, int] = {}
        device.wait()

    def write(self, name: str, value: Array) -> None:
        """Copy a value to an input's buffer on the device."""
        item = self._tensors[name]
        if value.shape != item.shape or value.dtype != np.dtype(item.dtype):
            raise ValueError(f'the input "{name}" is {item.dtype} {item.shape}, got {value.dtype} {value.shape}')
        if name in self._staged:
            self._wait()
        np.copyto(self._staging[name], value)
        self._device.upload(self._turns[self._turn][name], self._staging[name])
        self._staged[name] = self._num_runs

    def run(self) -> None:
        """Enqueue one evaluation, and swap the states."""
        if not self._is_warm:
            self._prepare()
        if self._graphs is None or not self.use_graphs:
            self._evaluate(self._turn)
        else:
            self._device.launch(self._graphs[self._turn])
        self._device.record(self._events[self._turn])
        self._turn ^= 1
        self._num_runs += 1

    def read(self, name: str) -> Array:
        """Return an output of the last run, in pinned memory; waits for it. Valid until the run after the next one."""
        last = self._turn ^ 1
        if name in self._results[last]:
            self._device.wait_for(self._events[last])
            self._staged = {key: runs for key, runs in self._staged.items() if runs == self._num_runs}
            return self._results[last][name]
        state = next(before for before, after in self._pairs if name in (before, after))
        self._device.fetch(self._staging[state], self._turns[self._turn][state])
        self._wait()
        return self._staging[state].copy()

    def address(self, name: str) -> int:
        """Return where an output of the last run lies on the device, until the next run."""
        return self._turns[self._turn ^ 1][name]

    def reset(self) -> None:
        """Set the states to zeros."""
        for address, nbytes in self._states():
            self._device.zero(address, nbytes)
        self._turn = 0

    def close(self) -> None:
        """Free the graphs, the engine and the memory, in this order."""
        if self._is_closed:
            return
        self._is_closed = True
        for graph in self._graphs or ():
            self._device.free_graph(graph)
        self._release()
        for event in self._events:
            self._device.free_event(event)
        for address in self._memory:
            self._device.free(address)
        for memory in self._pins:
            self._device.free_pinned(memory)
        self._device.close()

    def _prepare(self) -> None:
        """Run each turn once, for engines that compile at first use, then capture; restores the states."""
        self._is_warm = True
        saved = [(address, nbytes, self._allocate_bytes(nbytes)) for address, nbytes in self._states()]
        for address, nbytes, copy in saved:
            self._device.copy(copy, address, nbytes)
        for turn in range(2):
            self._evaluate(turn)
        self._device.wait()
        graphs: list[object] = []
        try:
            for turn in range(0 if self._captures_itself else 2):
                graphs.append(self._device.capture(lambda turn=turn: self._evaluate(turn)))  # type: ignore[misc]
            self._graphs = (graphs[0], graphs[1]) if graphs else None
        except EngineError as error:
            self.why_eager = str(error)
            for graph in graphs:
                self._device.free_graph(graph)
        for address, nbytes, copy in saved:
            self._device.copy(address, copy, nbytes)
        self._wait()

    def _evaluate(self, turn: int) -> None:
        self._enqueue(self._turns[turn])
        for name, memory in self._results[turn].items():
            self._device.fetch(memory, self._turns[turn][name])

    def _states(self) -> list[tuple[int, int]]:
        """Return (address, bytes) of all state buffers."""
        return [(self._turns[0][name], self._nbytes(self._tensors[name])) for pair in self._pairs for name in pair]

    def _wait(self) -> None:
        self._device.wait()
        self._staged.clear()

    def _pin(self, item: TensorSpec) -> Array:
        memory = self._device.pinned(self._nbytes(item))
        self._pins.append(memory)
        array: Array = memory.view(np.dtype(item.dtype)).reshape(item.shape)
        return array

    def _allocate(self, item: TensorSpec) -> int:
        return self._allocate_bytes(self._nbytes(item))

    def _allocate_bytes(self, nbytes: int) -> int:
        address = self._device.allocate(nbytes)
        self._memory.append(address)
        return address

    @staticmethod
    def _nbytes(item: TensorSpec) -> int:
        return int(np.prod(item.shape, dtype=np.int64)) * np.dtype(item.dtype).itemsize
