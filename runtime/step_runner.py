"""Runs the step graph: one session with a frame output, and one without, which skips frames at a fraction of the cost.

Both sessions use the same states and inputs, so the later frames do not depend on which session ran a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from threading import Thread
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from runtime.bundle.manifest import Manifest
from runtime.engines.engine import Array, Session
from runtime.engines.opening import OpenedEngine, state_pairs
from runtime.engines.remote import RemoteSession
from runtime.errors import EngineError
from runtime.pixels.planes import Blend, shifted_copies


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
        open_half: opens a session of the step graph with half the detail; None if there is none.

    Attributes:
        has_frame: whether the session that makes the frames has made one, for `read`.
    """

    def __init__(
        self,
        session: Session,
        pairs: Sequence[tuple[str, str]],
        open_without_frames: Callable[[], Session] | None = None,
        open_half: Callable[[], Session] | None = None,
    ) -> None:
        self._full = self._session = session  # the second one makes the frames now
        self._open_half = open_half
        self._half: Future[Session] | None = None
        self._pairs = pairs
        self._open_without_frames = open_without_frames
        self._frameless: Session | None = None
        self._active = session
        self.has_frame = False
        self._inputs: dict[str, Array] = {}  # last written values, for the other session
        self._blends: dict[str, Blend] = {}  # of the pictures among them
        self._scratch: dict[str, npt.NDArray[np.float32]] = {}

    def write(self, name: str, value: Array) -> None:
        """Copy a value into an input, where it stays until the next write; the caller must not change it afterwards."""
        self._inputs[name] = value
        self._active.write(name, value)

    def write_blend(self, name: str, blend: Blend) -> None:
        """Write two blended pictures to an input of the pixel stage; their planes must not change afterwards."""
        self._blends[name] = blend
        if isinstance(self._active, RemoteSession):
            self._active.write_blend(name, blend)
        else:
            scratch = self._scratch.setdefault(name, np.empty(blend.one.shape, np.float32))
            self.write(name, shifted_copies(blend.planes(scratch)))

    def run(self) -> None:
        """Run one step.

        Raises:
            EngineError: the engine failed.
        """
        self._active.run()
        self.has_frame = self.has_frame or self._active is self._session

    @property
    def is_remote(self) -> bool:
        """Whether frames are made on a server."""
        return isinstance(self._full, RemoteSession)

    @property
    def has_half(self) -> bool:
        """Whether frames can be made with half the detail."""
        return self._open_half is not None

    @property
    def has_addresses(self) -> bool:
        """Whether frames lie on a device."""
        return isinstance(self._full, HasDeviceAddress)

    def use_half(self, is_wanted: bool) -> None:
        """Make frames with half the detail from the next run on, once its session has been opened; or with all of it.

        Raises:
            EngineError: the engine refused the graph.
        """
        if is_wanted and self._half is None and self._open_half is not None:
            self._half = Future()
            Thread(target=_open, args=(self._open_half, self._half), daemon=True).start()
        is_ready = is_wanted and self._half is not None and self._half.done()
        session = self._half.result() if is_ready and self._half is not None else self._full
        if session is not self._session:
            self._hand_over(session)
            self._session, self.has_frame = session, False

    def read(self, name: str) -> Array:
        """Return a view of an output of the last step that made a frame; valid until the next one."""
        return self._session.read(name)

    def address(self, name: str) -> int | None:
        """Return the device address of an output of the last step that made a frame; None if it is in main memory."""
        return self._session.address(name) if isinstance(self._session, HasDeviceAddress) else None

    def reset(self) -> None:
        """Set the states to zeros; other inputs stay as written."""
        self._active.reset()

    def states(self) -> dict[str, Array]:
        """Return copies of the states that the next step reads, by the names of their inputs.

        Raises:
            EngineError: the engine failed.
        """
        return {before: self._active.read(after).copy() for before, after in self._pairs}

    def set_states(self, states: Mapping[str, Array]) -> None:
        """Write the states that the next step reads.

        Raises:
            ValueError: the step graph has other states, or states of other shapes or types.
        """
        names = {before for before, _ in self._pairs}
        if states.keys() != names:
            raise ValueError(
                f"the position has the states {', '.join(sorted(states)) or 'none'}; expected "
                f"{', '.join(sorted(names)) or 'none'}: it is of another bundle"
            )
        for before, after in self._pairs:
            value, wanted = states[before], self._active.read(after)
            if value.shape != wanted.shape or value.dtype != wanted.dtype:
                raise ValueError(
                    f"the state {before} of the position is {value.dtype} {value.shape}, expected {wanted.dtype} "
                    f"{wanted.shape}: it is of another bundle"
                )
            self._active.write(before, value)

    def take_over(self, other: StepRunner) -> bool:
        """Take inputs and states from the runner of an engine that failed, and close it.

        Returns:
            Whether the states could still be read; otherwise they are zeros.
        """
        for name, value in other._inputs.items():
            if name not in other._blends:
                self.write(name, value)
        for name, blend in other._blends.items():
            self.write_blend(name, blend)
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
        """Free all sessions; waits for one that is being opened."""
        self._full.close()
        if self._half is not None:
            with suppress(EngineError):
                self._half.result().close()
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


def step_runner(opened: OpenedEngine, manifest: Manifest, say: Callable[[str], object]) -> StepRunner:
    """Return a runner of a bundle's step graph in an opened engine.

    Args:
        opened: the engine.
        manifest: of the bundle.
        say: called with a sentence when the server of frames was lost and is back.
    """
    if isinstance(opened.step, RemoteSession):
        opened.step.on_return = say
    return StepRunner(opened.step, state_pairs(manifest.step), opened.open_without_frames, opened.open_half)


def _open(opener: Callable[[], Session], future: Future[Session]) -> None:
    try:
        future.set_result(opener())
    except BaseException as error:  # noqa: BLE001 - whoever asks gets it
        future.set_exception(error)
