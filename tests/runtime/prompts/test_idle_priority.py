"""Scenes made while the CPU is idle, and on a CPU that is never idle."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from runtime import EngineError, Manifest
from runtime.engines.engine import Array, Program
from runtime.noise import CODES, normals
from runtime.prompts.conditioner import Conditioner
from runtime.prompts.scene import Prompt, Scene
from tests import tiny
from tests.fakes import FakeSession

WAIT_S = 10.0


class Stage:
    """A conditioner with two fake sessions; the first may be held up, as if every core were taken."""

    def __init__(
        self, manifest: Manifest, *, idle_timeout_s: float, second: Callable[[], FakeSession] | None = None
    ) -> None:
        assert manifest.condition is not None
        self.graph = manifest.condition
        self.may_run, self.has_begun = threading.Event(), threading.Event()
        self.first = FakeSession(self._program(), self._compute_when_idle)
        self.second = FakeSession(self._program(), self._compute)
        self.num_opened = 0
        self.conditioner = Conditioner(
            self.graph, self.first, name="tiny", open_spare=second or self._open_spare, idle_timeout_s=idle_timeout_s
        )

    def make(self, seed: int) -> Array:
        """Make a scene in the background and return the memory that identifies its seed."""
        return self.conditioner.prepare(Prompt(seed=seed), in_background=True).tensors["style_slot"]

    def _program(self) -> Program:
        return Program(b"", self.graph.inputs, self.graph.outputs)

    def _open_spare(self) -> FakeSession:
        self.num_opened += 1
        return self.second

    def _compute_when_idle(self, program: Program, inputs: dict[str, Array], run: int) -> dict[str, Array]:
        self.has_begun.set()
        assert self.may_run.wait(WAIT_S)
        return self._compute(program, inputs, run)

    def _compute(self, program: Program, inputs: dict[str, Array], run: int) -> dict[str, Array]:
        return {"style_slot": inputs["code"][0, :3].reshape(1, 3, 1, 1)}


@pytest.fixture
def manifest(renewing_bundle: Path) -> Manifest:
    """The manifest of a bundle whose condition graph takes a content code."""
    return Manifest.parse(json.loads((renewing_bundle / "bundle.json").read_text()))


def expected(seed: int) -> Array:
    """Return what the fake sessions compute for a seed."""
    return normals(seed, CODES, 0, tiny.CODE)[:3].reshape(1, 3, 1, 1)


def test_idle_moments_are_enough_where_there_are_some(manifest: Manifest) -> None:
    stage = Stage(manifest, idle_timeout_s=WAIT_S)
    stage.may_run.set()
    for seed in (3, 4):
        assert np.array_equal(stage.make(seed), expected(seed))
    stage.conditioner.close()
    assert stage.num_opened == 0
    assert stage.first.is_closed


def test_a_machine_without_idle_moments_gets_a_second_session_once(manifest: Manifest) -> None:
    stage = Stage(manifest, idle_timeout_s=0.0)
    for seed in (3, 4, 5):
        assert np.array_equal(stage.make(seed), expected(seed))
    assert stage.num_opened == 1
    assert stage.second.num_runs == 3
    stage.may_run.set()
    stage.conditioner.close()
    assert stage.second.is_closed


def test_closing_does_not_wait_for_idle_moments_that_do_not_come(manifest: Manifest) -> None:
    stage = Stage(manifest, idle_timeout_s=0.0)
    coming = stage.conditioner.submit(Prompt(seed=3))
    assert coming.result(WAIT_S).seed == 3
    if stage.first.num_runs == 0 and not stage.has_begun.wait(0):  # the first job was cancelled before it began
        stage.conditioner._idle.submit(lambda: stage.first.run() or {})
    assert stage.has_begun.wait(WAIT_S)
    stage.conditioner.close()
    assert not stage.first.is_closed  # somebody is at work in it
    assert stage.second.is_closed
    stage.may_run.set()


def test_without_room_for_a_second_session_idle_moments_are_waited_for(manifest: Manifest) -> None:
    def refuse() -> FakeSession:
        stage.may_run.set()
        raise EngineError("out of memory")

    stage = Stage(manifest, idle_timeout_s=0.0, second=refuse)
    assert np.array_equal(stage.make(3), expected(3))
    stage.conditioner.close()


def test_renewals_do_not_delay_callers(manifest: Manifest) -> None:
    stage = Stage(manifest, idle_timeout_s=0.0)
    ahead = stage.conditioner.submit(Prompt(seed=3), ahead_s=100.0)  # no idle moment comes, and it has time
    assert stage.has_begun.wait(WAIT_S)
    assert np.array_equal(stage.make(4), expected(4))
    assert not ahead.done()
    stage.may_run.set()
    assert np.array_equal(ahead.result(WAIT_S).tensors["style_slot"], expected(3))
    stage.conditioner.close()


def test_a_scene_that_is_needed_later_does_not_delay_renewals(manifest: Manifest) -> None:
    stage = Stage(manifest, idle_timeout_s=0.0)
    later: list[Scene] = []

    def prepare() -> None:
        later.append(stage.conditioner.prepare(Prompt(seed=3), in_background=True, ahead_s=1000.0))

    caller = threading.Thread(target=prepare)
    caller.start()
    assert stage.has_begun.wait(WAIT_S)  # and no idle moment comes
    renewal = stage.conditioner.submit(Prompt(seed=4), ahead_s=0.0)
    assert np.array_equal(renewal.result(WAIT_S).tensors["style_slot"], expected(4))
    assert not later
    stage.may_run.set()
    caller.join(WAIT_S)
    assert np.array_equal(later[0].tensors["style_slot"], expected(3))
    stage.conditioner.close()


def test_closing_cancels_renewals(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    at_exit: list[tuple[Callable[..., object], tuple[object, ...]]] = []
    monkeypatch.setattr("atexit.register", lambda function, *arguments: at_exit.append((function, arguments)))
    stage = Stage(manifest, idle_timeout_s=0.0)
    ahead = stage.conditioner.submit(Prompt(seed=3), ahead_s=1000.0)
    assert stage.has_begun.wait(WAIT_S)
    stage.conditioner.close()  # while the engine is still at work in an idle moment
    with pytest.raises(ValueError, match="this generator is closed"):
        ahead.result(0)
    assert stage.num_opened == 0
    assert not stage.first.is_closed
    ((join, arguments),) = at_exit  # the interpreter must not be finalised while a thread is in an engine
    thread = stage.conditioner._idle._thread
    assert thread is not None
    assert thread.is_alive()
    stage.may_run.set()
    join(*arguments)
    assert not thread.is_alive()
