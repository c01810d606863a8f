"""The list of cues that people prepare and take during a show.

A cue's scene is prepared in the background and waits until it is taken. It stays on the list and can be taken again.

    prepare -> preparing -> ready -> on air -> ready ...      (or failed, with the reason)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import count
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.prompts.background import BackgroundThread
from streaming.control.cues import CueEntry, ListedCue, known_parts, to_given, to_label
from streaming.control.drawing import Drawing
from streaming.control.painted_cues import PaintedCues
from streaming.control.show_controls import UnknownError
from streaming.control.timed_cues import FAILURES, to_line

if TYPE_CHECKING:
    from runtime.chain import FrameSource

MAX_CUES = 24  # each holds a scene of about a megabyte
NOTICE = (
    "a picture of a camera or of a user is animated: if it shows a person, that person has to agree, and viewers have "
    "to be told that it is generated (docs/responsible-use.md)"
)


class CueList(PaintedCues):
    """The part of a `ShowController` that prepares scenes and takes them."""

    def __init__(self) -> None:
        super().__init__()
        self.notice = ""  # what users of the show have to know
        # Two threads prepare cues: one those whose pictures are painted, which takes long, and one the others.
        self._threads: dict[bool, BackgroundThread[None]] = {True: BackgroundThread(), False: BackgroundThread()}
        self._working: set[bool] = set()  # which of them are preparing cues
        self._entries: dict[int, CueEntry] = {}
        self._numbers = count(1)
        self._on_air = ""
        self._scene_on_air = ""  # its name, if it is one of the bundle's
        self._drawing = Drawing()

    def prepare(self, parts: Mapping[str, Any], *, label: str = "", take_s: float | None = None) -> dict[str, Any]:
        """Check a prompt and begin to prepare its scene in the background.

        Args:
            parts: text, image, clip, past, seed or scene, as `Generator.prepare` takes them; at least one, and
                optionally hints. A seed keeps the text on air, and a scene the hints that were saved for it.
            label: name of the cue; "" for its text or seed.
            take_s: seconds of the cross-fade if it is taken as soon as it is ready; None to wait for `take`. If its
                picture is painted, it replaces a cue of this kind whose painting has not begun.

        Returns:
            The cue, as in `state`.

        Raises:
            ValueError: the generator does not take it, a value is bad, or there are too many cues.
            BundleError, EngineError: text cannot be encoded here.
            NotReadyError: the show has not begun.
        """
        if not parts.keys() - {"hints"}:
            raise ValueError(f"a scene needs at least one of: {', '.join(self._takes(self._ready()))}")
        self._check(parts)
        with self._lock:
            if self._is_painted(parts) and take_s is not None:
                self._replace_waiting()
            if len(self._entries) >= MAX_CUES:
                self._make_room()
            entry = CueEntry(next(self._numbers), label or to_label(parts), dict(parts), take_s=take_s)
            self._start(is_painted=self._is_painted(parts))
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

    def warn_of_people(self) -> None:
        """Say once what the law asks where a picture that may show a person is animated; the page keeps it."""
        with self._lock:
            is_new, self.notice = not self.notice, NOTICE
        if is_new:
            self._say(NOTICE)
            self._notify()

    def kept(self) -> tuple[dict[str, Any], bool, tuple[ListedCue, ...]]:
        """Return what another machine needs to go on: the prompt on air, whether scenes are in turn, and the cues.

        A prompt that is made from a seed is that seed and its text; motion that is drawn is among its hints.
        """
        generator = self._ready()
        scene, shown = generator.scene, generator.shown_scene
        with self._lock:
            parts, is_in_turn = known_parts(self._parts_on_air), self._cycle is not None
            cues = tuple(
                ListedCue(entry.number, entry.label, known_parts(entry.parts), entry.take_s)
                for entry in self._entries.values()
                if entry.state != "failed"
            )
        if scene is not None and scene.seed is not None and scene.clip is None:
            parts = {"seed": scene.seed} | ({} if scene.text is None else {"text": scene.text})
        parts.pop("hints", None)
        if shown is not None and shown.hints:
            parts["hints"] = shown.hints
        return parts, is_in_turn, cues

    def list_again(self, cues: Sequence[ListedCue]) -> None:
        """List cues that another process had, under their ids, and prepare them in the background."""
        with self._lock:
            for cue in cues:
                entry = CueEntry(cue.number, cue.label, dict(cue.parts), take_s=cue.take_s)
                entry.painted = self._painted_before(entry.parts)
                self._entries[cue.number] = entry
            self._numbers = count(max([*self._entries, 0]) + 1)
            self._start_all()

    def prepare_again(self, scenes: Sequence[str]) -> None:
        """Prepare all cues again, as another bundle is on air; scenes in turn are its own from now on.

        Args:
            scenes: names of the bundle's scenes.
        """
        with self._lock:
            for entry in self._entries.values():
                if entry.state != "failed":
                    entry.scene, entry.state = None, "preparing"
            self._start_all()
            first = scenes.index(self._scene_on_air) if self._scene_on_air in scenes else 0
        self._time_again([*scenes[first:], *scenes[:first]])

    def _start_all(self) -> None:
        """Start what the list needs; needs the lock."""
        for is_painted in {self._is_painted(entry.parts) for entry in self._entries.values()}:
            self._start(is_painted=is_painted)

    def _start(self, *, is_painted: bool) -> None:
        """Start `_work` of one kind unless it runs; needs the lock."""
        if is_painted not in self._working:
            self._threads[is_painted].submit(partial(self._work, is_painted=is_painted))
            self._working.add(is_painted)

    def _work(self, *, is_painted: bool) -> None:
        """Prepare one cue of the list after the other; on a background thread."""
        try:
            while (entry := self._next(is_painted=is_painted)) is not None:
                self._make(entry)
                self._notify()
        except BaseException:
            with self._lock:
                self._working.discard(is_painted)
            raise

    def _next(self, *, is_painted: bool) -> CueEntry | None:
        """Return the oldest cue of the list that is to be prepared, of one kind."""
        with self._lock:
            waiting = (entry for entry in self._entries.values() if entry.state == "preparing")
            waiting = (entry for entry in waiting if self._is_painted(entry.parts) == is_painted)
            entry = None if self._is_closed else next(waiting, None)
            if entry is None:
                self._working.discard(is_painted)
            else:
                entry.has_begun = True
            return entry

    def _replace_waiting(self) -> None:
        """Drop the cue that is to be taken as soon as it is painted and that waits for that; needs the lock."""
        for entry in [*self._entries.values()]:
            is_waiting = entry.state == "preparing" and not entry.has_begun and entry.take_s is not None
            if is_waiting and self._is_painted(entry.parts):
                del self._entries[entry.number]

    def _make(self, entry: CueEntry) -> None:
        while not self._make_with(self._ready(), entry):
            pass

    def _make_with(self, generator: FrameSource, entry: CueEntry) -> bool:
        """Prepare a cue; return False if another generator came on air meanwhile."""
        try:
            parts = entry.parts
            if entry.is_live:
                assert self.input is not None, "checked before the show"
                parts = {**parts, "image": self.input.picture()}
                self.warn_of_people()
            parts = self._drawing.with_saved(self._with_text(parts, generator))
            if self._is_painted(parts):
                if entry.painted is None:
                    self._paint(entry, parts, lambda: self._is_wanted(entry))
                if entry.painted is None or not self._is_wanted(entry):
                    entry.state, entry.error = "failed", entry.error or "it was dropped"
                    return True
                parts = to_given({**parts, **entry.painted})
            left_s = 0.0 if entry.number else float(entry.at_s - self._now_s)
            scene = generator.prepare(ahead_s=left_s if left_s > 0 else None, **parts)
            with self._lock:
                if generator is not self._generator:
                    return False
                entry.scene, entry.state, entry.note = scene, "ready", scene.note or entry.note
                if scene.clip is not None:
                    entry.label = f"{entry.label}: {scene.clip.summary}"
                if entry.take_s is not None and entry.number in self._entries:
                    self._show(entry, entry.take_s, since=entry.number)
            if scene.note:
                self._say(scene.note)
        except Exception as error:  # noqa: BLE001 - a cue that fails must not affect the others
            with self._lock:
                if generator is not self._generator:
                    return False
                entry.error = to_line(error) if isinstance(error, FAILURES) else f"internal error: {error!r}"
                entry.state, entry.take_s = "failed", None
        return True

    def _is_wanted(self, entry: CueEntry) -> bool:
        """Return whether a cue is on the list, or is a timed one that was not left out."""
        return entry.number in self._entries if entry.number else entry.state != "failed"

    def _show(self, entry: CueEntry, dissolve_s: float, *, since: float = inf) -> None:
        """Take a cue that is ready; needs the lock.

        Args:
            entry: the cue.
            dissolve_s: length of the cross-fade in seconds.
            since: earlier cues than that of this number are not taken any more when they are painted.
        """
        assert entry.scene is not None, "the cue is not ready"
        self._ready().take(entry.scene, dissolve_s=dissolve_s)
        self.announce(entry.shown)
        entry.take_s = None
        is_in_turn = not entry.number and self._cycle is not None
        if entry.number and self._cycle is not None:  # somebody chose it; only scenes of the sequence are timed
            self._cycle, self._timed = None, []
        if entry.is_drawn:  # the scene on air stays
            return
        for other in self._entries.values():
            if other.state == "on air":
                other.state = "ready"
            if other.state == "preparing" and self._is_painted(other.parts) and other.number < since and not is_in_turn:
                other.take_s = None
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
