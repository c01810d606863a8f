"""The inputs of a chain: prompts and live frames of its first link, and the controls of all links."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from runtime.bundle.controls import ControlSpec
from runtime.bundle.manifest import Manifest
from runtime.bundle.strict_json import nearest
from runtime.chaining.link import ChainLink
from runtime.generator import Generator
from runtime.hole import Hole
from runtime.live_frames import FrameArray
from runtime.prompts.hints import Hints
from runtime.prompts.scene import PromptParts, Scene


class ChainInputs:
    """The part of a chain that takes prompts, controls and live frames; thread-safe. See `GeneratorInputs`.

    The first link's controls have their own names. Those of a later link are called NAME.CONTROL, with the name of the
    link.

    Args:
        links: at least one.
    """

    def __init__(self, links: Sequence[ChainLink]) -> None:
        self._links = tuple(links)  # replaced, never changed: other threads read it

    @property
    def manifest(self) -> Manifest:
        """The manifest of the first link."""
        return self._links[0].generator.manifest

    @property
    def frame_index(self) -> int:
        """The number of frames made since the start or the last reset."""
        return self._links[0].generator.frame_index

    @property
    def takes(self) -> tuple[str, ...]:
        """The kinds of prompt that the first link takes."""
        return self._links[0].generator.takes

    @property
    def text(self) -> str | None:
        """The text of the latest scene; None if it was made without a text."""
        return self._links[0].generator.text

    @property
    def scene(self) -> Scene | None:
        """The latest scene, playing or waiting; None before the first frame."""
        return self._links[0].generator.scene

    @property
    def shown_scene(self) -> Scene | None:
        """The first link's scene that waits or plays; see `GeneratorInputs.shown_scene`."""
        return self._links[0].generator.shown_scene

    @property
    def takes_hints(self) -> bool:
        """Whether motion can be drawn over the first link's scenes."""
        return self._links[0].generator.takes_hints

    @property
    def fit(self) -> str:
        """How pictures of another shape fit the first link's frame."""
        return self._links[0].generator.fit

    @fit.setter
    def fit(self, how: str) -> None:
        self._links[0].generator.fit = how

    @property
    def has_live_input(self) -> bool:
        """Whether the first link has a live input, for `feed_live`."""
        return self._links[0].generator.has_live_input

    @property
    def takes_mask(self) -> bool:
        """Whether there can be a hole in one of the links."""
        return self._filling().takes_mask

    @property
    def hole(self) -> Hole | None:
        """What the first link that fills holes has to fill; see `Generator.hole`."""
        return self._filling().hole

    @hole.setter
    def hole(self, hole: Hole | None) -> None:
        self._filling().hole = hole

    def open_hole(self, what: str | Path | None, **options: Any) -> Hole:
        """Open what the first link that fills holes has to fill; see `Generator.open_hole`."""
        return self._filling().open_hole(what, **options)

    def feed_live(self, frame: FrameArray, mask: FrameArray | None = None) -> None:
        """Set the live frame of the first link; see `Generator.feed_live`."""
        self._links[0].generator.feed_live(frame, mask)

    def condition(self, *, dissolve_s: float = 0.0, **parts: Unpack[PromptParts]) -> None:
        """Prepare a scene of the first link and take it; see `Generator.condition`."""
        self._links[0].generator.condition(dissolve_s=dissolve_s, **parts)

    def prepare(self, *, ahead_s: float | None = None, **parts: Unpack[PromptParts]) -> Scene:
        """Make a scene of the first link without playing it; see `Generator.prepare`."""
        return self._links[0].generator.prepare(ahead_s=ahead_s, **parts)

    def redraw(self, scene: Scene, hints: Hints) -> Scene:
        """Make a scene of the first link with the same picture and other hints; see `Generator.redraw`."""
        return self._links[0].generator.redraw(scene, hints)

    def check(self, **parts: Unpack[PromptParts]) -> None:
        """Check a prompt without making a scene; see `Generator.check`."""
        self._links[0].generator.check(**parts)

    def take(self, scene: Scene, *, dissolve_s: float = 1.0) -> None:
        """Play a scene of the first link from the next frame on; see `Generator.take`."""
        self._links[0].generator.take(scene, dissolve_s=dissolve_s)

    def scene_thumbnail(self, name: str) -> bytes:
        """Return a small JPEG of one of the first link's scenes; see `Generator.scene_thumbnail`."""
        return self._links[0].generator.scene_thumbnail(name)

    @property
    def control_specs(self) -> tuple[ControlSpec, ...]:
        """The controls: those of the first link, then those of the second ..."""
        return tuple(
            replace(spec, name=prefix + spec.name)
            for link, prefix in self._prefixes()
            for spec in link.generator.control_specs
        )

    @property
    def controls(self) -> dict[str, float]:
        """A copy of the controls' values."""
        return {
            prefix + name: value for link, prefix in self._prefixes() for name, value in link.generator.controls.items()
        }

    def check_control(self, name: str, value: float) -> None:
        """Check a control's value without setting it; see `Generator.check_control`."""
        link, prefix = self._find(name)
        try:
            link.generator.check_control(name.removeprefix(prefix), value)
        except ValueError as error:  # it begins with the name that the control has in its bundle
            raise ValueError(f"{prefix}{error}") from error

    def set_control(self, name: str, value: float) -> None:
        """Set a control from the next frame on; see `Generator.set_control`."""
        self.check_control(name, value)
        link, prefix = self._find(name)
        link.generator.set_control(name.removeprefix(prefix), value)

    def _prefixes(self) -> list[tuple[ChainLink, str]]:
        """Return each link, and what comes before the names of its controls."""
        links = self._links
        return [(link, "" if link is links[0] else f"{link.name}.") for link in links]

    def _find(self, name: str) -> tuple[ChainLink, str]:
        """Return the link that has a control, and what comes before its name there."""
        for link, prefix in self._prefixes():
            if name.startswith(prefix) and name.removeprefix(prefix) in link.generator.manifest.controls:
                return link, prefix
        raise ValueError(f'there is no control "{name}" {nearest(name, self.controls)}')

    def _filling(self) -> Generator:
        """Return the first generator that fills holes, else the last one."""
        generators = [link.generator for link in self._links]
        return next((generator for generator in generators if generator.takes_mask), generators[-1])
