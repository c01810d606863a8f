"""The step graph twice: with frames, for a show, and without, to get further in one at a fraction of the cost.

Both sessions go on from the same states and see the same inputs, so that a show cannot tell by which it was advanced.
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
        """Return where an output of the last run lies, until the next run."""


class NullSession:
    """A session of a graph that computes nothing, which is what a step graph without states is without its frame."""

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


class StepRunner:
    """A session of the step graph, and one without frames that is opened when it is first needed.

    Args:
        session: of the step graph with the frame that is wanted; owned from now on.
        pairs: (state input, state output) names.
        open_blind: opens a session of the step graph without any frame; None to go on with the one that has a frame.
    """

    def __init__(
        self, session: Session, pairs: Sequence[tuple[str, str]], open_blind: Callable[[], Session] | None = None
    ) -> None:
        self._session = session
        self._pairs = pairs
        self._open_blind = open_blind
        self._blind: Session | None = None
        self._active = session
        self._inputs: dict[str, Array] = {}  # as last written, for the session that takes over

    def write(self, name: str, value: Array) -> None:
        """Copy a value into an input, where it stays until the next write; the caller does not change it afterwards."""
        self._inputs[name] = value
        self._active.write(name, value)

    def run(self) -> None:
        """Make a step.

        Raises:
            EngineError: the engine failed.
        """
        self._active.run()

    def read(self, name: str) -> Array:
        """Return a view of an output of the last step with frames, valid until the next."""
        return self._session.read(name)

    def address(self, name: str) -> int | None:
        """Return where an output of the last step with frames lies on a device, None if it lies in main memory."""
        return self._session.address(name) if isinstance(self._session, HasDeviceAddress) else None

    def reset(self) -> None:
        """Set the states to zeros; other inputs stay as written."""
        self._active.reset()

    def take_over(self, other: StepRunner) -> bool:
        """Take inputs and states from a stepper of another engine that has failed, and close it.

        Returns:
            Whether the states could still be had; else they are zeros.
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
        other._active = other._session  # nothing is left to be handed over
        with suppress(EngineError):
            other.close()
        return has_states

    @contextmanager
    def without_frames(self) -> Iterator[None]:
        """Make every step within this context without its frame.

        Raises:
            EngineError: the engine refused the graph.
        """
        if self._blind is None:
            self._blind = self._session if self._open_blind is None else self._open_blind()
        self._hand_over(self._blind)
        try:
            yield
        finally:
            self._hand_over(self._session)

    def close(self) -> None:
        """Free both sessions."""
        self._session.close()
        if self._blind is not None:
            self._blind.close()

    def _hand_over(self, session: Session) -> None:
        if session is self._active:
            return
        for name, value in self._inputs.items():
            session.write(name, value)
        for before, after in self._pairs:
            session.write(before, self._active.read(after))
        self._active = session
