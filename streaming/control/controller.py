"""The control of a show: cues, prompts and controls, from the page, the HTTP API and the command line's `--cue`.

A cue's scene is prepared in the background and waits until it is taken. It stays on the list and can be taken again.

    prepare -> preparing -> ready -> on air -> ready ...      (or failed, with the reason)

Timed cues (`--cue`) have a background thread of their own, as they wait for idle moments. Each is prepared when the one
before it has faded in, or 2 s before it is due if that comes first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import count, cycle, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime import BundleError, EngineError
from runtime.bundle.controls import ControlSpec
from runtime.prompts.background import BackgroundThread
from streaming.control.controls import ControlHolder, describe_controls, find_holder
from streaming.control.cues import PARTS, Cue, CueEntry, to_label, to_prompts, with_text

if TYPE_CHECKING:
    from runtime.chain import FrameSource
    from streaming.inputs.live_input import LiveInput
    from streaming.show.presenter import Presenter

MAX_CUES = 24  # each holds a scene of about a megabyte
PREPARING_S = 2  # a timed cue is prepared at least this long before it is due
FAILURES = (ValueError, BundleError, EngineError)


class NotReadyError(Exception):
    """The show has not begun: there is nothing to control yet."""


class UnknownError(ValueError):
    """There is no such cue or control."""


class ShowController:
    """Controls the generator of a show. Every method except `play` may be called from any thread.

    Attributes:
        input: the live input, or None.
        others: what else has controls, e.g. the composite and the sound.
        presenter: the person over the show, or None.
        mapped: controls that follow a source, e.g. {"motion": "audio.bass"}.
        before_frame: each is called without arguments by the show's thread before it begins a frame.
        on_change: each is called without arguments when `state` has changed, by the thread that changed it.
    """

    def __init__(self) -> None:
        self.input: LiveInput | None = None
        self.others: list[ControlHolder] = []
        self.presenter: Presenter | None = None
        self.mapped: dict[str, str] = {}
        self.before_frame: list[Callable[[], object]] = []
        self.on_change: list[Callable[[], object]] = []
        self._lock = threading.Lock()
        self._generator: FrameSource | None = None
        self._background: BackgroundThread[None] = BackgroundThread()
        self._timed_background: BackgroundThread[None] = BackgroundThread()  # waits long for idle moments
        self._is_closed = False
        self._is_working = False  # whether the background thread is preparing cues
        self._entries: dict[int, CueEntry] = {}
        self._numbers = count(1)
        self._on_air = ""
        self._thumbnails: dict[str, bytes] = {}
        self._thumbnail_lock = threading.Lock()  # one at a time
        self._timed: list[CueEntry] = []  # in order of time; only the first is prepared
        self._timed_controls: list[Cue] = []
        self._dissolve_s = 1.0
        self._now_s = Fraction(0)  # time of the show
        self._busy_s = Fraction(1)  # until then frames need the CPU: the show begins, or a scene fades in
        self._cycle: Iterator[str] | None = None  # names of scenes
        self._cycle_s = Fraction(0)
        self._say: Callable[[str], None] = print

    def attach(self, generator: FrameSource, label: str) -> None:
        """Control this generator from now on.

        Args:
            generator: it replaces the one before.
            label: its first scene in a few words; "" if it continues with the scene on air.
        """
        with self._lock:
            self._generator = generator
            self._on_air = label or self._on_air
        self._notify()

    def schedule(self, cues: Sequence[Cue], *, dissolve_s: float, say: Callable[[str], None]) -> None:
        """Add timed cues, before the show begins; a prompt that is due within `PREPARING_S` is prepared at once.

        Args:
            cues: in any order; the parts of a prompt that share a time are one prompt.
            dissolve_s: seconds over which each prompt fades in.
            say: called with one line for each cue that fails during the show.

        Raises:
            ValueError: a cue is not for this generator, is there twice, or has a bad value.
            BundleError: the files of the text encoder are damaged.
            EngineError: a package for text is missing.
            NotReadyError: there is no generator yet.
        """
        generator = self._ready()
        controls = sorted((cue for cue in cues if cue.kind not in PARTS), key=lambda cue: cue.at_s)
        for cue in controls:
            self._target(cue.kind).check_control(cue.kind, cue.value)
        timed = [CueEntry(0, to_label(parts), parts, at_s, "waiting") for at_s, parts in to_prompts(cues)]
        for entry in timed:
            if entry.is_live and self.input is None:
                raise ValueError(
                    f"the cue at {float(entry.at_s):g} s uses the picture of a live input, and there is no live "
                    "input: add --input webcam, --input testcard, or a file or an address"
                )
            blank = np.zeros((generator.height, generator.width, 3), np.uint8)
            generator.check(**{**entry.parts, "image": blank} if entry.is_live else entry.parts)
        self._timed, self._timed_controls, self._dissolve_s, self._say = timed, controls, dissolve_s, say
        self._prepare_timed()

    def cycle(self, scenes: Sequence[str], every_s: Fraction) -> None:
        """Show the bundle's scenes in turn, without an end, until somebody takes a cue.

        Args:
            scenes: names; the first is on air already.
            every_s: seconds for which each is shown.
        """
        self._cycle, self._cycle_s = islice(cycle(scenes), 1, None), every_s
        self._extend(every_s)

    def play(self, now_s: Fraction) -> None:
        """Apply the timed cues that are due. A prompt that is not ready yet is taken as soon as it is.

        Args:
            now_s: time of the next frame in seconds of the show; called by the show's thread before each frame.
        """
        for listener in tuple(self.before_frame):
            listener()
        while self._timed_controls and self._timed_controls[0].at_s <= now_s:
            cue = self._timed_controls.pop(0)
            try:
                self._target(cue.kind).set_control(cue.kind, cue.value)
            except FAILURES as error:
                self._report(cue.at_s, _to_line(error))
            self._notify()
        with self._lock:
            self._now_s = now_s
            is_due = bool(self._timed) and self._timed[0].at_s <= now_s
        if not is_due:
            self._prepare_timed()
            return
        self._prepare_timed(is_due=True)
        with self._lock:
            entry = self._timed[0] if self._timed else None
            if entry is None or entry.at_s > now_s or entry.state == "preparing":
                return
            self._timed.pop(0)
            try:
                if entry.state == "ready":
                    self._show(entry, self._dissolve_s)
                    self._busy_s = now_s + Fraction(self._dissolve_s)
            except FAILURES as error:
                entry.error = _to_line(error)
        if entry.error:
            self._report(entry.at_s, entry.error)
        self._extend(entry.at_s + self._cycle_s)
        self._prepare_timed()
        self._notify()

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
                "input": None,
                "person": None,
                "behind": None,
            }
        return {
            "is_ready": True,
            "takes": list(generator.takes),
            "controls": describe_controls([generator, *self.others], self.mapped),
            "scenes": [{"name": scene.name, "title": scene.title} for scene in generator.manifest.scenes],
            "cues": entries,
            "on_air": on_air,
            "input": None if self.input is None else self.input.to_json(),
            "person": None if self.presenter is None else self.presenter.person,
            "behind": None if self.presenter is None else self.presenter.to_json(),
        }

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
            parts: text, image, clip, seed or scene, as `Generator.prepare` takes them; at least one. A seed alone keeps
                the text on air.
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
        if not parts:
            raise ValueError(f"a scene needs at least one of: {', '.join(generator.takes)}")
        generator.check(**parts)
        with self._lock:
            if len(self._entries) >= MAX_CUES:
                self._make_room()
            entry = CueEntry(next(self._numbers), label or to_label(parts), dict(parts), take_s=take_s)
            self._start()
            self._entries[entry.number] = entry
            shown = entry.to_json()
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
        return self.prepare({"image": self.input.picture()}, label="live input", take_s=take_s)

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

    def _extend(self, at_s: Fraction) -> None:
        """Add the next scene of a cycle as a timed cue, if no other is left."""
        with self._lock:
            if self._cycle is None or self._timed:
                return
            name = next(self._cycle)
            self._timed.append(CueEntry(0, name, {"scene": name}, at_s, "waiting"))
        self._prepare_timed()

    def _notify(self) -> None:
        for listener in tuple(self.on_change):
            listener()

    def _report(self, at_s: Fraction, error: str) -> None:
        self._say(f"the cue at {float(at_s):g} s is left out: {error}")

    def _prepare_timed(self, *, is_due: bool = False) -> None:
        """Begin to prepare the next timed prompt if it is time; one that needs the live input only when it is due."""
        with self._lock:
            if not self._timed or self._timed[0].state != "waiting":
                return
            entry = self._timed[0]
            is_time = self._now_s >= min(self._busy_s, entry.at_s - PREPARING_S) and not entry.is_live
            if is_due or is_time:
                self._timed_background.submit(lambda: self._make_timed(entry))
                entry.state = "preparing"

    def _make_timed(self, entry: CueEntry) -> None:
        """Prepare a timed cue; on its own background thread."""
        if not self._is_closed:
            self._make(entry)
            self._notify()

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
            left_s = 0.0 if entry.number else float(entry.at_s - self._now_s)
            scene = generator.prepare(ahead_s=left_s if left_s > 0 else None, **with_text(parts, generator.text))
            with self._lock:
                entry.scene, entry.state = scene, "ready"
                if entry.take_s is not None and entry.number in self._entries:
                    self._show(entry, entry.take_s)
        except Exception as error:  # noqa: BLE001 - a cue that fails must not affect the others
            with self._lock:
                entry.error = _to_line(error) if isinstance(error, FAILURES) else f"internal error: {error!r}"
                entry.state, entry.take_s = "failed", None

    def _show(self, entry: CueEntry, dissolve_s: float) -> None:
        """Take a cue that is ready; needs the lock."""
        assert entry.scene is not None, "the cue is not ready"
        self._ready().take(entry.scene, dissolve_s=dissolve_s)
        entry.take_s = None
        if entry.number and self._cycle is not None:  # somebody chose it; only scenes of the sequence are timed
            self._cycle, self._timed = None, []
        for other in self._entries.values():
            if other.state == "on air":
                other.state = "ready"
        entry.state, self._on_air, entry.has_been_on_air = "on air", entry.label, True

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


def _to_line(error: Exception) -> str:
    return " ".join(str(error).split())
