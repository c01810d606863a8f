"""Makes scenes from prompts with the condition graph, while frames are made."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.bundle.tensors import GraphSpec, TensorSpec
from runtime.engines.engine import Array, Session
from runtime.engines.shared_session import SharedSession
from runtime.errors import EngineError
from runtime.noise import CODES, normals
from runtime.pixels.scene_session import FLOW, KEPT
from runtime.pixels.stage import PREFIX
from runtime.prompts.background import BackgroundThread
from runtime.prompts.condition_inputs import condition_inputs
from runtime.prompts.hinted_scenes import drawn_over, raster_for, read_only
from runtime.prompts.hints import Hints
from runtime.prompts.prompt_loader import PromptLoader
from runtime.prompts.prompt_text import OpenEncoder, PromptText
from runtime.prompts.scene import Prompt, Scene

_Evaluate = Callable[[Mapping[str, Array]], dict[str, Array]]
_IDLE_TIMEOUT_S = 2.0  # time for the idle thread to make a scene that a caller waits for
_IDLE_SHARE = 0.75  # of the time until a scene is needed, for the idle thread


class Conditioner:
    """The condition graph of one generator; thread-safe, one job at a time.

    Args:
        graph: the condition graph of the manifest.
        session: a session of the graph; the conditioner takes ownership.
        name: of the generator, for messages.
        open_text_encoder: opens what encodes texts when the first one arrives; None if the graph takes no text.
        open_spare: opens another session of the graph, or None. With it, scenes are made by a thread that runs only
            while the CPU is idle, which never delays a frame; if that takes too long, the spare session makes them.
        idle_timeout_s: how long a caller waits for the idle thread before the spare session is used.
        steps_per_s: how often a second things move by the flow of a scene, for hints.

    Attributes:
        loader: checks prompts and reads their files.
    """

    def __init__(
        self,
        graph: GraphSpec,
        session: Session,
        *,
        name: str,
        open_text_encoder: OpenEncoder | None = None,
        open_spare: Callable[[], Session] | None = None,
        idle_timeout_s: float = _IDLE_TIMEOUT_S,
        steps_per_s: float = 30.0,
    ) -> None:
        self._text = PromptText(graph, open_text_encoder)
        self.loader = PromptLoader(graph, self._text, name)
        self._steps_per_s = steps_per_s
        self._graph = graph
        self._first = SharedSession(session, graph)
        self._open_spare = open_spare
        self._spare: SharedSession | None = None
        self._spare_lock = threading.Lock()
        self._idle_timeout_s = idle_timeout_s
        self._background: BackgroundThread[Scene] = BackgroundThread()
        # What waits long for idle moments has threads of its own: scenes that are needed later, and renewals.
        self._later: BackgroundThread[Scene] = BackgroundThread()
        self._ahead: BackgroundThread[Scene] = BackgroundThread()
        self._drawing: BackgroundThread[Scene] = BackgroundThread()  # waits for no other scene
        self._making: BackgroundThread[Scene] = BackgroundThread()  # what takes seconds without the graph: clips
        self._aligning: BackgroundThread[None] = BackgroundThread()
        self._idle: BackgroundThread[dict[str, Array]] = BackgroundThread(only_idle=True)
        self._closing: Future[dict[str, Array]] = Future()  # done once `close` was called

    def redraw(self, scene: Scene, hints: Hints, *, in_background: bool) -> Scene:
        """Make a scene of the same picture with other hints; blocks for tens of milliseconds.

        Args:
            scene: made by a conditioner of the same graph.
            hints: they replace the scene's own.
            in_background: whether frames are being made, so that this must run at a low priority.

        Raises:
            EngineError: the engine failed.
            ValueError: the graph takes no hints, or this object is closed.
        """
        self.loader.check_drawable()
        if scene.clip is not None:
            raise ValueError("a clip plays with its own motion, none can be drawn over it: choose a picture")
        if not in_background:
            return self._redraw(scene, hints)
        return self._drawing.submit(lambda: self._redraw(scene, hints)).result()

    def prepare(self, prompt: Prompt, *, in_background: bool, ahead_s: float | None = None) -> Scene:
        """Make a scene.

        Args:
            prompt: from `loader`.
            in_background: whether frames are being made, so that this must run at a low priority.
            ahead_s: seconds until it is needed; None if somebody waits for it.

        Returns:
            The scene, independent of this object.

        Raises:
            EngineError: the engine failed.
            ValueError: this object is closed.
        """
        if not in_background:
            return self._run(prompt, None, self._first.evaluate)
        thread = self._background if ahead_s is None else self._later
        return self._submit(thread, prompt, None, ahead_s).result()

    def make(self, job: Callable[[], Scene], *, in_background: bool) -> Scene:
        """Make a scene without the graph, beside other scenes; arguments and errors as of `prepare` and of the job.

        If it is a clip, the flow between its frames is found in the background afterwards.
        """
        scene = self._making.submit(job).result() if in_background else job()
        if scene.clip is not None:
            self._aligning.submit(partial(scene.clip.find_steps, self.check_open))
        return scene

    def check_open(self) -> None:
        """Raise ValueError once this object is being closed."""
        if self._closing.done():
            raise ValueError("this generator is closed")

    def draw(self, seed: int, renewal: int) -> npt.NDArray[np.float32]:
        """Return the noise `e_k` of content code number `renewal`: float32 (N,)."""
        tensor = self._graph.only_input("noise")
        return normals(seed, CODES, renewal, 0 if tensor is None else tensor.shape[1])

    def submit(
        self, prompt: Prompt, code: npt.NDArray[np.float32] | None = None, *, ahead_s: float | None = None
    ) -> Future[Scene]:
        """Make a scene in a thread of low priority, for a renewal or a control.

        Args:
            prompt: from `loader`, or the parts of one that a renewal keeps.
            code: content code, float32 (N,); None for the first one of the prompt's seed.
            ahead_s: seconds until it is needed; None if a caller waits for it.

        Returns:
            The future scene; it raises EngineError, or ValueError after `close`.
        """
        return self._submit(self._background if ahead_s is None else self._ahead, prompt, code, ahead_s)

    def _submit(
        self,
        thread: BackgroundThread[Scene],
        prompt: Prompt,
        code: npt.NDArray[np.float32] | None,
        ahead_s: float | None,
    ) -> Future[Scene]:
        return thread.submit(lambda: self._run(prompt, code, lambda inputs: self._evaluate_beside(inputs, ahead_s)))

    def replace(self, session: Session, open_spare: Callable[[], Session] | None) -> None:
        """Continue with a session of another engine after the previous one failed.

        Args:
            session: of the condition graph; the conditioner takes ownership.
            open_spare: as in the constructor.
        """
        with self._spare_lock:
            old, self._first = [self._first, self._spare], SharedSession(session, self._graph)
            self._spare, self._open_spare = None, open_spare
        for guarded in old:
            if guarded is not None:
                with contextlib.suppress(EngineError):
                    guarded.close()

    def close(self) -> None:
        """Wait for the current run, then free the sessions; waiting renewals are cancelled."""
        if not self._closing.done():
            self._closing.set_result({})
        for thread in (self._background, self._later, self._ahead, self._drawing, self._making, self._aligning):
            thread.close()
        if self._idle.close(
            self._idle_timeout_s
        ):  # otherwise it still runs, and the session is freed at the end of the process
            self._first.close()
        if self._spare is not None:
            self._spare.close()

    def _evaluate_beside(self, inputs: Mapping[str, Array], ahead_s: float | None) -> dict[str, Array]:
        """Run the graph in the idle thread or, if that takes too long, at a low priority in this thread."""
        if self._open_spare is None:
            return self._first.evaluate(inputs)
        # Only the run itself: the idle thread should hold Python's lock as briefly as possible.
        attempt = self._idle.submit(lambda: self._first.evaluate(inputs))
        idle_timeout_s = self._idle_timeout_s if ahead_s is None else ahead_s * _IDLE_SHARE
        ends: list[Future[Any]] = [attempt] if ahead_s is None else [attempt, self._closing]
        wait(ends, idle_timeout_s, FIRST_COMPLETED)
        if attempt.done():
            return attempt.result()
        if ahead_s is not None and self._closing.done():
            attempt.cancel()
            raise ValueError("this generator is closed")
        try:
            with self._spare_lock:
                self._spare = self._spare or SharedSession(self._open_spare(), self._graph)
        except EngineError:  # out of memory: wait for the idle thread
            return attempt.result()
        attempt.cancel()  # if it has not started
        return self._spare.evaluate(inputs)

    def _run(self, prompt: Prompt, code: npt.NDArray[np.float32] | None, evaluate: _Evaluate) -> Scene:
        if code is None and prompt.seed is not None:
            code = self.draw(prompt.seed, 0)
        text_inputs = prompt.text_inputs or self._text.encode(None).inputs
        inputs = condition_inputs(self._graph, prompt, code, text_inputs, self._steps_per_s)
        tensors = evaluate(inputs)
        kept = {name.removeprefix(KEPT): tensors.pop(name) for name in [*tensors] if name.startswith(KEPT)}
        if kept and FLOW in tensors:
            kept[FLOW] = tensors[FLOW]
        seed = prompt.seed if prompt.image is None and prompt.clip is None else None
        made = read_only(tensors)
        scene = Scene(made, seed, prompt.text, prompt.text_inputs, kept=read_only(kept), note=prompt.note)
        return drawn_over(scene, prompt.hints, self._graph, self._steps_per_s)

    def _redraw(self, scene: Scene, hints: Hints) -> Scene:
        """Make a scene from what is kept of another one."""
        if (tensor := self._graph.only_input("hints")) is None:
            return drawn_over(scene, hints, self._graph, self._steps_per_s)
        inputs = {KEPT + name: value for name, value in scene.kept.items() if name != FLOW}
        inputs[tensor.name] = raster_for(self._graph, hints, self._steps_per_s)
        memories = self._first.evaluate(inputs, [item.name for item in self._memories])
        kept = {**scene.kept, **{name: value for name, value in memories.items() if name == FLOW}}
        made = replace(scene, tensors=read_only({**scene.tensors, **memories}), kept=read_only(kept))
        return drawn_over(made, hints, self._graph, self._steps_per_s)

    @property
    def _memories(self) -> list[TensorSpec]:
        """The memories that the condition graph itself makes, without the planes of the picture."""
        return [item for item in self._graph.outputs if item.role == "memory" and not item.name.startswith(PREFIX)]
