"""The control of a show: cues, prompts and controls, from the page, the HTTP API and the command line's `--cue`.

A cue's scene is prepared in the background and waits until it is taken. It stays on the list and can be taken again.

    prepare -> preparing -> ready -> on air -> ready ...      (or failed, with the reason)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.bundle.controls import ControlSpec
from runtime.prompts.background import BackgroundThread
from runtime.prompts.hints import Hints
from streaming.control.controls import ControlHolder, describe_controls, find_holder
from streaming.control.cues import CueEntry, to_label, with_text
from streaming.control.drawing import Drawing
from streaming.control.timed_cues import FAILURES, TimedCues, to_line

if TYPE_CHECKING:
    from runtime import Scene
    from runtime.chain import FrameSource
    from streaming.show.presenter import Presenter

MAX_CUES = 24  # each holds a scene of about a megabyte
NOTICE = (
    "a picture of a camera or of a user is animated: if it shows a person, that person has to agree, and viewers have "
    "to be told that it is generated (docs/responsible-use.md)"
)


class NotReadyError(Exception):
    """The show has not begun: there is nothing to control yet."""


class UnknownError(ValueError):
    """There is no such cue or control."""


class ShowController(TimedCues):
    """Controls the generator of a show. Every method except `play` may be called from any thread.

    Attributes:
        input: the live input, or None.
        others: what else has controls, e.g. the composite and the sound.
        presenter: the person over the show, or None.
        mapped: controls that follow a source, e.g. {"motion": "audio.bass"}.
        notice: what users of the show have to know, "" for nothing; the page shows it.
        before_frame: each is called without arguments by the show's thread before it begins a frame.
        on_change: each is called without arguments when `state` has changed, by the thread that changed it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.others: list[ControlHolder] = []
        self.presenter: Presenter | None = None
        self.mapped: dict[str, str] = {}
        self.notice = ""
        self.on_change: list[Callable[[], object]] = []
        self._generator: FrameSource | None = None
        self._background: BackgroundThread[None] = BackgroundThread()
        self._is_working = False  # whether the background thread is preparing cues
        self._entries: dict[int, CueEntry] = {}
        self._numbers = count(1)
        self._on_air = ""
        self._scene_on_air = ""  # its name, if it is one of the bundle's
        self._drawing = Drawing()
        self._thumbnails: dict[str, bytes] = {}
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

    def warn_of_people(self) -> None:
        """Say once what the law asks where a picture that may show a person is animated; the page keeps it."""
        with self._lock:
            is_new, self.notice = not self.notice, NOTICE
        if is_new:
            self._say(NOTICE)
            self._notify()

    def announce(self, parts: Mapping[str, Any]) -> None:
        """Tell the listeners of `on_prompt` what is shown from now on."""
        for listener in tuple(self.on_prompt):
            listener(parts, float(self._now_s))

    def close(self) -> None:
        """Finish the scene that is being prepared, and prepare no other."""
        with self._lock:
            self._is_closed = True
        self._background.close()
        self._timed_background.close()

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
                "saved": [],
                "input": None,
                "person": None,
                "behind": None,
                "notice": self.notice,
            }
        shown = generator.shown_scene
        has_hints = generator.takes_hints and shown is not None and shown.clip is None
        return {
            "is_ready": True,
            "takes": list(generator.takes),
            "controls": describe_controls([generator, *self.others], self.mapped),
            "scenes": [{"name": scene.name, "title": scene.title} for scene in generator.manifest.scenes],
            "cues": entries,
            "on_air": on_air,
            "hints": shown.hints.to_json() if shown is not None and has_hints else None,
            "saved": self._drawing.saved,
            "input": None if self.input is None else self.input.to_json(),
            "person": None if self.presenter is None else self.presenter.person,
            "behind": None if self.presenter is None else self.presenter.to_json(),
            "notice": self.notice,
        }

    @property
    def hides_input(self) -> bool:
        """Whether only the person of the live input may be shown."""
        return self.presenter is not None

    @property
    def fit(self) -> str:
        """How pictures of another shape fit the frame."""
        generator = self._generator
        return "cover" if generator is None else generator.fit

    def check_control(self, name: str, value: float) -> None:
        """Check a control as `set_control` does, without setting it.

        Raises:
            ValueError: there is no such control, or the value is out of range.
        """
        self._target(name).check_control(name, value)

    def control_spec(self, name: str) -> ControlSpec:
        """Return the name, range and unit of a control.

        Raises:
            UnknownError: there is no such control.
            NotReadyError: the show has not begun.
        """
        target = self._target(name)
        for spec in target.control_specs:
            if spec.name == name:
                return spec
        try:
            target.check_control(name, 0.0)  # its error names the controls that there are
        except ValueError as error:
            raise UnknownError(str(error)) from error
        raise UnknownError(f"there is no control {name}")

    def follow(self, name: str, value: float) -> None:
        """Set a control as often as once per frame: without a notification, as the page looks four times a second.

        Raises:
            ValueError: there is no such control, or the value is out of range.
        """
        self._target(name).set_control(name, value)

    def set_control(self, name: str, value: float) -> float:
        """Set a control from the next frame on; returns the value.

        Raises:
            UnknownError: there is no such control.
            ValueError: the value is out of range.
            NotReadyError: the show has not begun.
        """
        target = self._target(name)
        try:
            target.set_control(name, value)
        except ValueError as error:
            raise error if name in target.controls else UnknownError(str(error)) from error
        self._notify()
        return value

    def prepare(self, parts: Mapping[str, Any], *, label: str = "", take_s: float | None = None) -> dict[str, Any]:
        """Check a prompt and begin to prepare its scene in the background.

        Args:
            parts: text, image, clip, past, seed or scene, as `Generator.prepare` takes them; at least one, and
                optionally hints. A seed keeps the text on air, and a scene the hints that were saved for it.
            label: name of the cue; "" for its text or seed.
            take_s: seconds of the cross-fade if it is taken as soon as it is ready; None to wait for `take`.

        Returns:
            The cue, as in `state`.

        Raises:
            ValueError: the generator does not take it, a value is bad, or there are too many cues.
            BundleError, EngineError: text cannot be encoded here.
            NotReadyError: the show has not begun.
        """
        generator = self._ready()
        if not parts.keys() - {"hints"}:
            raise ValueError(f"a scene needs at least one of: {', '.join(generator.takes)}")
        generator.check(**parts)
        with self._lock:
            if len(self._entries) >= MAX_CUES:
                self._make_room()
            entry = CueEntry(next(self._numbers), label or to_label(parts), dict(parts), take_s=take_s)
            self._start()
            self._entries[entry.number] = entry
            shown = entry.to_json()
        if not isinstance(parts.get("image"), (str, Path, type(None))):  # of the camera, or uploaded on the page
            self.warn_of_people()
        self._notify()
        return shown

    def take(self, number: int, dissolve_s: float = 1.0) -> dict[str, Any]:
        """Show a cue's scene, at once if it is ready, else as soon as it is.

        Args:
            number: the cue's id.
            dissolve_s: length of the cross-fade, 0 (a cut) to 3600 seconds.

        Returns:
            The cue, as in `state`.

        Raises:
            UnknownError: there is no such cue.
            ValueError: it has failed, or the length is out of range.
            NotReadyError: the show has not begun.
        """
        self._ready()
        with self._lock:
            entry = self._entry(number)
            if entry.state == "failed":
                raise ValueError(f"cue {number} has failed: {entry.error}")
            if entry.scene is None:
                entry.take_s = dissolve_s
            else:
                self._show(entry, dissolve_s)
            shown = entry.to_json()
        self._notify()
        return shown

    def drop(self, number: int) -> None:
        """Remove a cue from the list. The scene on air stays on air; a cue that waits to be prepared never is.

        Raises:
            UnknownError: there is no such cue.
        """
        with self._lock:
            self._entry(number)
            del self._entries[number]
        self._notify()

    def thumbnail(self, scene: str) -> bytes:
        """Return a small JPEG of one of the bundle's scenes.

        Raises:
            UnknownError: there is no such scene.
            BundleError: its file is damaged.
            NotReadyError: the show has not begun.
        """
        with self._thumbnail_lock:
            if scene not in self._thumbnails:
                generator = self._ready()
                if scene not in {item.name for item in generator.manifest.scenes}:
                    raise UnknownError(f"there is no scene {scene}")
                self._thumbnails[scene] = generator.scene_thumbnail(scene)
            return self._thumbnails[scene]

    def animate(self, take_s: float | None = 1.0) -> dict[str, Any]:
        """Make a scene from the current picture of the live input; arguments and errors as in `prepare`."""
        if self.input is None:
            raise ValueError("this show has no live input: start it with --input")
        if self.presenter is not None:
            raise ValueError("with --matte only the person of the input is shown, not its whole picture")
        return self.prepare({"image": self.input.picture()}, label="live input", take_s=take_s)

    def draw(self, hints: Hints, dissolve_s: float = 0.5) -> dict[str, Any]:
        """Replace what is drawn over the scene on air, and cross-fade to its new motion.

        Scenes in turn end, as if somebody had chosen the one on air.

        Args:
            hints: none for the scene's own motion.
            dissolve_s: length of the cross-fade, 0 (a cut) to 3600 seconds.

        Returns:
            `hints`, as in `state`.

        Raises:
            ValueError: the bundle takes no hints, the length is out of range, or the scene changes all the time.
            EngineError: the engine failed.
            NotReadyError: the show has not begun.
        """

        self._require_own_scene()

        def take(base: Scene, drawn: Scene) -> bool:
            with self._lock:
                generator = self._ready()
                if generator.shown_scene is not base:
                    return False
                generator.take(drawn, dissolve_s=dissolve_s)
                if self._cycle is not None:
                    self._cycle, self._timed = None, []
                return True

        self._drawing.draw(self._ready, hints, take)
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

    def _notify(self) -> None:
        for listener in tuple(self.on_change):
            listener()

    def _start(self) -> None:
        """Start `_work` unless it runs; needs the lock."""
        if not self._is_working:
            self._background.submit(self._work)
            self._is_working = True

    def _work(self) -> None:
        """Prepare one cue of the list after the other; on the background thread."""
        try:
            while (entry := self._next()) is not None:
                self._make(entry)
                self._notify()
        except BaseException:
            with self._lock:
                self._is_working = False
            raise

    def _next(self) -> CueEntry | None:
        """Return the oldest cue of the list that is to be prepared."""
        with self._lock:
            waiting = (entry for entry in self._entries.values() if entry.state == "preparing")
            entry = None if self._is_closed else next(waiting, None)
            self._is_working = entry is not None
            return entry

    def _make(self, entry: CueEntry) -> None:
        try:
            generator, parts = self._ready(), entry.parts
            if entry.is_live:
                assert self.input is not None, "checked before the show"
                parts = {**parts, "image": self.input.picture()}
                self.warn_of_people()
            left_s = 0.0 if entry.number else float(entry.at_s - self._now_s)
            parts = self._drawing.with_saved(with_text(parts, generator.text))
            scene = generator.prepare(ahead_s=left_s if left_s > 0 else None, **parts)
            with self._lock:
                entry.scene, entry.state = scene, "ready"
                if scene.clip is not None:
                    entry.label = f"{entry.label}: {scene.clip.summary}"
                if entry.take_s is not None and entry.number in self._entries:
                    self._show(entry, entry.take_s)
        except Exception as error:  # noqa: BLE001 - a cue that fails must not affect the others
            with self._lock:
                entry.error = to_line(error) if isinstance(error, FAILURES) else f"internal error: {error!r}"
                entry.state, entry.take_s = "failed", None

    def _show(self, entry: CueEntry, dissolve_s: float) -> None:
        """Take a cue that is ready; needs the lock."""
        assert entry.scene is not None, "the cue is not ready"
        self._ready().take(entry.scene, dissolve_s=dissolve_s)
        self.announce(entry.parts)
        entry.take_s = None
        if entry.number and self._cycle is not None:  # somebody chose it; only scenes of the sequence are timed
            self._cycle, self._timed = None, []
        if entry.is_drawn:  # the scene on air stays
            return
        for other in self._entries.values():
            if other.state == "on air":
                other.state = "ready"
        entry.state, self._on_air, entry.has_been_on_air = "on air", entry.label, True
        self._scene_on_air = entry.parts.get("scene") or ""

    def _make_room(self) -> None:
        """Drop the oldest cue that has been on air, else the oldest that has failed."""
        entries = self._entries.values()
        old = next((item for item in entries if item.has_been_on_air and item.state != "on air"), None)
        old = old or next((item for item in entries if item.state == "failed"), None)
        if old is None:
            raise ValueError(f"{MAX_CUES} cues wait already: drop one first")
        del self._entries[old.number]

    def _entry(self, number: int) -> CueEntry:
        if number not in self._entries:
            raise UnknownError(f"there is no cue {number}")
        return self._entries[number]

    def _target(self, control: str) -> ControlHolder:
        """Return what a control of this name belongs to."""
        return find_holder(control, self._ready(), tuple(self.others))

    def _ready(self) -> FrameSource:
        if self._generator is None:
            raise NotReadyError("the show has not begun; try again in a moment")
        return self._generator
