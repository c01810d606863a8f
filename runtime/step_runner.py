"""Runs the step graph: one session with a frame output, and one without, which skips frames at a fraction of the cost.

Both sessions use the same states and inputs, so the later frames do not depend on which session ran a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Protocol, runtime_checkable

from runtime.engines.engine import Array, Session
from runtime.errors import EngineError


@runtime_checkable
class HasDeviceAddress(Protocol):
    """A session whose tensors lie on a device."""

    def address(self, name: str) -> int:
        """Return the address of an output of the last run; valid until the next run."""


class StepRunner:
    """A session of the step graph, and one without frames that is opened when it is first needed.

    Args:
        session: of the step graph with one frame output; the runner takes ownership.
        pairs: (state input, state output) names.
        open_without_frames: opens a session of the step graph without frame outputs; None to use `session` instead.
    """

    def __init__(
        self,
        session: Session,
        pairs: Sequence[tuple[str, str]],
        open_without_frames: Callable[[], Session] | None = None,
    ) -> None:
        self._session = session
        self._pairs = pairs
        self._open_without_frames = open_without_frames
        self._frameless: Session | None = None
        self._active = session
        self._inputs: dict[str, Array] = {}  # last written values, for the other session

    def write(self, name: str, value: Array) -> None:
        """Copy a value into an input, where it stays until the next write; the caller must not change it afterwards."""
        self._inputs[name] = value
        self._active.write(name, value)

    def run(self) -> None:
        """Run one step.

        Raises:
            EngineError: the engine failed.
        """
        self._active.run()

    def read(self, name: str) -> Array:
        """Return a view of an output of the last step that made a frame; valid until the next one."""
        return self._session.read(name)

    def address(self, name: str) -> int | None:
        """Return the device address of an output of the last step that made a frame; None if it is in main memory."""
        return self._session.address(name) if isinstance(self._session, HasDeviceAddress) else None

    def reset(self) -> None:
        """Set the states to zeros; other inputs stay as written."""
        self._active.reset()

    def take_over(self, other: StepRunner) -> bool:
        """Take inputs and states from the runner of an engine that failed, and close it.

        Returns:
            Whether the states could still be read; otherwise they are zeros.
        """
        for name, value in other._inputs.items():
            self.write(name, value)
        has_states = True
        try:
            states = [(before, other._active.read(after).copy()) for before, after in self._pairs]
        except EngineError:
            states, has_states = [], not self._pairs
        for name, value in states:
            self._active.write(name, value)
        other._active = other._session  # its states are not needed any more
        with suppress(EngineError):
            other.close()
        return has_states

    @contextmanager
    def without_frames(self) -> Iterator[None]:
        """Run every step in this context without making its frame.

        Raises:
            EngineError: the engine refused the graph.
        """
        if self._frameless is None:
            self._frameless = self._session if self._open_without_frames is None else self._open_without_frames()
        self._hand_over(self._frameless)
        try:
            yield
        finally:
            self._hand_over(self._session)

    def close(self) -> None:
        """Free both sessions."""
        self._session.close()
        if self._frameless is not None:
            self._frameless.close()

    def _hand_over(self, session: Session) -> None:
        if session is self._active:
            return
        for name, value in self._inputs.items():
            session.write(name, value)
        for before, after in self._pairs:
            session.write(before, self._active.read(after))
        self._active = session
