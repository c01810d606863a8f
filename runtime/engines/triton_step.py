"""A step model on a Triton server: a sequence whose requests make frames."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from runtime.engines.engine import Array, Program
from runtime.engines.triton_connection import Connection, ServerLostError
from runtime.engines.triton_interface import SHARE, step_interface, tile_of
from runtime.engines.triton_model import check_model
from runtime.errors import EngineError
from runtime.pixels.planes import Blend

_END_S = 2.0  # the longest that the end of a sequence is waited for


class TritonStep:
    """A step model; see `runtime.engines.remote.RemoteSession`.

    If the server is lost, or has forgotten the sequence, another sequence begins with everything that was written: only
    the states are zeros then.
    """

    def __init__(self, connection: Connection, model: str, program: Program) -> None:
        self.on_return: Callable[[str], object] = lambda _: None
        self._connection, self._model, self._program = connection, model, program
        frame = next(item for item in program.outputs if item.role == "frame")
        self._interface = interface = step_interface(program.inputs, frame)
        self._fresh: dict[str, Array] = {item.name: np.zeros(item.shape, item.dtype) for item in interface.fresh}
        self._held: dict[str, Array] = {}  # all that was written
        self._changed: set[str] = set()  # names of it that the server has not got
        self._kept = {
            item.name: connection.to_inputs({item.names[0]: item.to_input(None)})[0] for item in interface.held
        }
        self._unread: deque[list[Any]] = deque()  # the fresh inputs of requests that were not answered
        self._sequence = 0  # its correlation ID; 0 before the first request
        self._check()

    def write(self, name: str, value: Array) -> None:
        """Set an input; what the server holds is sent with the next request."""
        held = self._interface.held_of(name)
        if not held:
            self._fresh[name] = value
        elif held[0].source.role == "mark":
            self._hold(held[0].name, tile_of(value, held[0]))
        else:
            self._hold(name, value)

    def write_blend(self, name: str, blend: Blend) -> None:
        """Set an input of the pixel stage; only pictures that the server has not got are sent."""
        first, second = (item.name for item in self._interface.held_of(name))
        share = blend.share
        if share in (0.0, 1.0):
            picture = blend.two if share else blend.one
            side = next(
                (side for side in (first, second) if self._held.get(side) is picture), second if share else first
            )
            self._hold(side, picture)
            share = float(side == second)
        else:
            self._hold(first, blend.one)
            self._hold(second, blend.two)
        self._fresh[SHARE] = np.array([share], np.float32)

    def run(self) -> None:
        """Send a request for a frame."""
        fresh = self._connection.to_inputs(self._fresh)
        self._unread.append(fresh)
        with suppress(ServerLostError):  # `read` finds it out as well
            self._send(fresh)

    def read(self, name: str) -> Array:
        """Wait for the frame of the oldest request that was not read: read-only, and not changed by later ones."""
        if name != self._interface.frame.name:
            raise EngineError(f'"{name}" of a Triton server cannot be read: states stay there')
        try:
            result = self._connection.receive()
        except ServerLostError as error:
            result = self._begin_again(str(error))
        self._unread.popleft()
        frame: Array | None = result.as_numpy(name)
        if frame is None or frame.shape != self._interface.frame.shape:
            got = "none" if frame is None else str(frame.shape)
            raise EngineError(f"{self._model} must return a frame of {self._interface.frame.shape}, got {got}")
        return frame

    def reset(self) -> None:
        """End the sequence; another one begins with the next request, with states of zeros."""
        self._end()

    def close(self) -> None:
        """End the sequence, so that the server frees its states, and close the connection."""
        self._end()
        self._connection.close()

    def _hold(self, name: str, value: Array) -> None:
        if self._held.get(name) is not value:
            self._held[name] = value
            self._changed.add(name)

    def _send(self, fresh: list[Any], *, is_last: bool = False) -> None:
        is_first = not self._sequence
        if is_first:
            self._sequence = secrets.randbits(62) + 1
            self._changed = set(self._held)
        inputs = list(fresh)
        for item in self._interface.held:
            if item.name in self._changed:
                inputs += self._connection.to_inputs({item.names[0]: item.to_input(self._held[item.name])})
            else:
                inputs.append(self._kept[item.name])
        self._connection.send(self._model, inputs, self._sequence, is_first=is_first, is_last=is_last)
        self._changed.clear()

    def _begin_again(self, why: str) -> Any:
        """Begin another sequence with the requests that were not answered; return the answer to the first of them."""

        def act() -> Any:
            self._connection.close()
            self._sequence = 0
            self._check()
            for fresh in self._unread:
                self._send(fresh)
            return self._connection.receive()

        result = self._connection.until_back(act, why)
        self.on_return(
            f"the Triton server at {self._connection.url} was lost ({why}) and is back: its state is lost, the motion "
            "begins again from zeros"
        )
        return result

    def _end(self) -> None:
        """End the sequence, if there is one; a server that does not answer is left alone."""
        if self._sequence:
            try:
                self._send(self._connection.to_inputs(self._fresh), is_last=True)
                for _ in range(len(self._unread) + 1):
                    self._connection.receive(_END_S)
            except (EngineError, ServerLostError):
                self._connection.close()
        self._sequence = 0
        self._unread.clear()

    def _check(self) -> None:
        interface = self._interface
        inputs: dict[str, tuple[str, tuple[int, ...]]] = {item.names[0]: (item.dtype, (-1,)) for item in interface.held}
        inputs |= {item.name: (item.dtype, item.shape) for item in interface.fresh}
        outputs = {interface.frame.name: (interface.frame.dtype, interface.frame.shape)}
        check_model(self._connection, self._model, self._program, inputs, outputs)
