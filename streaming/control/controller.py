"""The control of a show: cues, prompts and controls, from the page, the HTTP API and the command line's `--cue`."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from runtime.prompts.hints import HOLE, Hints
from streaming.control.controls import describe_controls
from streaming.control.cue_list import MAX_CUES, NOTICE, CueList
from streaming.control.show_controls import NotReadyError, UnknownError

if TYPE_CHECKING:
    from runtime import Scene
    from runtime.chain import FrameSource
    from streaming.show.presenter import Presenter

__all__ = ["MAX_CUES", "NOTICE", "NotReadyError", "ShowController", "UnknownError"]


class ShowController(CueList):
    """Controls the generator of a show. Every method except `play` may be called from any thread.

    `ShowControls`, `TimedCues`, `PaintedCues` and `CueList` are its parts: each knows the ones before it.

    Attributes:
        input: the live input, or None.
        others: what else has controls, e.g. the composite and the sound.
        presenter: the person over the show, or None.
        painter: paints pictures from texts and seeds, or None.
        mapped: controls that follow a source, e.g. {"motion": "audio.bass"}.
        notice: what users of the show have to know, "" for nothing; the page shows it.
        before_frame: each is called without arguments by the show's thread before it begins a frame.
        on_change: each is called without arguments when `state` has changed, by the thread that changed it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.presenter: Presenter | None = None
        self._thumbnails: dict[tuple[str, str], bytes] = {}  # hash of the bundle and name of the scene
        self._thumbnail_lock = threading.Lock()  # one at a time

    def attach(self, generator: FrameSource, label: str, scene: str = "") -> None:
        """Control this generator from now on.

        Args:
            generator: it replaces the one before.
            label: its first scene in a few words; "" if it continues with the scene on air.
            scene: the name of its first scene if that is one of the bundle's.
        """
        with self._lock:
            self._generator = generator
            if label:
                self._on_air, self._scene_on_air = label, scene
        self._notify()

    def close(self) -> None:
        """Finish the scene that is being prepared, and prepare no other."""
        with self._lock:
            self._is_closed = True
        for thread in (*self._threads.values(), *self._timed_threads.values()):
            thread.close()

    def state(self) -> dict[str, Any]:
        """Return what can be controlled, and its state, ready for JSON."""
        with self._lock:
            generator, entries = self._generator, [entry.to_json() for entry in self._entries.values()]
            on_air = self._on_air
        if generator is None:
            return {
                "is_ready": False,
                "takes": [],
                "controls": [],
                "scenes": [],
                "cues": [],
                "on_air": "",
                "hints": None,
                "tools": [],
                "saved": [],
                "input": None,
                "person": None,
                "behind": None,
                "painter": None,
                "notice": self.notice,
            }
        shown = generator.shown_scene
        has_hints = generator.takes_hints and shown is not None and shown.clip is None
        hole = generator.hole
        tools = (["arrow", "still", "moving"] if has_hints else []) + ([HOLE] if hole is not None else [])
        drawn = (shown.hints if shown is not None and has_hints else Hints()).to_json()
        if hole is not None:  # together they may be more than hints hold
            drawn["strokes"] += Hints((), hole.strokes).to_json()["strokes"]
        return {
            "is_ready": True,
            "takes": self._takes(generator),
            "controls": describe_controls([generator, *self.others], self.mapped),
            "scenes": [{"name": scene.name, "title": scene.title} for scene in generator.manifest.scenes],
            "cues": entries,
            "on_air": on_air,
            "hints": drawn if tools else None,
            "tools": tools,
            "saved": self._drawing.saved,
            "input": None if self.input is None else self.input.to_json(),
            "person": None if self.presenter is None else self.presenter.person,
            "behind": None if self.presenter is None else self.presenter.to_json(),
            "painter": None if self.painter is None else self.painter.name,
            "notice": self.notice,
        }

    @property
    def hides_input(self) -> bool:
        """Whether only the person of the live input may be shown."""
        return self.presenter is not None

    def thumbnail(self, scene: str) -> bytes:
        """Return a small JPEG of one of the bundle's scenes.

        Raises:
            UnknownError: there is no such scene.
            BundleError: its file is damaged.
            NotReadyError: the show has not begun.
        """
        with self._thumbnail_lock:
            generator = self._ready()
            key = generator.manifest.sha256, scene
            if key not in self._thumbnails:
                if scene not in {item.name for item in generator.manifest.scenes}:
                    raise UnknownError(f"there is no scene {scene}")
                self._thumbnails[key] = generator.scene_thumbnail(scene)
            return self._thumbnails[key]

    def animate(self, take_s: float | None = 1.0) -> dict[str, Any]:
        """Make a scene from the current picture of the live input; arguments and errors as in `prepare`."""
        if self.input is None:
            raise ValueError("this show has no live input: start it with --input")
        if self.presenter is not None:
            raise ValueError("with --matte only the person of the input is shown, not its whole picture")
        return self.prepare({"image": self.input.picture()}, label="live input", take_s=take_s)

    def draw(self, hints: Hints, dissolve_s: float = 0.5) -> dict[str, Any]:
        """Replace what is drawn over the scene on air, and cross-fade to its new motion; fill what is a hole at once.

        If the motion is another one, scenes in turn end, as if somebody had chosen the one on air.

        Args:
            hints: none for the scene's own motion, and no hole.
            dissolve_s: length of the cross-fade, 0 (a cut) to 3600 seconds.

        Returns:
            `hints`, as in `state`.

        Raises:
            ValueError: the bundle takes no hints or no holes, the length is out of range, or the scene changes all the
                time.
            EngineError: the engine failed.
            NotReadyError: the show has not begun.
        """
        self._require_own_scene()
        generator = self._ready()
        if (hole := generator.hole) is None:
            if hints.holes:
                raise ValueError(f"{generator.manifest.name} fills no holes: start the show with bundles/fill")
        elif hints.motion and not generator.takes_hints:
            raise ValueError(f"{generator.manifest.name} takes no motion: draw holes alone")

        def take(base: Scene, drawn: Scene) -> bool:
            with self._lock:
                generator = self._ready()
                if generator.shown_scene is not base:
                    return False
                generator.take(drawn, dissolve_s=dissolve_s)
                if self._cycle is not None:
                    self._cycle, self._timed = None, []
                return True

        before = () if hole is None else hole.strokes
        if hole is not None:
            hole.strokes = hints.holes
        try:
            if hole is None or generator.takes_hints:
                self._drawing.draw(self._ready, hints.motion, take)
        except Exception:
            if hole is not None:
                hole.strokes = before
            raise
        self._notify()
        return {"hints": self.state()["hints"]}

    def save_hints(self) -> dict[str, Any]:
        """Keep what is drawn over the scene on air: who chooses the scene again, during this show, gets it again.

        Returns:
            `hints`, as in `state`.

        Raises:
            ValueError: the bundle takes no hints, or no scene is shown.
            NotReadyError: the show has not begun.
        """
        generator = self._ready()
        self._require_own_scene()
        with self._lock:
            shown, name = generator.shown_scene, self._scene_on_air
            if shown is None or shown.clip is not None or not generator.takes_hints:
                raise ValueError(f"nothing can be drawn over the scenes of {generator.manifest.name}")
            if name:
                self._drawing.save(name, shown.hints)
            for entry in self._entries.values():
                is_same = bool(name) and entry.parts.keys() == {"scene"} and entry.parts["scene"] == name
                if entry.scene is not None and (entry.state == "on air" or is_same):
                    entry.scene = shown
        self._notify()
        return {"hints": self.state()["hints"]}

    def _require_own_scene(self) -> None:
        """Raise ValueError while the away scene is shown, which is nobody's to draw over."""
        if self.is_held:
            raise ValueError("nobody is in the picture and the away scene is shown: draw when the show is back")

    def set_behind(self, what: str) -> dict[str, Any]:
        """Choose what is behind the person: show, blur, green, a colour as RRGGBB, or the picture of --behind.

        Returns:
            The choice and all choices, as in `state`.

        Raises:
            ValueError: it is none of these, or the show has no person.
        """
        if self.presenter is None:
            raise ValueError("this show has no person: start it with --input and --matte")
        self.presenter.behind = what
        self._notify()
        return self.presenter.to_json()
