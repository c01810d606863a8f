"""Prompts whose pictures another bundle paints, which takes seconds to minutes: `--scene-from`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime import EngineError
from streaming.control.cues import PAINTED, CueEntry, with_text
from streaming.control.timed_cues import TimedCues

if TYPE_CHECKING:
    from runtime import Scene
    from runtime.chain import FrameSource
    from streaming.painting.painter import Painter

_KINDS = ("text", "image", "clip", "past", "seed")


class PaintedCues(TimedCues):
    """The part of a `ShowController` that knows the painter. Without one, the generator gets prompts as they are.

    Attributes:
        painter: paints pictures from texts and seeds, or None.
    """

    def __init__(self) -> None:
        super().__init__()
        self.painter: Painter | None = None
        self._parts_on_air: dict[str, Any] = {}

    def announce(self, parts: Mapping[str, Any]) -> None:
        """Tell the listeners of `on_prompt` what is shown from now on."""
        self._parts_on_air = {**(self._parts_on_air if parts.keys() == {"hints"} else {}), **parts}
        for listener in tuple(self.on_prompt):
            listener(parts, float(self._now_s))

    @property
    def painted_on_air(self) -> Mapping[str, Any] | None:
        """The prompt whose painted picture is on air, without a motion that somebody has drawn; else None.

        The same object is returned until something else comes on air.
        """
        generator, parts = self._ready(), self._parts_on_air
        scene, shown = generator.scene, generator.shown_scene
        is_seen = scene is not None and scene.seed is None and scene.clip is None and not self.is_held
        return parts if PAINTED in parts and is_seen and shown is not None and not shown.hints else None

    def renew(self, before: Mapping[str, Any], parts: Mapping[str, Any], scene: Scene, dissolve_s: float) -> bool:
        """Cross-fade to the next picture of what is on air; return False if something else has come on air.

        Args:
            before: as `painted_on_air` returned it.
            parts: of the next picture.
            scene: made of it by the generator on air.
            dissolve_s: length of the cross-fade in seconds.

        Raises:
            ValueError: another generator has come on air, or the length is out of range.
        """
        with self._lock:
            if self.painted_on_air is not before:
                return False
            self._ready().take(scene, dissolve_s=dissolve_s)
            self.announce(parts)
        self._notify()
        return True

    def painter_stats(self) -> dict[str, Any]:
        """Return what `/stats` has about the painter, under its name "painter"; nothing without one."""
        return {} if self.painter is None else {"painter": self.painter.to_json()}

    def _takes(self, generator: FrameSource) -> list[str]:
        """Return the kinds of prompt that the show takes: texts and seeds go to the painter."""
        if self.painter is None:
            return list(generator.takes)
        own = {kind for kind in generator.takes if kind not in ("text", "seed")}
        return [kind for kind in _KINDS if kind in own or kind in self.painter.takes]

    def _is_painted(self, parts: Mapping[str, Any]) -> bool:
        return self.painter is not None and self.painter.paints(parts)

    def _check(self, parts: Mapping[str, Any]) -> None:
        generator = self._ready()
        if self.painter is None or not self.painter.paints(parts):
            generator.check(**parts)
            return
        self.painter.check(parts)
        rest = {name: value for name, value in parts.items() if name not in ("text", "seed")}
        generator.check(image=np.zeros((generator.height, generator.width, 3), np.uint8), **rest)

    def _with_text(self, parts: Mapping[str, Any], generator: FrameSource) -> dict[str, Any]:
        """Return a prompt that keeps the text on air if it holds a seed alone."""
        text = self._parts_on_air.get("text") if PAINTED in self._parts_on_air else generator.text
        return with_text(parts, text)

    def _painted_before(self, parts: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return what `_paint` would for a prompt, if its picture is on air; else None."""
        if self.painter is None or not self._is_painted(parts) or PAINTED not in self._parts_on_air:
            return None
        words = self.painter.words(parts)
        on_air = {name: value for name, value in self._parts_on_air.items() if name in ("text", "seed")}
        return {**words, PAINTED: self._parts_on_air[PAINTED]} if words == on_air else None

    def _paint(self, entry: CueEntry, parts: Mapping[str, Any], is_wanted: Callable[[], bool]) -> None:
        """Paint the picture of a cue; nothing is painted for one that is not wanted any more.

        Args:
            entry: its `painted` and `note` are set.
            parts: of its prompt, with the text on air if it has a seed alone.
            is_wanted: as of `Painter.paint`.

        Raises:
            EngineError: the picture cannot be painted.
        """
        assert self.painter is not None, "asked before"
        words = self.painter.words(parts)
        try:
            made = self.painter.paint(words, is_wanted)
        except EngineError as error:
            if not self.painter.is_closed:
                self._say(f"{error}; the show goes on")
            raise
        if made is not None:
            entry.painted, entry.note = {**words, PAINTED: made.picture}, made.note
            self._say(f"{self.painter.name} has painted {self.painter.describe(words)} in {made.took_s:.1f} s")
            if made.note:
                self._say(made.note)
