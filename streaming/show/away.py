"""What is shown while nobody is in the live input: a picture, a scene of the bundle, or the input, blurred."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from runtime.chain import FrameSource
from runtime.prompts.images import load_image
from runtime.prompts.scene import Scene
from streaming.show.fallback import to_i420
from streaming.sinks.sink import Picture

if TYPE_CHECKING:
    from runtime.compositing.composite import Composite

AWAY_S = 5.0  # without a person until it is shown
FADE_S = 0.5


class AwayFrames:
    """Frames for the time without a person, cross-faded in and out.

    Args:
        what: "blur", the name of one of the generator's scenes, or the path of a picture.
        generator: of the show; a scene is prepared with it.
        composite: over the show.
        pixels: format of the frames, "rgb" or "i420".

    Raises:
        BundleError, EngineError: the scene is damaged or cannot be prepared.
        ValueError: there is no such scene or file, or the file is no picture.
    """

    def __init__(self, what: str, generator: FrameSource, composite: Composite, pixels: str) -> None:
        self._composite = composite
        self._scene: Scene | None = None
        self._before: Scene | None = None  # the scene of the show, while that of the absence plays
        self._picture: Picture | None = None
        self._level, self._now_s = 0.0, Fraction(0)
        names = [scene.name for scene in generator.manifest.scenes]
        if what == "blur":
            composite.keeps_blurred = True
        elif what in names:
            self._scene = generator.prepare(scene=what)
        elif Path(what).is_file():
            rgb = load_image(what, generator.width, generator.height, generator.fit)
            self._picture = rgb if pixels == "rgb" else to_i420(rgb)
        else:
            scenes = f"a scene ({', '.join(names)}), " if names else ""
            raise ValueError(f"--away is blur, {scenes}or a picture; got {what!r}, and there is no file of that name")

    @property
    def level(self) -> float:
        """Share of these frames in what is shown, 0 to 1."""
        return self._level

    @property
    def needs_show(self) -> bool:
        """Whether frames of the show are needed although something else is behind the person."""
        return self._scene is not None and self._level > 0

    @property
    def shows_scene(self) -> bool:
        """Whether a scene of the bundle has taken the show's place."""
        return self._before is not None

    def update(self, away_s: float, generator: FrameSource, now_s: Fraction) -> None:
        """Move the cross-fade.

        Args:
            away_s: seconds since a person was seen.
            generator: of the show, now.
            now_s: time of the next frame in seconds of the show.
        """
        step = float(now_s - self._now_s) / FADE_S
        self._now_s = now_s
        is_wanted = away_s >= AWAY_S
        self._level = min(1.0, self._level + step) if is_wanted else max(0.0, self._level - step)
        if self._scene is None:
            return
        if is_wanted and self._before is None and (before := generator.scene) is not None:
            self._before = before
            generator.take(self._scene, dissolve_s=FADE_S)
        elif not is_wanted and self._before is not None:
            if generator.scene is self._scene:  # otherwise somebody has taken another one meanwhile
                generator.take(self._before, dissolve_s=FADE_S)
            self._before = None

    def over(self, shown: Picture | None, show: Picture) -> Picture:
        """Return a frame of the cross-fade.

        Args:
            shown: frame with the person; None if the level is 1.
            show: frame of the show.
        """
        frame = self._frame(show)
        if frame is None:
            return self._composite.marked(self._composite.background(show)) if shown is None else shown
        if shown is None:
            return self._composite.marked(frame)
        share = round(256 * self._level)
        # Read before the other frame is marked: both may be views of the same memory of the marker.
        mixed = shown.astype(np.uint16) * (256 - share)
        mixed += self._composite.marked(frame).astype(np.uint16) * share
        return (mixed >> 8).astype(np.uint8)

    def _frame(self, show: Picture) -> Picture | None:
        if self._scene is not None:
            return show
        return self._composite.blurred if self._picture is None else self._picture
