"""What is drawn over the scene on air, and what is kept of it under the scene's name until the show ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from itertools import count
from typing import TYPE_CHECKING, Any

from runtime.prompts.hints import Hints

if TYPE_CHECKING:
    from runtime import Scene
    from runtime.chain import FrameSource

_ATTEMPTS = 5  # if other scenes are taken while one is drawn


class Drawing:
    """Draws motion over scenes, one drawing after the other; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counting = threading.Lock()
        self._numbers = count(1)
        self._latest = 0
        self._saved: dict[str, Hints] = {}

    @property
    def saved(self) -> list[str]:
        """The names of the bundle's scenes for which hints are kept, in order."""
        return sorted(self._saved)

    def draw(self, find: Callable[[], FrameSource], hints: Hints, take: Callable[[Scene, Scene], bool]) -> None:
        """Make the shown scene again with hints, and take it; blocks for tens of milliseconds with a few arrows.

        Of several drawings that wait, only the latest is made.

        Args:
            find: returns the generator; raises NotReadyError.
            hints: they replace those of the scene.
            take: takes the second scene if the first one is still shown; returns whether it was.

        Raises:
            ValueError: the generator takes no hints, or other scenes were taken all the time.
            EngineError: the engine failed.
        """
        with self._counting:
            number = self._latest = next(self._numbers)
        with self._lock:
            for _ in range(_ATTEMPTS):
                if number < self._latest:
                    return
                generator = find()
                if (base := generator.shown_scene) is None:
                    raise ValueError("no scene is shown yet: draw again in a moment")
                if base.hints.to_json() == hints.to_json():
                    return
                if take(base, generator.redraw(base, hints)):
                    return
        raise ValueError("the scene changed while its motion was drawn: draw again")

    def save(self, scene: str, hints: Hints) -> None:
        """Keep hints under the name of a scene of the bundle."""
        self._saved = {**self._saved, scene: hints}

    def with_saved(self, parts: Mapping[str, Any]) -> dict[str, Any]:
        """Return a prompt with the hints that are kept for its scene, unless it has others."""
        scene = parts.get("scene")
        kept = {"hints": self._saved[scene]} if scene in self._saved and parts.get("hints") is None else {}
        return {**parts, **kept}
