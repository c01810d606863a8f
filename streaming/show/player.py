"""The generator of a show: opened as the arguments say, and anew, with its scene, if every engine has failed."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from runtime import BundleError, EngineError, Generator
from runtime.prompts.images import load_image
from streaming.control.controller import ShowController
from streaming.control.cue_list import CueList
from streaming.inputs.live_input import LiveInput
from streaming.output.pacing import Clock, Pacer
from streaming.show.fallback import FallbackFrames, load_fallback
from streaming.sinks.sink import Picture

PROMPT = ("image", "clip", "text")
_INPUT_S = 15.0  # for an input's first frame


class Player:
    """What makes a show's frames; a context manager.

    Args:
        options: as `streaming.arguments.parse` returns them.
        bundle: folder of the bundle.
        desk: steers the generator from now on.
        say: told in one line what happens.

    Attributes:
        generator: that makes the frames now.

    Raises:
        BundleError, EngineError, ValueError: the bundle, the engine, a prompt, a control or a cue is bad.
    """

    def __init__(
        self, options: argparse.Namespace, bundle: Path, desk: ShowController, say: Callable[[str], None]
    ) -> None:
        self._options, self._bundle, self._desk, self._say = options, bundle, desk, say
        self._standby: FallbackFrames | None = None
        self._cues: CueList | None = None
        self._intake: LiveInput | None = None
        self.generator = self._open()
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    @property
    def engine(self) -> str:
        """What computes, for people."""
        if self._standby is not None and not self._standby.is_up:
            return "none: the fallback picture is shown"
        return f"{self.generator.engine} {self.generator.precision}"

    def frames(self, pacer: Pacer, clock: Clock) -> Iterator[Picture]:
        """Return the show's frames; with --fallback they never end.

        Raises:
            ValueError: the fallback picture cannot be read.
        """
        generator = self.generator
        if self._options.fallback is None:
            return self._play(pacer)
        picture = load_fallback(self._options.fallback, generator.width, generator.height, self._options.pixels)

        def reopen() -> Iterator[Picture]:
            self._reopen()
            return self._play(pacer)

        self._standby = FallbackFrames(self._play(pacer), picture, reopen, clock, self._say)
        return self._standby

    def close(self) -> None:
        """Wait for what is being prepared and free the engine."""
        if self._standby is not None:
            self._standby.close()
        if self._cues is not None:
            self._cues.close()
        self.generator.close()
        if self._intake is not None:
            self._intake.close()

    def __enter__(self) -> Player:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self) -> None:
        generator, options = self.generator, self._options
        for name, value in options.control:
            generator.check_control(name, value)
        self._open_input()
        prompt: dict[str, Any] = {part: getattr(options, part) for part in PROMPT}
        if self._intake is not None and prompt["image"] == "input":
            generator.condition(**{**prompt, "image": self._intake.wait_picture(_INPUT_S)})
        elif any(value is not None for value in prompt.values()):
            generator.condition(**prompt)
        for name, value in options.control:  # after the prompt: one for the seed then keeps its text
            generator.set_control(name, value)
        live = None if self._intake is None else self._intake.picture
        self._cues = CueList(generator, options.cue, dissolve_s=options.dissolve, say=self._say, live=live)
        words = [Path(value).name if part != "text" else value for part, value in prompt.items() if value is not None]
        seed = generator.manifest.default_seed if options.seed is None else options.seed
        self._desk.attach(generator, ", ".join(words) or f"seed {seed}")

    def _open_input(self) -> None:
        generator, options = self.generator, self._options
        size, is_fed = (generator.width, generator.height), generator.has_live_input
        if options.input is None:
            if is_fed:
                raise ValueError(
                    f"{generator.manifest.name} changes a live picture, and none was named: add --input webcam, "
                    "--input testcard, or a file or an address"
                )
            return
        if not is_fed and "image" not in generator.takes:
            raise ValueError(f"{generator.manifest.name} takes no pictures: leave --input out")
        stand_in = None if options.fallback is None else load_image(options.fallback, *size)
        self._intake = self._desk.input = LiveInput(options.input, *size, stand_in=stand_in)
        if is_fed:
            self._intake.wait_picture(_INPUT_S)

    def _feed(self, frames: Iterator[Picture]) -> Iterator[Picture]:
        """Hand the input's latest frame in before each frame that is made."""
        assert self._intake is not None, "only what has an input is fed"
        latest = None
        while True:
            if (frame := self._intake.frame()) is not latest:
                self.generator.feed_live(frame)
                latest = frame
            yield next(frames)

    def _play(self, pacer: Pacer) -> Iterator[Picture]:
        assert self._cues is not None, "begun already"
        frames = self._cues.frames(pacer)
        return self._feed(frames) if self.generator.has_live_input else frames

    def _open(self) -> Generator:
        options = self._options
        generator = Generator.open(
            self._bundle,
            engine=options.engine,
            precision=options.precision,
            pixels=options.pixels,
            seed=options.seed,
            trust_engines=options.trust_engines,
        )
        generator.on_fall_back = self._say
        return generator

    def _reopen(self) -> None:
        """Open the generator anew, with the scene and the controls of the one that failed, and free that one."""
        failed, fresh = self.generator, self._open()
        try:
            if fresh.manifest.sha256 != failed.manifest.sha256:
                raise BundleError(f"{self._bundle} was changed during the show: put the bundle from before there")
            if failed.scene is not None:
                fresh.take(failed.scene, dissolve_s=0.0)
            for name, value in failed.controls.items():
                if failed.manifest.controls[name].target != "seed":  # which the scene has
                    fresh.set_control(name, value)
        except BaseException:
            fresh.close()
            raise
        self.generator = fresh
        assert self._cues is not None, "begun already"
        self._cues.steer(fresh)
        self._desk.attach(fresh, "")
        with contextlib.suppress(EngineError):  # what has failed may fail to be freed
            failed.close()
