"""The person of the live input over the show: what is behind the person, and what is shown while nobody is there."""

from __future__ import annotations

import argparse
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

from runtime import EngineError
from runtime.chain import FrameSource
from runtime.compositing.composite import Composite
from streaming.control.controller import ShowController
from streaming.inputs.live_input import LiveInput, Rgb
from streaming.shipped import find_shipped
from streaming.show.away import AwayFrames
from streaming.show.backdrop import Backdrop
from streaming.show.presence import Presence
from streaming.sinks.sink import Picture

_MODES = ("show", "blur", "green")


class Presenter:
    """Makes the frames of a show with a person; its frames belong to the show's thread.

    The live input is never shown as it is. Without a matte, because its engine has failed, and while the input is lost,
    there is no person; what is behind stays, except the blurred input, which the show then replaces.

    Args:
        options: as `streaming.arguments.parse` returns them, with --matte.
        generator: of the show.
        controller: of the show; gets the person's controls.
        threads: CPU threads per frame; None for all cores.
        say: called with one line for each event.
        mark: payload that all frames carry; None for no mark.

    Attributes:
        composite: puts the person over frames.

    Raises:
        BundleError, EngineError, ValueError: the matte, an engine, or a file of --behind or --away is bad.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        generator: FrameSource,
        controller: ShowController,
        threads: int | None,
        say: Callable[[str], None],
        mark: int | None = None,
    ) -> None:
        self._controller, self._say = controller, say
        self._presence = Presence()
        self._latest: Rgb | None = None  # the live input's frame that was fed last
        self._made: tuple[FrameSource, Picture] | None = None  # the show's last frame, and what made it
        self._is_broken = False
        self._backdrop: Backdrop | None = None
        self._away: AwayFrames | None = None
        self._feeder = ThreadPoolExecutor(1, "composite input")
        self._feeding: dict[str, Future[None]] = {}
        self._lock = threading.Lock()  # of what is fed
        self._is_closed = False
        size, engine = (generator.width, generator.height), options.engine
        bundle = find_shipped(Path(options.matte))
        self.composite = Composite.open(bundle, *size, pixels=options.pixels, engine=engine, threads=threads, mark=mark)
        try:
            self.composite.is_mirrored = options.mirror
            self.composite.on_fall_back = say
            self._choices = [*_MODES]
            self._open_behind(options.behind or "show", size, options.fit)
            if options.away is not None:
                self._away = AwayFrames(options.away, generator, self.composite, options.pixels)
        except BaseException:
            self.close()
            raise
        controller.others.append(self.composite)
        controller.presenter = self

    @property
    def person(self) -> str:
        """Whether a person is in the live input: "here" or "away"."""
        return "here" if self._presence.is_here else "away"

    @property
    def behind(self) -> str:
        """What is behind the person; see `Composite.behind`. May be set by any thread; raises ValueError."""
        return self.composite.behind

    @behind.setter
    def behind(self, what: str) -> None:
        self.composite.behind = what

    def to_json(self) -> dict[str, Any]:
        """Return what is behind the person, and the choices."""
        return {"what": self.behind, "choices": list(dict.fromkeys([*self._choices, self.behind]))}

    def follow(self, source: LiveInput) -> None:
        """Convert the first live frame that arrives after one was used, so that the show's next frame uses it."""

        def convert() -> None:
            with self._lock:
                before = self._feeding.get("live")  # the first one is converted by the show's thread
                is_idle = before is not None and before.done() and before.exception() is None
                is_idle = is_idle and self.composite.wants_live
                if is_idle and not (self._is_broken or self._is_closed or source.is_lost):
                    self._latest = source.frame()
                    self._feeding["live"] = self._feeder.submit(self.composite.feed_live, self._latest)

        source.on_frame = convert

    def frame(self, generator: FrameSource, source: LiveInput, now_s: Fraction) -> Picture:
        """Return the next frame, valid until the next call.

        Args:
            generator: of the show; makes a frame if one is needed.
            source: the live input.
            now_s: time of the frame in seconds of the show.

        Raises:
            EngineError: the generator's engine failed; a failure of the matte's is reported in one line.
        """
        self._feed(source)
        self._try(self.composite.update)
        self._note(generator, now_s)
        needs_show = self.composite.needs_show or (self._away is not None and self._away.needs_show)
        if needs_show or self._made is None or self._made[0] is not generator:
            self._made = generator, next(generator)
        show = self._made[1]
        if self._away is None or self._away.level == 0:
            return self._over(show)
        return self._away.over(self._over(show) if self._away.level < 1 else None, show)

    def close(self) -> None:
        """End the threads and processes, and free the engines."""
        with self._lock:
            self._is_closed = True
        with contextlib.ExitStack() as stack:
            stack.callback(self.composite.close)
            stack.callback(self._feeder.shutdown)
            if self._backdrop is not None:
                stack.callback(self._backdrop.close)

    def _open_behind(self, what: str, size: tuple[int, int], fit: str) -> None:
        try:
            self.composite.behind = what
        except ValueError as error:
            if not Path(what).is_file():
                raise ValueError(
                    f"{error}; a picture or a clip is possible too, and there is no file of that name"
                ) from error
            self._backdrop = Backdrop(Path(what), *size, fit)
            picture = self._backdrop.news()
            assert picture is not None, "a backdrop without a picture"
            self.composite.feed_behind(picture)
            self.composite.behind = "picture"
        self._choices += [] if self.behind in self._choices else [self.behind]

    def _feed(self, source: LiveInput) -> None:
        """Convert new frames beside the frame that is being made; the first live frame at once."""
        if self._backdrop is not None and self.behind == "picture" and self._is_idle("behind"):
            news = self._backdrop.news()
            if news is not None:
                self._submit("behind", self.composite.feed_behind, news)
        frame = source.frame()
        if self._is_broken or source.is_lost:  # the frame may be a stand-in, which is no person
            self.composite.forget_live()
        else:
            self._try(lambda: self._feed_live(frame))

    def _feed_live(self, frame: Rgb) -> None:
        with self._lock:
            is_first = "live" not in self._feeding
            if frame is not self._latest and self._is_idle("live"):  # otherwise left out: the next one is newer
                self._latest = frame
                self._submit("live", self.composite.feed_live, frame)
        if is_first:
            self._feeding["live"].result()

    def _submit(self, name: str, act: Callable[[Rgb], None], picture: Rgb) -> None:
        """Convert a picture beside the frame that is being made; raises what the conversion before it raised."""
        if name in self._feeding:
            self._feeding[name].result()
        self._feeding[name] = self._feeder.submit(act, picture)

    def _is_idle(self, name: str) -> bool:
        return name not in self._feeding or self._feeding[name].done()

    def _over(self, show: Picture) -> Picture:
        if not self._is_broken and (frame := self._try(lambda: self.composite.over(show))) is not None:
            return frame
        return self.composite.marked(self.composite.background(show))

    def _try(self, act: Callable[[], Picture | None]) -> Picture | None:
        """Do something with the matte's engine; if that fails, there is no person from now on."""
        if not self._is_broken:
            try:
                return act()
            except EngineError as error:
                self._is_broken = True
                self._say(f"the person is left out from now on: {error}")
        return None

    def _note(self, generator: FrameSource, now_s: Fraction) -> None:
        """Decide whether a person is there, and tell the listeners of a change."""
        before = self.person
        self._presence.update(self.composite.person_share, now_s)
        if self._away is not None:
            self._away.update(self._presence.away_s, generator, now_s)
            self._controller.is_held = self._away.shows_scene
        if self.person != before:
            for listener in tuple(self._controller.on_change):
                listener()
